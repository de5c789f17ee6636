"""Many tasks at once: what a filter finds is shown first, then paused, resumed, run or deleted."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from onthedot.bulk import Bulk, Result, Work
from onthedot.errors import CountMismatch, InvalidInput
from onthedot.idempotency import fingerprint
from onthedot.registration import Registration
from web.pages.query import choice, task_filter
from web.rendering import page
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import too_long_reason, unstorable

router = APIRouter()

#: What can be done with many tasks: the button, and what was done.
WORK = {
    "pause": ("Pause", "paused"),
    "resume": ("Resume", "resumed"),
    "trigger": ("Run", "asked to run"),
    "delete": ("Delete", "deleted"),
}


@router.get("/tasks/many")
async def ask_many(
    request: Request,
    services: Given,
    caller: Admin,
    do: str,
    search: str = "",
    state: str = "",
    action: str = "",
    tag: str = "",
) -> Response:
    filters = {"search": search, "state": state, "action": action, "tag": tag}
    return await _ask(request, services, do, filters)


async def _ask(
    request: Request,
    services: Services,
    do: str,
    filters: dict[str, str],
    *,
    changed: bool = False,
    reason: str = "",
) -> Response:
    choice("do", do or "-", WORK)
    found = await Bulk(services.pool, services.registration).select(task_filter(filters))
    return page(
        request,
        "tasks_many.html",
        409 if changed else 200,
        section="/tasks",
        do=do,
        verb=WORK[do][0],
        filters=filters,
        found=found,
        changed=changed,
        reason=reason,
        key=uuid4().hex,
    )


@router.post("/tasks/many")
async def do_many(
    request: Request,
    services: Given,
    caller: Admin,
    do: Annotated[str, Form()],
    count: Annotated[int, Form()],
    key: Annotated[str, Form()],
    reason: Annotated[str, Form()] = "",
    search: Annotated[str, Form()] = "",
    state: Annotated[str, Form()] = "",
    action: Annotated[str, Form()] = "",
    tag: Annotated[str, Form()] = "",
) -> Response:
    choice("do", do or "-", WORK)
    filters = {"search": search, "state": state, "action": action, "tag": tag}
    InvalidInput.raise_if_any(
        [*unstorable(key, "key"), *unstorable(reason, "reason"), *too_long_reason(reason)]
    )
    work = _work(do, caller.name, reason.strip() or None)
    what = fingerprint("many", [do, count, filters])
    try:
        results: list[Result[Any]] = await Bulk(services.pool, services.registration).each(
            task_filter(filters), count, work, key=key, print_=what
        )
    except CountMismatch:
        return await _ask(request, services, do, filters, changed=True, reason=reason)
    failed = [one for one in results if one.error is not None]
    return page(
        request,
        "tasks_many_done.html",
        section="/tasks",
        did=WORK[do][1],
        done=len(results) - len(failed),
        failed=failed,
    )


def _work(do: str, by: str, reason: str | None) -> Work[Any]:
    calls: dict[str, Callable[..., Awaitable[object]]] = {
        "pause": Registration.pause,
        "resume": Registration.resume,
        "trigger": Registration.trigger,
        "delete": Registration.delete,
    }
    return lambda registration, task_id, key: calls[do](
        registration, task_id, by=by, key=key, reason=reason
    )
