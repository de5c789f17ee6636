"""Schedules before they are registered."""

import asyncio
import contextlib
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from onthedot import schedule as schedules
from onthedot.database import herds, tasks
from onthedot.database.pool import connection
from onthedot.errors import DatabaseUnavailable, InvalidInput
from onthedot.schedule import ScheduleWarning, zones
from onthedot.task import Instant, OnceSchedule, Schedule, Shape, Slug
from web.api import examples
from web.api.answers import Answer, respond
from web.services import Given, Services

router = APIRouter(prefix="/schedules", tags=["schedules"])

#: The preview does not wait longer for Postgres to tell of a herd.
_HERD_SECONDS = 0.3


class PreviewRequest(Shape):
    schedule: Schedule
    count: Annotated[int, Field(ge=1, le=1000, description="How many due times.")] = 5
    after: Annotated[
        Instant | None, Field(description="The due times after this; by default now.")
    ] = None
    id: Annotated[
        Slug | None, Field(description="The task's id, which decides what H stands for.")
    ] = None
    task: Annotated[
        Slug | None,
        Field(description="A task that would get this schedule: what would change for it."),
    ] = None


class Warning(Answer):  # noqa: A001 - the word of the API
    code: str
    message: str


class Preview(Answer):
    """``local`` are the same instants as ``due``, as the clocks of ``timezone`` show them.

    Of a change of a task ``removed`` and ``added`` are the due times that go and come, over the
    same span, which ends with ``until`` (null where all of them were compared).
    """

    description: str
    timezone: str
    due: list[AwareDatetime]
    local: list[AwareDatetime]
    warnings: list[Warning]
    removed: list[AwareDatetime] | None = None
    added: list[AwareDatetime] | None = None
    until: AwareDatetime | None = None


@router.post("/preview", response_model=Preview)
async def preview(
    services: Given,
    sent: Annotated[PreviewRequest, Body(openapi_examples=examples.PREVIEWS)],
) -> Response:
    """A schedule in words, its next due times, and what one may not expect of it."""
    when, now = await services.registration.with_calendar_days(sent.schedule), datetime.now(UTC)
    before = None
    if sent.task is not None:
        async with connection(services.pool) as conn:
            before = (await tasks.get_task(conn, sent.task)).spec.schedule
        when = schedules.adopt(when, before)
    # A thousand due times take a while: other requests go on meanwhile.
    shown, due_at = await asyncio.to_thread(_preview, sent, when, before, now)
    own_id = sent.task or sent.id or ""
    if due_at and (herd := await herd_of(services, due_at, shown["timezone"], own_id)):
        shown["warnings"].append(_warning(herd))
    return respond(shown)


def _preview(
    sent: PreviewRequest, when: Schedule, before: Schedule | None, now: datetime
) -> tuple[dict[str, Any], datetime | None]:
    """The answer, and when it is due next."""
    task_id, since = sent.id or sent.task, sent.after or now
    if when != before:
        InvalidInput.raise_if_any(schedules.check(when, now, task_id or ""))
    resolved = schedules.resolve(when, now)
    due = list(islice(schedules.due_times(resolved, task_id or "", since), sent.count))
    where = zones.zone(_zone_of(resolved))
    shown: dict[str, Any] = {
        "description": schedules.describe(resolved, task_id),
        "timezone": where.key,
        "due": _stamps(due),
        "local": [one.astimezone(where).isoformat() for one in due],
        "warnings": [_warning(one) for one in schedules.warnings(resolved, task_id or "", now)],
    }
    if before is not None:
        found = schedules.difference(before, resolved, task_id or "", since, sent.count)
        shown["removed"], shown["added"] = _stamps(found.removed), _stamps(found.added)
        shown["until"] = _stamps([found.until])[0] if found.until else None
    return shown, schedules.next_due(resolved, task_id or "", now)


async def herd_of(
    services: Services, due_at: datetime, timezone: str, own_id: str
) -> ScheduleWarning | None:
    """Whether many others are due in the minute of ``due_at``; None without Postgres."""
    with contextlib.suppress(DatabaseUnavailable):
        async with connection(services.pool, within=_HERD_SECONDS) as conn:
            return await herds.herd_warning(conn, due_at, zones.zone(timezone), own_id)
    return None


def _zone_of(schedule: Schedule) -> str:
    return "UTC" if isinstance(schedule, OnceSchedule) else schedule.timezone


def _warning(warning: ScheduleWarning) -> dict[str, str]:
    return {"code": warning.code, "message": warning.message}


def _stamps(moments: list[datetime]) -> list[str]:
    return [one.astimezone(UTC).isoformat().replace("+00:00", "Z") for one in moments]
