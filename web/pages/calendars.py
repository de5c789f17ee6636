"""Calendars: the list, and the form of one, which tells what its tasks would do before it is saved."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from onthedot.calendars import Calendars
from onthedot.database import calendars
from onthedot.database.pool import connection
from onthedot.errors import Conflict, InvalidInput, Unavailable, VersionMismatch
from onthedot.holidays import Calendar, CalendarDefinition, CalendarRegistration
from onthedot.schedule import Difference
from onthedot.task import Task
from web.days import Day, passed_and_ahead, read_days, write_days
from web.form_text import read_version
from web.forms import told
from web.pages.control import Fields, to
from web.pages.look import done, not_now, show, viewer_zone
from web.pages.query import Key, pages, plain
from web.rendering import page
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import field_errors, unstorable

router = APIRouter()
_Shape = TypeVar("_Shape", bound=BaseModel)

_PAGE = 50
_COMPARED = 30  # due times of each task that are compared before a calendar is changed
_MOST_SHOWN = 50  # tasks, and entries of a calendar beside its form


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A calendar in the list; ``next`` is its entry that goes on or comes, None when all are over."""

    calendar: Calendar
    next: Day | None
    tasks: int


@router.get("/calendars")
async def list_calendars(
    request: Request, services: Given, caller: Admin, cursor: str = ""
) -> Response:
    after, today = plain(cursor) or "", _today(request)
    async with connection(services.pool) as conn:
        found = await calendars.list_calendars(conn, after=after, limit=_PAGE + 1)
        shown = found[:_PAGE]
        users = await calendars.count_tasks(conn, [one.name for one in shown])
    rows = [
        Row(
            calendar=one,
            next=next(iter(passed_and_ahead(one.days, today)[1]), None),
            tasks=users.get(one.name, 0),
        )
        for one in shown
    ]
    return show(
        request,
        "calendars",
        section="/calendars",
        stream="/events",
        rows=rows,
        first_page=not after,
        **pages(request, shown[-1].name if len(found) > _PAGE else None),
    )


@router.get("/calendars/new")
async def new_calendar(request: Request, caller: Admin) -> Response:
    return _new(request, Fields({"name": "", "title": "", "days": ""}))


@router.post("/calendars")
async def register_calendar(request: Request, services: Given, caller: Admin) -> Response:
    form = Fields.of(await request.form(), name="", title="", days="")
    sent, status = _read(form, CalendarRegistration), 422
    if sent is not None:
        try:
            calendar = await _calendars(services).register(sent, by=caller.name)
            return to(done(f"/calendars/{calendar.name}", "calendar_registered"))
        except Conflict:
            form.errors["name"] = "This is taken. Choose another, or change that calendar."
        except Unavailable as error:
            status = not_now(form.other_errors, error)
    return _new(request, form, status)


@router.get("/calendars/{name}")
async def show_calendar(request: Request, services: Given, caller: Admin, name: Key) -> Response:
    return await _edit(request, services, name)


@router.post("/calendars/{name}")
async def change_calendar(request: Request, services: Given, caller: Admin, name: Key) -> Response:
    """Save at once where no task is due at other times by it; else show them, and save at ``yes``."""
    form = Fields.of(await request.form(), title="", days="", version="", confirmed="")
    sent = _read(form, CalendarDefinition)
    if sent is None:
        return await _edit(request, services, name, form, 422)
    if form.values["confirmed"] == "back":
        return await _edit(request, services, name, form)
    try:
        version = read_version(form.values["version"])
        if form.values["confirmed"] != "yes":
            await _check_version(services, name, version)
            found = await _calendars(services).preview(name, sent.days, count=_COMPARED)
            if changed := [one for one in found if one[1].removed or one[1].added]:
                return _ask(request, name, form, changed, len(found))
        await _calendars(services).change(name, sent, by=caller.name, if_version=version)
        return to(done(f"/calendars/{name}", "calendar_changed"))
    except InvalidInput as error:
        form.errors["days"] = f"Too many for a task. {' '.join(map(told, error.fields))}"
    except VersionMismatch:
        form.other_errors.append(_CHANGED_MEANWHILE)
    return await _edit(request, services, name, form, 422)


