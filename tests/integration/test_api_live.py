"""Tasks over REST with a worker: changes, lists, runs from the trigger to the log."""

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.web_client import Web, registered, task
from tests.services import assert_eventually
from web.api.answers import RunAnswer, RunList, TaskList
from web.api.explanation import Explanation
from web.api.stats import Stats


async def ended(live: Web, run_id: str) -> dict[str, Any]:
    """The run, once it has ended."""

    async def final() -> dict[str, Any] | None:
        run: dict[str, Any] = (await live("GET", f"/api/v1/runs/{run_id}")).json
        return run if run.get("status") not in ("waiting", "running", 404) else None

    run: dict[str, Any] = await assert_eventually(final, within=20)
    RunAnswer.model_validate(run)
    return run


async def test_put_replaces_the_whole_definition(live: Web) -> None:
    kept = await registered(live, tags=["a"], policies={"timeout": "30s"})
    sent = {name: kept[name] for name in ("name", "schedule", "action")} | {"name": "Other"}
    answer = await live("PUT", f"/api/v1/tasks/{kept['id']}", sent)
    assert answer.status == 200
    assert answer.json["engine"] == "in_step"
    assert answer.headers["ETag"] == '"2"'
    assert (answer.json["name"], answer.json["tags"]) == ("Other", [])
    assert answer.json["policies"]["timeout"] == "1m"


async def test_put_under_another_id_is_refused(live: Web) -> None:
    kept = await registered(live)
    answer = await live("PUT", f"/api/v1/tasks/{kept['id']}", task(id="another"))
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "id"


async def test_patch_changes_what_it_names_and_null_resets(live: Web) -> None:
    kept = await registered(live, tags=["a"], policies={"timeout": "30s", "overlap": "allow"})
    patch = {"policies": {"timeout": "2m", "overlap": None}, "tags": None}
    answer = await live(
        "PATCH",
        f"/api/v1/tasks/{kept['id']}",
        data=json.dumps(patch),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status == 200
    assert answer.json["policies"] == kept["policies"] | {"timeout": "2m", "overlap": "skip"}
    assert answer.json["tags"] == []
    assert answer.json["schedule"] == kept["schedule"]


async def test_patch_with_another_kind_of_schedule_replaces_it(live: Web) -> None:
    kept = await registered(live)
    patch = {"schedule": {"kind": "interval", "every": "5m"}}
    answer = await live("PATCH", f"/api/v1/tasks/{kept['id']}", patch)
    assert answer.json["schedule"]["every"] == "5m"
    assert "cron" not in answer.json["schedule"]


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"schedule": {"cron": "61 * * * *"}}, "schedule.cron"),
        ({"name": None}, "name"),
        ({"colour": "red"}, "colour"),
        ({"state": "paused"}, "state"),
    ],
)
async def test_a_patch_that_is_wrong_changes_nothing(
    live: Web, patch: dict[str, Any], field: str
) -> None:
    kept = await registered(live)
    answer = await live("PATCH", f"/api/v1/tasks/{kept['id']}", patch)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert (await live("GET", f"/api/v1/tasks/{kept['id']}")).json["version"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "", task()),
        ("PATCH", "", {"name": "Other"}),
        ("DELETE", "", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
    ],
)
async def test_a_change_of_another_version_than_if_match_names_is_refused(
    live: Web, method: str, path: str, body: Any
) -> None:
    kept = await registered(live)
    if body and "id" in body:
        body = body | {"id": kept["id"]}
    address = f"/api/v1/tasks/{kept['id']}"
    answer = await live(method, address + path, body, headers={"If-Match": '"7"'})
    assert answer.status == 412
    assert answer.json["type"] == "urn:onthedot:problem:version-mismatch"
    assert "7" in answer.json["detail"]
    assert (await live("GET", address)).json["version"] == 1


