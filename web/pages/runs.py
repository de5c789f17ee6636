"""The execution log, and a run."""

from datetime import datetime
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from onthedot.database import lists, runs, tasks
from onthedot.database.pool import Connection, connection
from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import TaskState
from web.pages.look import done, show, viewer_zone
from web.pages.query import Key, choice, instant, pages, plain
from web.security import Admin
from web.services import Given

router = APIRouter()

_PAGE = 50


async def names_of(conn: Connection, found: list[Run]) -> dict[str, str]:
    """The names of the tasks whose runs these are, by task id."""
    known = await tasks.some_tasks(conn, sorted({run.task_id for run in found}))
    return {task.id: task.spec.name for task in known}


@router.get("/runs")
async def list_runs(
    request: Request,
    services: Given,
    caller: Admin,
    task: str = "",
    status: str = "",
    trigger: str = "",
    after: str = "",
    before: str = "",
    cursor: str | None = None,
) -> Response:
    filters = {"task": task, "status": status, "trigger": trigger, "after": after, "before": before}
    errors: dict[str, str] = {}
    zone = viewer_zone(request)
    ended = choice("status", status, RunStatus)
    wanted = lists.RunFilter(
        task_id=plain(task),
        statuses=[ended] if ended else [],
        trigger=choice("trigger", trigger, Trigger),
        since=_instant("after", after, zone, errors),
        until=_instant("before", before, zone, errors),
    )
    async with connection(services.pool) as conn:
        found = await lists.list_runs(conn, wanted, cursor=cursor, limit=_PAGE)
        names = await names_of(conn, found.items)
    return show(
        request,
        "runs",
        status=422 if errors else 200,
        section="/runs",
        stream="/events",
        runs=found.items,
        names=names,
        with_task=True,
        filters=filters,
        errors=errors,
        filtered=any(filters.values()) or cursor is not None,
        statuses=list(RunStatus),
        triggers=list(Trigger),
        first_page=cursor is None,
        **pages(request, found.next_cursor),
    )


def _instant(name: str, text: str, zone: ZoneInfo, errors: dict[str, str]) -> datetime | None:
    try:
        return instant(text, zone)
    except ValueError as error:
        errors[name] = str(error)
        return None


@router.get("/runs/{run_id}")
async def show_run(request: Request, services: Given, caller: Admin, run_id: Key) -> Response:
    async with connection(services.pool) as conn:
        run = await runs.get_run(conn, run_id)
        output = await runs.get_output(conn, run)
        task = next(iter(await tasks.some_tasks(conn, [run.task_id])), None)
    return show(
        request,
        "run",
        section="/runs",
        stream=None if run.status.is_final else f"/events?task={run.task_id}",
        run=run,
        output=output,
        task_name=task.spec.name if task else run.task_id,
        may_rerun=task is not None and task.state != TaskState.DELETED,
    )


@router.post("/runs/{run_id}/cancel")
async def cancel_run(services: Given, caller: Admin, run_id: Key) -> Response:
    await services.registration.cancel_run(run_id, by=caller.name)
    return RedirectResponse(done(f"/runs/{run_id}", "cancelled"), 303)


@router.post("/runs/{run_id}/rerun")
async def rerun(services: Given, caller: Admin, run_id: Key) -> Response:
    run = await services.registration.rerun(run_id, by=caller.name)
    return RedirectResponse(f"/runs/{run.run_id}", 303)
