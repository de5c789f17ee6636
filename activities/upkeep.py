"""The upkeep of the installation, as activities."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from temporalio import activity

from onthedot import metrics

BETWEEN_ROUNDS = timedelta(seconds=5)


class Keeper(Protocol):
    """What the worker gives these activities: see ``onthedot.upkeep``."""

    async def reconcile(self, alive: Callable[[], None]) -> int: ...
    async def compare(self, alive: Callable[[], None]) -> int: ...
    async def apply_retention(self) -> None: ...


class UpkeepActivities:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    @activity.defn(name="reconcile")
    async def reconcile(self, seconds: float = 0) -> int:
        """How many changes and requests the engine has taken now.

        In one round, or in rounds for so many seconds, or until this worker is to stop. Raise
        DatabaseUnavailable.
        """
        loop = asyncio.get_running_loop()
        end, sent = loop.time() + seconds, 0
        while True:
            with _counted("reconcile"):
                sent += _sent("reconcile", await self._keeper.reconcile(activity.heartbeat))
            activity.heartbeat()
            if loop.time() >= end or await _is_to_stop(within=BETWEEN_ROUNDS):
                return sent

    @activity.defn(name="compare")
    async def compare(self) -> int:
        """How many tasks were sent again that differ from the open workflows."""
        with _counted("compare"):
            return _sent("compare", await self._keeper.compare(activity.heartbeat))

    @activity.defn(name="mind-months")
    async def apply_retention(self) -> None:
        with _counted("mind-months"):
            await self._keeper.apply_retention()


async def _is_to_stop(within: timedelta) -> bool:
    """Whether this worker is told to stop so long from now, or sooner."""
    try:
        await asyncio.wait_for(activity.wait_for_worker_shutdown(), within.total_seconds())
    except TimeoutError:
        return False
    return True


@contextmanager
def _counted(chore: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        metrics.UPKEEP_ROUNDS.labels(chore, "failed").inc()
        raise
    metrics.UPKEEP_ROUNDS.labels(chore, "done").inc()


def _sent(chore: str, number: int) -> int:
    metrics.UPKEEP_SENT.labels(chore).inc(number)
    return number
