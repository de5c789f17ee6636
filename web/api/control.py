"""Control over a task: pause, resume, trigger, backfill, and what was asked of it so far."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from pydantic import AwareDatetime, Field, JsonValue
from starlette.responses import Response

from onthedot.backfill import MOST_AT_ONCE, Order, Which
from onthedot.database import lists
from onthedot.database import tasks as stored
from onthedot.database.pool import connection
from onthedot.database.tasks import Request
from onthedot.run import RunStatus
from onthedot.task import CatchUp, Instant, OverlapPolicy, Shape
from web.api import examples
from web.api.answers import (
    Answer,
    RunAnswer,
    RunList,
    TaskAnswer,
    respond,
    respond_task,
    run_answer,
    run_item,
    stamp,
)
from web.api.explanation import Explanation, explain
from web.api.requests import IdempotencyKey, IfMatch, Paging, Reason, TaskId
from web.security import Admin
from web.services import Given

router = APIRouter(prefix="/tasks/{task_id}", tags=["control"])

_Dry = Annotated[bool, Field(description="Say what would be done, with 200, and change nothing.")]


class PauseRequest(Shape):
    """Why, and until when; without ``until`` until it is resumed."""

    reason: Reason | None = None
    until: Instant | None = None


class ResumeRequest(Shape):
    """Without ``catch_up`` the occurrences of the pause stay skipped."""

    catch_up: CatchUp | None = None
    reason: Reason | None = None
    dry_run: _Dry = False


class ResumePreview(Answer):
    """Of the occurrences of the pause, how many run and how many do not; counted up to 1000."""

    task_id: str
    since: AwareDatetime
    until: AwareDatetime
    runs: int
    left_out: int


class TriggerRequest(Shape):
    """What a run that is asked for may have of its own."""

    arguments: dict[str, JsonValue] | None = None
    reason: Reason | None = None
    overlap: Annotated[
        OverlapPolicy | None, Field(description="In the place of the task's own policy.")
    ] = None


class BackfillRequest(Shape):
    """The due times from ``start`` to ``end``, both included; at most 1000 runs."""

    start: Instant
    end: Instant
    which: Annotated[
        Which,
        Field(description="missing: without a row, skipped or missed; failed: also timed out."),
    ] = "all"
    order: Order = "oldest_first"
    at_once: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, description="Runs at a time.")] = 1
    reason: Reason | None = None
    dry_run: _Dry = False


class DueTimeAnswer(Answer):
    due_at: AwareDatetime
    exists: RunStatus | None  # what the log has of it


class BackfillPreview(Answer):
    """What a backfill would run; the range has ``due`` due times in all."""

    task_id: str
    due: int
    count: int
    items: list[DueTimeAnswer]


class RequestItem(Answer):
    """What was asked of a task. ``taken_at`` is when the engine took it; null while it waits."""

    id: str
    kind: Literal["trigger", "backfill", "cancel"]
    at: AwareDatetime
    by: str
    reason: str | None
    taken_at: AwareDatetime | None
    runs: int
    run_id: str | None  # of a trigger and a cancel
    options: dict[str, JsonValue]  # as they were sent: arguments, overlap, start, end, ...


class RequestList(Answer):
    items: list[RequestItem]
    next_cursor: str | None


@router.post("/pause", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def pause(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[PauseRequest, Body(openapi_examples=examples.PAUSES)] = PauseRequest(),  # noqa: B008 - frozen
    version: IfMatch = None,
    key: IdempotencyKey = None,
) -> Response:
    """Skip the occurrences of a task, until an instant or until it is resumed."""
    task = await services.registration.pause(
        task_id,
        by=caller.name,
        if_version=version,
        key=key,
        reason=sent.reason,
        until=sent.until,
    )
    return respond_task(task, _now())


@router.post(
    "/resume", response_model=TaskAnswer | ResumePreview, responses={202: {"model": TaskAnswer}}
)
async def resume(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[ResumeRequest, Body(openapi_examples=examples.RESUMES)] = ResumeRequest(),  # noqa: B008 - frozen
    version: IfMatch = None,
    key: IdempotencyKey = None,
) -> Response:
    """Let a paused task run again, and with `catch_up` what was due meanwhile; with `dry_run` say
    how many runs that starts.
    """
    if sent.dry_run:
        found = await services.registration.preview_resume(task_id, sent.catch_up)
        return respond(
            {
                "task_id": task_id,
                "since": stamp(found.since),
                "until": stamp(found.until),
                "runs": found.runs,
                "left_out": found.left_out,
            }
        )
    task = await services.registration.resume(
        task_id,
        by=caller.name,
        if_version=version,
        key=key,
        reason=sent.reason,
        catch_up=sent.catch_up,
    )
    return respond_task(task, _now())


@router.post("/trigger", status_code=202, response_model=RunAnswer)
async def trigger(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[TriggerRequest, Body(openapi_examples=examples.TRIGGERS)] = TriggerRequest(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Run a task now, whatever its schedule. The answer is the run, which waits."""
    run = await services.registration.trigger(
        task_id,
        by=caller.name,
        key=key,
        arguments=sent.arguments,
        reason=sent.reason,
        overlap=sent.overlap,
    )
    return respond(run_answer(run), 202, {"Location": f"/api/v1/runs/{run.run_id}"})


