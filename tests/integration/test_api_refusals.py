"""What REST refuses: each answer names the field, the value and what would do; nothing is kept."""

import asyncio
import base64
import json
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from temporalio.service import RPCError

from onthedot.engine import Engine, workflow_id
from tests.integration.web_client import Answer, Web, count

ECHO = {"kind": "shell", "command": ["/bin/echo", "hello"]}
CRON = {"kind": "cron", "cron": "0 2 * * *", "timezone": "Europe/Berlin"}


def task(**changes: Any) -> dict[str, Any]:
    """A registration that is fine but for ``changes``."""
    return {"id": f"t-{uuid4().hex}", "name": "Test", "schedule": CRON, "action": ECHO, **changes}


def python_action(**changes: Any) -> dict[str, Any]:
    return {"kind": "python", "handler": "onthedot.examples:hello", **changes}


DEEP: Any = 1
for _ in range(100):
    DEEP = [DEEP]

#: What is sent, and the field and the value that the answer names.
BAD: dict[str, tuple[dict[str, Any], str, Any]] = {
    "cron that cannot be parsed": (
        task(schedule={**CRON, "cron": "61 * * * *"}),
        "schedule.cron",
        "61 * * * *",
    ),
    "cron of words": (
        task(schedule={**CRON, "cron": "now and then"}),
        "schedule.cron",
        "now and then",
    ),
    "cron that never fires": (
        task(schedule={**CRON, "cron": "0 0 30 2 *"}),
        "schedule.cron",
        "0 0 30 2 *",
    ),
    "empty cron": (task(schedule={**CRON, "cron": ""}), "schedule.cron", ""),
    "unknown zone": (
        task(schedule={**CRON, "timezone": "Europe/Berln"}),
        "schedule.timezone",
        "Europe/Berln",
    ),
    "past instant": (
        task(schedule={"kind": "once", "at": "2020-01-01T00:00:00Z"}),
        "schedule.at",
        "2020-01-01 00:00:00 UTC",
    ),
    "instant without offset": (
        task(schedule={"kind": "once", "at": "2099-01-01T00:00:00"}),
        "schedule.at",
        "2099-01-01T00:00:00",
    ),
    "instant out of range": (
        task(schedule={"kind": "once", "at": "9999-12-31T23:59:59-10:00"}),
        "schedule.at",
        "9999-12-31T23:59:59-10:00",
    ),
    "no instant": (task(schedule={"kind": "once", "at": "tomorrow"}), "schedule.at", "tomorrow"),
    "once without a time": (task(schedule={"kind": "once"}), "schedule", {"kind": "once"}),
    "zero duration": (task(schedule={"kind": "once", "in": "0s"}), "schedule.in", "0s"),
    "negative duration": (
        task(schedule={"kind": "interval", "every": "-5s"}),
        "schedule.every",
        "-5s",
    ),
    "no duration": (
        task(schedule={"kind": "interval", "every": "often"}),
        "schedule.every",
        "often",
    ),
    "number as duration": (task(schedule={"kind": "interval", "every": 90}), "schedule.every", 90),
    "unknown schedule kind": (task(schedule={"kind": "yearly"}), "schedule.kind", "yearly"),
    "schedule without kind": (task(schedule={"every": "5m"}), "schedule.kind", None),
    "schedule that is a text": (task(schedule="0 2 * * *"), "schedule", "0 2 * * *"),
    "schedule that is missing": ({"name": "x", "action": ECHO}, "schedule", None),
    "URL that is none": (
        task(action={"kind": "http", "url": "not a url"}),
        "action.url",
        "not a url",
    ),
    "URL of another scheme": (
        task(action={"kind": "http", "url": "ftp://example.org/"}),
        "action.url",
        "ftp://example.org/",
    ),
    "metadata address": (
        task(action={"kind": "http", "url": "http://169.254.169.254/latest"}),
        "action.url",
        "http://169.254.169.254/latest",
    ),
    "unknown method": (
        task(action={"kind": "http", "url": "http://example.org", "method": "BREW"}),
        "action.method",
        "BREW",
    ),
    "status that is none": (
        task(action={"kind": "http", "url": "http://example.org", "expect": "fine"}),
        "action.expect",
        "fine",
    ),
    "handler that is not allowed": (
        task(action=python_action(handler="os:system")),
        "action.handler",
        "os:system",
    ),
    "handler of a wrong form": (
        task(action=python_action(handler="os.system")),
        "action.handler",
        "os.system",
    ),
    "argument that is unknown": (
        task(action=python_action(arguments={"nane": "x"})),
        "action.arguments.nane",
        "x",
    ),
    "command that is not absolute": (
        task(action={"kind": "shell", "command": ["echo", "x"]}),
        "action.command",
        "echo",
    ),
    "command that is not found": (
        task(action={"kind": "shell", "command": ["/no/such/program"]}),
        "action.command",
        "/no/such/program",
    ),
    "command that is a text": (
        task(action={"kind": "shell", "command": "/bin/echo"}),
        "action.command",
        "/bin/echo",
    ),
    "unknown action kind": (task(action={"kind": "email"}), "action.kind", "email"),
    "unknown field": (task(colour="red"), "colour", "red"),
    "unknown field of the schedule": (task(schedule={**CRON, "crn": 1}), "schedule.crn", 1),
    "unknown field of a policy": (
        task(policies={"retry": {"attempst": 3}}),
        "policies.retry.attempst",
        3,
    ),
    "too few attempts": (task(policies={"retry": {"attempts": 0}}), "policies.retry.attempts", 0),
    "unknown overlap policy": (task(policies={"overlap": "maybe"}), "policies.overlap", "maybe"),
    "timeout over a week": (task(policies={"timeout": "8d"}), "policies.timeout", "8d"),
    "id of a wrong form": (task(id="Nightly Report"), "id", "Nightly Report"),
    "name of nothing": (task(name="  "), "name", "  "),
    "name that is a number": (task(name=5), "name", 5),
    "tag of a wrong form": (task(tags=["fine", "not fine"]), "tags.1", "not fine"),
    "queue of a wrong form": (task(queue="A B"), "queue", "A B"),
    "NUL in a text": (task(name="a\x00b"), "name", "a\x00b"),
    "half a surrogate pair": (task(name="a\ud800b"), "name", "a\\ud800b"),
    "infinite number": (
        task(action=python_action(arguments={"name": float("inf")})),
        "action.arguments.name",
        "inf",
    ),
    "nested too deeply": (
        task(action=python_action(arguments={"name": DEEP})),
        "action.arguments.name",
        None,
    ),
}


