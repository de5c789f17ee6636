"""Writes down, some at a time, which versions of tasks the engine has taken."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from onthedot.database import tasks
from onthedot.database.pool import Pool, connection
from onthedot.errors import DatabaseUnavailable
from onthedot.task import Task

_GATHER_SECONDS = 0.02


class Marks:
    """Nobody waits for it: a mark that is lost makes upkeep send the same version again."""

    def __init__(self, pool: Pool, apply: Callable[[Task], Awaitable[object]]) -> None:
        self._pool, self._apply = pool, apply
        self._taken: dict[str, int] = {}
        self._writer: asyncio.Task[None] | None = None

    def add(self, task_id: str, version: int) -> None:
        self._taken[task_id] = version
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="engine versions")

    async def close(self) -> None:
        if self._writer:
            await self._writer

    async def _write(self) -> None:
        while self._taken:
            await asyncio.sleep(_GATHER_SECONDS)
            taken, self._taken = sorted(self._taken.items()), {}
            with contextlib.suppress(DatabaseUnavailable):
                async with connection(self._pool) as conn:
                    overtaken = await tasks.mark_taken(conn, taken)
                # A change that came before the start found no workflow that it could be told to.
                for task in overtaken:
                    await self._apply(task)
