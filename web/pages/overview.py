"""The overview, what runs when, who does the work, and the choice of a zone."""

import asyncio
import contextlib
import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice, takewhile
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from onthedot.database import lists
from onthedot.database import workers as database_workers
from onthedot.database.pool import connection
from onthedot.engine import EngineHealth
from onthedot.errors import EngineUnavailable
from onthedot.schedule import due_times, zones
from onthedot.suspension import REMEDY, count_suspended
from onthedot.task import Task
from web.pages.look import ZONE_COOKIE, show
from web.pages.query import choice
from web.pages.runs import names_of
from web.pages.worker_rows import worker_rows
from web.rendering import page
from web.security import Admin, local_path
from web.services import Given, Services

router = APIRouter()

_NEXT, _LATEST = 10, 12
_HORIZONS = {
    "1h": ("Next hour", "hour", timedelta(hours=1)),
    "1d": ("Next day", "day", timedelta(days=1)),
}
_MOST_DUE = 500  # occurrences on the page of what runs when
_COUNT_AGAIN = 10
_ASK_ENGINE_EVERY = 3.0  # seconds; the pages that are open ask far more often


@dataclass(frozen=True, slots=True)
class Part:
    """How a part of the installation is, in plain words."""

    name: str
    state: Literal["ok", "pending", "down"]
    words: str

    @property
    def state_words(self) -> str:
        return {"ok": "in order", "pending": "on its way", "down": "look here"}[self.state]


@dataclass(frozen=True, slots=True)
class Occurrence:
    due_at: datetime
    task: Task


@router.get("/")
async def overview(request: Request, services: Given, caller: Admin) -> Response:
    now, figures = datetime.now(UTC), await _count(request, services)
    async with connection(services.pool) as conn:
        upcoming = await lists.upcoming_tasks(
            conn, before=now + timedelta(days=36_500), limit=_NEXT
        )
        runs = await lists.list_runs(conn, lists.RunFilter(), limit=_LATEST)
        names = await names_of(conn, runs.items)
    return show(
        request,
        "overview",
        section="/",
        stream="/events",
        figures=figures,
        upcoming=upcoming,
        runs=runs.items,
        names=names,
        health=await parts(request, services, figures),
    )


@router.get("/upcoming")
async def upcoming(
    request: Request, services: Given, caller: Admin, within: str = "1h"
) -> Response:
    horizon = choice("within", within, _HORIZONS) or "1h"
    now = datetime.now(UTC)
    end = now + _HORIZONS[horizon][2]
    async with connection(services.pool) as conn:
        tasks = await lists.upcoming_tasks(conn, before=end, limit=_MOST_DUE + 1)
    found = list(islice(occurrences(tasks, now, end), _MOST_DUE + 1))
    return show(
        request,
        "upcoming",
        section="/upcoming",
        stream="/events",
        minutes=by_minute(found[:_MOST_DUE]),
        cut=max(len(tasks), len(found)) > _MOST_DUE,
        most=_MOST_DUE,
        horizon=horizon,
        horizon_words=_HORIZONS[horizon][1],
        horizons=[(value, text) for value, (text, _, _) in _HORIZONS.items()],
    )


def by_minute(found: list[Occurrence]) -> list[tuple[datetime, list[list[Occurrence]]]]:
    """The minutes in which something is due, and for each the occurrences of every task."""
    minutes = []
    for minute, due in groupby(found, lambda one: one.due_at.replace(second=0, microsecond=0)):
        of_task: dict[str, list[Occurrence]] = {}
        for one in due:
            of_task.setdefault(one.task.id, []).append(one)
        minutes.append((minute, list(of_task.values())))
    return minutes


def occurrences(tasks: list[Task], now: datetime, end: datetime) -> Iterator[Occurrence]:
    """What is due after ``now`` and before ``end`` (aware), in order."""

    def of(task: Task) -> Iterator[Occurrence]:
        due = due_times(task.spec.schedule, task.id, now)
        return (Occurrence(moment, task) for moment in takewhile(lambda one: one < end, due))

    return heapq.merge(*map(of, tasks), key=lambda one: (one.due_at, one.task.id))


