"""The form that registers or changes a task, and the due times shown beside it."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from onthedot import schedule as schedules
from onthedot.database import tasks
from onthedot.database.calendars import list_calendars
from onthedot.database.pool import connection
from onthedot.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    TaskExists,
    Unavailable,
    VersionMismatch,
)
from onthedot.handlers import Handlers
from onthedot.idempotency import fingerprint
from onthedot.schedule import zones
from onthedot.task import OnceSchedule, Schedule, Task, TaskRegistration
from web.api.schedules import herd_of
from web.form_text import read_version
from web.forms import EMPTY, TaskForm
from web.pages import words
from web.pages.look import not_now, viewer_zone
from web.pages.query import Key
from web.rendering import page
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import field_errors

router = APIRouter()

_SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)
_SHOWN = 8  # due times in a preview

PRESETS = (
    ("* * * * *", "Every minute"),
    ("*/15 * * * *", "Every 15 minutes"),
    ("0 * * * *", "Hourly"),
    ("0 9 * * *", "Daily at 9"),
    ("0 9 * * MON-FRI", "Weekdays at 9"),
    ("0 9 * * MON", "Mondays at 9"),
    ("0 9 L * *", "Last day of the month"),
)

LABELS = {
    "name": "Name",
    "id": "Id",
    "tags": "Tags",
    "queue": "Queue",
    "schedule.kind": "Kind of schedule",
    "once.at": "Date and time",
    "once.timezone": "Time zone",
    "once.in": "After",
    "cron.cron": "Cron expression",
    "cron.timezone": "Time zone",
    "interval.every": "Every",
    "interval.timezone": "Time zone of these days",
    "cron.dst": "When the clocks change",
    "recurring.starts_at": "Not before",
    "recurring.ends_at": "Until",
    "recurring.max_runs": "At most so many times",
    "recurring.jitter": "Jitter",
    "recurring.exclude.dates": "Not on these days",
    "recurring.exclude.weekdays": "Not on these weekdays",
    "recurring.exclude.calendars": "Not on the days of",
    "action.kind": "Kind of action",
    "http.url": "URL",
    "http.headers": "Headers",
    "http.body": "Body",
    "http.expect": "Succeeds on",
    "shell.command": "Program and arguments",
    "shell.script": "Script",
    "shell.env": "Environment",
    "shell.cwd": "Working directory",
    "python.handler": "Handler",
    "python.arguments": "Arguments",
    "workflow.type": "Workflow type",
    "workflow.queue": "Its task queue",
    "workflow.arguments": "Arguments",
    "policies.timeout": "Timeout of an attempt",
    "policies.run_timeout": "Timeout of the whole run",
    "policies.overlap_limit": "At most",
    "policies.retry.attempts": "Attempts",
    "policies.retry.backoff": "Wait before the second",
    "policies.retry.factor": "Each wait is longer by",
    "policies.retry.max_backoff": "Longest wait",
    "policies.retry.within": "No attempt later than",
    "policies.retry.not_on": "Not tried again after",
    "policies.pause_on_failure": "Pause the task after",
    "policies.fairness_key": "Fairness key",
    "policies.limits": "Limits shared with other tasks",
    "follow_ups.on_success": "When a run succeeded, run",
    "follow_ups.on_failure": "When a run failed, run",
    "policies.catch_up.within": "If they are no older than",
}
#: What these two parts of the form have is folded, until something in them is wrong.
_BOUNDS = ("recurring.", "cron.dst", "interval.timezone")
_FOLDED = ("policies.", "follow_ups.", "tags", "queue", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a schedule comes to; or the ``problem`` with it, in words."""

    problem: str | None = None
    description: str = ""
    due: list[datetime]
    warnings: list[str]
    zone: ZoneInfo


@router.get("/tasks/new")
async def new_task(request: Request, services: Given, caller: Admin) -> Response:
    form = TaskForm.empty(viewer_zone(request).key)
    known = {name: value for name, value in request.query_params.items() if name in form.values}
    form.values |= known
    return await _page(request, services, form)


@router.post("/tasks")
async def register_task(request: Request, services: Given, caller: Admin) -> Response:
    sent = await request.form()
    form, key = TaskForm.sent(sent), _text(sent, "key")
    registration, status = form.registration(), 422
    if registration is not None:
        try:
            task = await _registered_once(services, registration, caller.name, _key(key, form))
            return RedirectResponse(f"/tasks/{task.id}?done=registered", 303)
        except InvalidInput as error:
            form.refuse(*error.fields)
        except TaskExists as error:
            form.errors["id"] = f"{error}. Choose another, or leave it empty."
        except (Conflict, Unavailable) as error:
            status = not_now(form.other_errors, error)
    else:
        _read_schedule(form, datetime.now(UTC))  # all that is wrong is told at once
    return await _page(request, services, form, status=status, key=key)


