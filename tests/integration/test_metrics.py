"""What Prometheus gets from real processes, and that alerts and dashboard ask for nothing else."""

import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from temporalio.testing import ActivityEnvironment

from activities.record import Recorder, RecordProgress
from onthedot import metrics
from onthedot.database.migrate import migrate
from onthedot.database.pool import open_pool
from onthedot.database.run_log import RunLog
from onthedot.run import Run, RunStatus, Trigger
from onthedot.settings import Settings
from onthedot.task import TaskState
from tests import promql, services
from tests.integration.test_run_log import DUE, TASK
from tests.integration.web_client import Web, let_in, serving
from tests.running import worker_process

DEPLOY = Path(__file__).parents[2] / "deploy"
NOOP = {"kind": "python", "handler": "onthedot.examples:noop"}


async def scrape(port: int) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return await answer.text()


@pytest.fixture
def settings(database_url: str) -> Iterator[Settings]:
    """Of a worker that answers Prometheus, on an engine of its own."""
    with services.temporary_folder() as folder, services.running_temporal(folder) as temporal:
        yield Settings(
            database_url=database_url,
            temporal_address=temporal.address,
            handlers=("onthedot.examples:*",),
            metrics_port=services.free_port(),
        )


@pytest.fixture
async def whole(settings: Settings, tmp_path: Path) -> AsyncIterator[Web]:
    """A web app with that worker."""
    assert settings.database_url
    await let_in(settings.database_url)
    with worker_process(settings, tmp_path / "worker.log", "--queue", "default", "--queue", "q"):
        async with serving(settings) as web:

            async def is_ready() -> bool:
                return (await web("GET", "/readyz")).status == 200

            await services.assert_eventually(is_ready, within=30)
            yield web


async def register(web: Web, **given: Any) -> str:
    body = {"name": "x", "schedule": {"kind": "once", "in": "1s"}, "action": NOOP, **given}
    answer = await web("POST", "/api/v1/tasks", body)
    assert answer.status == 201, answer.text
    task_id: str = answer.json["id"]
    return task_id


async def test_a_run_is_counted_with_its_lag_and_alerts_and_dashboard_ask_for_what_there_is(
    whole: Web,
) -> None:
    port = whole.settings.metrics_port
    assert port is not None
    await register(whole)
    await register(whole, id="a-secret-name", queue="q")
    asked = await register(whole, schedule={"kind": "once", "in": "1h"}, queue="q")
    assert (await whole("POST", f"/api/v1/tasks/{asked}/trigger", {})).status == 202

    async def both() -> str | None:
        text = await scrape(port)
        recorded = promql.samples(text, "onthedot_runs_recorded_total", status="succeeded")
        return text if recorded == 3 else None

    of_worker: str = await services.assert_eventually(both, within=20)
    of_web = (await whole("GET", "/metrics", key=None)).text

    def worker(name: str, **labels: str) -> float:
        return promql.samples(of_worker, "onthedot_" + name, **labels)

    assert worker("start_lag_seconds_count", queue="default") == 1
    assert worker("run_lag_seconds_count", queue="q", status="succeeded") == 1
    assert worker("start_lag_seconds_bucket", queue="default", le="10.0") == 1
    assert worker("firings_total", trigger="manual", queue="q") == 1
    assert worker("attempts_total", action="python", outcome="succeeded") == 3
    assert worker("runs_held") == 0
    assert worker("log_flush_seconds_count", outcome="committed") >= 1
    assert worker("upkeep_rounds_total", chore="compare", outcome="done") == 1

    def web(name: str, **labels: str) -> float:
        return promql.samples(of_web, "onthedot_" + name, **labels)

    assert web("registration_seconds_count", request="register", outcome="done") >= 2
    assert web("http_requests_total", route="/api/v1/tasks", method="POST", status="201") >= 2
    assert web("workers", role="scheduler") == web("queue_workers", queue="q") == 1
    assert web("database_up") == 1

    assert "a-secret-name" not in of_worker + of_web
    missing = asked_for() - promql.scraped(of_worker) - promql.scraped(of_web)
    assert not missing - {"up"}, "no process shows these"
    for metric, label, value in wanted_labels():
        shown = promql.values_of(of_worker + of_web, metric, label)
        assert value in shown, f'{metric}{{{label}="{value}"}}: there are {shown}'


def asked_for() -> set[str]:
    """The metrics that the alert rules and the dashboard name."""
    return set().union(*map(promql.names, expressions()))


def wanted_labels() -> set[tuple[str, str, str]]:
    """The metrics, labels and values that these want."""
    return set().union(*map(promql.wanted_labels, expressions()))


def expressions() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    of_rules = [rule["expr"] for group in groups for rule in group["rules"]]
    return of_rules + [target["expr"] for panel in panels for target in panel["targets"]]


async def test_figures_of_the_whole_come_from_the_database(web: Web) -> None:
    late = {"kind": "once", "in": "1s"}
    await register_pending(web, "late", late)
    await register_pending(web, "later", {"kind": "once", "in": "1h"})
    pool = await open_pool(web.settings)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE tasks SET next_due_at = now() - interval '16 s' WHERE id = 'late'"
        )
        await conn.execute("UPDATE tasks SET engine_version = 0 WHERE id = 'later'")
        await conn.execute(
            "UPDATE tasks SET updated_at = now() - interval '100 s' WHERE id = 'later'"
        )
    await pool.close()
    text = (await web("GET", "/metrics", key=None)).text
    assert promql.samples(text, "onthedot_tasks", state="active") == 2
    assert promql.samples(text, "onthedot_tasks_overdue") == 1
    assert 100 <= promql.samples(text, "onthedot_oldest_change_pending_seconds") < 130
    assert promql.samples(text, "onthedot_queue_tasks", queue="default") == 2
    assert promql.samples(text, "onthedot_queue_workers", queue="default") == 0


