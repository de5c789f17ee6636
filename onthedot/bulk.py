"""Many tasks at once: registered together, or chosen by a filter and changed one by one.

Who changes tasks by a filter says how many they are, so that a slip of the filter changes none. An
answer that would be long in coming leaves it to upkeep to tell the engine of what is left.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from onthedot.database import lists
from onthedot.database.lists import TaskFilter
from onthedot.database.pool import Pool, connection
from onthedot.errors import CountMismatch, FieldError, InvalidInput, OnthedotError
from onthedot.idempotency import bind, subject_of
from onthedot.registration import Registration
from onthedot.task import TaskState

MOST_TASKS = 10_000
MOST_REGISTERED = 1_000
_AT_ONCE = 16
_SAMPLE = 20
#: Seconds for which the engine is told of each change at once. What is registered may be due soon.
_TOLD_FOR = 15.0
_REGISTERED_FOR = 60.0

T = TypeVar("T")
R = TypeVar("R")
#: What is done with one task: by which service, the task's id, a key that makes it happen once.
Work = Callable[[Registration, str, str | None], Awaitable[R]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How many tasks a filter finds, and the ids of some."""

    count: int
    sample: list[str]


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """What became of one item: an answer, or what it got wrong."""

    item: str
    answer: R | None = None
    error: OnthedotError | None = None


class Bulk:
    """Works through many tasks, some at a time. What one gets wrong does not keep the others."""

    def __init__(self, pool: Pool, registration: Registration) -> None:
        self._pool, self._registration = pool, registration

    async def register(
        self,
        items: Sequence[T],
        name: Callable[[T], str],
        work: Callable[[Registration, T], Awaitable[R]],
    ) -> list[Result[R]]:
        """Do ``work`` with each item; their results, under these names, in the items' order."""
        return await self._each(items, name, work, _REGISTERED_FOR)

    async def select(self, wanted: TaskFilter) -> Selection:
        """What ``wanted`` finds now; raise InvalidInput where it is empty or finds too many."""
        ids = await self._ids(wanted)
        return Selection(count=len(ids), sample=ids[:_SAMPLE])

    async def each(
        self,
        wanted: TaskFilter,
        count: int | None,
        work: Work[R],
        *,
        key: str | None,
        print_: str,
    ) -> list[Result[R]]:
        """Do ``work`` with each task that ``wanted`` finds, if they are ``count``.

        The same request that comes again with its ``key`` is about the same tasks, whatever the
        filter finds by then. Raise CountMismatch, and as ``select``; then nothing was done.
        """
        async with connection(self._pool) as conn:
            before = await subject_of(conn, key, print_)
        ids = json.loads(before) if before else await self._ids(wanted)
        if before is None:
            if count != len(ids):
                named = "no count was named" if count is None else f"{count} were named"
                message = f"the filter finds {len(ids)} tasks, and {named}: nothing was changed"
                raise CountMismatch(message, len(ids), ids[:_SAMPLE])
            async with connection(self._pool) as conn:
                before = await bind(conn, key, print_, json.dumps(ids))
                ids = json.loads(before) if before else ids

        async def one(registration: Registration, task_id: str) -> R:
            own = None if key is None else f"{key} / {task_id}"
            return await work(registration, task_id, own)

        return await self._each(ids, str, one, _TOLD_FOR)

    async def _ids(self, wanted: TaskFilter) -> list[str]:
        if wanted.is_empty:
            remedy = "name at least one of state, kind, action, tag, queue, q"
            raise InvalidInput(FieldError("filter", {}, "is empty", remedy))
        if TaskState.DELETED in wanted.states:
            remedy = "leave it out: deleted tasks do not change any more"
            raise InvalidInput(FieldError("state", "deleted", "cannot be chosen", remedy))
        async with connection(self._pool, within=30) as conn:
            ids = await lists.task_ids(conn, wanted, limit=MOST_TASKS + 1)
        if len(ids) > MOST_TASKS:
            remedy = f"narrow it until it finds at most {MOST_TASKS} tasks"
            raise InvalidInput(
                FieldError("filter", f"over {MOST_TASKS} tasks", "finds too many", remedy)
            )
        return ids

    async def _each(
        self,
        items: Sequence[T],
        name: Callable[[T], str],
        work: Callable[[Registration, T], Awaitable[R]],
        told_for: float,
    ) -> list[Result[R]]:
        places = asyncio.Semaphore(_AT_ONCE)
        storing_only = self._registration.storing_only()
        told_until = time.monotonic() + told_for

        async def one(item: T) -> Result[R]:
            result: Result[R] = Result(name(item))
            async with places:
                in_time = time.monotonic() < told_until
                try:
                    answer = await work(self._registration if in_time else storing_only, item)
                except OnthedotError as error:
                    return replace(result, error=error)
                return replace(result, answer=answer)

        return await asyncio.gather(*map(one, items))