async def test_of_patches_at_once_none_is_lost(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    patches = [{"policies": {"timeout": "9m"}}, {"name": "Other"}, {"tags": ["a"]}]
    answers = await asyncio.gather(*(live("PATCH", address, patch) for patch in patches))
    assert {answer.status for answer in answers} == {200}
    now = (await live("GET", address)).json
    assert (now["policies"]["timeout"], now["name"], now["tags"]) == ("9m", "Other", ["a"])
    assert now["version"] == 4


async def test_a_deleted_task_is_gone_and_its_id_is_free(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    deleted = await live("DELETE", address)
    assert (deleted.status, deleted.json["state"]) == (200, "deleted")
    assert (await live("GET", address)).status == 404
    assert (await live("DELETE", address)).status == 404
    assert await ids(live, f"q={kept['id']}") == []
    assert await ids(live, f"q={kept['id']}&state=deleted") == [kept["id"]]
    again = await registered(live, id=kept["id"])
    assert again["state"] == "active"
    assert again["run_count"] == 0


async def ids(live: Web, query: str) -> list[str]:
    answer = await live("GET", f"/api/v1/tasks?{query}")
    TaskList.model_validate(answer.json)
    return [one["id"] for one in answer.json["items"]]


async def test_lists_filter_search_and_sort(live: Web) -> None:
    every = {"kind": "interval", "every": "1h"}
    hello = {"kind": "python", "handler": "onthedot.examples:hello"}
    later = {"kind": "once", "at": "2099-01-01T00:00:00Z"}
    await registered(live, id="alpha", name="Zebra 100%", schedule=later, tags=["lists", "z"])
    await registered(live, id="beta", name="apple_pie", schedule=every, tags=["lists", "y"])
    await registered(live, id="gamma", name="Mango", action=hello, tags=["lists"])
    paused = await live("POST", "/api/v1/tasks/gamma/pause")
    assert (paused.status, paused.json["state"]) == (200, "paused")
    for query, found in {
        "sort=name": ["beta", "gamma", "alpha"],
        "sort=created": ["gamma", "beta", "alpha"],
        "sort=next_due": ["beta", "alpha", "gamma"],  # a paused task is never due
        "state=paused": ["gamma"],
        "state=paused&state=active&sort=name": ["beta", "gamma", "alpha"],
        "kind=interval": ["beta"],
        "action=python": ["gamma"],
        "q=PPLE": ["beta"],
        "q=alph": ["alpha"],
        "q=%25": ["alpha"],  # a wildcard of SQL is a plain letter
        "q=_": ["beta"],
    }.items():
        assert await ids(live, f"tag=lists&{query}") == found, query
    assert await ids(live, "tag=y") == ["beta"]


@pytest.mark.parametrize("sort", ["next_due", "created", "name", "last_run"])
async def test_pages_give_each_task_once(live: Web, sort: str) -> None:
    names = ["same", "same", "other", "Same", "last", "first", "x"]
    kept = [await registered(live, name=name, tags=[f"pages-{sort}"]) for name in names]
    for one in kept[:3]:  # some are never due
        assert (await live("POST", f"/api/v1/tasks/{one['id']}/pause")).status == 200
    query = {"sort": sort, "limit": "2", "tag": f"pages-{sort}"}
    seen: list[str] = []
    while True:
        answer = (await live("GET", "/api/v1/tasks", params=query)).json
        seen += [one["id"] for one in answer["items"]]
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
    assert sorted(seen) == sorted(one["id"] for one in kept)
    assert len(seen) == len(kept)


async def test_a_task_due_in_a_second_runs_and_is_in_the_log_with_its_lag(live: Web) -> None:
    kept = await registered(live, schedule={"kind": "once", "in": "1s"})

    async def logged() -> list[dict[str, Any]]:
        answer = await live("GET", f"/api/v1/runs?task={kept['id']}&status=succeeded")
        RunList.model_validate(answer.json)
        found: list[dict[str, Any]] = answer.json["items"]
        return found

    [row] = await assert_eventually(logged, within=20)
    assert row["trigger"] == "schedule"
    assert row["due_at"] == kept["next_due_at"]
    assert 0 <= row["lag_ms"] < 10_000
    run = await ended(live, row["run_id"])
    assert run["output"] == "hello\n"
    assert [one["status"] for one in run["attempts"]] == ["succeeded"]

    async def finished() -> bool:
        now = (await live("GET", f"/api/v1/tasks/{kept['id']}")).json
        return now["state"] == "finished" and now["run_count"] == 1

    await assert_eventually(finished)
    said = (await live("GET", f"/api/v1/tasks/{kept['id']}/explain")).json
    assert "finished" in said["summary"]
    assert said["last_run"]["run_id"] == row["run_id"]
    stats = Stats.model_validate((await live("GET", "/api/v1/stats")).json)
    assert stats.lag.max_ms is not None
    assert stats.runs.last_hour["succeeded"] >= 1  # type: ignore[index] - a StrEnum


async def test_a_trigger_runs_now_with_its_arguments(live: Web) -> None:
    action = {"kind": "python", "handler": "onthedot.examples:hello", "arguments": {"name": "a"}}
    kept = await registered(live, action=action)
    body = {"arguments": {"name": "b"}, "reason": "a test"}
    asked = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger", body)
    assert asked.status == 202
    run = await ended(live, asked.json["run_id"])
    assert (run["status"], run["trigger"]) == ("succeeded", "manual")
    assert "Hello, b!" in run["output"]


async def test_a_run_that_goes_on_is_cancelled(live: Web) -> None:
    kept = await registered(live, action={"kind": "shell", "command": ["/bin/sleep", "60"]})
    asked = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger")
    address = f"/api/v1/runs/{asked.json['run_id']}"

    async def running() -> bool:
        status: str = (await live("GET", address)).json["status"]
        return status == "running"

    await assert_eventually(running, within=20)
    assert (await live("POST", f"{address}/cancel")).status == 202
    assert (await ended(live, asked.json["run_id"]))["status"] == "cancelled"
    again = await live("POST", f"{address}/cancel")
    assert again.status == 409
    assert "cancelled" in again.json["detail"]


async def test_a_run_is_run_again(live: Web) -> None:
    kept = await registered(live)
    first = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger")
    await ended(live, first.json["run_id"])
    again = await live("POST", f"/api/v1/runs/{first.json['run_id']}/rerun")
    assert again.status == 202
    assert again.json["run_id"] != first.json["run_id"]
    assert (await ended(live, again.json["run_id"]))["status"] == "succeeded"


async def test_a_backfill_runs_each_due_time(live: Web) -> None:
    kept = await registered(live)
    body = {"start": "2026-01-01T01:00:00Z", "end": "2026-01-03T01:00:00Z"}
    asked = await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)
    runs = [await ended(live, one["run_id"]) for one in asked.json["items"]]
    assert [one["due_at"][:10] for one in runs] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert {(one["status"], one["trigger"]) for one in runs} == {("succeeded", "backfill")}


async def test_pages_of_the_log_give_each_run_once_newest_first(live: Web) -> None:
    kept = await registered(live)
    body = {"start": "2026-02-01T00:00:00Z", "end": "2026-02-06T00:00:00Z"}
    asked = await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)
    query = {"task": kept["id"], "limit": "2"}
    seen: list[str] = []
    while True:
        answer = (await live("GET", "/api/v1/runs", params=query)).json
        seen += [one["run_id"] for one in answer["items"]]
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
    assert seen == [one["run_id"] for one in reversed(asked.json["items"])]


