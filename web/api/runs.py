"""The log: list, read, cancel, run again."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.database.runs import get_run
from onthedot.run import RunStatus, Trigger
from onthedot.task import Instant, Slug
from web.api.answers import RunAnswer, RunList, respond, run_answer, run_item
from web.api.requests import IdempotencyKey, Paging, RunId
from web.security import Admin
from web.services import Given

router = APIRouter(prefix="/runs", tags=["runs"])


class RunQuery(Paging):
    task: Slug | None = None
    status: list[RunStatus] = Field(default=[])
    trigger: Trigger | None = None
    since: Annotated[Instant | None, Field(description="Due at this instant or later.")] = None
    until: Annotated[Instant | None, Field(description="Due before this instant.")] = None


@router.get("", response_model=RunList)
async def list_runs(services: Given, query: Annotated[RunQuery, Query()]) -> Response:
    """The log, newest due time first, by pages; outputs and attempts are with the single run."""
    wanted = lists.RunFilter(
        task_id=query.task,
        statuses=query.status,
        trigger=query.trigger,
        since=query.since,
        until=query.until,
    )
    async with connection(services.pool) as conn:
        page = await lists.list_runs(conn, wanted, cursor=query.cursor, limit=query.limit)
    return respond(
        {"items": [run_item(run) for run in page.items], "next_cursor": page.next_cursor}
    )


@router.get("/{run_id}", response_model=RunAnswer)
async def read(services: Given, run_id: RunId) -> Response:
    """A run with its attempts, its output and its result."""
    async with connection(services.pool) as conn:
        run = await get_run(conn, run_id)
    return respond(run_answer(run))


@router.post("/{run_id}/cancel", status_code=202, response_model=RunAnswer)
async def cancel(
    services: Given, caller: Admin, run_id: RunId, key: IdempotencyKey = None
) -> Response:
    """Cancel a run that waits or goes on."""
    run = await services.registration.cancel_run(run_id, by=caller.name, key=key)
    return respond(run_answer(run), 202)


@router.post("/{run_id}/rerun", status_code=202, response_model=RunAnswer)
async def rerun(
    services: Given, caller: Admin, run_id: RunId, key: IdempotencyKey = None
) -> Response:
    """Run a task again, now, with the arguments that the run was asked with. The answer is the new
    run, which waits.
    """
    run = await services.registration.rerun(run_id, by=caller.name, key=key)
    return respond(run_answer(run), 202, {"Location": f"/api/v1/runs/{run.run_id}"})
