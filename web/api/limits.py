"""Limits that tasks share: who holds them, and who waits."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from onthedot import limits
from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.task import Slug
from web.api.answers import Answer, respond, stamp
from web.api.requests import Paging
from web.services import Given

router = APIRouter(prefix="/limits", tags=["limits"])

LimitName = Annotated[Slug, Path(description="The limit's name.", examples=["crm-api"])]


class RunUnderLimit(Answer):
    run_id: str
    task_id: str
    size: int = Field(description="How many runs its task lets hold the limit at once.")
    since: AwareDatetime = Field(description="It has its place, or could run, from then on.")


class LimitAnswer(Answer):
    name: str
    sizes: list[int] = Field(description="The sizes that tasks give it, each once.")
    tasks: int = Field(description="How many tasks name it.")
    held_by: list[RunUnderLimit]
    waiting: list[RunUnderLimit] = Field(description="In the order in which they come to a place.")


class LimitList(Answer):
    items: list[LimitAnswer]
    next_cursor: str | None


@router.get("", response_model=LimitList)
async def list_limits(services: Given, query: Annotated[Paging, Query()]) -> Response:
    """The limits that tasks name, by name."""
    async with connection(services.pool) as conn:
        page = await lists.list_limits(conn, cursor=query.cursor, limit=query.limit)
    found = await limits.standing(services.engine, page.items)
    return respond({"items": [_answer(one) for one in found], "next_cursor": page.next_cursor})


@router.get("/{name}", response_model=LimitAnswer)
async def read(services: Given, name: LimitName) -> Response:
    """One limit: which runs hold it, and which wait for a place."""
    async with connection(services.pool) as conn:
        use = await lists.get_limit(conn, name)
    (found,) = await limits.standing(services.engine, [use])
    return respond(_answer(found))


def _answer(limit: limits.Limit) -> dict[str, Any]:
    return {
        "name": limit.use.name,
        "sizes": limit.use.sizes,
        "tasks": limit.use.tasks,
        "held_by": [
            {
                "run_id": one.ask.run_id,
                "task_id": one.ask.task_id,
                "size": one.ask.size,
                "since": stamp(one.since),
            }
            for one in limit.held_by
        ],
        "waiting": [
            {
                "run_id": one.run_id,
                "task_id": one.task_id,
                "size": one.size,
                "since": stamp(one.ready_at),
            }
            for one in limit.waiting
        ],
    }
