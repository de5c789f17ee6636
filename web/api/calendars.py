"""Calendars: days that several tasks leave out."""

import re
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from onthedot.calendars import CalendarChange, Calendars
from onthedot.database import calendars
from onthedot.database.pool import connection
from onthedot.errors import FieldError, InvalidInput
from onthedot.holidays import Calendar, CalendarDay, CalendarDefinition, CalendarRegistration
from onthedot.schedule import Difference
from onthedot.task import Shape, Slug, Task, as_json
from web.api import examples
from web.api.answers import Answer, respond, stamp
from web.api.requests import IfMatch, Paging
from web.security import Admin
from web.services import Given, Services

router = APIRouter(prefix="/calendars", tags=["calendars"])

CalendarName = Annotated[Slug, Path(description="The calendar's name.", examples=["de-holidays"])]
_MOST_SHOWN = 100  # tasks in the preview of a calendar


class CalendarItem(Answer):
    """A calendar in a list: how many days (or spans of days) it has, not which."""

    name: str
    title: str
    day_count: int
    version: int
    created_at: AwareDatetime
    created_by: str
    updated_at: AwareDatetime
    updated_by: str


class CalendarAnswer(CalendarItem):
    """A calendar by itself: with its days, and the ids of the tasks that name it."""

    days: list[CalendarDay]
    tasks: list[str]


class CalendarList(Answer):
    items: list[CalendarItem]
    next_cursor: str | None


class CalendarChanged(CalendarItem):
    """A calendar that was changed, and how many tasks with it: those that it made due at other
    times, and those of them of which the engine does not know yet.
    """

    days: list[CalendarDay]
    tasks_changed: int
    tasks_pending: int


class CalendarPreviewRequest(Shape):
    days: Annotated[tuple[CalendarDay, ...], Field(max_length=1000)]
    count: Annotated[
        int, Field(ge=1, le=100, description="How many due times of each task are compared.")
    ] = 10


class TaskDifference(Answer):
    """Due times of a task that would go and come; ``until`` is the last one that was looked at."""

    id: str
    name: str
    removed: list[AwareDatetime]
    added: list[AwareDatetime]
    until: AwareDatetime | None


class CalendarPreview(Answer):
    """The tasks of which due times would change, at most 100, and how many would and would not."""

    tasks: list[TaskDifference]
    changed: int
    unchanged: int


@router.get("", response_model=CalendarList)
async def list_calendars(services: Given, query: Annotated[Paging, Query()]) -> Response:
    """Calendars by name, by pages."""
    if query.cursor is not None and not re.fullmatch(r"[a-z0-9_-]{1,100}", query.cursor):
        remedy = "Pass next_cursor of the answer before; begin without one."
        raise InvalidInput(FieldError("cursor", query.cursor, "is no cursor of this list", remedy))
    async with connection(services.pool) as conn:
        found = await calendars.list_calendars(
            conn, after=query.cursor or "", limit=query.limit + 1
        )
    shown = found[: query.limit]
    next_cursor = shown[-1].name if len(found) > len(shown) else None
    return respond({"items": [_item(one) for one in shown], "next_cursor": next_cursor})


@router.post("", status_code=201, response_model=CalendarAnswer)
async def register(
    services: Given,
    caller: Admin,
    sent: Annotated[CalendarRegistration, Body(openapi_examples=examples.CALENDARS)],
) -> Response:
    """Register a calendar; tasks then name it in schedule.exclude.calendars."""
    calendar = await _calendars(services).register(sent, by=caller.name)
    headers = _etag(calendar) | {"Location": f"/api/v1/calendars/{calendar.name}"}
    return respond(_whole(calendar) | {"tasks": []}, 201, headers)


@router.get("/{name}", response_model=CalendarAnswer)
async def read(services: Given, name: CalendarName) -> Response:
    """A calendar."""
    async with connection(services.pool) as conn:
        calendar = await calendars.get_calendar(conn, name)
        users = await calendars.tasks_with_calendar(conn, name)
    shown = _whole(calendar) | {"tasks": [task.id for task in users]}
    return respond(shown, headers=_etag(calendar))


@router.put("/{name}", response_model=CalendarChanged, responses={202: {"model": CalendarChanged}})
async def replace(
    services: Given,
    caller: Admin,
    name: CalendarName,
    sent: Annotated[CalendarDefinition, Body(openapi_examples=examples.CALENDAR_CHANGES)],
    version: IfMatch = None,
) -> Response:
    """Change a calendar, and every task that names it. 202 says that the engine will hear of some
    of them later.
    """
    change = await _calendars(services).change(name, sent, by=caller.name, if_version=version)
    pending = len(change.tasks) - change.handed_over
    return respond(_changed(change, pending), 202 if pending else 200, _etag(change.calendar))


@router.delete("/{name}", response_model=CalendarItem)
async def delete(
    services: Given, caller: Admin, name: CalendarName, version: IfMatch = None
) -> Response:
    """Delete a calendar that no task names."""
    return respond(_item(await _calendars(services).delete(name, if_version=version)))


@router.post("/{name}/preview", response_model=CalendarPreview)
async def preview(
    services: Given,
    name: CalendarName,
    sent: Annotated[CalendarPreviewRequest, Body(openapi_examples=examples.CALENDAR_CHANGES)],
) -> Response:
    """What a calendar with these days would do to the next due times of the tasks that name it."""
    found = await _calendars(services).preview(name, sent.days, count=sent.count)
    changed = [one for one in found if one[1].removed or one[1].added]
    return respond(
        {
            "tasks": [_difference(*one) for one in islice(changed, _MOST_SHOWN)],
            "changed": len(changed),
            "unchanged": len(found) - len(changed),
        }
    )


def _calendars(services: Services) -> Calendars:
    return Calendars(services.pool, services.registration)


def _etag(calendar: Calendar) -> dict[str, str]:
    return {"ETag": f'"{calendar.version}"'}


def _item(calendar: Calendar) -> dict[str, Any]:
    return {
        "name": calendar.name,
        "title": calendar.title,
        "day_count": len(calendar.days),
        "version": calendar.version,
        "created_at": stamp(calendar.created_at),
        "created_by": calendar.created_by,
        "updated_at": stamp(calendar.updated_at),
        "updated_by": calendar.updated_by,
    }


def _whole(calendar: Calendar) -> dict[str, Any]:
    return _item(calendar) | {"days": [as_json(day) for day in calendar.days]}


def _changed(change: CalendarChange, pending: int) -> dict[str, Any]:
    counts = {"tasks_changed": len(change.tasks), "tasks_pending": pending}
    return _whole(change.calendar) | counts


def _difference(task: Task, found: Difference) -> dict[str, Any]:
    return {
        "id": task.id,
        "name": task.spec.name,
        "removed": _stamps(found.removed),
        "added": _stamps(found.added),
        "until": stamp(found.until),
    }


def _stamps(moments: list[datetime]) -> list[str | None]:
    return [stamp(one) for one in moments]
