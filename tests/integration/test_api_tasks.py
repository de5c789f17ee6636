"""Tasks over REST, with a real engine and no worker: what is asked of a workflow is pending."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter

from onthedot.engine import Engine, workflow_id
from tests.integration.web_client import Web, count, registered, task
from web.api import examples
from web.api.answers import TaskAnswer
from web.api.explanation import Explanation
from web.api.stats import Stats


async def test_a_registered_task_is_answered_stored_and_has_a_workflow(web: Web) -> None:
    sent = task(tags=["billing"], policies={"timeout": "30s"})
    answer = await web("POST", "/api/v1/tasks", sent)
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/v1/tasks/{sent['id']}"
    assert answer.headers["ETag"] == '"1"'
    kept = TaskAnswer.model_validate(answer.json)
    assert answer.json["schedule"] == sent["schedule"] | {"dst": "cron"}
    assert (kept.state, kept.version, kept.engine) == ("active", 1, "in_step")
    assert kept.policies.timeout == timedelta(seconds=30)
    assert kept.created_by == "tester"
    assert kept.next_due_at == kept.next_due[0]
    assert len(kept.next_due) == 5
    engine = await Engine.connect(web.settings)
    await engine.client.get_workflow_handle(workflow_id(sent["id"])).describe()


async def test_instants_are_answered_in_utc_with_microseconds(web: Web) -> None:
    at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    there = at.astimezone().isoformat()
    kept = await registered(web, schedule={"kind": "once", "at": there})
    assert kept["next_due_at"] == at.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    assert kept["next_due"] == [kept["next_due_at"]]


async def test_a_task_without_an_id_gets_one(web: Web) -> None:
    sent = task()
    del sent["id"]
    one = (await web("POST", "/api/v1/tasks", sent)).json["id"]
    other = (await web("POST", "/api/v1/tasks", sent)).json["id"]
    assert one != other
    assert (await web("GET", f"/api/v1/tasks/{one}")).json["name"] == sent["name"]


async def test_the_same_request_with_the_same_key_registers_once(web: Web) -> None:
    sent = task()
    del sent["id"]
    headers = {"Idempotency-Key": "registration 7"}
    answers = await asyncio.gather(
        *(web("POST", "/api/v1/tasks", sent, headers=headers) for _ in range(10))
    )
    assert {answer.status for answer in answers} <= {201, 202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert await count(web.settings.database_url or "", "tasks") == 1


async def test_a_key_that_comes_again_with_another_request_is_refused(web: Web) -> None:
    headers = {"Idempotency-Key": "k"}
    assert (await web("POST", "/api/v1/tasks", task(), headers=headers)).status == 201
    answer = await web("POST", "/api/v1/tasks", task(name="Another"), headers=headers)
    assert answer.status == 422
    assert answer.json["type"] == "urn:onthedot:problem:key-reused"
    assert await count(web.settings.database_url or "", "tasks") == 1


async def test_the_answer_to_a_read_validates(web: Web) -> None:
    kept = await registered(web)
    assert TaskAnswer.model_validate((await web("GET", f"/api/v1/tasks/{kept['id']}")).json)


async def test_an_if_match_that_is_no_etag_of_ours_is_refused(web: Web) -> None:
    kept = await registered(web)
    headers = {"If-Match": "7"}
    answer = await web("POST", f"/api/v1/tasks/{kept['id']}/pause", headers=headers)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "If-Match"


async def test_a_trigger_waits_in_the_log_and_happens_once_a_key(web: Web) -> None:
    kept = await registered(web)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": "now"}
    first = await web("POST", f"{address}/trigger", {"reason": "a test"}, headers=headers)
    assert first.status == 202
    again = await web("POST", f"{address}/trigger", {"reason": "a test"}, headers=headers)
    assert again.json["run_id"] == first.json["run_id"]
    assert (first.json["status"], first.json["trigger"]) == ("waiting", "manual")
    shown = await web("GET", first.headers["Location"])
    assert (shown.json["status"], shown.json["reason"]) == ("waiting", "a test")
    assert await count(web.settings.database_url or "", "runs") == 1


async def test_arguments_that_an_action_does_not_take_are_refused(web: Web) -> None:
    kept = await registered(web)
    answer = await web("POST", f"/api/v1/tasks/{kept['id']}/trigger", {"arguments": {"a": 1}})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "arguments"
    assert await count(web.settings.database_url or "", "runs") == 0


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "end"),
        ("2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z", "end"),
        ("2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z", "start"),
        ("1990-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "end"),
    ],
    ids=["backwards", "future", "nothing due", "too many"],
)
async def test_a_backfill_that_is_wrong_is_refused(
    web: Web, start: str, end: str, field: str
) -> None:
    kept = await registered(web)
    body = {"start": start, "end": end}
    answer = await web("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert await count(web.settings.database_url or "", "runs") == 0


async def test_a_backfill_waits_in_the_log_for_each_due_time(web: Web) -> None:
    kept = await registered(web)
    body = {"start": "2026-01-01T01:00:00Z", "end": "2026-01-03T01:00:00Z"}
    answer = await web("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)
    assert answer.status == 202
    assert [one["due_at"][:13] for one in answer.json["items"]] == [
        "2026-01-01T01",
        "2026-01-02T01",
        "2026-01-03T01",
    ]


async def test_explain_says_that_no_worker_polls(web: Web) -> None:
    kept = await registered(web)
    answer = await web("GET", f"/api/v1/tasks/{kept['id']}/explain")
    said = Explanation.model_validate(answer.json)
    assert "worker" in said.summary
    assert said.reasons[0].code == "no_scheduler"
    assert "onthedot worker" in (said.reasons[0].remedy or "")
    assert said.engine.reachable
    assert len(said.next_due) == 5
    assert said.last_run is None


async def test_explain_says_that_a_change_is_pending(web: Web) -> None:
    kept = await registered(web)
    await web("POST", f"/api/v1/tasks/{kept['id']}/pause")
    said = (await web("GET", f"/api/v1/tasks/{kept['id']}/explain")).json
    assert "paused" in said["summary"]
    assert said["engine"]["taken"] == "pending"
    assert [one["code"] for one in said["reasons"]] == ["paused", "no_scheduler", "change_pending"]
    assert "version 2" in said["reasons"][-1]["message"]


async def test_stats_count_tasks_and_what_is_pending(web: Web) -> None:
    kept = await registered(web)
    await registered(web)
    await web("POST", f"/api/v1/tasks/{kept['id']}/pause")
    said = Stats.model_validate((await web("GET", "/api/v1/stats")).json)
    assert (said.tasks["active"], said.tasks["paused"]) == (1, 1)  # type: ignore[index] - by value
    assert said.pending.changes >= 1


async def test_a_preview_shows_due_times_words_and_warnings(web: Web) -> None:
    body = {
        "schedule": {"kind": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        "count": 3,
        "after": "2027-03-27T00:00:00Z",
    }
    answer = await web("POST", "/api/v1/schedules/preview", body)
    assert answer.status == 200
    assert answer.json["due"] == [
        "2027-03-27T01:30:00Z",
        "2027-03-28T01:00:00Z",  # 02:30 does not exist: right after the jump
        "2027-03-29T00:30:00Z",
    ]
    assert answer.json["local"] == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]
    assert answer.json["timezone"] == "Europe/Berlin"
    assert "Europe/Berlin" in answer.json["description"]
    assert {one["code"] for one in answer.json["warnings"]} == {"dst_skipped", "dst_doubled"}


@pytest.mark.parametrize("name", examples.PREVIEWS)
async def test_the_previews_in_the_document_work(web: Web, name: str) -> None:
    answer = await web("POST", "/api/v1/schedules/preview", examples.PREVIEWS[name]["value"])
    assert answer.status == 200


async def test_the_document_describes_every_call_and_its_problems(web: Web) -> None:
    document = (await web("GET", "/api/openapi.json")).json
    calls = {(method.upper(), path) for path, one in document["paths"].items() for method in one}
    assert {
        ("POST", "/api/v1/tasks"),
        ("PATCH", "/api/v1/tasks/{task_id}"),
        ("POST", "/api/v1/tasks/{task_id}/backfill"),
        ("GET", "/api/v1/tasks/{task_id}/explain"),
        ("GET", "/api/v1/tasks/{task_id}/requests"),
        ("GET", "/api/v1/tasks/{task_id}/versions/{number}"),
        ("POST", "/api/v1/tasks/{task_id}/versions/{number}/restore"),
        ("POST", "/api/v1/tasks:batch"),
        ("POST", "/api/v1/tasks:pause"),
        ("POST", "/api/v1/tasks:trigger"),
        ("POST", "/api/v1/schedules/preview"),
        ("PUT", "/api/v1/calendars/{name}"),
        ("POST", "/api/v1/calendars/{name}/preview"),
        ("POST", "/api/v1/runs/{run_id}/rerun"),
        ("GET", "/api/v1/stats"),
        ("GET", "/readyz"),
    } <= calls
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            if path.startswith("/api/"):
                assert "application/problem+json" in operation["responses"]["422"]["content"]
                made = [one for one in operation["responses"] if one.startswith("2")]
                assert all(
                    "application/json" in operation["responses"][one]["content"] for one in made
                )
            for body in operation.get("requestBody", {}).get("content", {}).values():
                assert body["examples"]
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_tasks_in_the_document_have_the_right_shape() -> None:
    from onthedot.task import TaskRegistration

    for example in examples.TASKS.values():
        TypeAdapter(TaskRegistration).validate_python(example["value"])
