"""Runs of a lost worker come to another all at once. Starting them comes before reporting them.

Each report is work for the engine that the start of another run waits for. The report of a run is
not urgent when its row is in the log, and its task is not due again soon.
"""

import asyncio
import contextlib
from datetime import timedelta

from activities.action import now
from activities.messages import ExecuteAttempt, Outcome

_OVER_AFTER = 1.0  # seconds without another one
_LONGEST = 5.0
#: The task's next run is sent off when this one has ended.
_NEXT_BEGINS = timedelta(seconds=30)


class Rush:
    """What one worker knows of it."""

    def __init__(self) -> None:
        self._came_at = 0.0  # the latest, by the loop's clock

    def one_came(self) -> None:
        self._came_at = asyncio.get_running_loop().time()

    async def over(self, order: ExecuteAttempt, outcome: Outcome, *, within: float) -> None:
        """Return once no more come, after so many seconds, or as soon as the report is urgent.

        Raise nothing, not even when the attempt is cancelled meanwhile: it has ended before.
        """
        longest = min(_LONGEST, within, _not_urgent_for(order, outcome))
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(longest):
                await self._over()

    async def _over(self) -> None:
        loop, seen = asyncio.get_running_loop(), None
        while seen != self._came_at:
            seen = self._came_at
            await asyncio.sleep(seen + _OVER_AFTER - loop.time())


def _not_urgent_for(order: ExecuteAttempt, outcome: Outcome) -> float:
    """Seconds for which the report may wait."""
    after = order.after_success
    if after is None or not outcome.is_recorded:
        return 0.0
    if after.next_due_at is None:
        return _LONGEST
    return (after.next_due_at - now() - _NEXT_BEGINS).total_seconds()