async def test_the_log_filters_by_due_time_and_trigger(live: Web) -> None:
    kept = await registered(live)
    body = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-04T00:00:00Z"}
    await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)

    async def days(**query: str) -> list[str]:
        answer = await live("GET", "/api/v1/runs", params={"task": kept["id"], **query})
        return [one["due_at"][8:10] for one in answer.json["items"]]

    assert await days() == ["03", "02", "01"]
    assert await days(since="2026-03-02T01:00:00Z") == ["03", "02"]
    assert await days(until="2026-03-02T01:00:00Z") == ["01"]
    assert await days(trigger="manual") == []
    assert await days(trigger="backfill", until="2026-03-01T12:00:00+01:00") == ["01"]


async def test_explain_says_when_a_task_runs_next(live: Web) -> None:
    kept = await registered(live)

    async def said() -> Explanation | None:
        answer = await live("GET", f"/api/v1/tasks/{kept['id']}/explain")
        explanation = Explanation.model_validate(answer.json)
        return explanation if not explanation.reasons else None

    explanation = await assert_eventually(said)
    assert explanation.summary.startswith("It runs next at")
    assert explanation.next_due[0] == datetime.fromisoformat(kept["next_due_at"])
    assert (explanation.engine.scheduling_workers, explanation.engine.executing_workers) == (1, 1)


async def test_a_paused_task_is_resumed(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    paused = await live("POST", f"{address}/pause", headers={"If-Match": '"1"'})
    assert (paused.status, paused.json["state"], paused.json["next_due_at"]) == (
        200,
        "paused",
        None,
    )
    weak = f"W/{paused.headers['ETag']}"  # as a proxy that compresses hands it on
    resumed = await live("POST", f"{address}/resume", headers={"If-Match": weak})
    assert (resumed.status, resumed.json["state"]) == (200, "active")
    assert resumed.json["next_due_at"] == kept["next_due_at"]


async def test_the_same_key_gets_the_same_answer(live: Web) -> None:
    sent = task(schedule={"kind": "interval", "every": "1h"})
    headers = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(
        *(live("POST", "/api/v1/tasks", sent, headers=headers) for _ in range(10))
    )
    assert {answer.status for answer in answers} == {201}
    assert {answer.json["next_due_at"] for answer in answers} == {answers[0].json["next_due_at"]}


async def test_ready_says_that_all_is_well(live: Web) -> None:
    answer = await live("GET", "/readyz")
    assert answer.status == 200
    assert {name: check["ok"] for name, check in answer.json["checks"].items()} == {
        "postgres": True,
        "temporal": True,
        "workers": True,
    }
