"""The versions of a task: what each change made of it, what differs, and back to an earlier one."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import AwareDatetime, Field, JsonValue
from starlette.responses import Response

from onthedot.database import lists, tasks
from onthedot.database.pool import connection
from onthedot.task import Shape, TaskSpec, TaskState, as_json
from onthedot.versions import TaskVersion, What, differences
from web.api import examples
from web.api.answers import Answer, TaskAnswer, respond, respond_task, stamp
from web.api.requests import IdempotencyKey, IfMatch, Paging, Reason, TaskId
from web.security import Admin
from web.services import Given

router = APIRouter(prefix="/tasks/{task_id}/versions", tags=["versions"])

Number = Annotated[int, Path(ge=1, le=2**53, description="The version.", examples=[1])]


class VersionItem(Answer):
    """A version of a task: what made it, who, when and why."""

    version: int
    what: What
    at: AwareDatetime
    by: str
    reason: str | None
    state: TaskState


class VersionList(Answer):
    items: list[VersionItem]
    next_cursor: str | None


class DifferenceAnswer(Answer):
    """A value that differs, by its JSON Pointer (RFC 6901); null where there is none."""

    pointer: str
    old: JsonValue
    new: JsonValue


class VersionAnswer(VersionItem):
    """A version by itself: the definition, and what differs from the version ``against``.

    ``against`` is null where there is none before it, or where that is no longer kept.
    """

    definition: TaskSpec
    against: int | None
    changes: list[DifferenceAnswer]


class VersionQuery(Shape):
    against: Annotated[
        int | None, Field(ge=1, le=2**53, description="By default the version before.")
    ] = None


class RestoreRequest(Shape):
    reason: Reason | None = None


@router.get("", response_model=VersionList)
async def list_versions(
    services: Given, task_id: TaskId, query: Annotated[Paging, Query()]
) -> Response:
    """The versions of a task, the newest first: also of a deleted one."""
    async with connection(services.pool) as conn:
        await tasks.get_task(conn, task_id)
        page = await lists.list_versions(conn, task_id, cursor=query.cursor, limit=query.limit)
    return respond({"items": [_item(one) for one in page.items], "next_cursor": page.next_cursor})


@router.get("/{number}", response_model=VersionAnswer)
async def read(
    services: Given, task_id: TaskId, number: Number, query: Annotated[VersionQuery, Query()]
) -> Response:
    """A version with its definition, and what differs from the one before or from `against`."""
    async with connection(services.pool) as conn:
        found = await tasks.get_version(conn, task_id, number)
        if query.against is not None:
            other: TaskVersion | None = await tasks.get_version(conn, task_id, query.against)
        else:
            other = next(iter(await tasks.find_versions(conn, task_id, [number - 1])), None)
    changes = differences(other, found) if other else []
    return respond(
        {
            **_item(found),
            "definition": as_json(found.spec),
            "against": other.version if other else None,
            "changes": [
                {"pointer": one.pointer, "old": one.old, "new": one.new} for one in changes
            ],
        }
    )


@router.post("/{number}/restore", response_model=TaskAnswer, responses={202: {"model": TaskAnswer}})
async def restore(
    services: Given,
    caller: Admin,
    task_id: TaskId,
    number: Number,
    sent: Annotated[RestoreRequest, Body(openapi_examples=examples.RESTORES)] = RestoreRequest(),  # noqa: B008 - frozen
    version: IfMatch = None,
    key: IdempotencyKey = None,
) -> Response:
    """Give a task the definition of an earlier version, as a new version. Whether it is paused stays
    as it is; a deleted task comes back.
    """
    task = await services.registration.restore(
        task_id, number, by=caller.name, if_version=version, key=key, reason=sent.reason
    )
    return respond_task(task, datetime.now(UTC))


def _item(version: TaskVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "what": version.what,
        "at": stamp(version.at),
        "by": version.by,
        "reason": version.reason,
        "state": version.state,
    }
