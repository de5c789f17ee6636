"""What the log shows of runs while they go on. Best effort: its errors never hurt a run."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from activities.action import Running
from activities.output import MAX_KEPT
from onthedot.run import Run, RunStatus

log = logging.getLogger(__name__)

_SHOWN_AFTER = 1.0  # seconds
_BETWEEN_CHUNKS = 0.5
_LONGEST_PAUSE = 2.0  # of a run that says nothing
_PATIENCE = 5.0  # for one call of the log; and after an error, until the next


class LiveLog(Protocol):
    """The log, as an executor uses it. Each call raises when the log cannot be reached."""

    async def claim(self, run: Run, claim: str) -> bool:
        """Take ``run`` (status running) for its worker, in a commit of its own.

        True when it is now ours: no attempt has it, or this very ``claim`` was committed before and
        its answer was lost.
        """
        ...

    async def show_running(self, run: Run) -> None:
        """Show ``run`` as running, if it has not ended. The first ``started_at`` stays."""
        ...

    async def record_success(self, run: Run, next_due_at: datetime | None) -> None:
        """Write ``run`` (status succeeded), and when its task is due next; None: it is finished."""
        ...

    async def find_ended(self, run_id: str) -> Run | None:
        """The run where its final row is in the log, without its attempts."""
        ...

    async def add_remark(self, run: Run, remark: str) -> None:
        """Say something more in the row of a run that has ended; said again, it changes nothing."""
        ...

    async def append_output(
        self, run_id: str, due_at: datetime, attempt: int, position: int, chunk: str
    ) -> None:
        """Keep ``chunk``, which starts at byte ``position`` of the output. Repeating it is fine."""
        ...


def running_row(running: Running, worker: str) -> Run:
    """The row of the log for a run of which an attempt goes on."""
    order = running.order
    return Run(
        run_id=order.run_id,
        task_id=order.task_id,
        task_version=order.task_version,
        trigger=order.trigger,
        due_at=order.due_at,
        status=RunStatus.RUNNING,
        started_at=running.started_at,
        attempt_count=order.number,
        worker=worker,
    )


#: Holds a task until it is done.
Keep = Callable[[asyncio.Task[None]], None]


class Showing:
    """Shows one attempt, from a second after its start until ``end`` is called."""

    def __init__(self, live_log: LiveLog, running: Running, worker: str, keep: Keep) -> None:
        """What is shown last outlives the attempt: ``keep`` holds it."""
        self._log = live_log
        self._running = running
        self._worker = worker
        self._keep = keep
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._timer = asyncio.get_running_loop().call_later(_SHOWN_AFTER, self._begin)

    def end(self) -> None:
        """The attempt is over: show what is left of an output that its row will not hold."""
        self._timer.cancel()
        self._ended.set()
        if self._task is None and self._running.output.size > MAX_KEPT:
            self._keep(asyncio.create_task(self._show_output()))

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._show())
        self._keep(self._task)

    async def _show(self) -> None:
        await self._try(self._log.show_running(running_row(self._running, self._worker)))
        await self._show_output()

    async def _show_output(self) -> None:
        refused: tuple[int, str] | None = None
        pause = _BETWEEN_CHUNKS
        while True:
            ended, seen = self._ended.is_set(), self._running.output.size
            refused = await self._hand_over(refused)
            if ended:
                return
            await self._pause(_PATIENCE if refused else pause)
            silent = seen == self._running.output.size  # one that says nothing for hours
            pause = min(pause * 1.5, _LONGEST_PAUSE) if silent else _BETWEEN_CHUNKS

    async def _hand_over(self, chunk: tuple[int, str] | None) -> tuple[int, str] | None:
        """Hand ``chunk`` and all that waits to the log; return what it did not take."""
        order = self._running.order
        while chunk := chunk or self._running.output.take():
            position, text = chunk
            if text and not await self._try(
                self._log.append_output(order.run_id, order.due_at, order.number, position, text)
            ):
                return chunk
            chunk = None
        return None

    async def _try(self, call: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                await call
        except Exception as error:  # the recorder tells of a log that is away; runs go on
            log.debug("the log did not take what %s shows: %s", self._running.order.run_id, error)
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
