"""Tasks: register, list, read, change, delete. ``control`` has what else is done to one."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import Field, ValidationError
from starlette.responses import Response

from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.database.tasks import get_task
from onthedot.errors import FieldError, InvalidInput, NotFound
from onthedot.task import Shape, Task, TaskRegistration, TaskSpec, TaskState, as_json
from web.api import examples
from web.api.answers import TaskAnswer, TaskList, respond, respond_task, task_item
from web.api.merge_patch import merge_spec
from web.api.requests import IdempotencyKey, IfMatch, Paging, Reason, TaskChoice, TaskId
from web.security import Admin
from web.services import Given, Services
from web.shape_errors import field_errors

router = APIRouter(prefix="/tasks", tags=["tasks"])


class TaskQuery(Paging, TaskChoice):
    sort: lists.TaskSort = "next_due"


class DeleteQuery(Shape):
    let_run_finish: Annotated[
        bool, Field(description="A run that goes on comes to its end; else it is cancelled.")
    ] = False
    reason: Reason | None = None


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
    async with connection(services.pool) as conn:
        page = await lists.list_tasks(
            conn, query.wanted(), sort=query.sort, cursor=query.cursor, limit=query.limit
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
    key: IdempotencyKey = None,
) -> Response:
    """Change a task: what is left out gets its default."""
    if sent.id not in (None, task_id):
        raise InvalidInput(
            FieldError("id", sent.id, "is another task's", f"Leave it out, or send {task_id}.")
        )
    task = await services.registration.revise(
        task_id, sent.spec(), by=caller.name, if_version=version, key=key
    )
    return respond_task(task, _now())


@router.patch("/{task_id}", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def patch(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    patch: Annotated[dict[str, Any], Body(openapi_examples=examples.PATCHES)],
    version: IfMatch = None,
    key: IdempotencyKey = None,
) -> Response:
    """Change parts of a task, by JSON Merge Patch (RFC 7396): null resets a field to its default.
    A schedule or an action of another kind replaces the whole one.
    """
    task = await services.registration.amend(
        task_id,
        lambda spec: _patched(spec, patch),
        patch,
        by=caller.name,
        if_version=version,
        key=key,
    )
    return respond_task(task, _now())


@router.delete("/{task_id}", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def delete(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    query: Annotated[DeleteQuery, Query()],
    version: IfMatch = None,
    key: IdempotencyKey = None,
) -> Response:
    """Take a task back. Its runs and versions stay; a run that goes on is cancelled, or ends."""
    task = await services.registration.delete(
        task_id,
        by=caller.name,
        if_version=version,
        key=key,
        reason=query.reason,
        let_finish=query.let_run_finish,
    )
    return respond_task(task, _now())


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
