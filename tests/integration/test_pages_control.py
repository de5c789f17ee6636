"""What one does to a task on its pages, as a browser without JavaScript does it."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.web_client import Web
from tests.services import assert_eventually

HELLO = {"kind": "python", "handler": "onthedot.examples:hello", "arguments": {"name": "Ada"}}
HOURLY = {"kind": "cron", "cron": "0 * * * *"}


async def registered(live: Web, **changes: Any) -> str:
    task_id = f"p-{uuid4().hex}"
    sent = {"id": task_id, "name": "Hello <all>", "schedule": HOURLY, "action": HELLO, **changes}
    answer = await live("POST", "/api/v1/tasks", sent)
    assert answer.status == 201, answer.text
    return task_id


async def stored(live: Web, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await live("GET", f"/api/v1/tasks/{task_id}")).json
    return found


async def runs_of(live: Web, task_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await live("GET", f"/api/v1/runs?task={task_id}")).json["items"]
    return found


def local(moment: datetime) -> str:
    """As a browser sends it, in UTC, the zone of who has not chosen another."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def hidden(text: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    form = text.rpartition("<form")[2]
    pairs = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in pairs}


async def test_a_pause_has_a_reason_and_an_end(live: Web) -> None:
    task_id = await registered(live)
    until = datetime.now(UTC) + timedelta(days=2)
    sent = {"reason": "the printer <burns>", "until": local(until)}
    answer = await live("POST", f"/tasks/{task_id}/pause", data=sent)
    assert (answer.status, answer.headers["Location"]) == (303, f"/tasks/{task_id}?done=paused")
    pause = (await stored(live, task_id))["pause"]
    assert pause["reason"] == "the printer <burns>"
    assert pause["until"] == until.replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    page = await live("GET", f"/tasks/{task_id}")
    assert "the printer &lt;burns&gt;" in page.text


async def test_a_pause_whose_reason_is_changed_keeps_its_end(live: Web) -> None:
    task_id = await registered(live)
    year = datetime.now(UTC).year + 1
    sunday = 1 + (6 - datetime(year, 11, 1, tzinfo=UTC).weekday()) % 7
    until = f"{year}-11-{sunday:02}T06:30:00.250000Z"  # half past one comes twice in New York
    await live("POST", f"/api/v1/tasks/{task_id}/pause", {"reason": "migratoin", "until": until})
    zone = {"Cookie": "onthedot_zone=America/New_York"}
    form = (await live("GET", f"/tasks/{task_id}/pause", headers=zone)).text
    shown = re.search(r'name="until"[^>]* value="([^"]*)"', form)
    assert shown and shown[1] == f"{year}-11-{sunday:02}T01:30:00"
    sent = {"reason": "migration", "until": shown[1]}
    assert (await live("POST", f"/tasks/{task_id}/pause", data=sent, headers=zone)).status == 303
    pause = (await stored(live, task_id))["pause"]
    assert (pause["reason"], pause["until"]) == ("migration", until)


async def test_a_pause_into_the_past_is_refused_beside_its_field(live: Web) -> None:
    task_id = await registered(live)
    sent = {"reason": "", "until": "2020-01-01T00:00:00"}
    answer = await live("POST", f"/tasks/{task_id}/pause", data=sent)
    assert answer.status == 422
    assert 'id="until-error"' in answer.text
    assert (await stored(live, task_id))["state"] == "active"


async def test_resuming_says_first_how_many_runs_it_starts(live: Web) -> None:
    task_id = await registered(live, schedule={"kind": "interval", "every": "1s"})
    await live("POST", f"/tasks/{task_id}/pause", data={})

    async def was_due() -> str:
        page = await live("GET", f"/tasks/{task_id}/resume")
        return page.text if "Run all of it: 3 runs" in page.text else ""

    text = await assert_eventually(was_due, within=20, every=0.2)
    assert "Run the latest: 1 run now" in text
    answer = await live("POST", f"/tasks/{task_id}/resume", data={"keep": "none"})
    assert answer.status == 303
    task = await stored(live, task_id)
    assert (task["state"], task["pause"]) == ("active", None)
    await live("POST", f"/tasks/{task_id}/delete")


