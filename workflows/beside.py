"""What goes on in a workflow beside its main loop."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Beside:
    """Coroutines of a workflow. Its main loop hears of it when one of them breaks."""

    def __init__(self) -> None:
        self._fault: Exception | None = None

    @property
    def is_broken(self) -> bool:
        return self._fault is not None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._heed)
        return task

    def check(self) -> None:
        """Fail the workflow task, not the workflow: it goes on once the code is mended."""
        if self._fault is not None:
            raise RuntimeError("a part of the workflow broke") from self._fault

    def _heed(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._fault = error


class Minder:
    """Sees to something every so often, as long as there is need."""

    def __init__(
        self,
        spawn: Spawn,
        is_needed: Callable[[], bool],
        see_to_it: Callable[[], Coroutine[Any, Any, None]],
        *,
        every: timedelta,
        summary: str,
    ) -> None:
        """``summary`` says in the history what is waited for."""
        self._spawn, self._is_needed, self._see_to_it = spawn, is_needed, see_to_it
        self._every, self._summary = every, summary
        self._minds = False

    def mind(self) -> None:
        """See to it from now on."""
        if self._is_needed() and not self._minds:
            self._minds = True
            self._spawn(self._go_on())

    async def _go_on(self) -> None:
        while self._is_needed():
            try:
                await workflow.wait_condition(
                    lambda: not self._is_needed(),
                    timeout=self._every,
                    timeout_summary=self._summary,
                )
            except TimeoutError:
                await self._see_to_it()
        self._minds = False
