"""What is asked of a task with more than a button: run, pause, resume, run a past range, delete."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, get_args
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from onthedot.backfill import MOST_AT_ONCE, DueTime, Order, Which
from onthedot.catching_up import CaughtUp
from onthedot.database import tasks
from onthedot.database.pool import connection
from onthedot.errors import FieldError, InvalidInput
from onthedot.task import CatchUp, Keep, OverlapPolicy, PythonAction, Task, TaskState
from web.form_text import pretty, read_local, write_local
from web.forms import read_json, told
from web.pages.look import done, viewer_zone
from web.pages.query import Key, choice
from web.rendering import page
from web.security import Admin, local_path
from web.services import Given, Services
from web.shape_errors import too_long_reason, unstorable

router = APIRouter()

#: The page that a button was pressed on, to come back to.
Back = Annotated[str | None, Form()]

_KEEPS: tuple[Keep, ...] = get_args(Keep)
_ORDERS: tuple[Order, ...] = get_args(Order)
_WHICH: tuple[Which, ...] = get_args(Which)


@dataclass(slots=True)
class Fields:
    """A small form: what was typed, and what is wrong with it, by field."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    other_errors: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, sent: FormData, **defaults: str) -> "Fields":
        """The fields named in ``defaults``, as they were sent."""
        values = {name: sent.get(name, default) for name, default in defaults.items()}
        form = cls({name: str(value).strip() for name, value in values.items()})
        form.refuse(*unstorable(form.values), *too_long_reason(form.values.get("reason", "")))
        return form

    @property
    def is_valid(self) -> bool:
        return not self.errors and not self.other_errors

    def instant(self, name: str, zone: ZoneInfo, known: datetime | None = None) -> datetime | None:
        """The instant that a local time in ``zone`` stands for; None where nothing was typed.

        It is ``known`` where a clock shows the same time then.
        """
        if not self.values[name]:
            return None
        try:
            return read_local(self.values[name], zone, known)
        except ValueError as error:
            self.errors[name] = str(error)
            return None

    def number(self, name: str, *, most: int) -> int | None:
        """The number from 1 to ``most`` that was typed; else None, and what is wrong is told."""
        text = self.values[name]
        if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most:
            return int(text)
        self.errors[name] = f"Give a number from 1 to {most}."
        return None

    def refuse(self, *problems: FieldError) -> None:
        """Put what is wrong beside the fields where it was typed."""
        for one in problems:
            name = next((part for part in one.field.split(".") if part in self.values), None)
            if name is not None:
                self.errors.setdefault(name, told(one))
            else:
                self.other_errors.append(f"{one.field}: {told(one)}")


