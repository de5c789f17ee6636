"""Starting the tasks that follow a run, as an activity."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from temporalio import activity

_HEARTBEAT = 1.5  # seconds


@dataclass(frozen=True, kw_only=True)
class StartFollowUps:
    """A run has ended, and its row is in the log: these tasks are to be run after it."""

    run_id: str
    task_ids: list[str]


class Starter(Protocol):
    """What the worker gives this activity: see ``onthedot.follow_ups``."""

    async def start(self, after: StartFollowUps) -> None: ...


class FollowUpActivities:
    def __init__(self, starter: Starter) -> None:
        self._starter = starter

    @activity.defn(name="start-follow-ups")
    async def start(self, ended: list[StartFollowUps]) -> None:
        """Ask for the runs; made again, it asks for none twice. Raise DatabaseUnavailable."""
        beats = asyncio.create_task(_beat())
        try:
            for one in ended:
                await self._starter.start(one)
        finally:
            beats.cancel()


async def _beat() -> None:
    """A worker that is lost is noticed by its heartbeats, and another one starts what follows."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(_HEARTBEAT)
