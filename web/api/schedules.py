"""Schedules before they are registered."""

import asyncio
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from onthedot import schedule as schedules
from onthedot.errors import InvalidInput
from onthedot.task import Instant, Schedule, Shape, Slug
from web.api import examples
from web.api.answers import Answer, respond

router = APIRouter(prefix="/schedules", tags=["schedules"])


class PreviewRequest(Shape):
    schedule: Schedule
    count: Annotated[int, Field(ge=1, le=1000, description="How many due times.")] = 5
    after: Annotated[
        Instant | None, Field(description="The due times after this; by default now.")
    ] = None
    id: Annotated[
        Slug | None, Field(description="The task's id, which decides what H stands for.")
    ] = None


class Warning(Answer):  # noqa: A001 - the word of the API
    code: str
    message: str


class Preview(Answer):
    description: str
    due: list[AwareDatetime]
    warnings: list[Warning]


@router.post("/preview", response_model=Preview)
async def preview(
    sent: Annotated[PreviewRequest, Body(openapi_examples=examples.PREVIEWS)],
) -> Response:
    """A schedule in words, its next due times, and what one may not expect of it."""
    # A thousand due times take a while: other requests go on meanwhile.
    return respond(await asyncio.to_thread(_preview, sent, datetime.now(UTC)))


def _preview(sent: PreviewRequest, now: datetime) -> dict[str, Any]:
    task_id = sent.id or ""
    InvalidInput.raise_if_any(schedules.check(sent.schedule, now, task_id))
    resolved = schedules.resolve(sent.schedule, now)
    due = islice(schedules.due_times(resolved, task_id, sent.after or now), sent.count)
    return {
        "description": schedules.describe(resolved, sent.id),
        "due": [one.astimezone(UTC).isoformat().replace("+00:00", "Z") for one in due],
        "warnings": [
            {"code": one.code, "message": one.message}
            for one in schedules.warnings(resolved, task_id, now)
        ],
    }