@router.get("/workers")
async def workers(request: Request, services: Given, caller: Admin) -> Response:
    figures = await _count(request, services)
    async with connection(services.pool) as conn:
        told = await database_workers.seen(conn)
    engine = (await _ask_engine(request, services)).health
    return show(
        request,
        "workers",
        section="/workers",
        stream="/events",
        health=await parts(request, services, figures),
        workers=worker_rows(told, engine.workers),
    )


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted in Postgres, when, and how long that took."""

    at: float
    took: float
    figures: lists.Figures


async def _count(request: Request, services: Services) -> lists.Figures:
    """The figures, remembered for ten times as long as it took to count them.

    So the pages that are open take a tenth of one connection, however long the log is.
    """
    state = request.app.state
    if not hasattr(state, "counting"):
        state.counting, state.counted = asyncio.Lock(), None
    async with state.counting:
        known: _Counted | None = state.counted
        began = time.monotonic()
        if known is None or began - known.at > _COUNT_AGAIN * known.took:
            async with connection(services.pool) as conn:
                figures = await lists.figures(conn, now=datetime.now(UTC))
            counted = time.monotonic()
            known = state.counted = _Counted(counted, counted - began, figures)
        return known.figures


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the engine said of itself, its workers and its workflows, and when."""

    at: float
    health: EngineHealth
    suspended: int


async def _ask_engine(request: Request, services: Services) -> _Asked:
    """What the engine said, at most some seconds ago."""
    state = request.app.state
    known: _Asked | None = getattr(state, "engine_asked", None)
    if known is None or time.monotonic() - known.at > _ASK_ENGINE_EVERY:
        health, suspended = await services.engine.health(), 0
        with contextlib.suppress(EngineUnavailable):
            suspended = await count_suspended(services.engine)
        known = state.engine_asked = _Asked(time.monotonic(), health, suspended)
    return known


async def parts(request: Request, services: Services, figures: lists.Figures) -> list[Part]:
    """How each part is. Postgres has just given ``figures``, so it answers."""
    asked = await _ask_engine(request, services)
    engine = asked.health
    found = [Part("Postgres", "ok", "It answers, and keeps the tasks and the log.")]
    if not engine.reachable:
        return [
            *found,
            Part("Temporal", "down", f"{engine.detail}. Changes are kept until it is back."),
        ]
    version = f" (server {engine.server_version})" if engine.server_version else ""
    found.append(Part("Temporal", "ok", f"It answers{version}, and keeps the time."))
    found.append(_workers(engine))
    waiting = figures.pending_changes + figures.pending_requests
    if waiting:
        text = f"{waiting} not yet with the engine; they are sent again by themselves."
        found.append(Part("Changes", "pending", text))
    if asked.suspended:
        text = f"{asked.suspended} suspended: the workers' code does not fit them. {REMEDY}"
        found.append(Part("Tasks", "down", text))
    return found


def _workers(engine: EngineHealth) -> Part:
    schedulers = sum(worker.schedules for worker in engine.workers)
    executors = sum(worker.executes for worker in engine.workers)
    if not schedulers or not executors:
        missing = "schedules tasks" if not schedulers else "runs them"
        return Part("Workers", "down", f"None {missing}: start one with onthedot worker.")
    return Part("Workers", "ok", f"{executors} run tasks, {schedulers} schedule them.")


@router.get("/zone")
async def choose_zone(request: Request, caller: Admin, back: str = "/") -> Response:
    return page(request, "zone.html", back=local_path(back), zones=sorted(zones.names()))


@router.post("/zone")
async def keep_zone(
    services: Given, caller: Admin, zone: Annotated[str, Form()], back: Annotated[str, Form()] = "/"
) -> Response:
    choice("zone", zone, zones.names())
    response = RedirectResponse(local_path(back), 303)
    response.set_cookie(
        ZONE_COOKIE,
        zone,
        max_age=400 * 86_400,
        secure=services.settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response
