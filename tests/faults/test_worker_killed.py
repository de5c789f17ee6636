"""Runs start within ten seconds of their due time, whatever is killed."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from onthedot.database.migrate import migrate
from onthedot.database.pool import connection
from onthedot.database.runs import read_run
from onthedot.errors import DatabaseUnavailable
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import TaskRegistration
from tests import services
from tests.running import Office, office, worker_process

NOOP = {"kind": "python", "handler": "onthedot.examples:noop"}
PROMISED_MS = 10_000


def settings_for(database_url: str, temporal: str) -> Settings:
    return Settings(
        database_url=database_url, temporal_address=temporal, handlers=("onthedot.examples:*",)
    )


@asynccontextmanager
async def two_workers(settings: Settings, folder: Path) -> AsyncIterator[list[int]]:
    """The pids of two workers that both poll."""
    with ExitStack() as running:
        workers = [
            running.enter_context(worker_process(settings, folder / f"worker-{number}.log"))
            for number in range(2)
        ]
        pids = [worker.pid for worker in workers]
        async with office(settings) as asking:

            async def both_poll() -> bool:
                polling = [one.identity for one in (await asking.engine.health()).workers]
                return all(any(one.endswith(f":{pid}") for one in polling) for pid in pids)

            await services.assert_eventually(both_poll, within=30)
        yield pids


async def register(at: Office, task_id: str, schedule: dict[str, object]) -> None:
    sent = {"id": task_id, "name": task_id, "schedule": schedule, "action": NOOP}
    await at.registration.register(TaskRegistration.model_validate(sent), by="tester")


async def rows(at: Office) -> list[Run]:
    async with connection(at.pool) as conn:
        found = await conn.execute("SELECT * FROM runs ORDER BY task_id, due_at, run_id")
        return [read_run(row) for row in await found.fetchall()]


def worst_lag(found: Sequence[Run]) -> float:
    return max(run.lag_ms if run.lag_ms is not None else float("inf") for run in found)


async def test_runs_start_in_time_although_a_worker_is_killed_a_second_before(
    database_url: str, temporal_server: str, tmp_path: Path
) -> None:
    settings = settings_for(database_url, temporal_server)
    async with AsyncExitStack() as running:
        at = await running.enter_async_context(office(settings))
        victim, _ = await running.enter_async_context(two_workers(settings, tmp_path))
        due_at = datetime.now(UTC) + timedelta(seconds=12)
        names = [f"k{due_at:%H%M%S%f}-{number}" for number in range(40)]
        for name in names:
            await register(at, name, {"kind": "once", "at": due_at.isoformat()})
        kill_at = due_at - timedelta(seconds=1)
        await asyncio.sleep((kill_at - datetime.now(UTC)).total_seconds())
        os.kill(victim, signal.SIGKILL)

        async def all_ended() -> list[Run]:
            found = [run for run in await rows(at) if run.task_id in names]
            assert len([run for run in found if run.status.is_final]) == len(names)
            return found

        found: list[Run] = await services.assert_eventually(all_ended, within=40, every=0.2)
    assert sorted(run.task_id for run in found) == sorted(names)
    assert {run.status for run in found} == {RunStatus.SUCCEEDED}
    assert worst_lag(found) < PROMISED_MS


async def test_runs_are_on_time_and_logged_later_while_postgres_is_away_for_20_seconds(
    temporal_server: str,
) -> None:
    every = timedelta(seconds=2)
    with services.temporary_folder() as folder, ExitStack() as postgres:
        port = services.free_port()
        server = await asyncio.to_thread(
            postgres.enter_context, services.running_postgres(folder, port)
        )
        server.make_database()
        await migrate(server.url())
        settings = settings_for(server.url(), temporal_server)
        with worker_process(settings, folder / "worker.log"):
            async with office(settings) as at:
                names = [f"p{port}-{number}" for number in range(5)]
                for name in names:
                    await register(at, name, {"kind": "interval", "every": "2s"})
                await services.assert_eventually(lambda: _ended(at, names, 2), within=30)
                await asyncio.to_thread(postgres.close)
                went_at = datetime.now(UTC)
                await asyncio.sleep(20)
                back_at = datetime.now(UTC)
                await asyncio.to_thread(
                    postgres.enter_context, services.running_postgres(folder, port)
                )
                after = back_at + timedelta(seconds=8)
                await services.assert_eventually(
                    lambda: _ended(at, names, 2, after=after), within=60, every=0.5
                )
                found = [run for run in await rows(at) if run.due_at <= after]
                for name in names:
                    await at.registration.delete(name, by="tester")
    for name in names:
        own = [run for run in found if run.task_id == name]
        assert {later.due_at - one.due_at for one, later in pairwise(own)} == {every}
        assert {run.status for run in own} == {RunStatus.SUCCEEDED}
    away = [run for run in found if went_at < run.due_at < back_at]
    assert len(away) > 5 * 8
    assert worst_lag(away) < PROMISED_MS


async def _ended(
    at: Office, names: Sequence[str], count: int, after: datetime | None = None
) -> bool:
    """Whether each of the tasks has ``count`` rows of runs that have ended, due after ``after``."""
    try:
        found = [run for run in await rows(at) if run.status.is_final]
    except DatabaseUnavailable:
        return False
    ended = Counter(run.task_id for run in found if after is None or run.due_at > after)
    return all(ended[name] >= count for name in names)
