"""Starting the tasks that follow a run, as an activity."""

from dataclasses import dataclass
from typing import Protocol

from temporalio import activity


@dataclass(frozen=True, kw_only=True)
class StartFollowUps:
    """A run has ended, and its row is in the log: these tasks are to be run after it."""

    run_id: str
    task_ids: list[str]


class Starter(Protocol):
    """What the worker gives this activity: see ``onthedot.follow_ups``."""

    async def start(self, after: StartFollowUps) -> None: ...


class FollowUps:
    def __init__(self, starter: Starter) -> None:
        self._starter = starter

    @activity.defn(name="start-follow-ups")
    async def start(self, ended: list[StartFollowUps]) -> None:
        """Ask for the runs; made again, it asks for none twice. Raise DatabaseUnavailable."""
        for one in ended:
            await self._starter.start(one)