async def test_a_run_is_asked_for_with_a_reason_and_arguments(live: Web) -> None:
    task_id = await registered(live)
    sent = {"reason": "to see it", "arguments": '{"name": "Bob"}', "overlap": "allow"}
    answer = await live("POST", f"/tasks/{task_id}/run", data=sent)
    assert answer.status == 303
    where = answer.headers["Location"]

    async def said_hello() -> bool:
        page = await live("GET", where)
        return "Hello, Bob!" in page.text and "to see it" in page.text

    await assert_eventually(said_hello, within=20, every=0.2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{", "Not JSON"),
        ("[1]", "Not an object"),
        ('{"nam": 1}', "nam"),
        ('{"name": "\\u0000"}', "NUL"),
        ('{"name": NaN}', "finite number"),
        ('{"name": ' + "[" * 300 + "]" * 300 + "}", "nested too deep"),
        ("[" * 5000, "nested too deep"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_beside_their_field(
    live: Web, arguments: str, says: str
) -> None:
    task_id = await registered(live)
    answer = await live("POST", f"/tasks/{task_id}/run", data={"arguments": arguments})
    assert answer.status == 422
    assert 'id="arguments-error"' in answer.text and says in answer.text
    assert await runs_of(live, task_id) == []


@pytest.mark.parametrize(("reason", "says"), [("a\0b", "NUL"), ("x" * 501, "at most 500")])
async def test_a_reason_that_cannot_be_kept_is_refused_wherever_it_is_given(
    live: Web, reason: str, says: str
) -> None:
    task_id = await registered(live)
    span = {"start": "2026-01-01T00:00:00", "end": "2026-01-01T02:00:00"}
    for what, more in (("run", {}), ("pause", {}), ("backfill", span)):
        answer = await live("POST", f"/tasks/{task_id}/{what}", data={"reason": reason, **more})
        assert answer.status == 422, what
        assert 'id="reason-error"' in answer.text and says in answer.text, what
    asked = await live("GET", "/tasks/many", params={"do": "pause", "search": task_id})
    sent = {**hidden(asked.text), "reason": reason}
    many = await live("POST", "/tasks/many", data=sent, headers={"Accept": "text/html"})
    assert many.status == 422 and says in many.text
    assert (await stored(live, task_id))["state"] == "active"
    assert await runs_of(live, task_id) == []


async def test_a_past_range_is_shown_before_it_is_run(live: Web) -> None:
    task_id = await registered(live)
    end = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(hours=1)
    span = {"start": local(end - timedelta(hours=3)), "end": local(end)}
    asked = await live("GET", f"/tasks/{task_id}/backfill", params={**span, "which": "all"})
    assert "<strong>3 of 3</strong>" in asked.text and "Start 3 runs" in asked.text
    assert await runs_of(live, task_id) == []
    answer = await live("POST", f"/tasks/{task_id}/backfill", data=hidden(asked.text))
    assert answer.status == 303

    async def all_ran() -> bool:
        found = await runs_of(live, task_id)
        return [run["status"] for run in found if run["trigger"] == "backfill"] == ["succeeded"] * 3

    await assert_eventually(all_ran, within=20, every=0.2)
    again = await live("GET", f"/tasks/{task_id}/backfill", params={**span, "which": "missing"})
    assert "none of them is asked for" in again.text


async def test_a_range_without_a_choice_has_the_usual_one(live: Web) -> None:
    task_id = await registered(live)
    span = {"start": "2026-01-01T00:00:00", "end": "2026-01-01T02:00:00", "which": "", "order": ""}
    asked = await live("GET", f"/tasks/{task_id}/backfill", params=span)
    assert "<strong>3 of 3</strong>" in asked.text


async def test_a_task_that_is_not_paused_cannot_be_resumed_on_a_page(live: Web) -> None:
    task_id = await registered(live)
    answer = await live("GET", f"/tasks/{task_id}/resume")
    assert (answer.status, answer.headers["Location"]) == (303, f"/tasks/{task_id}")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"start": "", "end": "2026-01-01T00:00:00"}, "start"),
        ({"start": "2026-01-02T00:00:00", "end": "2026-01-01T00:00:00"}, "end"),
        ({"start": "2026-01-01T00:00:00", "end": "2199-01-01T00:00:00"}, "end"),
        (
            {"start": "2026-01-01T00:00:00", "end": "2026-01-01T02:00:00", "at_once": "0"},
            "at_once",
        ),
        (
            {"start": "2026-01-01T00:00:00", "end": "2026-01-01T02:00:00", "at_once": "9" * 5000},
            "at_once",
        ),
    ],
)
async def test_a_wrong_range_is_refused_beside_its_field(
    live: Web, sent: dict[str, str], field: str
) -> None:
    task_id = await registered(live)
    answer = await live("POST", f"/tasks/{task_id}/backfill", data=sent)
    assert answer.status == 422
    assert f'id="{field}-error"' in answer.text
    assert await runs_of(live, task_id) == []