@router.get("/calendars/{name}/delete")
async def ask_delete(request: Request, services: Given, caller: Admin, name: Key) -> Response:
    return await _delete(request, services, name)


@router.post("/calendars/{name}/delete")
async def delete_calendar(
    request: Request,
    services: Given,
    caller: Admin,
    name: Key,
    version: Annotated[int | None, Form()] = None,
) -> Response:
    try:
        await _calendars(services).delete(name, if_version=version)
    except VersionMismatch:
        return await _delete(request, services, name, 409, changed=True)
    except Conflict:  # a task names it
        return await _delete(request, services, name, 409)
    return to(done("/calendars", "calendar_deleted"))


_CHANGED_MEANWHILE = (
    "Somebody changed this calendar meanwhile. Open it again to see how, and change it then."
)


def _new(request: Request, form: Fields, status: int = 200) -> Response:
    return page(
        request,
        "calendar.html",
        status,
        section="/calendars",
        form=form,
        calendar=None,
    )


async def _edit(
    request: Request, services: Services, name: str, form: Fields | None = None, status: int = 200
) -> Response:
    """The form of a calendar, with what was typed into it or as it is stored; beside it its days."""
    async with connection(services.pool) as conn:
        calendar = await calendars.get_calendar(conn, name)
        users = await calendars.tasks_with_calendar(conn, name)
    today = _today(request)
    passed, ahead = passed_and_ahead(calendar.days, today)
    return page(
        request,
        "calendar.html",
        status,
        section="/calendars",
        form=form or _form_of(calendar),
        calendar=calendar,
        passed=passed,
        ahead=ahead,
        users=users,
        most=_MOST_SHOWN,
    )


def _ask(
    request: Request,
    name: str,
    form: Fields,
    changed: list[tuple[Task, Difference]],
    compared: int,
) -> Response:
    return page(
        request,
        "calendar_change.html",
        section="/calendars",
        calendar_name=name,
        form=form,
        changed=changed,
        unchanged=compared - len(changed),
        count=_COMPARED,
        most=_MOST_SHOWN,
    )


async def _delete(
    request: Request, services: Services, name: str, status: int = 200, *, changed: bool = False
) -> Response:
    async with connection(services.pool) as conn:
        calendar = await calendars.get_calendar(conn, name)
        users = await calendars.tasks_with_calendar(conn, name)
    return page(
        request,
        "calendar_delete.html",
        status,
        section="/calendars",
        calendar=calendar,
        users=users,
        changed=changed,
        most=_MOST_SHOWN,
    )


def _form_of(calendar: Calendar) -> Fields:
    days, version = write_days(calendar.days), str(calendar.version)
    return Fields({"title": calendar.title, "days": days, "version": version})


def _read(form: Fields, shape: type[_Shape]) -> _Shape | None:
    """What the form asks for, or None with what is wrong put beside its fields."""
    sent: dict[str, Any] = {name: form.values[name] for name in ("title", "days")}
    if "name" in form.values:
        sent["name"] = form.values["name"]
    form.refuse(*unstorable(sent))
    try:
        sent["days"] = read_days(form.values["days"])
    except ValueError as error:
        form.errors.setdefault("days", str(error))
        sent["days"] = ()
    try:
        read = shape.model_validate(sent)
    except ValidationError as error:
        form.refuse(*field_errors(error.errors(include_url=False)))
        return None
    return read if form.is_valid else None


async def _check_version(services: Services, name: str, version: int) -> None:
    """Raise VersionMismatch before a difference is shown from days that are not any more."""
    async with connection(services.pool) as conn:
        if (await calendars.get_calendar(conn, name)).version != version:
            raise VersionMismatch


def _today(request: Request) -> date:
    return datetime.now(UTC).astimezone(viewer_zone(request)).date()


def _calendars(services: Services) -> Calendars:
    return Calendars(services.pool, services.registration)
