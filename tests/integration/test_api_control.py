"""Control over a task by REST: pause, resume, trigger, backfill, rerun, delete, explain."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from onthedot.backfill import check_kept
from onthedot.database.pool import open_pool, transaction
from onthedot.database.tasks import forget_requests
from onthedot.errors import InvalidInput
from tests.integration.web_client import Web, registered, rows
from tests.services import assert_eventually
from web.api import examples
from web.api.answers import RunAnswer, RunList, TaskAnswer
from web.api.control import BackfillPreview, RequestList, ResumePreview
from web.api.explanation import Explanation

HELLO = {"kind": "python", "handler": "onthedot.examples:hello", "arguments": {"name": "a"}}
SLEEP = {"kind": "shell", "command": ["/bin/sleep", "60"]}


async def stored(live: Web, task_id: str) -> dict[str, Any]:
    [row] = await rows(live, "SELECT * FROM tasks WHERE id = %s", task_id)
    return row


async def with_status(live: Web, run_id: str, *wanted: str) -> dict[str, Any]:
    """The run, once it has one of these statuses."""

    async def has() -> dict[str, Any] | None:
        run: dict[str, Any] = (await live("GET", f"/api/v1/runs/{run_id}")).json
        return run if run.get("status") in wanted else None

    run: dict[str, Any] = await assert_eventually(has, within=20)
    RunAnswer.model_validate(run)
    return run


async def codes(live: Web, task_id: str) -> list[str]:
    answer = await live("GET", f"/api/v1/tasks/{task_id}/explain")
    return [one.code for one in Explanation.model_validate(answer.json).reasons]


async def logged(live: Web, kept: dict[str, Any], due_at: datetime, status: str) -> None:
    """Put a row into the log, as if the task had been due then."""
    await rows(live, "SELECT make_month(%s)", due_at)
    await rows(
        live,
        "INSERT INTO runs (run_id, task_id, task_version, trigger, due_at, status)"
        " VALUES (%s, %s, 1, 'schedule', %s, %s)",
        f"{kept['id']}.{due_at:%Y%m%dT%H%M%S%f}Z",
        kept["id"],
        due_at,
        status,
    )


async def test_a_pause_keeps_its_reason_its_end_and_who_asked(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    until = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    body = {"reason": "a migration", "until": until.isoformat()}
    answer = await live("POST", f"{address}/pause", body)
    paused = TaskAnswer.model_validate(answer.json).pause
    assert paused is not None
    assert (paused.reason, paused.until, paused.by) == ("a migration", until, "tester")
    row = await stored(live, kept["id"])
    assert (row["pause_reason"], row["paused_until"]) == ("a migration", until)
    revised = await live("PATCH", address, {"name": "Other"})
    assert revised.json["pause"] == answer.json["pause"]
    again = await live("POST", f"{address}/pause")
    assert (again.json["version"], again.json["pause"]) == (3, answer.json["pause"])
    resumed = await live("POST", f"{address}/resume")
    assert (resumed.json["state"], resumed.json["pause"]) == ("active", None)
    row = await stored(live, kept["id"])
    assert (row["pause_reason"], row["paused_until"], row["paused_at"]) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2126-01-01T00:00:00Z"}, "until"),
        ({"until": "2126-01-01T00:00:00"}, "until"),
        ({"until": "tomorrow"}, "until"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"because": "x"}, "because"),
    ],
)
async def test_a_pause_that_is_wrong_is_refused(
    live: Web, body: dict[str, Any], field: str
) -> None:
    kept = await registered(live)
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/pause", body)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert (await stored(live, kept["id"]))["version"] == 1


async def test_a_change_sent_again_with_its_key_happens_once(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    first = await live("POST", f"{address}/pause", headers=headers)
    assert first.json["state"] == "paused"
    await live("POST", f"{address}/resume")
    again = await live("POST", f"{address}/pause", headers=headers)
    assert (again.status, again.json["state"], again.json["version"]) == (200, "active", 3)
    other = await live("POST", f"{address}/pause", {"reason": "x"}, headers=headers)
    assert other.status == 422
    assert other.json["type"] == "urn:onthedot:problem:key-reused"
    assert (await stored(live, kept["id"]))["version"] == 3


async def test_a_patch_sent_again_with_its_key_happens_once(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    await live("PATCH", address, {"name": "Other"}, headers=headers)
    await live("PATCH", address, {"name": "Third"})
    again = await live("PATCH", address, {"name": "Other"}, headers=headers)
    assert (again.status, again.json["name"], again.json["version"]) == (200, "Third", 3)


async def test_a_change_that_was_not_needed_is_not_made_later_by_its_key(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    await live("POST", f"{address}/resume", headers=headers)
    await live("POST", f"{address}/pause")
    await live("POST", f"{address}/resume", headers=headers)
    assert (await stored(live, kept["id"]))["state"] == "paused"


async def test_of_the_same_change_at_once_one_is_made_and_all_are_answered(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(
        *(live("DELETE", address, headers={**headers, "If-Match": '"1"'}) for _ in range(10))
    )
    assert {answer.status for answer in answers} <= {200, 202}
    assert {answer.json["version"] for answer in answers} == {2}


async def test_a_resume_says_before_how_many_runs_it_starts(live: Web) -> None:
    kept = await registered(live, schedule={"kind": "interval", "every": "1h"})
    address = f"/api/v1/tasks/{kept['id']}"
    await live("POST", f"{address}/pause")
    since = datetime.now(UTC) - timedelta(hours=10, minutes=30)
    await rows(live, "UPDATE tasks SET paused_at = %s WHERE id = %s", since, kept["id"])
    await rows(
        live,
        "UPDATE tasks SET spec = jsonb_set(spec, '{schedule,anchor}', to_jsonb(%s::text))"
        " WHERE id = %s",
        since.isoformat(),
        kept["id"],
    )
    for catch_up, runs in (
        (None, 0),
        ({"keep": "all"}, 10),
        ({"keep": "all", "within": "3h"}, 3),
        ({"keep": "latest"}, 1),
        ({"keep": "none"}, 0),
    ):
        body = {"dry_run": True} | ({"catch_up": catch_up} if catch_up else {})
        answer = await live("POST", f"{address}/resume", body)
        said = ResumePreview.model_validate(answer.json)
        assert (answer.status, said.runs, said.left_out) == (200, runs, 10 - runs), catch_up
    row = await stored(live, kept["id"])
    assert (row["state"], row["version"], row["catch_up"]) == ("paused", 2, None)


async def test_a_catch_up_that_is_asked_for_is_kept_for_the_engine(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    await live("POST", f"{address}/pause")
    body = examples.RESUMES["catch_up"]["value"]
    assert (await live("POST", f"{address}/resume", body)).json["state"] == "active"
    assert (await stored(live, kept["id"]))["catch_up"] == {"keep": "all", "within": "1d"}
    await live("POST", f"{address}/pause")
    assert (await stored(live, kept["id"]))["catch_up"] is None


@pytest.mark.parametrize("let_finish", [True, False])
async def test_a_deletion_keeps_whether_a_run_may_end(live: Web, let_finish: bool) -> None:
    kept = await registered(live)
    query = {"let_run_finish": str(let_finish).lower(), "reason": "not needed"}
    answer = await live("DELETE", f"/api/v1/tasks/{kept['id']}", params=query)
    assert (answer.status, answer.json["state"]) == (200, "deleted")
    assert (await stored(live, kept["id"]))["let_finish"] is let_finish


async def test_a_deletion_with_an_unknown_parameter_is_refused(live: Web) -> None:
    kept = await registered(live)
    answer = await live("DELETE", f"/api/v1/tasks/{kept['id']}?let_it_finish=true")
    assert answer.status == 422
    assert (await stored(live, kept["id"]))["state"] == "active"


async def test_a_rerun_has_the_arguments_of_its_run(live: Web) -> None:
    kept = await registered(live, action=HELLO)
    address = f"/api/v1/tasks/{kept['id']}"
    asked = await live("POST", f"{address}/trigger", {"arguments": {"name": "b"}})
    assert asked.json["arguments"] == {"name": "b"}
    first = await with_status(live, asked.json["run_id"], "succeeded")
    again = await live("POST", f"/api/v1/runs/{first['run_id']}/rerun")
    second = await with_status(live, again.json["run_id"], "succeeded")
    third = (await live("POST", f"/api/v1/runs/{second['run_id']}/rerun")).json
    third = await with_status(live, third["run_id"], "succeeded")
    for run in (first, second, third):
        assert "Hello, b!" in run["output"]
        assert (run["arguments"], run["asked_by"]) == ({"name": "b"}, "tester")
    assert second["reason"] == f"rerun of {first['run_id']}"


async def test_arguments_that_are_too_large_ask_for_nothing(live: Web) -> None:
    kept = await registered(live, action=HELLO)
    sent = {"arguments": {"name": "b" * 65_536}}
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger", sent)
    assert answer.status == 422
    (wrong,) = answer.json["errors"]
    assert wrong["field"] == "arguments"
    assert int(wrong["value"].removesuffix(" bytes")) > 65_536
    assert (await live("GET", f"/api/v1/runs?task={kept['id']}")).json["items"] == []


async def test_a_trigger_keeps_the_overlap_policy_that_it_was_asked_with(live: Web) -> None:
    kept = await registered(live)
    body = examples.TRIGGERS["overlap"]["value"]
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger", body)
    assert answer.status == 202
    [request] = await rows(live, "SELECT body FROM requests WHERE task_id = %s", kept["id"])
    assert request["body"]["orders"][0]["overlap"] == "allow"
    wrong = await live("POST", f"/api/v1/tasks/{kept['id']}/trigger", {"overlap": "maybe"})
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "overlap")


DAYS = [datetime(2026, 1, day, 1, tzinfo=UTC) for day in range(1, 7)]  # 02:00 in Berlin
RANGE = {"start": "2026-01-01T01:00:00Z", "end": "2026-01-06T01:00:00Z"}


async def test_a_backfill_shows_what_exists_before_it_runs_anything(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}/backfill"
    stand = ["succeeded", "failed", "timed_out", "skipped", "missed"]  # and nothing of the last
    for due_at, status in zip(DAYS, stand, strict=False):
        await logged(live, kept, due_at, status)
    for which, found in {
        "all": [*stand, None],
        "missing": ["skipped", "missed", None],
        "failed": ["failed", "timed_out"],
    }.items():
        answer = await live("POST", address, {**RANGE, "which": which, "dry_run": True})
        said = BackfillPreview.model_validate(answer.json)
        assert (answer.status, said.due, said.count) == (200, 6, len(found))
        assert [one.exists for one in said.items] == found
    assert await rows(live, "SELECT * FROM requests WHERE task_id = %s", kept["id"]) == []
    assert len(await rows(live, "SELECT * FROM runs WHERE task_id = %s", kept["id"])) == 5
    asked = await live("POST", address, {**RANGE, "which": "failed", "order": "newest_first"})
    RunList.model_validate(asked.json)
    assert [one["due_at"][8:10] for one in asked.json["items"]] == ["03", "02"]
    for one in asked.json["items"]:
        await with_status(live, one["run_id"], "succeeded")
    again = await live("POST", address, {**RANGE, "which": "failed"})
    assert again.status == 422  # they succeeded meanwhile
    assert again.json["errors"][0]["field"] == "which"


async def test_a_backfill_keeps_its_options_and_happens_once_a_key(live: Web) -> None:
    kept = await registered(live)
    address, headers = f"/api/v1/tasks/{kept['id']}", {"Idempotency-Key": uuid4().hex}
    body = {**RANGE, "which": "missing", "order": "newest_first", "at_once": 5, "reason": "why"}
    answers = [await live("POST", f"{address}/backfill", body, headers=headers) for _ in range(2)]
    days = [[one["due_at"][8:10] for one in answer.json["items"]] for answer in answers]
    assert days == [["06", "05", "04", "03", "02", "01"]] * 2
    [request] = (await live("GET", f"{address}/requests")).json["items"]
    assert (request["kind"], request["runs"], request["reason"]) == ("backfill", 6, "why")
    assert {name: request["options"][name] for name in ("which", "order", "at_once")} == {
        name: body[name] for name in ("which", "order", "at_once")
    }
    found = await rows(live, "SELECT reason FROM runs WHERE task_id = %s", kept["id"])
    assert [one["reason"] for one in found] == ["why"] * 6


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2026-01-01T01:00:00Z", "2026-01-03T01:00:00Z", ["01", "02", "03"]),
        ("2026-01-01T01:00:00.000001Z", "2026-01-03T00:59:59.999999Z", ["02"]),
        ("2026-01-02T02:00:00+01:00", "2026-01-02T02:00:00+01:00", ["02"]),
    ],
)
async def test_a_backfills_range_includes_both_of_its_ends(
    live: Web, start: str, end: str, days: list[str]
) -> None:
    kept = await registered(live)
    body = {"start": start, "end": end, "dry_run": True}
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", body)
    assert [one["due_at"][8:10] for one in answer.json["items"]] == days


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"at_once": 0}, "at_once"),
        ({"at_once": 101}, "at_once"),
        ({"which": "some"}, "which"),
        ({"order": "random"}, "order"),
        ({"start": "1990-01-01T00:00:00Z"}, "end"),
        ({"start": "0001-01-01T00:00:00Z"}, "end"),
        ({"start": "2026-01-02T03:00:00Z", "end": "2026-01-02T04:00:00Z"}, "start"),
    ],
)
async def test_a_backfill_that_is_wrong_asks_for_nothing(
    live: Web, changes: dict[str, Any], field: str
) -> None:
    kept = await registered(live)
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", {**RANGE, **changes})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert await rows(live, "SELECT * FROM runs WHERE task_id = %s", kept["id"]) == []


def test_a_backfill_of_what_the_log_does_not_keep_is_refused() -> None:
    oldest, start = datetime(2026, 3, 15, 7, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    check_kept(start, datetime(2026, 3, 1, tzinfo=UTC), oldest)
    with pytest.raises(InvalidInput, match="2026-03-01T00:00:00") as refused:
        check_kept(start, datetime(2026, 2, 28, 23, 59, tzinfo=UTC), oldest)
    assert refused.value.fields[0].field == "start"


async def test_what_was_asked_of_a_task_is_told_with_who_and_when(live: Web) -> None:
    kept = await registered(live, action=SLEEP)
    address = f"/api/v1/tasks/{kept['id']}"
    run = (await live("POST", f"{address}/trigger", {"reason": "a test"})).json
    await with_status(live, run["run_id"], "running")
    await live("POST", f"/api/v1/runs/{run['run_id']}/cancel")
    await with_status(live, run["run_id"], "cancelled")
    again = (await live("POST", f"/api/v1/runs/{run['run_id']}/rerun")).json
    await live("DELETE", address)
    answer = (await live("GET", f"{address}/requests")).json
    RequestList.model_validate(answer)
    items = answer["items"]
    assert [one["kind"] for one in items] == ["trigger", "cancel", "trigger"]
    assert [one["run_id"] for one in items] == [again["run_id"], run["run_id"], run["run_id"]]
    assert {one["by"] for one in items} == {"tester"}
    assert all(one["taken_at"] for one in items)
    assert items[0]["options"] == {"rerun_of": run["run_id"]}
    assert items[2]["reason"] == "a test"
    page = (await live("GET", f"{address}/requests?limit=2")).json
    rest = await live("GET", f"{address}/requests", params={"cursor": page["next_cursor"]})
    assert [*page["items"], *rest.json["items"]] == items


async def test_answered_requests_are_forgotten_and_those_that_wait_are_not(live: Web) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    for _ in range(2):
        run = (await live("POST", f"{address}/trigger")).json
        await with_status(live, run["run_id"], "succeeded")
    ids = [one["id"] for one in (await live("GET", f"{address}/requests")).json["items"]]
    answered_long_ago = (
        "UPDATE requests SET created_at = created_at - interval '400 days',"
        " sent_at = CASE WHEN id = %s THEN sent_at END WHERE task_id = %s"
    )
    pool = await open_pool(live.settings)
    async with transaction(pool) as conn:  # upkeep would send the other one again
        await conn.execute(answered_long_ago, [ids[0], kept["id"]])
        await forget_requests(conn, before=datetime.now(UTC) - timedelta(days=399))
    await pool.close()
    left = (await live("GET", f"{address}/requests")).json["items"]
    assert [one["id"] for one in left] == ids[1:]


async def test_explain_tells_of_a_pause_and_of_what_failed(live: Web) -> None:
    fails = {"kind": "shell", "command": ["/bin/false"]}
    kept = await registered(live, action=fails)
    address = f"/api/v1/tasks/{kept['id']}"
    for _ in range(2):
        run = (await live("POST", f"{address}/trigger")).json
        await with_status(live, run["run_id"], "failed")
    await live("POST", f"{address}/pause", {"reason": "it fails"})

    async def both() -> bool:
        return await codes(live, kept["id"]) == ["paused", "failing"]

    await assert_eventually(both)
    answer = await live("GET", f"{address}/explain")
    paused, failing = Explanation.model_validate(answer.json).reasons
    assert "by tester: it fails" in paused.message
    assert paused.since is not None
    assert paused.remedy == f"POST {address}/resume"
    assert "last 2 runs" in failing.message
    assert answer.json["summary"] == paused.message


async def test_explain_tells_of_a_run_that_goes_on_and_of_those_that_wait(live: Web) -> None:
    kept = await registered(live, action=SLEEP, policies={"overlap": "queue_all"})
    address = f"/api/v1/tasks/{kept['id']}"
    first = (await live("POST", f"{address}/trigger")).json
    await with_status(live, first["run_id"], "running")
    await live("POST", f"{address}/trigger")

    async def both() -> bool:
        return await codes(live, kept["id"]) == ["overlap", "queued"]

    await assert_eventually(both)
    answer = (await live("GET", f"{address}/explain")).json
    assert first["run_id"] in answer["reasons"][0]["message"]
    assert answer["summary"].startswith("It runs next at")
    await live("DELETE", address)


async def test_explain_tells_of_the_last_run_while_it_goes_on(live: Web) -> None:
    once = {"kind": "once", "in": "1s"}
    kept = await registered(live, action=SLEEP, policies={"overlap": "allow"}, schedule=once)
    address = f"/api/v1/tasks/{kept['id']}"

    async def said() -> bool:
        answer = await live("GET", f"{address}/explain")
        assert answer.status == 200, answer.text
        return bool(answer.json["summary"] == "Its last run goes on.")

    await assert_eventually(said)
    await live("DELETE", address)


async def test_explain_tells_that_no_worker_polls_a_queue(live: Web) -> None:
    kept = await registered(live, queue="nobody-is-here")
    answer = await live("GET", f"/api/v1/tasks/{kept['id']}/explain")
    [reason] = [one for one in answer.json["reasons"] if one["code"] != "change_pending"]
    assert reason["code"] == "no_worker"
    assert "--queue nobody-is-here" in reason["remedy"]


async def test_explain_tells_who_deleted_a_task(live: Web) -> None:
    kept = await registered(live)
    await live("DELETE", f"/api/v1/tasks/{kept['id']}")
    answer = (await live("GET", f"/api/v1/tasks/{kept['id']}/explain")).json
    [reason] = answer["reasons"]
    assert (reason["code"], answer["state"]) == ("deleted", "deleted")
    assert "tester" in reason["message"]
    method, path = reason["remedy"].split()
    assert (await live(method, path)).json["state"] == "active"


async def test_a_task_that_pauses_itself_says_why(live: Web) -> None:
    fails = {"kind": "shell", "command": ["/bin/false"]}
    kept = await registered(
        live,
        action=fails,
        policies={"pause_on_failure": True},
        schedule={"kind": "cron", "cron": "0 0 1 1 *"},
    )
    address = f"/api/v1/tasks/{kept['id']}"
    await live("POST", f"{address}/trigger")

    async def paused() -> dict[str, Any] | None:
        now: dict[str, Any] = (await live("GET", address)).json
        return now if now["state"] == "paused" else None

    now = await assert_eventually(paused, within=20)
    assert (now["version"], now["pause"]["reason"]) == (1, "a run failed")
    assert (now["pause"]["by"], now["pause"]["until"]) == ("pause_on_failure", None)
    assert now["pause"]["since"] is not None
    resumed = await live("POST", f"{address}/resume")
    assert (resumed.json["state"], resumed.json["pause"]) == ("active", None)


@pytest.mark.parametrize("name", [*examples.PAUSES, *examples.RESUMES])
async def test_the_bodies_in_the_document_have_the_right_shape(live: Web, name: str) -> None:
    kept = await registered(live)
    address = f"/api/v1/tasks/{kept['id']}"
    for action, found in (("pause", examples.PAUSES), ("resume", examples.RESUMES)):
        if name in found:
            body = dict(found[name]["value"])
            if "until" in body:  # it is far ahead, so that it does not pass
                body["until"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            assert (await live("POST", f"{address}/{action}", body)).status == 200


@pytest.mark.parametrize("name", examples.BACKFILLS)
async def test_the_backfills_in_the_document_work(live: Web, name: str) -> None:
    kept = await registered(live)
    body = {**examples.BACKFILLS[name]["value"], "dry_run": True}
    moved = {key: body[key].replace("2026-11", "2026-01") for key in ("start", "end")}
    answer = await live("POST", f"/api/v1/tasks/{kept['id']}/backfill", body | moved)
    assert answer.status == 200
