"""Calendars over REST: their days are left out by the tasks that name them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.integration.web_client import Web, count
from tests.services import assert_eventually
from web.api import examples
from web.api.calendars import CalendarAnswer, CalendarChanged, CalendarList, CalendarPreview

#: Days far enough ahead that none passes while a test runs.
FIRST = datetime.now(UTC).date() + timedelta(days=10)
DAYS = [str(FIRST + timedelta(days=number)) for number in range(10)]


def days(*dates: str) -> list[dict[str, str]]:
    return [{"date": one, "title": "A holiday"} for one in dates]


async def calendar(web: Web, *dates: str) -> str:
    """The name of a new calendar with these days."""
    name = f"c-{uuid4().hex}"
    answer = await web("POST", "/api/v1/calendars", {"name": name, "days": days(*dates)})
    assert answer.status == 201, answer.text
    return name


async def registered(web: Web, *names: str, **schedule: Any) -> dict[str, Any]:
    """A task of every noon that leaves the calendars' days out."""
    sent = {
        "id": f"t-{uuid4().hex}",
        "name": "Noon",
        "schedule": {
            "kind": "cron",
            "cron": "0 12 * * *",
            "starts_at": f"{DAYS[0]}T00:00:00Z",
            "exclude": {"calendars": list(names)},
            **schedule,
        },
        "action": {"kind": "shell", "command": ["/bin/true"]},
    }
    answer = await web("POST", "/api/v1/tasks", sent)
    assert answer.status == 201, answer.text
    document: dict[str, Any] = answer.json
    return document


async def read(web: Web, task: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = (await web("GET", f"/api/v1/tasks/{task['id']}")).json
    return document


def due_days(task: dict[str, Any], number: int = 3) -> list[str]:
    return [due[:10] for due in task["next_due"]][:number]


async def test_a_calendar_is_answered_stored_and_listed(web: Web) -> None:
    sent = examples.CALENDARS["holidays"]["value"]
    answer = await web("POST", "/api/v1/calendars", sent)
    assert (answer.status, answer.headers["ETag"]) == (201, '"1"')
    assert answer.headers["Location"] == "/api/v1/calendars/de-holidays"
    CalendarAnswer.model_validate(answer.json)
    assert (answer.json["days"], answer.json["title"]) == (sent["days"], sent["title"])
    kept = await web("GET", "/api/v1/calendars/de-holidays")
    assert (kept.json, kept.headers["ETag"]) == (answer.json, '"1"')
    await calendar(web, DAYS[0])
    first = (await web("GET", "/api/v1/calendars", params={"limit": 1})).json
    CalendarList.model_validate(first)
    after = {"cursor": first["next_cursor"]}
    rest = (await web("GET", "/api/v1/calendars", params=after)).json
    assert [one["name"] for one in rest["items"]] == ["de-holidays"]
    assert rest["next_cursor"] is None
    wrong = await web("GET", "/api/v1/calendars", params={"cursor": "a\x00"})
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Nope"}, "name"),
        ({"days": days("2026-02-30")}, "days.0.date"),
        ({"days": days("24.12.2026")}, "days.0.date"),
        ({"days": days("2026-12-31/2026-12-27")}, "days.0.date"),
        ({"days": days(*["2026-12-24"] * 1001)}, "days"),
        ({"days": None}, "days"),
    ],
)
async def test_a_calendar_that_is_wrong_is_refused(
    web: Web, change: dict[str, Any], field: str
) -> None:
    sent = {"name": "one", "days": days("2026-12-24"), **change}
    answer = await web("POST", "/api/v1/calendars", sent)
    assert answer.status == 422
    assert [one["field"] for one in answer.json["errors"]] == [field]
    assert web.settings.database_url
    assert await count(web.settings.database_url, "calendars") == 0


