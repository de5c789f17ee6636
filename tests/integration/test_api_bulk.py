"""Many tasks at once: none changes unless their number was named; each has its own answer."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.web_client import Web, registered, rows, task
from tests.services import assert_eventually
from web.api import examples
from web.api.bulk import BulkAnswer, BulkCount

HELLO = {"kind": "python", "handler": "onthedot.examples:hello"}


@pytest.fixture
def tag() -> str:
    return f"bulk-{uuid4().hex}"


async def some(live: Web, tag: str, number: int = 3, **changes: Any) -> list[str]:
    made = await asyncio.gather(*(registered(live, tags=[tag], **changes) for _ in range(number)))
    return sorted(one["id"] for one in made)


async def states(live: Web, tag: str) -> dict[str, tuple[str, int]]:
    found = await rows(live, "SELECT id, state, version FROM tasks WHERE tags @> ARRAY[%s]", tag)
    return {one["id"]: (one["state"], one["version"]) for one in found}


@pytest.mark.parametrize("action", ["pause", "resume", "delete"])
@pytest.mark.parametrize("count", [None, 0, 2, 4])
async def test_another_number_than_there_is_changes_nothing(
    live: Web, tag: str, action: str, count: int | None
) -> None:
    ids = await some(live, tag)
    body = {"filter": {"tag": tag}} | ({} if count is None else {"count": count})
    answer = await live("POST", f"/api/v1/tasks:{action}", body)
    assert answer.status == 409
    assert answer.json["type"] == "urn:onthedot:problem:count-mismatch"
    assert (answer.json["count"], answer.json["sample"]) == (3, ids)
    assert set((await states(live, tag)).values()) == {("active", 1)}


async def test_a_dry_run_counts_and_changes_nothing(live: Web, tag: str) -> None:
    ids = await some(live, tag)
    for action in ("pause", "resume", "delete", "trigger"):
        answer = await live("POST", f"/api/v1/tasks:{action}?tag={tag}", {"dry_run": True})
        assert answer.status == 200
        assert BulkCount.model_validate(answer.json).sample == ids
    assert set((await states(live, tag)).values()) == {("active", 1)}
    assert await rows(live, "SELECT * FROM requests WHERE task_id = ANY(%s)", ids) == []


async def test_all_that_a_filter_finds_are_paused_resumed_and_deleted(live: Web, tag: str) -> None:
    ids = await some(live, tag)
    other = await registered(live)
    for action, state, version in (
        ("pause", "paused", 2),
        ("pause", "paused", 2),  # again: nothing changes any more
        ("resume", "active", 3),
        ("delete", "deleted", 4),
    ):
        body = {"filter": {"tag": tag}, "count": 3}
        answer = await live("POST", f"/api/v1/tasks:{action}", body)
        assert answer.status == 200, answer.text
        done = BulkAnswer.model_validate(answer.json)
        assert (done.count, done.done) == (3, 3)
        assert [one.id for one in done.items] == ids
        assert {(one.status, one.state, one.version) for one in done.items} == {
            (200, state, version)
        }
        assert set((await states(live, tag)).values()) == {(state, version)}
    assert (await live("GET", f"/api/v1/tasks/{other['id']}")).json["version"] == 1


async def test_a_bulk_request_sent_again_with_its_key_is_about_the_same_tasks(
    live: Web, tag: str
) -> None:
    ids = await some(live, tag)
    body = {"filter": {"tag": tag, "state": ["active"]}, "count": 3, "reason": "a test"}
    headers = {"Idempotency-Key": uuid4().hex}
    first = await live("POST", "/api/v1/tasks:pause", body, headers=headers)
    late = await registered(live, tags=[tag])
    await live("POST", f"/api/v1/tasks/{ids[0]}/resume")
    again = await live("POST", "/api/v1/tasks:pause", body, headers=headers)
    assert (first.json["done"], again.json["done"]) == (3, 3)
    assert [one["id"] for one in again.json["items"]] == ids
    now = await states(live, tag)
    assert now[late["id"]] == ("active", 1)
    assert now[ids[0]] == ("active", 3)
    other = body | {"reason": "another"}
    assert (await live("POST", "/api/v1/tasks:pause", other, headers=headers)).status == 422


async def test_a_bulk_trigger_runs_each_task_once_a_key(live: Web, tag: str) -> None:
    ids = await some(live, tag, action=HELLO)
    body = {"filter": {"tag": tag}, "count": 3, "arguments": {"name": "all"}, "reason": "a test"}
    refused = await live("POST", "/api/v1/tasks:trigger", body)
    assert refused.status == 422
    assert refused.json["errors"][0]["field"] == "Idempotency-Key"
    assert await rows(live, "SELECT * FROM runs WHERE task_id = ANY(%s)", ids) == []
    headers = {"Idempotency-Key": uuid4().hex}
    answers = [await live("POST", "/api/v1/tasks:trigger", body, headers=headers) for _ in range(2)]
    assert answers[0].json["items"] == answers[1].json["items"]
    assert {one["status"] for one in answers[0].json["items"]} == {202}
    found = await rows(live, "SELECT * FROM runs WHERE task_id = ANY(%s)", ids)
    assert len(found) == 3
    assert {(one["reason"], one["asked_by"]) for one in found} == {("a test", "tester")}
    assert {one["arguments"]["name"] for one in found} == {"all"}


async def test_what_one_task_gets_wrong_does_not_keep_the_others(live: Web, tag: str) -> None:
    [hello] = await some(live, tag, 1, action=HELLO)
    [echo] = await some(live, tag, 1)
    body = {"filter": {"tag": tag}, "count": 2, "arguments": {"name": "x"}}
    answer = await live(
        "POST", "/api/v1/tasks:trigger", body, headers={"Idempotency-Key": uuid4().hex}
    )
    assert (answer.status, answer.json["done"]) == (200, 1)
    by_id = {one["id"]: one for one in answer.json["items"]}
    assert by_id[hello]["status"] == 202
    assert by_id[echo]["status"] == 422
    assert by_id[echo]["problem"]["errors"][0]["field"] == "arguments"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("tasks:pause", {"count": 0}, "filter"),
        ("tasks:delete", {"filter": {}, "count": 10}, "filter"),
        ("tasks:pause?state=deleted", {"count": 0}, "state"),
        ("tasks:pause?colour=red", {"count": 0}, "colour"),
        ("tasks:pause", {"filter": {"colour": "red"}}, "filter.colour"),
        ("tasks:pause?tag=a", {"filter": {"tag": "b"}, "count": 0}, "filter.tag"),
        ("tasks:pause?tag=a", {"count": -1}, "count"),
        ("tasks:batch", {"tasks": []}, "tasks"),
        ("tasks:batch", {}, "tasks"),
    ],
)
async def test_a_filter_that_is_wrong_is_refused(
    live: Web, path: str, body: dict[str, Any], field: str
) -> None:
    before = await rows(live, "SELECT count(*) AS n, max(updated_at) AS last FROM tasks")
    answer = await live("POST", f"/api/v1/{path}", body)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert await rows(live, "SELECT count(*) AS n, max(updated_at) AS last FROM tasks") == before


async def test_the_filter_has_what_the_list_has(live: Web, tag: str) -> None:
    [one] = await some(live, tag, 1, queue="reports", action=HELLO)
    await some(live, tag, 1, schedule={"kind": "interval", "every": "1h"})
    for query in ("queue=reports", "action=python", "kind=cron", f"q={one}"):
        answer = await live("POST", f"/api/v1/tasks:pause?tag={tag}&{query}", {"dry_run": True})
        assert answer.json == {"count": 1, "sample": [one]}, query
        listed = (await live("GET", f"/api/v1/tasks?tag={tag}&{query}")).json
        assert [item["id"] for item in listed["items"]] == [one], query


async def test_a_batch_registers_each_task_by_itself(live: Web, tag: str) -> None:
    taken = await registered(live)
    good, other = task(tags=[tag]), task(tags=[tag])
    del other["id"]
    sent = [
        good,
        task(tags=[tag], schedule={"kind": "cron", "cron": "61 * * * *"}),
        task(id=taken["id"], tags=[tag]),
        other,
        task(tags=[tag], colour="red"),
    ]
    headers = {"Idempotency-Key": uuid4().hex}
    answers = [
        await live("POST", "/api/v1/tasks:batch", {"tasks": sent}, headers=headers)
        for _ in range(2)
    ]
    for answer in answers:
        assert answer.status == 200
        done = BulkAnswer.model_validate(answer.json)
        assert [one.status for one in done.items] == [201, 422, 409, 201, 422]
        assert (done.count, done.done) == (5, 2)
    items = answers[0].json["items"]
    assert items[0]["id"] == good["id"]
    assert items[1]["problem"]["errors"][0]["field"] == "schedule.cron"
    assert items[4]["problem"]["errors"][0]["field"] == "colour"
    assert [one["id"] for one in items] == [one["id"] for one in answers[1].json["items"]]
    assert set(await states(live, tag)) == {good["id"], items[3]["id"]}


async def test_what_takes_too_long_is_kept_and_told_to_the_engine_afterwards(
    live: Web, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some(live, tag)
    monkeypatch.setattr("onthedot.bulk._TOLD_FOR", 0)
    answer = await live("POST", f"/api/v1/tasks:pause?tag={tag}", {"count": 3})
    assert {one["status"] for one in answer.json["items"]} == {202}
    headers = {"Idempotency-Key": uuid4().hex}
    asked = await live("POST", f"/api/v1/tasks:trigger?tag={tag}", {"count": 3}, headers=headers)
    assert asked.json["done"] == 3
    found = await rows(live, "SELECT * FROM tasks WHERE tags @> ARRAY[%s]", tag)
    assert {(one["state"], one["version"]) for one in found} == {("paused", 2)}

    async def all_told() -> bool:
        query = "SELECT engine_version FROM tasks WHERE tags @> ARRAY[%s]"
        taken = {one["engine_version"] for one in await rows(live, query, tag)}
        runs = [await live("GET", f"/api/v1/runs/{one['run_id']}") for one in asked.json["items"]]
        return taken == {2} and {run.json["status"] for run in runs} == {"succeeded"}

    await assert_eventually(all_told, within=60, every=0.5)


async def test_a_batch_of_a_thousand_is_registered(live: Web, tag: str) -> None:
    sent = [task(tags=[tag], name="x" * 150) for _ in range(1000)]
    answer = await live("POST", "/api/v1/tasks:batch", {"tasks": sent})
    assert [one for one in answer.json["items"] if one["status"] >= 400] == []
    assert (answer.status, answer.json["done"]) == (200, 1000)
    assert len(await states(live, tag)) == 1000
    refused = await live("POST", "/api/v1/tasks:batch", {"tasks": [*sent, task()]})
    assert refused.status == 422
    gone = await live("POST", f"/api/v1/tasks:delete?tag={tag}", {"count": 1000})
    assert gone.json["done"] == 1000


async def test_the_examples_in_the_document_work(live: Web) -> None:
    for example in examples.BULK_PAUSES.values():
        answer = await live("POST", "/api/v1/tasks:pause", example["value"])
        assert answer.status in (200, 409)
    for example in examples.BATCHES.values():
        answer = await live("POST", "/api/v1/tasks:batch", example["value"])
        assert answer.status == 200
