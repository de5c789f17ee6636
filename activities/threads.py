"""Threads for functions that may never come back.

In a ThreadPoolExecutor each of those would take a thread away from all others for ever, and keep
the process from ending. Here a call that is given up is replaced by a new thread.
"""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """Daemon threads that are used again; it is used from one event loop."""

    def __init__(self, most_idle: int) -> None:
        """Of the threads that have nothing to do ``most_idle`` are kept."""
        self._most_idle = most_idle
        self._idle = 0
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def call(self, function: Callable[[], Any]) -> "Call":
        """Call ``function`` in a thread at once, with the context variables of the caller."""
        call = Call(function, self._take_back)
        if self._idle:
            self._idle -= 1
        else:
            threading.Thread(target=self._work, name="handler", daemon=True).start()
        self._jobs.put(call.run)
        return call

    def close(self) -> None:
        """End the threads that have nothing to do."""
        for _ in range(self._idle):
            self._jobs.put(None)
        self._idle = 0

    def _take_back(self) -> None:
        if self._idle < self._most_idle:
            self._idle += 1
        else:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class Call:
    """A call that goes on in a thread."""

    def __init__(self, function: Callable[[], Any], when_it_ends: Callable[[], None]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        # (returned, raised); no exception is set: a future refuses StopIteration
        self._done: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        self.when_it_ends(when_it_ends)

    async def result(self) -> Any:
        """What the function returns; raise what it raises. Being cancelled does not stop it."""
        returned, raised = await asyncio.shield(self._done)
        if raised is not None:
            raise raised
        return returned

    async def ends_within(self, seconds: float) -> bool:
        """Whether the function ends in this time."""
        done, _ = await asyncio.wait({self._done}, timeout=seconds)
        return bool(done)

    def when_it_ends(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` on the loop once the function has ended."""
        self._done.add_done_callback(lambda _: tell())

    def run(self) -> None:
        """Call the function; in the thread."""
        answer: tuple[Any, BaseException | None]
        try:
            answer = self._context.run(self._function), None
        except BaseException as error:
            answer = None, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._done.set_result, answer)
