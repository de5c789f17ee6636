"""Each change of a task is kept: by whom, when, what differs; and a task goes back to a version."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from onthedot.database import tasks
from onthedot.database.pool import Connection, connection, open_pool
from tests.integration.web_client import Web, registered, rows
from tests.services import assert_eventually
from web.api import examples
from web.api.answers import TaskAnswer
from web.api.versions import VersionAnswer, VersionList


@asynccontextmanager
async def connection_of(live: Web) -> AsyncIterator[Connection]:
    pool = await open_pool(live.settings)
    async with connection(pool) as conn:
        yield conn
    await pool.close()


async def kept_versions(live: Web, task_id: str) -> list[tuple[int, str, str]]:
    """The stored versions of a task: their number, what made them, the state."""
    query = "SELECT * FROM task_versions WHERE task_id = %s ORDER BY version"
    return [(one["version"], one["what"], one["state"]) for one in await rows(live, query, task_id)]


async def test_each_change_is_kept_with_who_made_it_and_why(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    await live("PATCH", address, {"name": "Other"})
    await live("POST", f"{address}/pause", {"reason": "a migration"})
    await live("POST", f"{address}/resume", {"reason": "it is over"})
    await live("DELETE", f"{address}?reason=not+needed")
    again = await registered(live, id=kept["id"])
    assert again["version"] == 6
    assert await kept_versions(live, kept["id"]) == [
        (1, "registered", "active"),
        (2, "revised", "active"),
        (3, "paused", "paused"),
        (4, "resumed", "active"),
        (5, "deleted", "deleted"),
        (6, "registered", "active"),
    ]
    answer = await live("GET", f"{address}/versions")
    VersionList.model_validate(answer.json)
    assert {one["by"] for one in answer.json["items"]} == {"tester"}
    reasons = [one["reason"] for one in answer.json["items"]]
    assert reasons == [None, "not needed", "it is over", "a migration", None, None]
    [now] = await rows(live, "SELECT version, spec FROM tasks WHERE id = %s", kept["id"])
    [last] = await rows(
        live, "SELECT spec FROM task_versions WHERE task_id = %s AND version = 6", kept["id"]
    )
    assert last["spec"] == now["spec"]


async def test_what_changes_nothing_makes_no_version(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    assert (await live("PATCH", address, {"name": kept["name"]})).json["version"] == 1
    assert (await live("POST", f"{address}/resume")).json["version"] == 1
    refused = await live("PATCH", address, {"schedule": {"cron": "61 * * * *"}})
    assert refused.status == 422
    assert await kept_versions(live, kept["id"]) == [(1, "registered", "active")]


async def test_pages_of_versions_give_each_once_the_newest_first(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    for number in range(4):
        assert (await live("PATCH", address, {"name": f"name {number}"})).status == 200
    query, seen = {"limit": "2"}, []
    while True:
        answer = (await live("GET", f"{address}/versions", params=query)).json
        seen += [one["version"] for one in answer["items"]]
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
    assert seen == [5, 4, 3, 2, 1]


async def test_a_version_tells_what_differs_from_the_one_before_or_another(live: Web) -> None:
    kept = await registered(live, tags=["a"])
    address = f"/api/v1/tasks/{kept['id']}"
    await live("PATCH", address, {"policies": {"timeout": "2m"}, "tags": ["a", "b"]})
    await live("POST", f"{address}/pause")
    second = VersionAnswer.model_validate((await live("GET", f"{address}/versions/2")).json)
    assert {one.pointer: (one.old, one.new) for one in second.changes} == {
        "/policies/timeout": ("1m", "2m"),
        "/tags": (["a"], ["a", "b"]),
    }
    assert (second.against, second.definition.tags) == (1, ["a", "b"])
    third = (await live("GET", f"{address}/versions/3")).json
    assert third["changes"] == [{"pointer": "/state", "old": "active", "new": "paused"}]
    both = (await live("GET", f"{address}/versions/3?against=1")).json
    assert {one["pointer"] for one in both["changes"]} == {"/policies/timeout", "/tags", "/state"}
    first = (await live("GET", f"{address}/versions/1")).json
    assert (first["against"], first["changes"]) == (None, [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "versions/9", 404),
        ("GET", "versions/1?against=9", 404),
        ("POST", "versions/9/restore", 404),
        ("GET", "versions/0", 422),
        ("GET", "versions/one", 422),
        ("GET", "versions?cursor=abc", 422),
        ("GET", "versions?colour=red", 422),
    ],
)
async def test_a_version_that_there_is_not_is_refused(
    live: Web, method: str, path: str, status: int
) -> None:
    kept = await registered(live)
    assert (await live(method, f"/api/v1/tasks/{kept['id']}/{path}")).status == status
    assert await kept_versions(live, kept["id"]) == [(1, "registered", "active")]


async def test_a_task_goes_back_to_an_earlier_version(live: Web) -> None:
    kept = await registered(live, tags=["a"])
    address = f"/api/v1/tasks/{kept['id']}"
    await live("PATCH", address, {"name": "Other", "tags": ["b"]})
    await live("POST", f"{address}/pause")
    body = examples.RESTORES["reason"]["value"]
    refused = await live("POST", f"{address}/versions/1/restore", body, headers={"If-Match": '"2"'})
    assert refused.status == 412
    assert len(await kept_versions(live, kept["id"])) == 3
    answer = await live("POST", f"{address}/versions/1/restore", body, headers={"If-Match": '"3"'})
    restored = TaskAnswer.model_validate(answer.json)
    assert (answer.status, restored.name, restored.tags) == (200, kept["name"], ["a"])
    assert (restored.version, restored.state) == (4, "paused")
    assert (await kept_versions(live, kept["id"]))[-1] == (4, "restored", "paused")
    item = (await live("GET", f"{address}/versions/4?against=1")).json
    assert item["reason"] == body["reason"]
    assert [one["pointer"] for one in item["changes"]] == ["/state"]


async def test_a_deleted_task_comes_back_by_restoring_a_version(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    await live("DELETE", address)
    assert len((await live("GET", f"{address}/versions")).json["items"]) == 2
    answer = await live("POST", f"{address}/versions/1/restore")
    assert (answer.status, answer.json["state"], answer.json["version"]) == (200, "active", 3)
    assert answer.json["next_due_at"] == kept["next_due_at"]
    run = (await live("POST", f"{address}/trigger")).json

    async def ran() -> bool:
        return (await live("GET", f"/api/v1/runs/{run['run_id']}")).json["status"] == "succeeded"

    await assert_eventually(ran, within=20)
    [row] = await rows(live, "SELECT task_version FROM runs WHERE run_id = %s", run["run_id"])
    assert row["task_version"] == 3


async def test_a_version_whose_instant_has_passed_is_not_restored(live: Web) -> None:
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    kept = await registered(live, schedule={"kind": "once", "at": at})
    address = f"/api/v1/tasks/{kept['id']}"
    await live("PATCH", address, {"schedule": {"kind": "interval", "every": "1h"}})
    await rows(
        live,
        "UPDATE task_versions SET spec = jsonb_set(spec, '{schedule,at}', '\"2020-01-01T00:00:00Z\"')"
        " WHERE task_id = %s AND version = 1",
        kept["id"],
    )
    answer = await live("POST", f"{address}/versions/1/restore")
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "schedule.at"
    assert len(await kept_versions(live, kept["id"])) == 2


async def test_50_changes_at_once_make_gapless_versions_with_one_winner_each(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"

    def change(number: int) -> Any:
        match number % 4:
            case 0:
                return live("POST", f"{address}/pause", {"reason": f"reason {number}"})
            case 1:
                return live("PATCH", address, {"name": f"name {number}"})
            case 2:
                return live("POST", f"{address}/versions/1/restore")
            case _:
                return live("POST", f"{address}/resume")

    answers = await asyncio.gather(*(change(number) for number in range(50)))
    assert {answer.status for answer in answers} <= {200, 202, 412}
    found = await rows(
        live, "SELECT version, what FROM task_versions WHERE task_id = %s", kept["id"]
    )
    numbers = sorted(one["version"] for one in found)
    [task] = await rows(live, "SELECT version FROM tasks WHERE id = %s", kept["id"])
    assert numbers == list(range(1, task["version"] + 1))
    # a PATCH names its own name: no two of them may have won the same version
    named = Counter(
        answer.json["version"]
        for answer in answers
        if answer.status < 300 and answer.json["name"].startswith("name ")
    )
    names = {
        (answer.json["version"], answer.json["name"]) for answer in answers if answer.status < 300
    }
    assert len({version for version, _ in names}) == len(names)
    assert named


async def test_of_50_changes_of_one_version_one_wins(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *(
            live("POST", f"{address}/pause", {"reason": f"{number}"}, headers=headers)
            for number in range(50)
        )
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 412: 49}
    assert await kept_versions(live, kept["id"]) == [
        (1, "registered", "active"),
        (2, "paused", "paused"),
    ]


async def test_a_restore_sent_again_with_its_key_happens_once(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    await live("PATCH", address, {"name": "Other"})
    await live("POST", f"{address}/versions/1/restore", headers=headers)
    await live("PATCH", address, {"name": "Third"})
    again = await live("POST", f"{address}/versions/1/restore", headers=headers)
    assert (again.status, again.json["name"]) == (200, "Third")
    assert len(await kept_versions(live, kept["id"])) == 4


async def test_old_versions_are_forgotten_but_for_the_last(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    for number in range(4):
        await live("PATCH", address, {"name": f"name {number}"})
    async with connection_of(live) as conn:
        late = datetime.now(UTC) + timedelta(minutes=1)
        await tasks.forget_versions(conn, before=late - timedelta(days=1), kept=2)
        assert len(await kept_versions(live, kept["id"])) == 5
        await conn.execute(
            "UPDATE task_versions SET at = %s WHERE task_id = %s",
            [late - timedelta(days=2), kept["id"]],
        )
        await tasks.forget_versions(conn, before=late - timedelta(days=1), kept=2)
    assert [one[0] for one in await kept_versions(live, kept["id"])] == [4, 5]
    first = (await live("GET", f"{address}/versions/4")).json
    assert (first["against"], first["changes"]) == (None, [])
