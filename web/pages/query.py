"""What a page's address may carry: choices, instants, cursors."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Depends, Request

from onthedot.database.lists import TaskFilter
from onthedot.errors import FieldError, InvalidInput, NotFound
from onthedot.task import TaskState
from web.form_text import read_local
from web.forms import ACTION_KINDS

_Choice = TypeVar("_Choice", bound=str)


def choice(name: str, value: str, allowed: Iterable[_Choice]) -> _Choice | None:
    """The one of ``allowed`` that reads ``value``, None where it is empty; raise InvalidInput."""
    known = {str(one): one for one in allowed}
    if value and value not in known:
        raise InvalidInput(
            FieldError(name, value, "is not one of the choices", f"Give one of {', '.join(known)}.")
        )
    return known.get(value)


def plain(text: str) -> str | None:
    """A text to search for, or None; a NUL, which Postgres has no place for, is left out."""
    return text.replace("\x00", "").strip() or None


def task_filter(filters: Mapping[str, str]) -> TaskFilter:
    """The tasks that a page's filters choose; raise InvalidInput for a state or kind that is none."""
    state = choice("state", filters["state"], TaskState)
    return TaskFilter(
        states=[state] if state else [],
        action=choice("action", filters["action"], ACTION_KINDS),
        tag=plain(filters["tag"]),
        search=plain(filters["search"]),
    )


def instant(text: str, zone: ZoneInfo) -> datetime | None:
    """The instant that a local time in ``zone`` stands for; raise ValueError."""
    return read_local(text, zone) if text.strip() else None


def pages(request: Request, next_cursor: str | None) -> dict[str, Any]:
    """The links of a pager: to the next page, where there is one, and to the first."""
    query = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("cursor", "done") and value
    ]
    path = request.url.path
    first = f"{path}?{urlencode(query)}" if query else path
    older = f"{path}?{urlencode([*query, ('cursor', next_cursor)])}" if next_cursor else None
    return {"older": older, "first_page_link": first}


async def _key(request: Request) -> str:
    """The id in the path; raise NotFound for one that nothing can have."""
    value = str(next(iter(request.path_params.values())))
    if "\x00" in value:
        raise NotFound
    return value


#: The id of a task or a run in a page's path.
Key = Annotated[str, Depends(_key)]
