"""What a task and the workflows that each make one run of it say to each other.

Local activities start and signal them, as for limits: one event for what is sent, and they are no
children, which a workflow that continues as new would leave behind.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.ended import arrives, goes_on
from activities.messages import RunOrder
from onthedot.engine import TASK_QUEUE, TASK_TIMEOUT, workflow_id
from onthedot.run import Run
from onthedot.task import TaskSpec

#: The names of the workflow and the signals, for those who send to them.
RUN_WORKFLOW, STOP, TELL_OF_RUN = "Run", "stop", "hear_of_run"

_RPC_TIMEOUT = timedelta(seconds=3)
_ASKED_AT_ONCE = 20


@dataclass(frozen=True, kw_only=True)
class MakeRun:
    """A RunWorkflow's input."""

    task_id: str
    version: int
    spec: TaskSpec
    order: RunOrder


@dataclass(frozen=True, kw_only=True)
class BeginRun:
    """Have a run made by a workflow with this id."""

    workflow_id: str
    make: MakeRun


class HowToStop(StrEnum):
    RECALL = "recall"  # unless it begins
    WITHDRAW = "withdraw"  # unless it has all its places
    LET_FINISH = "let_finish"  # once a run that a worker has taken would have ended
    CANCEL = "cancel"  # at once


@dataclass(frozen=True, kw_only=True)
class StopRun:
    """Have the run end that a workflow with this id makes."""

    workflow_id: str
    how: HowToStop
    reason: str


@dataclass(frozen=True, kw_only=True)
class TellOfRun:
    """A row of the run, and how it stands: whether it is on its way back, or has left a line."""

    row: Run
    recalled: bool
    withdrawn: bool
    ended: bool = False


class RunWorkflows:
    """Sends what tasks and the workflows of their runs have to say."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="begin-run")
    async def begin(self, asked: BeginRun) -> None:
        """Start the workflow; asking again changes nothing, also once it has ended."""
        order, spec = asked.make.order, asked.make.spec
        try:
            await self._client.start_workflow(
                RUN_WORKFLOW,
                asked.make,
                id=asked.workflow_id,
                task_queue=TASK_QUEUE,
                task_timeout=TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=f"{order.trigger} run of {spec.name}, "
                f"due {order.due_at:%Y-%m-%d %H:%M:%S}Z",
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return

    @activity.defn(name="stop-run")
    async def stop(self, asked: StopRun) -> None:
        """Ask for it; a workflow that has ended need not be told."""
        handle = self._client.get_workflow_handle(asked.workflow_id)
        await arrives(handle.signal(STOP, asked, rpc_timeout=_RPC_TIMEOUT))

    @activity.defn(name="tell-of-run")
    async def tell(self, news: TellOfRun) -> bool:
        """Tell the task; False when it has no open workflow."""
        handle = self._client.get_workflow_handle(workflow_id(news.row.task_id))
        return await arrives(handle.signal(TELL_OF_RUN, news, rpc_timeout=_RPC_TIMEOUT))

    @activity.defn(name="find-ended-runs")
    async def find_ended(self, workflow_ids: list[str]) -> list[str]:
        """Those that do not go on, as far as the engine answers."""
        places = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def is_open(workflow_id: str) -> bool:
            async with places:
                return await goes_on(self._client.get_workflow_handle(workflow_id))

        answers = await asyncio.gather(*map(is_open, workflow_ids))
        return [one for one, answer in zip(workflow_ids, answers, strict=True) if not answer]
