"""What tasks and limits say to each other, carried by signals.

A limit is a workflow of its own, started by the first run that asks it for a place. Signals are
sent by local activities: one event for many of them, and a limit that has ended is started again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from activities.ended import arrives, goes_on
from onthedot.engine import TASK_QUEUE, TASK_TIMEOUT, limit_workflow_id, workflow_id

#: The names of workflows and signals, for those who send to them.
LIMIT_WORKFLOW, ASK, GIVE_BACK, TELL = "Limit", "ask", "give_back", "hear_of_place"

_RPC_TIMEOUT = timedelta(seconds=3)


@dataclass(frozen=True, kw_only=True)
class AskForPlace:
    """A run wants a place under a limit."""

    limit: str
    run_id: str
    task_id: str
    workflow_run_id: str  # of the workflow that follows the run
    ready_at: datetime  # from when on it could run, aware UTC: the line is in this order
    size: int  # it takes a place while fewer than this many are held
    workflow_id: str | None = None  # that of its task where there is none


@dataclass(frozen=True, kw_only=True)
class TellOfPlace:
    """What a limit answers, to one who has asked."""

    ask: AskForPlace
    granted: bool
    held: int  # places, its own among them where it was granted one
    before: int  # runs that wait and come before it


@dataclass(frozen=True, kw_only=True)
class GiveBackPlaces:
    """A run has ended, or does not wait any more."""

    run_id: str
    limits: list[str]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A run that has a place."""

    ask: AskForPlace
    since: datetime  # aware UTC


@dataclass(kw_only=True)
class KeepLimit:
    """A LimitWorkflow's input and whole state."""

    name: str
    held: list[Holder] = field(default_factory=list)
    line: list[AskForPlace] = field(default_factory=list)  # who waits, the first one first


class Limits:
    """Sends what workflows have to say to each other about limits."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="ask-for-place")
    async def ask(self, asked: AskForPlace) -> None:
        """Ask, and start the limit's workflow where none is open; asking again changes nothing."""
        await self._client.start_workflow(
            LIMIT_WORKFLOW,
            KeepLimit(name=asked.limit),
            id=limit_workflow_id(asked.limit),
            task_queue=TASK_QUEUE,
            task_timeout=TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=ASK,
            start_signal_args=[asked],
            static_summary=f"The limit {asked.limit}",
            rpc_timeout=_RPC_TIMEOUT,
        )

    @activity.defn(name="give-place-back")
    async def give_back(self, given: GiveBackPlaces) -> None:
        """Give the places of a run back, or leave the lines that it waits in."""

        async def one(limit: str) -> None:
            handle = self._client.get_workflow_handle(limit_workflow_id(limit))
            # A limit that somebody has terminated holds nothing any more.
            await arrives(handle.signal(GIVE_BACK, given.run_id, rpc_timeout=_RPC_TIMEOUT))

        await asyncio.gather(*map(one, given.limits))

    @activity.defn(name="tell-of-places")
    async def tell(self, news: list[TellOfPlace]) -> list[str]:
        """Tell runs what became of their asking; those that nobody follows any more."""

        async def is_heard(one: TellOfPlace) -> bool:
            return await arrives(
                self._followed(one.ask).signal(TELL, one, rpc_timeout=_RPC_TIMEOUT)
            )

        return await _those_without(news, is_heard)

    @activity.defn(name="find-gone-holders")
    async def find_gone(self, holders: list[Holder]) -> list[str]:
        """Runs of these whose task's workflow has ended: nobody will give their places back."""

        async def is_followed(one: Holder) -> bool:
            return await goes_on(self._followed(one.ask))

        return await _those_without(holders, is_followed)

    def _followed(self, ask: AskForPlace) -> WorkflowHandle[object, object]:
        # By its exact run: a workflow that was started anew knows nothing of this run.
        return self._client.get_workflow_handle(
            ask.workflow_id or workflow_id(ask.task_id), run_id=ask.workflow_run_id
        )


_Asking = TypeVar("_Asking", TellOfPlace, Holder)


async def _those_without(
    found: Sequence[_Asking], is_so: Callable[[_Asking], Awaitable[bool]]
) -> list[str]:
    answers = await asyncio.gather(*map(is_so, found))
    return [one.ask.run_id for one, answer in zip(found, answers, strict=True) if not answer]
