"""The upkeep of the installation, as activities."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from temporalio import activity

from onthedot import metrics


class Keeper(Protocol):
    """What the worker gives these activities: see ``onthedot.upkeep``."""

    async def reconcile(self, alive: Callable[[], None]) -> int: ...
    async def compare(self, alive: Callable[[], None]) -> int: ...
    async def mind_months(self) -> None: ...


class Upkeep:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    @activity.defn(name="reconcile")
    async def reconcile(self) -> int:
        """How many changes and requests the engine has taken now."""
        with _counted("reconcile"):
            return _sent("reconcile", await self._keeper.reconcile(activity.heartbeat))

    @activity.defn(name="compare")
    async def compare(self) -> int:
        """How many tasks without a workflow, and deleted ones with one, were sent again."""
        with _counted("compare"):
            return _sent("compare", await self._keeper.compare(activity.heartbeat))

    @activity.defn(name="mind-months")
    async def mind_months(self) -> None:
        with _counted("mind-months"):
            await self._keeper.mind_months()


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