@router.post(
    "/backfill",
    status_code=202,
    response_model=RunList,
    responses={200: {"model": BackfillPreview, "description": "With dry_run"}},
)
async def backfill(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[BackfillRequest, Body(openapi_examples=examples.BACKFILLS)],
    key: IdempotencyKey = None,
) -> Response:
    """Run a task for the due times of a past range. The answer is the runs, which wait; with
    `dry_run` the due times that would run, and what the log has of each.
    """
    if sent.dry_run:
        due, chosen = await services.registration.preview_backfill(
            task_id, sent.start, sent.end, which=sent.which
        )
        if sent.order == "newest_first":
            chosen.reverse()
        items = [{"due_at": stamp(one.due_at), "exists": one.exists} for one in chosen]
        return respond({"task_id": task_id, "due": due, "count": len(items), "items": items})
    runs = await services.registration.backfill(
        task_id,
        sent.start,
        sent.end,
        by=caller.name,
        key=key,
        which=sent.which,
        order=sent.order,
        at_once=sent.at_once,
        reason=sent.reason,
    )
    return respond({"items": [run_item(run) for run in runs], "next_cursor": None}, 202)


@router.get("/explain", response_model=Explanation)
async def explain_task(services: Given, task_id: TaskId) -> Response:
    """Why a task has not run, or when it will."""
    return respond(await explain(services, task_id, _now()))


@router.get("/requests", response_model=RequestList)
async def list_requests(
    services: Given, task_id: TaskId, query: Annotated[Paging, Query()]
) -> Response:
    """What was asked of a task besides changing it, the newest first: also of a deleted one."""
    async with connection(services.pool) as conn:
        await stored.get_task(conn, task_id)
        page = await lists.list_requests(conn, task_id, cursor=query.cursor, limit=query.limit)
    return respond(
        {"items": [_request_item(one) for one in page.items], "next_cursor": page.next_cursor}
    )


def _request_item(request: Request) -> dict[str, Any]:
    hidden = ("orders", "run_id")
    options = {
        name: value
        for name, value in request.body.items()
        if name not in hidden and value is not None
    }
    ids = request.run_ids
    return {
        "id": request.id,
        "kind": request.kind,
        "at": stamp(request.created_at),
        "by": request.created_by,
        "reason": request.reason,
        "taken_at": stamp(request.sent_at),
        "runs": len(ids),
        "run_id": None if request.kind == "backfill" else ids[0],
        "options": options,
    }


def _now() -> datetime:
    return datetime.now(UTC)