@router.get("/tasks/{task_id}/edit")
async def edit_task(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    async with connection(services.pool) as conn:
        task = await tasks.get_task(conn, task_id)
    zone = viewer_zone(request).key
    form = TaskForm.of(task.spec, task_id=task.id, version=task.version, timezone=zone)
    return await _page(request, services, form, task_id=task_id)


@router.post("/tasks/{task_id}/edit")
async def revise_task(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    sent = await request.form()
    form, key = TaskForm.sent(sent), _text(sent, "key")
    form.values["id"] = task_id
    registration, status = form.registration(), 422
    if registration is not None:
        try:
            await services.registration.revise(
                task_id,
                registration.spec(),
                by=caller.name,
                if_version=read_version(form.values["version"]),
                key=_key(key, form),
            )
            return RedirectResponse(f"/tasks/{task_id}?done=changed", 303)
        except InvalidInput as error:
            form.refuse(*error.fields)
        except VersionMismatch:
            form.other_errors.append(
                "Somebody changed this task meanwhile. Open its page to see how, and edit it again."
            )
        except (Conflict, Unavailable) as error:
            status = not_now(form.other_errors, error)
    return await _page(request, services, form, task_id=task_id, status=status, key=key)


def _key(key: str, form: TaskForm) -> str | None:
    """What the same form has when it is sent twice, and no other one, nor this one changed."""
    return fingerprint("form", [key, form.values]) if key else None


async def _registered_once(
    services: Services, registration: TaskRegistration, by: str, key: str | None
) -> Task:
    try:
        return await services.registration.register(registration, by=by, key=key)
    except NotFound:  # the task that the same form has made was deleted meanwhile
        return await services.registration.register(registration, by=by)


@router.post("/tasks/preview")
async def preview_task(request: Request, services: Given, caller: Admin) -> Response:
    """The due times of a form as it stands: alone for HTMX, else with the whole form again."""
    sent = await request.form()
    form = TaskForm.sent(sent)
    if preset := _text(sent, "preset"):
        form.values |= {"schedule.kind": "cron", "cron.cron": preset}
    found = await preview(services, form, viewer_zone(request))
    if "hx-request" in request.headers:
        return page(request, "fragments/preview.html", preview=found)
    return await _page(request, services, form, task_id=_text(sent, "editing") or None)


async def preview(services: Services, form: TaskForm, viewer: ZoneInfo) -> Preview | None:
    """What the form's schedule comes to now; None where nothing has been typed yet."""
    trial = TaskForm(values=form.values)
    sent = trial.schedule()
    if not any(sent.get(name) for name in ("at", "in", "cron", "every")) and not form.errors:
        return None
    now, task_id = datetime.now(UTC), form.values["id"]
    schedule = _read_schedule(trial, now)
    if schedule is not None and trial.is_valid:
        try:
            schedule = await services.registration.with_calendar_days(schedule)
        except InvalidInput as error:
            trial.refuse(*error.fields)
        except Unavailable as error:
            return Preview(problem=f"{error}.", due=[], warnings=[], zone=viewer)
    problems = [*trial.errors.values(), *trial.other_errors]
    if schedule is None or problems:
        return Preview(problem=problems[0], due=[], warnings=[], zone=viewer)
    zone = viewer if isinstance(schedule, OnceSchedule) else zones.zone(schedule.timezone)
    due = list(islice(schedules.due_times(schedule, task_id, now), _SHOWN))
    warnings = [one.message for one in schedules.warnings(schedule, task_id, now)]
    if due and (herd := await herd_of(services, due[0], zone.key, task_id)):
        warnings.append(herd.message)
    return Preview(
        description=words.describe(schedule, task_id), due=due, warnings=warnings, zone=zone
    )


def _read_schedule(form: TaskForm, now: datetime) -> Schedule | None:
    """The form's schedule as it would be stored; what is wrong with it goes into the form."""
    try:
        schedule = schedules.resolve(_SCHEDULE.validate_python(form.schedule()), now)
    except ValidationError as error:
        located = (
            {**one, "loc": ("schedule", *one["loc"])} for one in error.errors(include_url=False)
        )
        form.refuse(*field_errors(located))
        return None
    form.refuse(*schedules.check(schedule, now, form.values["id"]))
    return schedule


async def _calendar_names(services: Services) -> list[str]:
    """Those to choose from; none without Postgres."""
    with contextlib.suppress(Unavailable):
        async with connection(services.pool) as conn:
            return [one.name for one in await list_calendars(conn, after="", limit=200)]
    return []


@cache
def _handler_names(allowed: tuple[str, ...]) -> list[str]:
    return Handlers(allowed).names()


async def _page(
    request: Request,
    services: Given,
    form: TaskForm,
    *,
    task_id: str | None = None,
    status: int = 200,
    key: str = "",
) -> Response:
    return page(
        request,
        "task_form.html",
        status,
        section="/tasks",
        form=form,
        task_id=task_id,
        key=key or uuid4().hex,
        action=f"/tasks/{task_id}/edit" if task_id else "/tasks",
        labels=LABELS,
        presets=PRESETS,
        zones=sorted(zones.names()),
        handlers=await asyncio.to_thread(_handler_names, services.settings.handlers),
        more_open=any(name.startswith(_FOLDED) for name in form.errors),
        bounds_open=_has_bounds(form) or any(name.startswith(_BOUNDS) for name in form.errors),
        calendars=await _calendar_names(services),
        preview=await preview(services, form, viewer_zone(request)),
    )


def _has_bounds(form: TaskForm) -> bool:
    """Whether the part of the schedule that is folded has something set, but for the viewer's zone."""
    names = [name for name in EMPTY if name.startswith(_BOUNDS)]
    by_itself = ("recurring.exact", "interval.timezone")
    return any(form.values[name] != EMPTY[name] for name in names if name not in by_itself)


def _text(sent: FormData, name: str) -> str:
    value: Any = sent.get(name)
    return value if isinstance(value, str) else ""
