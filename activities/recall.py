"""What becomes of a waiting run that is asked for back, and whose worker does not answer."""

from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client

from activities.action import now
from activities.pulse import AFTER_INSTANT, HEARTBEAT_TIMEOUT, set_heartbeat_timeout

#: How long the worker of a run may still be silent before the engine takes it for lost.
_LAST_CHANCE = timedelta(seconds=1)
_RPC_TIMEOUT = timedelta(seconds=2)
_CANCEL_REQUESTED = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED


class Recalls:
    """Sees to the runs of the workflow that calls it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="give-silent-runs-up")
    async def give_silent_up(self) -> None:
        """Have the engine soon take the workers for lost that do not heed a cancellation.

        A waiting run says nothing, so that the loss of its worker would be noticed only after its
        instant. Runs that heartbeat, and those whose instant has come, are not touched. Raise
        RPCError when the engine does not answer.
        """
        info = activity.info()
        handle = self._client.get_workflow_handle(
            info.workflow_id or "", run_id=info.workflow_run_id
        )
        found = (await handle.describe(rpc_timeout=_RPC_TIMEOUT)).raw_description
        execution = found.workflow_execution_info.execution
        for attempt in found.pending_activities:
            silent_for = now() - _heard_at(attempt)
            if attempt.state == _CANCEL_REQUESTED and _waits(attempt, silent_for):
                timeout = silent_for + _LAST_CHANCE
                await set_heartbeat_timeout(self._client, execution, attempt.activity_id, timeout)


def _heard_at(attempt: PendingActivityInfo) -> datetime:
    """When its worker took it, or said since then that it is alive."""
    heard = attempt.last_started_time, attempt.last_heartbeat_time
    return max(one.ToDatetime(tzinfo=UTC) for one in heard)


def _waits(attempt: PendingActivityInfo, silent_for: timedelta) -> bool:
    """Whether it is silent, with its instant ahead: what it was sent off with reaches beyond that."""
    timeout = attempt.activity_options.heartbeat_timeout.ToTimedelta()
    return timeout > HEARTBEAT_TIMEOUT and timeout - silent_for > AFTER_INSTANT + _LAST_CHANCE
