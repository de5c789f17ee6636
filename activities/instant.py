"""Waiting for the instant at which an attempt starts, thousands at once in one process."""

import asyncio
import contextlib
import math
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.action import now
from activities.watch import tell_handed_back

#: A waiting attempt heartbeats this long before its instant, each at its own time in this range so
#: that a herd does not do so together, and every ``_BETWEEN`` before that.
_LAST_HEARTBEAT = (1.0, 2.5)
_BETWEEN = 4.5  # under the heartbeat timeout by 2 s, for one that is held up in a herd
_SLACK = 0.005  # a timer may be early by this much
#: Timers know nothing of a wall clock that is set, or of a machine that was suspended.
_CLOCK_LOOKED_AT_EVERY, _CLOCK_WAS_SET = 0.5, 0.1  # seconds


class WaitingRoom:
    """Where attempts wait; it empties at once when the worker shuts down."""

    def __init__(self) -> None:
        self._pauses: set[asyncio.Future[None]] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._closed = False

    async def wait_until(
        self, instant: datetime, *, heartbeat: Callable[[], None] | None = activity.heartbeat
    ) -> None:
        """Return at ``instant`` (aware; by the wall clock), at once when it is past.

        With ``heartbeat`` it hears in answer to it that it was cancelled. Raise ApplicationError
        ``HandedBack`` when the worker shuts down before it.
        """
        if not self._watchers:
            watched = (self._watch_for_shutdown(), self._watch_clock())
            self._watchers = [asyncio.create_task(one) for one in watched]
        self._refuse_if_closed()
        last = _last_heartbeat()
        while (left := (instant - now()).total_seconds()) > 0:
            heartbeat_at = _next_heartbeat(left, last) if heartbeat else 0.0
            await self._pause(left - heartbeat_at)
            self._refuse_if_closed()
            if heartbeat and heartbeat_at:
                heartbeat()

    async def close(self) -> None:
        """Let go of the worker's shutdown and of the clock."""
        for watcher in self._watchers:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)

    def _refuse_if_closed(self) -> None:
        if self._closed or activity.is_worker_shutdown():
            raise handed_back("the worker shuts down while the run waits for its instant")

    async def _watch_for_shutdown(self) -> None:
        await activity.wait_for_worker_shutdown()
        self._closed = True
        self._end_pauses()

    async def _watch_clock(self) -> None:
        """Have all look at the clock again once it was set."""
        loop = asyncio.get_running_loop()
        ahead = now().timestamp() - loop.time()
        while True:
            await asyncio.sleep(_CLOCK_LOOKED_AT_EVERY)
            before, ahead = ahead, now().timestamp() - loop.time()
            if abs(ahead - before) > _CLOCK_WAS_SET:
                self._end_pauses()

    def _end_pauses(self) -> None:
        for pause in self._pauses:
            _end(pause)


def handed_back(why: str, claim: str | None = None) -> ApplicationError:
    """What makes the engine send the attempt to another worker at once, with a claim of its run."""
    tell_handed_back(claim)
    return ApplicationError(
        why,
        type="HandedBack",
        next_retry_delay=timedelta(milliseconds=10),
        category=ApplicationErrorCategory.BENIGN,
    )


def _last_heartbeat() -> float:
    """How long before its instant this attempt heartbeats for the last time."""
    soonest, earliest = _LAST_HEARTBEAT
    share = zlib.crc32(activity.info().task_token) / 2**32
    return soonest + (earliest - soonest) * share


def _next_heartbeat(left: float, last: float) -> float:
    """How long before the instant the next heartbeat is due; 0 when none is."""
    if left <= last + _SLACK:
        return 0.0
    return last + _BETWEEN * (math.ceil((left - last - _SLACK) / _BETWEEN) - 1)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