@router.get("/tasks/{task_id}/run")
async def ask_run(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    task = await _task(services, task_id)
    arguments = "{}"
    if isinstance(task.spec.action, PythonAction):
        arguments = pretty(task.spec.action.arguments)
    form = Fields({"reason": "", "arguments": arguments, "overlap": ""})
    return page(request, "task_run.html", section="/tasks", task=task, form=form)


@router.post("/tasks/{task_id}/run")
async def run_task(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    task = await _task(services, task_id)
    form = Fields.of(await request.form(), reason="", arguments="{}", overlap="")
    overlap = choice("overlap", form.values["overlap"], OverlapPolicy)
    arguments = _arguments(form) if isinstance(task.spec.action, PythonAction) else None
    if form.is_valid:
        try:
            run = await services.registration.trigger(
                task_id,
                by=caller.name,
                arguments=arguments,
                reason=form.values["reason"] or None,
                overlap=overlap,
            )
            return RedirectResponse(f"/runs/{run.run_id}", 303)
        except InvalidInput as error:
            form.refuse(*error.fields)
    return page(request, "task_run.html", 422, section="/tasks", task=task, form=form)


def _arguments(form: Fields) -> dict[str, Any] | None:
    try:
        found = read_json(form.values["arguments"] or "{}")
    except ValueError as error:
        form.errors["arguments"] = str(error)
        return None
    if not isinstance(found, dict):
        form.errors["arguments"] = "Not an object. Write names and values in { }."
        return None
    form.refuse(*unstorable(found, "arguments"))
    return found


@router.get("/tasks/{task_id}/pause")
async def ask_pause(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    task = await _task(services, task_id)
    form = Fields({"reason": "", "until": ""})
    if task.pause:
        form.values["reason"] = task.pause.reason or ""
        if task.pause.until:
            form.values["until"] = write_local(task.pause.until, viewer_zone(request))
    return page(request, "task_pause.html", section="/tasks", task=task, form=form)


@router.post("/tasks/{task_id}/pause")
async def pause_task(
    request: Request, services: Given, caller: Admin, task_id: Key, back: Back = None
) -> Response:
    task = await _task(services, task_id)
    form = Fields.of(await request.form(), reason="", until="")
    until = form.instant("until", viewer_zone(request), task.pause.until if task.pause else None)
    if form.is_valid:
        try:
            await services.registration.pause(
                task_id, by=caller.name, reason=form.values["reason"] or None, until=until
            )
            return to(back or done(f"/tasks/{task_id}", "paused"))
        except InvalidInput as error:
            form.refuse(*error.fields)
    return page(request, "task_pause.html", 422, section="/tasks", task=task, form=form)


@router.get("/tasks/{task_id}/resume")
async def ask_resume(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    """What resuming would start, for each of the ways to catch up."""
    task = await _task(services, task_id)
    if task.state is not TaskState.PAUSED:  # somebody else was faster, or the pause had an end
        return to(f"/tasks/{task_id}")
    within = task.spec.policies.catch_up.within
    counts: dict[str, CaughtUp] = {}
    for keep in _KEEPS:
        catch_up = CatchUp(keep=keep, within=within)
        counts[keep] = await services.registration.preview_resume(task_id, catch_up)
    return page(
        request, "task_resume.html", section="/tasks", task=task, counts=counts, within=within
    )


@router.post("/tasks/{task_id}/resume")
async def resume_task(
    services: Given,
    caller: Admin,
    task_id: Key,
    keep: Annotated[str, Form()] = "",
    back: Back = None,
) -> Response:
    chosen = choice("keep", keep, _KEEPS)
    catch_up = None
    if chosen in ("latest", "all"):
        within = (await _task(services, task_id)).spec.policies.catch_up.within
        catch_up = CatchUp(keep=chosen, within=within)
    await services.registration.resume(task_id, by=caller.name, catch_up=catch_up)
    return to(back or done(f"/tasks/{task_id}", "resumed"))


@router.post("/tasks/{task_id}/trigger")
async def trigger_task(services: Given, caller: Admin, task_id: Key, back: Back = None) -> Response:
    run = await services.registration.trigger(task_id, by=caller.name)
    return to(back or f"/runs/{run.run_id}")


@router.get("/tasks/{task_id}/backfill")
async def ask_backfill(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    """The form; and once it has a range, what would run."""
    task = await _task(services, task_id)
    form = _backfill_form(request.query_params)
    found: list[DueTime] | None = None
    due = 0
    if form.values["start"] or form.values["end"]:
        try:
            start, end = _range(form, viewer_zone(request))
            which = choice("which", form.values["which"], _WHICH) or "missing"
            due, found = await services.registration.preview_backfill(
                task_id, start, end, which=which
            )
        except InvalidInput as error:
            form.refuse(*error.fields)
    return page(
        request,
        "task_backfill.html",
        200 if form.is_valid else 422,
        section="/tasks",
        task=task,
        form=form,
        due=due,
        found=found,
    )


@router.post("/tasks/{task_id}/backfill")
async def backfill_task(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    form = _backfill_form(await request.form())
    order = choice("order", form.values["order"], _ORDERS) or "oldest_first"
    which = choice("which", form.values["which"], _WHICH) or "missing"
    at_once = form.number("at_once", most=MOST_AT_ONCE)
    try:
        start, end = _range(form, viewer_zone(request))
        assert at_once is not None  # else the form had something wrong
        await services.registration.backfill(
            task_id,
            start,
            end,
            by=caller.name,
            which=which,
            order=order,
            at_once=at_once,
            reason=form.values["reason"] or None,
        )
        return to(f"/runs?task={task_id}&trigger=backfill")
    except InvalidInput as error:
        form.refuse(*error.fields)
    task = await _task(services, task_id)
    return page(
        request,
        "task_backfill.html",
        422,
        section="/tasks",
        task=task,
        form=form,
        due=0,
        found=None,
    )


def _backfill_form(sent: Any) -> Fields:
    return Fields.of(
        sent, start="", end="", which="missing", order="oldest_first", at_once="1", reason=""
    )


def _range(form: Fields, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The range of a backfill; raise InvalidInput where the form has something wrong."""
    start, end = form.instant("start", zone), form.instant("end", zone)
    for name, moment in (("start", start), ("end", end)):
        if moment is None:
            form.errors.setdefault(name, "This is needed. Give a date and a time.")
    if start is None or end is None or not form.is_valid:
        raise InvalidInput
    return start, end


@router.get("/tasks/{task_id}/delete")
async def ask_delete(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    task = await _task(services, task_id)
    return page(request, "task_delete.html", section="/tasks", task=task)


@router.post("/tasks/{task_id}/delete")
async def delete_task(
    services: Given,
    caller: Admin,
    task_id: Key,
    version: Annotated[int | None, Form()] = None,
    let_finish: Annotated[str, Form()] = "",
) -> Response:
    await services.registration.delete(
        task_id, by=caller.name, if_version=version, let_finish=bool(let_finish)
    )
    return to(done("/tasks", "deleted"))


def to(path: str) -> Response:
    """On to a page of ours, after a form was sent."""
    return RedirectResponse(local_path(path), 303)


async def _task(services: Services, task_id: str) -> Task:
    async with connection(services.pool) as conn:
        return await tasks.get_task(conn, task_id)
