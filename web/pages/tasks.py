"""The list of scheduled tasks, a task, and what one does to it with a button."""

from datetime import UTC, datetime
from itertools import islice
from statistics import median
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from onthedot.database import lists, tasks
from onthedot.database.pool import connection
from onthedot.run import Run
from onthedot.schedule import due_times, zones
from onthedot.suspension import REMEDY, known_suspension
from onthedot.task import CronSchedule, Task, TaskState, as_json
from web.api.explanation import read_facts
from web.api.reasons import reasons
from web.form_text import pretty
from web.forms import ACTION_KINDS
from web.pages.look import is_fragment, show, temporal_workflow, viewer_zone
from web.pages.query import Key, choice, pages, task_filter
from web.security import Admin
from web.services import Given

router = APIRouter()

_PAGE = 50
_RUNS = 15  # on a task's page
_DUE = 8
_SORTS: dict[lists.TaskSort, str] = {"next_due": "next due", "created": "newest", "name": "name"}
_STATES = (TaskState.ACTIVE, TaskState.PAUSED, TaskState.FINISHED, TaskState.DELETED)


@router.get("/tasks")
async def list_tasks(
    request: Request,
    services: Given,
    caller: Admin,
    search: str = "",
    state: str = "",
    action: str = "",
    tag: str = "",
    sort: str = "next_due",
    cursor: str | None = None,
) -> Response:
    filters = {"search": search, "state": state, "action": action, "tag": tag}
    wanted = task_filter(filters)
    order = choice("sort", sort, _SORTS) or "next_due"
    async with connection(services.pool) as conn:
        found = await lists.list_tasks(conn, wanted, sort=order, cursor=cursor, limit=_PAGE)
    return show(
        request,
        "tasks",
        section="/tasks",
        stream="/events",
        tasks=found.items,
        filters=filters | {"sort": order},
        narrowed=any(filters.values()),
        filtered=any(filters.values()) or cursor is not None,
        states=_STATES,
        action_kinds=ACTION_KINDS,
        sorts=_SORTS.items(),
        first_page=cursor is None,
        **pages(request, found.next_cursor),
    )


@router.get("/tasks/{task_id}")
async def show_task(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    async with connection(services.pool) as conn:
        task = await tasks.get_task(conn, task_id)
        found = await lists.list_runs(conn, lists.RunFilter(task_id=task_id), limit=_RUNS)
    return show(
        request,
        "task",
        section="/tasks",
        stream=f"/events?task={task_id}",
        task=task,
        runs=found.items,
        names={task.id: task.spec.name},
        lags=_lags(found.items),
        due=_due(task, datetime.now(UTC)),
        due_zone=_zone(task) or viewer_zone(request),
        definition=pretty({"id": task.id, **as_json(task.spec)}),
        temporal_workflow=temporal_workflow(services.settings, task_id),
        suspended=await known_suspension(services.engine, task_id),
        suspended_remedy=REMEDY,
    )


@router.get("/tasks/{task_id}/why")
async def show_why(request: Request, services: Given, caller: Admin, task_id: Key) -> Response:
    """What keeps a task from running; asked for by itself, since the engine is asked as well."""
    facts = await read_facts(services, task_id, datetime.now(UTC))
    told_there = _ON_ITS_PAGE if is_fragment(request) else ()
    return show(
        request,
        "task_why",
        section="/tasks",
        task=facts.task,
        reasons=[one for one in reasons(facts) if one.code not in told_there],
        due=facts.due,
    )


#: Reasons that a task's own page, into which the others are put, tells by itself.
_ON_ITS_PAGE = ("paused", "finished", "deleted", "change_pending", "suspended")


def _lags(runs: list[Run]) -> dict[str, float | None]:
    """The median and the most, in milliseconds, of the runs whose time came."""
    known = [run.lag_ms for run in runs if run.trigger == "schedule" and run.lag_ms is not None]
    return (
        {"median": median(known), "most": max(known)} if known else {"median": None, "most": None}
    )


def _due(task: Task, now: datetime) -> list[datetime]:
    """The next due times of a task that is active."""
    if task.state != TaskState.ACTIVE:
        return []
    return list(islice(due_times(task.spec.schedule, task.id, now), _DUE))


def _zone(task: Task) -> ZoneInfo | None:
    schedule = task.spec.schedule
    return zones.zone(schedule.timezone) if isinstance(schedule, CronSchedule) else None
