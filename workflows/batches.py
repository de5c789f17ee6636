"""How many runs a workflow sends off at once: the engine refuses an answer of over 4 MiB."""

import asyncio
from datetime import timedelta

from temporalio import workflow

from workflows import patches

#: With one workflow task: each may bring 64 KiB of its action, as much of arguments, and an outcome.
MOST_AT_ONCE = 16


class Batches:
    """A turnstile for what is sent off: those that are too many go with the next workflow task."""

    def __init__(self) -> None:
        self._sent, self._length = 0, 0
        self._alarm: asyncio.Task[None] | None = None
        self._set_at = -1  # how long the history was then

    async def pass_through(self) -> None:
        while self._is_full() and workflow.patched(patches.IN_BATCHES):
            if self._set_at != self._length:  # one that ends with this workflow task wakes nobody
                self._set_at = self._length
                self._alarm = asyncio.create_task(
                    workflow.sleep(timedelta(milliseconds=1), summary="the next runs are sent")
                )
            await workflow.wait_condition(lambda: not self._is_full())
        self._sent += 1

    def _is_full(self) -> bool:
        length = workflow.info().get_current_history_length()
        if length != self._length:  # another workflow task
            self._sent, self._length = 0, length
        return self._sent >= MOST_AT_ONCE