async def assert_nothing_kept(web: Web, *ids: str) -> None:
    assert web.settings.database_url
    for table in ("tasks", "runs", "requests", "idempotency_keys"):
        assert await count(web.settings.database_url, table) == 0
    engine = await Engine.connect(web.settings)
    for one in ids:
        with pytest.raises(RPCError, match="not found"):
            await engine.client.get_workflow_handle(workflow_id(one)).describe()


def assert_names(answer: Answer, field: str, value: Any) -> None:
    """It is a problem (RFC 9457) that names this field with this value, and what would do."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert {"type", "title", "detail", "instance"} <= answer.json.keys()
    [named] = [one for one in answer.json["errors"] if one["field"] == field]
    assert named["value"] == value
    assert named["problem"]
    assert named["remedy"]
    assert field in answer.json["detail"]


@pytest.mark.parametrize("case", BAD)
async def test_a_registration_that_is_wrong_is_refused_by_field(web: Web, case: str) -> None:
    sent, field, value = BAD[case]
    answer = await web("POST", "/api/v1/tasks", sent)
    assert answer.status == 422
    if case == "nested too deeply":
        value = answer.json["errors"][0]["value"]
    assert_names(answer, field, value)
    await assert_nothing_kept(
        web, *([sent["id"]] if "id" in sent and " " not in sent["id"] else [])
    )


async def test_all_that_is_wrong_is_told_at_once(web: Web) -> None:
    sent = task(name="", schedule={**CRON, "cron": 5}, tags=["no no"], colour="red")
    answer = await web("POST", "/api/v1/tasks", sent)
    assert {one["field"] for one in answer.json["errors"]} == {
        "name",
        "schedule.cron",
        "tags.0",
        "colour",
    }


@pytest.mark.parametrize(
    ("data", "content_type", "field"),
    [
        (b'{"name": "x",}', "application/json", "body"),
        (b"", "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b'"text"', "application/json", "body"),
        (b"name=x", "application/x-www-form-urlencoded", "body"),
        (b'{"name": "\xff"}', "application/json", "body"),
        (b"[" * 100_000, "application/json", "body"),
        (b'{"name": ' + b"9" * 5000 + b"}", "application/json", "body"),
    ],
    ids=["trailing comma", "nothing", "list", "text", "form", "not UTF-8", "deep", "long number"],
)
async def test_a_body_that_is_no_json_object_is_refused(
    web: Web, data: bytes, content_type: str, field: str
) -> None:
    answer = await web("POST", "/api/v1/tasks", data=data, headers={"Content-Type": content_type})
    assert answer.status in (400, 422)
    assert [one["field"] for one in answer.json["errors"]] == [field]
    assert answer.json["errors"][0]["remedy"]
    await assert_nothing_kept(web)


async def test_a_change_that_was_not_sent_as_json_is_told_so(web: Web) -> None:
    await web("POST", "/api/v1/tasks", task(id="x"))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await web("PATCH", "/api/v1/tasks/x", data=b'{"name": "y"}', headers=headers)
    assert answer.status == 422
    assert answer.json["errors"][0]["problem"] == "was not sent as JSON"


async def test_a_cursor_may_have_any_offset(web: Web) -> None:
    cursor = json.dumps(["due", "2026-01-01T00:00:00+20:00", "x"]).encode()
    text = base64.urlsafe_b64encode(cursor).decode().rstrip("=")
    assert (await web("GET", f"/api/v1/runs?cursor={text}")).status == 200


async def test_broken_json_is_told_with_its_line_and_column(web: Web) -> None:
    data = b'{\n  "name": "x",\n  oops\n}'
    answer = await web(
        "POST", "/api/v1/tasks", data=data, headers={"Content-Type": "application/json"}
    )
    assert "line 3, column 3" in answer.json["detail"]
    assert "oops" in answer.json["errors"][0]["value"]


async def test_a_definition_over_64_kib_is_refused(web: Web) -> None:
    sent = task(action={"kind": "http", "url": "https://example.org", "body": "x" * 65_536})
    answer = await web("POST", "/api/v1/tasks", sent)
    assert answer.status == 422
    assert "65536" in answer.json["errors"][0]["remedy"]
    await assert_nothing_kept(web, sent["id"])


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_far_too_large_is_refused_unread(web: Web, chunked: bool) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 16_384

    data = chunks() if chunked else b" " * 600_000
    answer = await web(
        "POST", "/api/v1/tasks", data=data, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 413
    assert answer.json["errors"][0]["field"] == "body"
    await assert_nothing_kept(web)


async def test_of_100_registrations_of_one_id_one_is_kept(web: Web) -> None:
    sent = task()
    answers = await asyncio.gather(*(web("POST", "/api/v1/tasks", sent) for _ in range(100)))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 99}
    refused = next(answer for answer in answers if answer.status == 409)
    assert refused.json["errors"][0]["field"] == "id"
    assert refused.json["errors"][0]["value"] == sent["id"]
    assert web.settings.database_url
    assert await count(web.settings.database_url, "tasks") == 1


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/api/v1/tasks?colour=red", "colour", "red"),
        ("/api/v1/tasks?limit=0", "limit", "0"),
        ("/api/v1/tasks?limit=501", "limit", "501"),
        ("/api/v1/tasks?limit=ten", "limit", "ten"),
        ("/api/v1/tasks?sort=colour", "sort", "colour"),
        ("/api/v1/tasks?state=gone", "state.0", "gone"),
        ("/api/v1/tasks?q=a%00b", "q", "a\x00b"),
        ("/api/v1/tasks?cursor=abc", "cursor", "abc"),
        ("/api/v1/tasks?cursor=" + "%00", "cursor", "\x00"),
        ("/api/v1/tasks/UPPER", "task_id", "UPPER"),
        ("/api/v1/tasks/a%00b", "task_id", "a\x00b"),
        ("/api/v1/runs?status=lost", "status.0", "lost"),
        ("/api/v1/runs?since=yesterday", "since", "yesterday"),
        ("/api/v1/runs?since=2026-01-01T00:00:00", "since", "2026-01-01T00:00:00"),
        ("/api/v1/runs?trigger=magic", "trigger", "magic"),
        ("/api/v1/runs?cursor=bm90IG9uZQ", "cursor", "bm90IG9uZQ"),
        ("/api/v1/runs/a%20b", "run_id", "a b"),
        ("/api/v1/stats?colour=red", "colour", "red"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_by_parameter(
    web: Web, path: str, field: str, value: str
) -> None:
    answer = await web("GET", path)
    assert answer.status == 422
    assert_names(answer, field, value)


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        ("tasks?sort=name", ["name", 1, "x"]),
        ("tasks?sort=name", ["name", None, "x"]),
        ("tasks?sort=name", ["name", "\0", "x"]),
        ("tasks?sort=name", ["name", "\ud800", "x"]),
        ("tasks?sort=created", ["created", None, "x"]),
        ("tasks?sort=created", ["created", "2026-01-01T00:00:00", "x"]),
        ("tasks", ["next_due", "soon", "x"]),
        ("tasks", ["next_due", None, 1]),
        ("tasks", ["next_due", None, "\ud800"]),
        ("runs", ["due", "2026-W01-1", "x"]),
        ("runs", ["due", None, "x"]),
        ("runs", ["due", "0001-01-01T00:00:00+20:00", "x"]),
        ("tasks/x/requests", ["asked", None, "x"]),
        ("tasks/x/versions", ["version", None, "1" * 50]),
        ("tasks/x/versions", ["version", None, "-1"]),
    ],
)
async def test_a_cursor_that_we_never_gave_is_refused(
    web: Web, path: str, cursor: list[Any]
) -> None:
    await web("POST", "/api/v1/tasks", task(id="x"))
    text = base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")
    answer = await web("GET", f"/api/v1/{path}{'&' if '?' in path else '?'}cursor={text}")
    assert answer.status == 422
    assert_names(answer, "cursor", text)


async def test_a_cursor_of_another_sort_is_refused(web: Web) -> None:
    for _ in range(2):
        assert (await web("POST", "/api/v1/tasks", task())).status == 201
    cursor = (await web("GET", "/api/v1/tasks?sort=name&limit=1")).json["next_cursor"]
    answer = await web("GET", "/api/v1/tasks", params={"sort": "created", "cursor": cursor})
    assert_names(answer, "cursor", cursor)


@pytest.mark.parametrize(
    "body", [{"count": 0}, {"count": 1001}, {"schedule": {"kind": "cron", "cron": "x"}}]
)
async def test_a_preview_that_is_wrong_is_refused(web: Web, body: dict[str, Any]) -> None:
    answer = await web("POST", "/api/v1/schedules/preview", {"schedule": CRON, **body})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] in ("count", "schedule.cron")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/tasks/nobody"),
        ("PUT", "/api/v1/tasks/nobody"),
        ("PATCH", "/api/v1/tasks/nobody"),
        ("DELETE", "/api/v1/tasks/nobody"),
        ("POST", "/api/v1/tasks/nobody/pause"),
        ("POST", "/api/v1/tasks/nobody/trigger"),
        ("GET", "/api/v1/tasks/nobody/explain"),
        ("GET", "/api/v1/runs/nobody.20261201T010000000000Z"),
        ("GET", "/api/v1/runs/nobody"),
        ("POST", "/api/v1/runs/nobody.20261201T010000000000Z/cancel"),
        ("POST", "/api/v1/runs/nobody.20261201T010000000000Z/rerun"),
        ("GET", "/api/v1/nothing"),
    ],
)
async def test_what_does_not_exist_is_answered_by_404(web: Web, method: str, path: str) -> None:
    body = {"PUT": task(id="nobody"), "PATCH": {"name": "x"}}.get(method)
    answer = await web(method, path, body)
    assert answer.status == 404
    assert answer.json["type"] == "urn:onthedot:problem:not-found"
    assert "nobody" in answer.json["detail"] or "nothing" in answer.json["detail"]
    await assert_nothing_kept(web)


async def test_a_method_that_does_not_work_is_answered_with_those_that_do(web: Web) -> None:
    answer = await web("DELETE", "/api/v1/tasks")
    assert answer.status == 405
    assert answer.json["type"] == "urn:onthedot:problem:method-not-allowed"
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


async def test_a_long_value_is_sent_back_cut(web: Web) -> None:
    answer = await web("POST", "/api/v1/tasks", task(name="x" * 5000))
    assert len(answer.json["errors"][0]["value"]) < 400
    assert len(json.dumps(answer.json)) < 10_000
