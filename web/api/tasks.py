"""Tasks: register, list, read, change, control."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from pydantic import Field, JsonValue, StringConstraints, ValidationError
from starlette.responses import Response

from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.database.tasks import get_task
from onthedot.errors import FieldError, InvalidInput, NotFound, VersionMismatch
from onthedot.task import (
    Instant,
    Shape,
    Tag,
    Task,
    TaskRegistration,
    TaskSpec,
    TaskState,
    as_json,
)
from web.api import examples
from web.api.answers import (
    RunAnswer,
    RunList,
    TaskAnswer,
    TaskList,
    respond,
    respond_task,
    run_answer,
    run_item,
    task_item,
)
from web.api.explanation import Explanation, explain
from web.api.merge_patch import merge_spec
from web.api.requests import IdempotencyKey, IfMatch, Paging, TaskId
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import field_errors

router = APIRouter(prefix="/tasks", tags=["tasks"])

_PATCH_TRIES = 5


class TaskQuery(Paging):
    state: list[TaskState] = Field(default=[], description="Without it, all but deleted ones.")
    kind: Literal["once", "cron", "interval"] | None = None
    action: Literal["http", "shell", "python", "workflow"] | None = None
    tag: Tag | None = None
    q: Annotated[
        str | None,
        StringConstraints(max_length=200, pattern=r"^[^\x00]*$"),
        Field(description="A part of the name or the id, in any case."),
    ] = None
    sort: lists.TaskSort = "next_due"


class TriggerRequest(Shape):
    """What a run that is asked for may have of its own."""

    arguments: dict[str, JsonValue] | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None


class BackfillRequest(Shape):
    """The due times from ``start`` to ``end``, both included; at most 1000 of them."""

    start: Instant
    end: Instant


@router.post("", status_code=201, response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def register(
    services: Given,
    caller: Admin,
    sent: Annotated[TaskRegistration, Body(openapi_examples=examples.TASKS)],
    key: IdempotencyKey = None,
) -> Response:
    """Register a task. 202 says that it is kept, and that the engine will have it once it is back."""
    task = await services.registration.register(sent, by=caller.name, key=key)
    return respond_task(task, _now(), status=201)


@router.get("", response_model=TaskList)
async def list_tasks(services: Given, query: Annotated[TaskQuery, Query()]) -> Response:
    """Tasks, by pages."""
    wanted = lists.TaskFilter(
        states=query.state,
        schedule=query.kind,
        action=query.action,
        tag=query.tag,
        search=query.q,
    )
    async with connection(services.pool) as conn:
        page = await lists.list_tasks(
            conn, wanted, sort=query.sort, cursor=query.cursor, limit=query.limit
        )
    return respond(
        {"items": [task_item(task) for task in page.items], "next_cursor": page.next_cursor}
    )


@router.get("/{task_id}", response_model=TaskAnswer)
async def read(services: Given, task_id: TaskId) -> Response:
    """A task."""
    response = respond_task(await _task(services, task_id), _now())
    response.status_code = 200  # whether the engine is in step or not
    return response


@router.put("/{task_id}", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def replace(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[TaskRegistration, Body(openapi_examples=examples.TASKS)],
    version: IfMatch = None,
) -> Response:
    """Change a task: what is left out gets its default."""
    if sent.id not in (None, task_id):
        raise InvalidInput(
            FieldError("id", sent.id, "is another task's", f"Leave it out, or send {task_id}.")
        )
    task = await services.registration.revise(
        task_id, sent.spec(), by=caller.name, if_version=version
    )
    return respond_task(task, _now())


@router.patch("/{task_id}", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def patch(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    patch: Annotated[dict[str, Any], Body(openapi_examples=examples.PATCHES)],
    version: IfMatch = None,
) -> Response:
    """Change parts of a task, by JSON Merge Patch (RFC 7396): null resets a field to its default.
    A schedule or an action of another kind replaces the whole one.
    """
    for _ in range(_PATCH_TRIES):
        task = await _task(services, task_id)
        spec = _patched(task.spec, patch)
        try:
            task = await services.registration.revise(
                task_id, spec, by=caller.name, if_version=version or task.version
            )
            return respond_task(task, _now())
        except VersionMismatch:
            if version is not None:
                raise
    raise VersionMismatch(
        f"the task {task_id} is being changed by others all the time; send it again"
    )


@router.delete("/{task_id}", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def delete(
    services: Given, caller: Admin, task_id: TaskId, version: IfMatch = None
) -> Response:
    """Take a task back. Its runs stay in the log; one that goes on is cancelled."""
    task = await services.registration.delete(task_id, by=caller.name, if_version=version)
    return respond_task(task, _now())


@router.post("/{task_id}/pause", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def pause(
    services: Given, caller: Admin, task_id: TaskId, version: IfMatch = None
) -> Response:
    """Skip the occurrences of a task until it is resumed."""
    task = await services.registration.pause(task_id, by=caller.name, if_version=version)
    return respond_task(task, _now())


@router.post("/{task_id}/resume", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def resume(
    services: Given, caller: Admin, task_id: TaskId, version: IfMatch = None
) -> Response:
    """Let a paused task run again."""
    task = await services.registration.resume(task_id, by=caller.name, if_version=version)
    return respond_task(task, _now())


@router.post("/{task_id}/trigger", status_code=202, response_model=RunAnswer)
async def trigger(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[TriggerRequest, Body(openapi_examples=examples.TRIGGERS)] = TriggerRequest(),  # noqa: B008 - frozen
    key: IdempotencyKey = None,
) -> Response:
    """Run a task now, whatever its schedule. The answer is the run, which waits."""
    run = await services.registration.trigger(
        task_id, by=caller.name, key=key, arguments=sent.arguments, reason=sent.reason
    )
    return respond(run_answer(run), 202, {"Location": f"/api/v1/runs/{run.run_id}"})


@router.post("/{task_id}/backfill", status_code=202, response_model=RunList)
async def backfill(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    sent: Annotated[BackfillRequest, Body(openapi_examples=examples.BACKFILLS)],
    key: IdempotencyKey = None,
) -> Response:
    """Run a task for the due times of a past range. The answer is the runs, which wait."""
    runs = await services.registration.backfill(
        task_id, sent.start, sent.end, by=caller.name, key=key
    )
    return respond({"items": [run_item(run) for run in runs], "next_cursor": None}, 202)


@router.get("/{task_id}/explain", response_model=Explanation)
async def explain_task(services: Given, task_id: TaskId) -> Response:
    """Why a task has not run, or when it will."""
    return respond(await explain(services, task_id, _now()))


async def _task(services: Services, task_id: str) -> Task:
    async with connection(services.pool) as conn:
        task = await get_task(conn, task_id)
    if task.state == TaskState.DELETED:
        raise NotFound(
            f"the task {task_id!r} was deleted at {task.updated_at:%Y-%m-%d %H:%M:%S} UTC; "
            f"its runs are at /api/v1/runs?task={task_id}"
        )
    return task


def _patched(spec: TaskSpec, patch: dict[str, Any]) -> TaskSpec:
    try:
        return TaskSpec.model_validate(merge_spec(as_json(spec), patch))
    except ValidationError as error:
        raise InvalidInput(*field_errors(error.errors())) from None


def _now() -> datetime:
    return datetime.now(UTC)
