"""Limits that tasks share: which runs hold a place, and which wait for one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from onthedot import limits
from onthedot.database import lists, tasks
from onthedot.database.lists import LimitUse
from onthedot.database.pool import connection
from onthedot.errors import EngineUnavailable
from web.pages.look import show
from web.pages.query import Key, pages
from web.security import Admin
from web.services import Given, Services

router = APIRouter()

_PAGE = 20
_ASK_EVERY = 1.0  # seconds; each asking is a query of a workflow a limit
_MOST_SHOWN = 50  # runs that hold a limit, and runs that wait for it


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a limit stood, and when."""

    at: float
    limit: limits.Limit


@router.get("/limits")
async def list_limits(
    request: Request, services: Given, caller: Admin, cursor: str | None = None
) -> Response:
    async with connection(services.pool) as conn:
        found = await lists.list_limits(conn, cursor=cursor, limit=_PAGE)
    return await _show(request, services, found.items, found.next_cursor)


@router.get("/limits/{name}")
async def show_limit(request: Request, services: Given, caller: Admin, name: Key) -> Response:
    async with connection(services.pool) as conn:
        use = await lists.get_limit(conn, name)
    return await _show(request, services, [use], None, name)


async def _show(
    request: Request,
    services: Services,
    uses: Sequence[LimitUse],
    next_cursor: str | None,
    name: str | None = None,
) -> Response:
    """The page of these limits; where the engine does not tell how they stand, it says that."""
    found, problem = [limits.Limit(use=use, held_by=(), waiting=()) for use in uses], None
    try:
        found = await _standing(request, services, uses)
    except EngineUnavailable as error:
        problem = str(error)
    return show(
        request,
        "limits",
        section="/workers",
        stream="/events",
        limits=found,
        names=await _names(services, found),
        problem=problem,
        most=_MOST_SHOWN,
        only=name,
        first_page="cursor" not in request.query_params,
        **pages(request, next_cursor),
    )


async def _standing(
    request: Request, services: Services, uses: Sequence[LimitUse]
) -> list[limits.Limit]:
    """How these limits stand, or stood a moment ago: all pages that are open ask at once."""
    state, now = request.app.state, time.monotonic()
    known: dict[str, _Asked] = getattr(state, "limits_asked", {})
    known = {name: asked for name, asked in known.items() if now - asked.at < _ASK_EVERY}
    unknown = [use for use in uses if use.name not in known or known[use.name].limit.use != use]
    if unknown:
        told = await limits.standing(services.engine, unknown)
        known |= {limit.use.name: _Asked(now, limit) for limit in told}
    state.limits_asked = known
    return [known[use.name].limit for use in uses]


async def _names(services: Services, found: Sequence[limits.Limit]) -> dict[str, str]:
    """The names of the tasks whose runs are shown, by task id."""
    ids = {ask.task_id for limit in found for ask in limit.waiting[:_MOST_SHOWN]}
    ids |= {one.ask.task_id for limit in found for one in limit.held_by[:_MOST_SHOWN]}
    if not ids:
        return {}
    async with connection(services.pool) as conn:
        return {task.id: task.spec.name for task in await tasks.some_tasks(conn, sorted(ids))}
