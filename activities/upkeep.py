"""The upkeep of the installation, as activities."""

from collections.abc import Callable
from typing import Protocol

from temporalio import activity


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
        return await self._keeper.reconcile(activity.heartbeat)

    @activity.defn(name="compare")
    async def compare(self) -> int:
        """How many tasks had no workflow and were sent again."""
        return await self._keeper.compare(activity.heartbeat)

    @activity.defn(name="mind-months")
    async def mind_months(self) -> None:
        await self._keeper.mind_months()