async def test_a_name_that_is_taken_is_refused(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    answer = await web("POST", "/api/v1/calendars", {"name": name, "days": []})
    assert (answer.status, answer.json["errors"][0]["field"]) == (409, "name")
    assert (await web("GET", f"/api/v1/calendars/{name}")).json["day_count"] == 1


async def test_a_task_is_not_due_on_the_days_of_its_calendars(web: Web) -> None:
    one, other = await calendar(web, DAYS[0]), await calendar(web, f"{DAYS[2]}/{DAYS[4]}")
    task = await registered(web, one, other)
    assert due_days(task) == [DAYS[1], DAYS[5], DAYS[6]]
    assert task["schedule"]["exclude"] == {
        "dates": [],
        "weekdays": [],
        "calendars": [one, other],
    }
    users = (await web("GET", f"/api/v1/calendars/{one}")).json["tasks"]
    assert users == [task["id"]]


async def test_a_calendar_that_does_not_exist_is_refused_with_those_that_do(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    sent = examples.TASKS["cron"]["value"] | {
        "schedule": {
            "kind": "cron",
            "cron": "0 2 * * *",
            "exclude": {"calendars": [name, "nope"]},
        }
    }
    answer = await web("POST", "/api/v1/tasks", sent)
    (error,) = answer.json["errors"]
    assert (error["field"], error["value"]) == ("schedule.exclude.calendars.1", "nope")
    assert name in error["remedy"]
    assert web.settings.database_url
    assert await count(web.settings.database_url, "tasks") == 0


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/schedules/preview"])
async def test_days_of_calendars_are_not_taken_from_a_client(web: Web, path: str) -> None:
    schedule = {
        "kind": "cron",
        "cron": "0 2 * * *",
        "exclude": {"calendar_days": ["2026-12-24"]},
    }
    sent = {"schedule": schedule}
    if path.endswith("tasks"):
        sent = examples.TASKS["cron"]["value"] | sent
    answer = await web("POST", path, sent)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "schedule.exclude.calendar_days"


async def test_a_calendar_in_use_is_not_deleted(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await registered(web, name)
    answer = await web("DELETE", f"/api/v1/calendars/{name}")
    assert answer.status == 409
    assert task["id"] in answer.json["detail"]
    await web("DELETE", f"/api/v1/tasks/{task['id']}")
    assert (await web("DELETE", f"/api/v1/calendars/{name}")).status == 200
    assert (await web("GET", f"/api/v1/calendars/{name}")).status == 404


async def test_a_change_of_another_version_than_if_match_names_is_refused(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await registered(web, name)
    path, sent = f"/api/v1/calendars/{name}", {"days": days(DAYS[1])}
    answer = await web("PUT", path, sent, headers={"If-Match": '"7"'})
    assert answer.status == 412
    assert (await web("DELETE", path, headers={"If-Match": '"7"'})).status == 412
    assert (await read(web, task))["version"] == 1
    assert (await web("GET", path)).json["version"] == 1


async def test_a_preview_of_a_calendar_tells_what_changes_and_changes_nothing(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await registered(web, name)
    weekly = await registered(web, name, cron="0 12 1 1 *")
    path, sent = f"/api/v1/calendars/{name}/preview", {"days": days(DAYS[1]), "count": 5}
    answer = await web("POST", path, sent)
    CalendarPreview.model_validate(answer.json)
    (changed,) = answer.json["tasks"]
    assert (changed["id"], answer.json["unchanged"]) == (task["id"], 1)
    assert changed["removed"] == [f"{DAYS[1]}T12:00:00.000000Z"]
    assert changed["added"] == [f"{DAYS[0]}T12:00:00.000000Z"]
    assert (await read(web, task))["version"] == (await read(web, weekly))["version"] == 1


async def test_a_preview_of_a_task_with_another_schedule_tells_what_changes(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await registered(web)
    schedule = task["schedule"] | {"exclude": {"calendars": [name]}}
    answer = await web(
        "POST", "/api/v1/schedules/preview", {"schedule": schedule, "task": task["id"]}
    )
    assert answer.status == 200, answer.text
    assert answer.json["removed"] == [f"{DAYS[0]}T12:00:00Z"]
    assert answer.json["added"] == []
    assert answer.json["until"] == f"{DAYS[4]}T12:00:00Z"


async def test_a_changed_calendar_changes_its_tasks_in_one_commit_also_without_a_worker(
    web: Web,
) -> None:
    name = await calendar(web, DAYS[0])
    task, other = await registered(web, name), await registered(web)
    answer = await web("PUT", f"/api/v1/calendars/{name}", {"days": days(DAYS[1])})
    CalendarChanged.model_validate(answer.json)
    assert (answer.status, answer.headers["ETag"]) == (202, '"2"')
    assert (answer.json["tasks_changed"], answer.json["tasks_pending"]) == (1, 1)
    now = await read(web, task)
    assert due_days(now) == [DAYS[0], DAYS[2], DAYS[3]]
    assert now["next_due_at"] == now["next_due"][0]
    assert (now["version"], now["engine"]) == (2, "pending")
    assert (await read(web, other))["version"] == 1
    assert web.settings.database_url
    with psycopg.connect(web.settings.database_url) as connection:
        query = "SELECT updated_by, engine_version FROM tasks WHERE id = %s"
        assert connection.execute(query, [task["id"]]).fetchone() == ("tester", 1)


async def test_a_changed_calendar_reaches_the_engine(live: Web) -> None:
    name = await calendar(live, DAYS[0])
    task = await registered(live, name)
    answer = await live("PUT", f"/api/v1/calendars/{name}", {"days": days(DAYS[1])})
    assert (answer.status, answer.json["tasks_changed"]) == (200, 1)

    async def is_in_step() -> bool:  # that it was taken is noted a moment after the answer
        explained = (await live("GET", f"/api/v1/tasks/{task['id']}/explain")).json
        return bool(explained["engine"]["taken"] == "in_step")

    await assert_eventually(is_in_step)
    again = await live("PUT", f"/api/v1/calendars/{name}", {"title": "X", "days": days(DAYS[1])})
    assert (again.status, again.json["tasks_changed"]) == (200, 0)
    assert (await read(live, task))["version"] == 2


async def test_a_task_is_not_stored_with_days_that_change_this_moment(web: Web) -> None:
    name = await calendar(web, DAYS[0])
    task = await registered(web)
    patch = {"schedule": {"exclude": {"calendars": [name]}}}
    sent = {name: task[name] for name in ("name", "action")}
    sent["schedule"] = task["schedule"] | patch["schedule"]
    assert web.settings.database_url
    async with await psycopg.AsyncConnection.connect(web.settings.database_url) as change:
        other_days = Jsonb(days(DAYS[1]))
        await change.execute("UPDATE calendars SET days = %s", [other_days])
        calls = [
            asyncio.create_task(web("POST", "/api/v1/tasks", sent)),
            asyncio.create_task(web("PATCH", f"/api/v1/tasks/{task['id']}", patch)),
        ]
        await assert_eventually(lambda: _are_held_up(web, len(calls)), within=8)
    refused, changed = await asyncio.gather(*calls)
    assert refused.status == 409
    assert due_days(changed.json) == [DAYS[0], DAYS[2], DAYS[3]]
    assert await count(web.settings.database_url, "tasks") == 1


async def _are_held_up(web: Web, number: int) -> bool:
    """Whether so many connections wait for a lock on the calendars."""
    assert web.settings.database_url
    async with await psycopg.AsyncConnection.connect(web.settings.database_url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%FOR SHARE%'"
        )
        row = await (await connection.execute(query)).fetchone()
        return row == (number,)


async def test_sending_a_definition_again_changes_nothing(live: Web) -> None:
    name = await calendar(live, DAYS[0])
    task = await registered(live, name, starts_at=None, max_runs=3)
    schedule = {"kind": "cron", "cron": "0 12 * * *", "max_runs": 3}
    sent = {
        "name": "Noon",
        "schedule": schedule | {"exclude": {"calendars": [name]}},
        "action": {"kind": "shell", "command": ["/bin/true"]},
    }
    answer = await live("PUT", f"/api/v1/tasks/{task['id']}", sent)
    assert (answer.status, answer.json["version"]) == (200, 1)
    answer = await live("PATCH", f"/api/v1/tasks/{task['id']}", {"name": "Twelve"})
    assert (answer.json["version"], answer.json["schedule"]) == (2, task["schedule"])


async def test_many_tasks_due_in_a_minute_are_warned_of_with_one_that_is_free(web: Web) -> None:
    first = await registered(web, cron="0 12 * * *")
    assert web.settings.database_url
    with psycopg.connect(web.settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tasks (id, name, spec, state, created_by, updated_by, next_due_at)"
            " SELECT 'herd-' || n, name, spec, state, created_by, updated_by,"
            " next_due_at + interval '1 minute' * (n / 110)"
            " FROM tasks, generate_series(1, 111) AS n WHERE id = %s",
            [first["id"]],
        )
    body = {"schedule": first["schedule"], "id": "another"}
    answer = await web("POST", "/api/v1/schedules/preview", body)
    (herd,) = [one for one in answer.json["warnings"] if one["code"] == "herd"]
    assert herd["message"] == f"110 tasks are due at {DAYS[0]} 12:00; 12:02 is free."
    elsewhere = body | {"schedule": first["schedule"] | {"cron": "0 13 * * *"}}
    answer = await web("POST", "/api/v1/schedules/preview", elsewhere)
    assert answer.json["warnings"] == []
