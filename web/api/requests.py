"""What requests share: ids, headers, and what is refused wherever it is sent."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Path, Query, Request
from pydantic import Field, StringConstraints

from onthedot.database.lists import TaskFilter
from onthedot.errors import FieldError, InvalidInput
from onthedot.task import Shape, Slug, Tag, TaskState
from web.shape_errors import MOST_REASON, unstorable

TaskId = Annotated[Slug, Path(description="The task's id.", examples=["nightly-report"])]
RunId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$",
        description="The run's id.",
        examples=["nightly-report.20261201T010000000000Z"],
    ),
]

#: draft-ietf-httpapi-idempotency-key-header
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$",
        description="A text of your own. The same request sent again with it is answered as the "
        "first one was, and nothing happens twice.",
    ),
]


#: Why something was asked for or changed, in the caller's own words.
Reason = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=MOST_REASON, pattern=r"^[^\x00]*$", strip_whitespace=True
    ),
]


class TaskChoice(Shape):
    """Which tasks. What is left out does not choose."""

    state: list[TaskState] = Field(default=[], description="Without it, all but deleted ones.")
    kind: Literal["once", "cron", "interval"] | None = None
    action: Literal["http", "shell", "python", "workflow"] | None = None
    tag: Tag | None = None
    queue: Slug | None = None
    q: Annotated[
        str | None,
        StringConstraints(max_length=200, pattern=r"^[^\x00]*$"),
        Field(description="A part of the name or the id, in any case."),
    ] = None

    def wanted(self) -> TaskFilter:
        return TaskFilter(
            states=self.state,
            schedule=self.kind,
            action=self.action,
            tag=self.tag,
            queue=self.queue,
            search=self.q,
        )


class Paging(Shape):
    """What every list takes."""

    cursor: Annotated[
        str | None, Query(max_length=2000, description="next_cursor of the answer before.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=500, description="The most items to answer.")] = 50


async def if_match(
    header: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The ETag that it had when you read it; another version is refused with 412.",
            examples=['"3"'],
        ),
    ] = None,
) -> int | None:
    """The version that ``If-Match`` names (RFC 9110, 13.1.1), or None for any."""
    if header is None or header.strip() == "*":
        return None
    # A proxy that compresses makes an ETag weak. Ours name versions, whatever was sent of them.
    match = re.fullmatch(r'\s*(?:W/)?"(\d{1,18})"\s*', header)
    if match is None:
        wrong = FieldError(
            "If-Match",
            header,
            "is not one of our ETags",
            'Send the ETag as you got it, such as "3".',
        )
        raise InvalidInput(wrong)
    return int(match[1])


IfMatch = Annotated[int | None, Depends(if_match)]


async def no_unknown_query(request: Request) -> None:
    """Refuse query parameters where a route has none; a route that has some refuses others itself."""
    if not request.query_params or request.scope["route"].dependant.query_params:
        return
    raise InvalidInput(
        *(
            FieldError(
                name, value, "is not known here", "Leave it out: this takes no query parameters."
            )
            for name, value in request.query_params.multi_items()
        )
    )


async def storable_body(request: Request) -> None:
    """Refuse JSON that Postgres could not keep, or that has what only we write into a task."""
    if request.method not in ("POST", "PUT", "PATCH"):
        return
    try:
        sent = await request.json() if await request.body() else None
    except (ValueError, RecursionError):
        return  # a route that reads its body has refused it already
    InvalidInput.raise_if_any([*unstorable(sent), *_written_by_us(sent)])


def _written_by_us(sent: Any) -> Iterator[FieldError]:
    """The days of calendars in an exclusion: they are copied from the calendars themselves."""
    place: Any = sent
    for name in ("schedule", "exclude", "calendar_days"):
        place = place.get(name) if isinstance(place, dict) else None
    if place is not None:
        remedy = "Leave it out: name the calendars instead."
        yield FieldError("schedule.exclude.calendar_days", place, "is not known here", remedy)