async def test_changes_are_listed_compared_and_taken_back(live: Web) -> None:
    task_id = await registered(live)
    patch = {"name": "Another name", "policies": {"timeout": "9m"}}
    assert (await live("PATCH", f"/api/v1/tasks/{task_id}", patch)).status == 200
    listed = await live("GET", f"/tasks/{task_id}/changes")
    assert listed.text.count(f'href="/tasks/{task_id}/changes/') == 2
    second = await live("GET", f"/tasks/{task_id}/changes/2")
    assert "policies.timeout" in second.text and "Another name" in second.text
    answer = await live("POST", f"/tasks/{task_id}/changes/1/restore")
    assert answer.status == 303
    task = await stored(live, task_id)
    assert (task["version"], task["name"]) == (3, "Hello <all>")
    assert task["policies"]["timeout"] == "1m"
    assert (await live("GET", f"/tasks/{task_id}/changes/9")).status == 404


async def test_many_tasks_are_shown_before_something_is_done_with_them(live: Web) -> None:
    tag = f"t-{uuid4().hex}"
    ids = [await registered(live, tags=[tag]) for _ in range(3)]
    asked = await live("GET", "/tasks/many", params={"do": "pause", "tag": tag})
    assert "Pause 3 tasks" in asked.text and all(one in asked.text for one in ids)
    ids.append(await registered(live, tags=[tag]))
    sent = hidden(asked.text)
    stale = await live("POST", "/tasks/many", data=sent)
    assert stale.status == 409 and "Pause 4 tasks" in stale.text
    assert {(await stored(live, one))["state"] for one in ids} == {"active"}
    done = await live("POST", "/tasks/many", data={**hidden(stale.text), "reason": "all of them"})
    assert "4 tasks were paused" in done.text
    assert {(await stored(live, one))["pause"]["reason"] for one in ids} == {"all of them"}


async def test_all_tasks_at_once_are_not_chosen_by_an_empty_filter(live: Web) -> None:
    assert (await live("GET", "/tasks/many", params={"do": "delete"})).status == 422
    assert (await live("GET", "/tasks/many", params={"do": "burn", "tag": "x"})).status == 422


async def test_a_task_says_what_keeps_it_from_running(live: Web) -> None:
    task_id = await registered(live, queue=f"q-{uuid4().hex[:8]}")
    page = await live("GET", f"/tasks/{task_id}/why")
    assert "No worker polls the queue" in page.text
    other = await registered(live)

    async def nothing_does() -> bool:  # that the engine has it is noted a moment after the answer
        return "Nothing does" in (await live("GET", f"/tasks/{other}/why")).text

    await assert_eventually(nothing_does)
    await live("POST", f"/tasks/{other}/pause", data={"reason": "it is late"})
    alone = await live("GET", f"/tasks/{other}/why")
    assert "it is late" in alone.text and "Nothing does" not in alone.text
    part = await live("GET", f"/tasks/{other}/why", headers={"HX-Request": "true"})
    assert "it is late" not in part.text  # its page, of which this is a part, tells it


async def test_a_deleted_task_can_be_brought_back(live: Web) -> None:
    task_id = await registered(live)
    answer = await live("POST", f"/tasks/{task_id}/delete", data={"let_finish": "on"})
    assert answer.status == 303
    assert "can be brought back" in (await live("GET", f"/tasks/{task_id}")).text
    assert (await live("POST", f"/tasks/{task_id}/changes/1/restore")).status == 303
    assert (await stored(live, task_id))["state"] == "active"


async def test_while_a_run_goes_on_the_next_due_time_is_the_one_after_it(live: Web) -> None:
    task_id = await registered(
        live,
        schedule={"kind": "interval", "every": "1h"},
        action={"kind": "shell", "script": "sleep 30"},
    )
    first = datetime.fromisoformat((await stored(live, task_id))["next_due_at"])
    soon = datetime.now(UTC) + timedelta(seconds=2)
    anchored = {"kind": "interval", "every": "1h", "anchor": soon.isoformat()}
    await live("PATCH", f"/api/v1/tasks/{task_id}", {"schedule": anchored})

    async def goes_on() -> bool:
        return [run["status"] for run in await runs_of(live, task_id)] == ["running"]

    await assert_eventually(goes_on, within=20, every=0.1)
    shown = datetime.fromisoformat((await stored(live, task_id))["next_due_at"])
    assert shown == soon + timedelta(hours=1) and first != shown
    await live("POST", f"/tasks/{task_id}/delete")