async def test_each_metric_is_documented_and_each_documented_one_is_there(web: Web) -> None:
    page = (DEPLOY.parent / "docs/operations.md").read_text()
    documented = {name.removesuffix("_total") for name in re.findall(r"`(onthedot_[a-z_]+)`", page)}
    text = (await web("GET", "/metrics", key=None)).text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert documented == {name for name in families if name.startswith("onthedot_")}


async def register_pending(web: Web, task_id: str, schedule: dict[str, str]) -> None:
    body = {"id": task_id, "name": "x", "schedule": schedule, "action": NOOP}
    answer = await web("POST", "/api/v1/tasks", body)
    assert answer.status in (201, 202), answer.text


async def test_without_postgres_a_web_app_still_answers_prometheus(web_settings: Settings) -> None:
    away = replace(web_settings, database_url=f"postgresql://127.0.0.1:{services.free_port()}/x")
    async with serving(away) as web:
        answer = await web("GET", "/metrics", key=None)
    assert answer.status == 200
    assert promql.samples(answer.text, "onthedot_database_up") == 0
    assert "onthedot_tasks{" not in answer.text


async def test_requests_are_counted_by_route_and_no_path_becomes_a_label(web: Web) -> None:
    def count(route: str, status: str) -> float:
        text = metrics.render().decode()
        name = "onthedot_http_requests_total"
        return promql.samples(text, name, route=route, status=status, method="GET")

    before = count("/api/v1/tasks/{task_id}", "404"), count("none", "404"), count("/static", "404")
    for number in range(3):
        await web("GET", f"/api/v1/tasks/gone-{number}")
        await web("GET", f"/nowhere-{number}")
        await web("GET", f"/static/none-{number}.css")
    after = count("/api/v1/tasks/{task_id}", "404"), count("none", "404"), count("/static", "404")
    assert [one - other for one, other in zip(after, before, strict=True)] == [3, 3, 3]
    assert not [one for one in promql.label_values(metrics.render().decode(), "") if "gone-" in one]


async def test_an_open_live_stream_is_counted(web: Web) -> None:
    headers = {"Authorization": "Bearer otd_a-key-of-the-tests"}
    async with web.session.get(web.url + "/events", headers=headers) as stream:
        await stream.content.readline()
        text = (await web("GET", "/metrics", key=None)).text
        assert promql.samples(text, "onthedot_live_streams") == 1


async def test_rows_that_the_log_does_not_take_are_a_backlog_until_it_does(
    database_url: str,
) -> None:
    def backlog() -> float:
        text = metrics.render().decode()
        return promql.samples(text, "onthedot_log_backlog_rows", place="workflows")

    away = f"postgresql://127.0.0.1:{services.free_port()}/x"
    order = RecordProgress(
        task_id=TASK, version=1, state=TaskState.ACTIVE, next_due_at=None, runs=[run(), run(1)]
    )
    pool = await open_pool(Settings(database_url=away))
    async with RunLog(pool) as log:
        recorder = Recorder(log)
        with pytest.raises(Exception, match="Postgres does not answer"):
            await ActivityEnvironment().run(recorder.record, order)
        assert backlog() == 2
        recorder._log = RunLog(here := await open_pool(Settings(database_url=database_url)))
        async with recorder._log:
            await ActivityEnvironment().run(recorder.record, order)
    assert backlog() == 0
    await pool.close()
    await here.close()


def run(minutes: int = 0, **given: Any) -> Run:
    values = {"trigger": Trigger.SCHEDULE, "status": RunStatus.SUCCEEDED, **given}
    due = DUE + timedelta(minutes=minutes)
    return Run(run_id=f"r{minutes}", task_id=TASK, task_version=1, due_at=due, **values)


async def test_a_worker_whose_port_is_taken_says_so_and_ends(
    settings: Settings, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = tmp_path / "worker.log"
        with worker_process(replace(settings, metrics_port=port), log) as worker:
            assert worker.wait(30) == 2
    assert f"ONTHEDOT_METRICS_PORT = {port}" in log.read_text()


@pytest.mark.parametrize(
    ("how", "reason"), [(signal.SIGTERM, "handed_back"), (signal.SIGKILL, "lost")]
)
async def test_a_run_that_comes_from_another_worker_is_counted_by_why(
    settings: Settings, tmp_path: Path, how: signal.Signals, reason: str
) -> None:
    assert settings.database_url
    await migrate(settings.database_url)
    await let_in(settings.database_url)
    other = replace(settings, metrics_port=services.free_port())
    assert settings.metrics_port and other.metrics_port
    with worker_process(settings, tmp_path / "first.log") as first:
        async with serving(settings) as web:

            async def is_ready() -> bool:
                return (await web("GET", "/readyz")).status == 200

            await services.assert_eventually(is_ready, within=30)
            await register(web, schedule={"kind": "once", "in": "4s"})

            async def is_waiting() -> bool:
                text = await scrape(settings.metrics_port or 0)
                return promql.samples(text, "onthedot_runs_held", state="waiting") == 1

            await services.assert_eventually(is_waiting, within=15)
            with worker_process(other, tmp_path / "other.log"):
                first.send_signal(how)

                async def is_taken() -> bool:
                    try:
                        text = await scrape(other.metrics_port or 0)
                    except aiohttp.ClientError:
                        return False
                    name = "onthedot_attempts_redelivered_total"
                    wrong = {"lost": "handed_back", "handed_back": "lost"}[reason]
                    assert promql.samples(text, name, reason=wrong) == 0
                    return promql.samples(text, name, reason=reason) == 1

                await services.assert_eventually(is_taken, within=30)
