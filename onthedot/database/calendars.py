"""Calendars as they are stored, and their days in the schedules of the tasks that name them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from onthedot.database import queries
from onthedot.database.pool import CHANNEL, Connection
from onthedot.database.tasks import TASK_COLUMNS, read_task
from onthedot.errors import FieldError, InvalidInput, NotFound
from onthedot.holidays import Calendar, CalendarDay, CalendarDefinition
from onthedot.schedule.exclusion import write_spans
from onthedot.task import OnceSchedule, Schedule, Task, as_json, as_stored, read_span

_SQL = queries.load(
    Path(__file__).with_suffix(".sql"), task=TASK_COLUMNS, calendar=queries.columns_of(Calendar)
)

#: So much of a task's stored definition may be days of calendars.
MOST_BYTES = 32 * 1024
_TOLD = 50  # ids of tasks in one notice, which may have 8000 bytes


async def insert_calendar(
    conn: Connection, name: str, definition: CalendarDefinition, *, by: str, now: datetime
) -> Calendar | None:
    """Store a new calendar; None when the name is taken."""
    rows = await _rows(conn, "insert_calendar", name=name, by=by, now=now, **_columns(definition))
    return _read(rows[0]) if rows else None


async def get_calendar(conn: Connection, name: str, *, lock: bool = False) -> Calendar:
    """The calendar; raise NotFound. With ``lock`` nobody else changes or names it meanwhile."""
    rows = await _rows(conn, "lock_calendar" if lock else "get_calendar", name=name)
    if not rows:
        raise NotFound(f"there is no calendar {name!r}")
    return _read(rows[0])


async def list_calendars(conn: Connection, *, after: str, limit: int) -> list[Calendar]:
    """Calendars by name, past ``after``."""
    return [_read(row) for row in await _rows(conn, "list_calendars", after=after, limit=limit)]


async def change_calendar(
    conn: Connection, name: str, definition: CalendarDefinition, *, by: str, now: datetime
) -> Calendar:
    """Give a calendar that was locked other days; its tasks are ``change_tasks``'s to change."""
    rows = await _rows(conn, "change_calendar", name=name, by=by, now=now, **_columns(definition))
    return _read(rows[0])


async def delete_calendar(conn: Connection, name: str) -> None:
    await conn.execute(_SQL["delete_calendar"], {"name": name})


async def tasks_with_calendar(conn: Connection, name: str, *, lock: bool = False) -> list[Task]:
    """The tasks that name the calendar, by id; deleted ones are none."""
    query = "lock_tasks_with_calendar" if lock else "tasks_with_calendar"
    return [read_task(row) for row in await _rows(conn, query, name=name)]


async def count_tasks(conn: Connection, names: Sequence[str]) -> dict[str, int]:
    """How many tasks name each of the calendars; one that none names is left out."""
    rows = await _rows(conn, "count_tasks", names=list(names))
    return {row["name"]: row["tasks"] for row in rows}


async def change_tasks(
    conn: Connection, changed: Sequence[Task], *, by: str, now: datetime, reason: str
) -> list[Task]:
    """Raise the versions of tasks that were locked, with the specs and states they have here."""
    rows = await _rows(
        conn,
        "change_tasks",
        ids=[task.id for task in changed],
        specs=[Jsonb(as_stored(task.spec)) for task in changed],
        states=[task.state for task in changed],
        due=[task.next_due_at for task in changed],
        by=by,
        now=now,
        reason=reason,
    )
    ids = [task.id for task in changed]
    parts = [ids[start : start + _TOLD] for start in range(0, len(ids), _TOLD)]
    news = [json.dumps({"tasks": part, "runs": False}) for part in parts]
    await conn.execute(_SQL["tell_of_tasks"], {"channel": CHANNEL, "news": news})
    stored = {row.pop("id"): row for row in rows}
    return [replace(task, **stored[task.id], updated_by=by) for task in changed]


async def days_of(conn: Connection, names: Iterable[str]) -> dict[str, tuple[CalendarDay, ...]]:
    """The days of calendars by their names; those that do not exist are left out."""
    rows = await _rows(conn, "some_calendars", names=sorted(set(names)))
    return {row["name"]: _read(row).days for row in rows}


def named_by(schedule: Schedule) -> tuple[str, ...]:
    """The calendars that a schedule names."""
    if isinstance(schedule, OnceSchedule) or schedule.exclude is None:
        return ()
    return schedule.exclude.calendars


def with_days_of(schedule: Schedule, calendars: Mapping[str, tuple[CalendarDay, ...]]) -> Schedule:
    """The schedule with the days of the calendars that it names; raise InvalidInput for too many."""
    if isinstance(schedule, OnceSchedule) or schedule.exclude is None:
        return schedule
    names = schedule.exclude.calendars
    spans = [read_span(day.date) for name in names for day in calendars.get(name, ())]
    days = write_spans(spans) if names else None
    if sum(map(len, days or ())) > MOST_BYTES:
        problem = f"they have {len(days or ())} days or spans of days together"
        remedy = "Name fewer calendars, or write days in a row as a span"
        raise InvalidInput(FieldError("schedule.exclude.calendars", names, problem, remedy))
    exclude = schedule.exclude.model_copy(update={"calendar_days": days})
    return schedule.model_copy(update={"exclude": exclude})


async def with_days(conn: Connection, schedule: Schedule) -> Schedule:
    """The schedule with the days that its calendars have now.

    Raise InvalidInput for a calendar that does not exist, and for more days than are kept.
    """
    found = await days_of(conn, named_by(schedule))
    unknown = [(place, name) for place, name in enumerate(named_by(schedule)) if name not in found]
    if unknown:
        known = ", ".join(row["name"] for row in await _rows(conn, "known_names"))
        remedy = f"Give one of {known}" if known else "Register it by POST /api/v1/calendars"
        raise InvalidInput(
            *(
                FieldError(f"schedule.exclude.calendars.{place}", name, "no such calendar", remedy)
                for place, name in unknown
            )
        )
    return with_days_of(schedule, found)


async def hold(conn: Connection, schedule: Schedule) -> bool:
    """Keep the calendars that a schedule names from changing until the transaction ends.

    False when they are not any more as the schedule has them.
    """
    names = named_by(schedule)
    if not names:
        return True
    rows = await _rows(conn, "hold_calendars", names=list(names))
    days = {row["name"]: _read(row).days for row in rows}
    return len(days) == len(set(names)) and with_days_of(schedule, days) == schedule


def _read(row: Mapping[str, Any]) -> Calendar:
    days = tuple(CalendarDay.model_validate(day) for day in row["days"])
    return Calendar(**{**row, "days": days})


def _columns(definition: CalendarDefinition) -> dict[str, Any]:
    shown = as_json(definition)
    return {"title": shown["title"], "days": Jsonb(shown["days"])}


async def _rows(conn: Connection, name: str, /, **values: Any) -> list[dict[str, Any]]:
    cursor = await conn.execute(_SQL[name], values)
    return await cursor.fetchall()
