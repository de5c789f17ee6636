"""Workflows of other applications: started, and followed to their end."""

import asyncio
import contextlib
import logging
from typing import Any

from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.exceptions import TimeoutError as WorkflowTimeoutError
from temporalio.service import RPCError, RPCStatusCode

from activities.action import SUCCEEDED, Ended, Running, Stop, failed
from activities.messages import ExecuteAttempt
from onthedot.task import WorkflowAction

log = logging.getLogger(__name__)

_GRACE = 8.0  # seconds that a workflow which is cancelled gets to end
_ATTEMPT = "onthedot_attempt"  # in the memo: the attempt that started a workflow
_OUTCOME = "onthedot_outcome"  # in the memo: how the run ended that this one follows
_PAUSE = 1.0
_PASSING = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.CANCELLED,
    }
)


class Workflows:
    """Performs ``workflow`` actions."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def perform(self, running: Running) -> Ended:
        """Start the workflow ``run/<run id>``, or find it, and wait for its result.

        The result has ``workflow_id``, ``workflow_run_id`` and what it ``returned``. When the
        worker stops the workflow goes on: the next worker finds it.
        """
        action = running.order.action
        assert isinstance(action, WorkflowAction)
        try:
            handle = await self._start(action, running.order)
        except RPCError as error:
            return failed(f"the workflow cannot be started: {error.status.name}: {error}")
        running.result["workflow_id"] = handle.id
        running.result["workflow_run_id"] = handle.first_execution_run_id or handle.run_id
        try:
            returned = await _result(handle)
        except WorkflowFailureError as error:
            return failed(_tell(error.cause))
        except RPCError as error:
            return failed(f"the workflow cannot be followed: {error.status.name}: {error}")
        except asyncio.CancelledError:
            if running.stop is not Stop.WORKER_STOPS:
                running.remark = await _end(handle, running)
            raise
        running.keep_returned(returned)
        return SUCCEEDED

    async def _start(
        self, action: WorkflowAction, order: ExecuteAttempt
    ) -> WorkflowHandle[Any, Any]:
        """The workflow of this attempt: a new one, unless an earlier worker has started it.

        While the engine is away it is asked again.
        """
        may_be_there = activity.info().attempt > 1
        while True:
            try:
                return await self._start_or_find(action, order, may_be_there=may_be_there)
            except RPCError as error:
                if error.status not in _PASSING:
                    raise
            may_be_there = True  # the answer may have been lost
            await asyncio.sleep(_PAUSE)

    async def _start_or_find(
        self, action: WorkflowAction, order: ExecuteAttempt, *, may_be_there: bool
    ) -> WorkflowHandle[Any, Any]:
        workflow_id = f"run/{order.run_id}"
        if order.number > 1 and may_be_there:
            found = await self._find(workflow_id)
            if found is not None and await found.memo_value(_ATTEMPT, 0) == order.number:
                return self._client.get_workflow_handle(workflow_id, run_id=found.run_id)
        try:
            return await self._client.start_workflow(
                action.type,
                args=action.arguments,
                id=workflow_id,
                task_queue=action.queue,
                # one that has succeeded is never started again
                id_reuse_policy=(
                    WorkflowIDReusePolicy.REJECT_DUPLICATE
                    if order.number == 1
                    else WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
                ),
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                memo=_memo(order),
                static_summary=f"A run of the task {order.task_id}",
            )
        except WorkflowAlreadyStartedError as error:
            return self._client.get_workflow_handle(workflow_id, run_id=error.run_id)

    async def _find(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise


def _memo(order: ExecuteAttempt) -> dict[str, Any]:
    """Beside the arguments: one too many would wedge a workflow that does not expect it."""
    return {_ATTEMPT: order.number} | ({_OUTCOME: order.outcome} if order.outcome else {})


async def _result(handle: WorkflowHandle[Any, Any]) -> Any:
    """What the workflow returns. While the engine is away it is asked again."""
    while True:
        try:
            return await handle.result()
        except RPCError as error:
            if error.status not in _PASSING:
                raise
        await asyncio.sleep(_PAUSE)


async def _end(handle: WorkflowHandle[Any, Any], running: Running) -> str | None:
    """Cancel the workflow; one that has timed out and does not heed it is terminated.

    Return what is to be said of it.
    """
    try:
        await handle.cancel()
        with contextlib.suppress(WorkflowFailureError):
            async with asyncio.timeout(_GRACE):
                await _result(handle)
        return None
    except TimeoutError:
        if running.stop is not Stop.TIMED_OUT:
            return "its workflow was asked to cancel itself and goes on"
        with contextlib.suppress(RPCError):
            await handle.terminate(reason="took longer than the timeout of its task")
        return "its workflow did not heed a cancellation and was terminated"
    except RPCError as error:
        about = {"called_workflow_id": handle.id}
        log.warning("cancelling %s: %s", handle.id, error, extra=about)
        return f"its workflow could not be cancelled: {error.status.name}"


def _tell(cause: BaseException) -> str:
    """What went wrong with the workflow, down to what caused it."""
    match cause:
        case CancelledError():
            return "the workflow was cancelled"
        case TerminatedError():
            return f"the workflow was terminated: {cause.message}"
        case WorkflowTimeoutError():
            return "the workflow timed out"
    reasons: list[str] = []
    next_cause: BaseException | None = cause
    while next_cause is not None and len(reasons) < 5:
        reasons.append(str(next_cause))
        next_cause = next_cause.__cause__
    return f"the workflow failed: {': '.join(reasons)}"
