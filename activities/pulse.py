"""How the engine hears that an attempt is alive, and so notices when its worker is lost.

Waiting for its instant an attempt need not say anything: its heartbeat timeout reaches beyond the
instant. So thousands may wait at no cost. Once its action has gone on for a moment its timeout is
lowered, and it heartbeats.
"""

import asyncio
import logging
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    RecordActivityTaskHeartbeatRequest,
    UpdateActivityOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

log = logging.getLogger(__name__)

#: A worker is given up this long after the last heartbeat, so that another starts the run within
#: 10 s of its due time.
HEARTBEAT_TIMEOUT = timedelta(seconds=6.5)
_AFTER_INSTANT = timedelta(seconds=4)  # of one that was lost while it waited
_LATE = timedelta(seconds=3)  # by how much that may be exceeded: less would cost herds
_FIRST, _BETWEEN = 2.0, 2.5  # seconds, while an action goes on
_RPC_TIMEOUT = timedelta(seconds=2)


def heartbeat_timeout(wait: timedelta) -> timedelta:
    """What an attempt is sent off with that waits for so long at its worker."""
    return max(HEARTBEAT_TIMEOUT, wait + _AFTER_INSTANT)


class Pulse:
    """What keeps one attempt alive for the engine; a timer, and a task once in its life."""

    def __init__(self, client: Client) -> None:
        self._client, self._info = client, activity.info()
        self._loop = asyncio.get_running_loop()
        self._timeout = self._info.heartbeat_timeout or timedelta()
        self._lowering: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Heartbeat from a moment after now on: most actions have ended by then."""
        self._timer = self._loop.call_later(_FIRST, self._beat)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lowering is not None:
            self._lowering.cancel()

    def wait(self, left: timedelta) -> None:
        """Have a loss noticed in time of one that waits here for so long, and says nothing.

        What it was sent off with reaches too far where it came late: its worker may be the second.
        """
        needed = heartbeat_timeout(left)
        if self._timeout - needed > _LATE:
            self.lower(needed)

    def outlasts(self, left: timedelta) -> bool:
        """Whether one that waits here for so long may be silent.

        It may not where a worker that is not told of cancellations had it before.
        """
        return self._timeout > left + timedelta(seconds=_FIRST)

    def lower(self, to: timedelta) -> None:
        """Soon have the engine notice a loss so long after the last heartbeat, or sooner.

        Where that fails it is noticed later; while an action goes on it is tried again.
        """
        if to < self._timeout and (self._lowering is None or self._lowering.done()):
            self._lowering = self._loop.create_task(self._lower(to))

    def _beat(self) -> None:
        activity.heartbeat()
        self.lower(HEARTBEAT_TIMEOUT)
        self._timer = self._loop.call_later(_BETWEEN, self._beat)

    async def _lower(self, to: timedelta) -> None:
        service, info = self._client.workflow_service, self._info
        namespace = self._client.namespace
        heartbeat = RecordActivityTaskHeartbeatRequest(
            namespace=namespace, task_token=info.task_token
        )
        change = UpdateActivityOptionsRequest(
            namespace=namespace,
            execution=WorkflowExecution(
                workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""
            ),
            id=info.activity_id,
            activity_options=ActivityOptions(heartbeat_timeout=_as_duration(to)),
            update_mask=FieldMask(paths=["heartbeat_timeout"]),
        )
        try:
            # The lower timeout, too, counts from the last heartbeat that the engine has heard.
            await service.record_activity_task_heartbeat(heartbeat, timeout=_RPC_TIMEOUT)
            await service.update_activity_options(change, timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status not in _IN_VAIN:
                return
            if error.status is not RPCStatusCode.NOT_FOUND:
                log.warning("a loss of this worker may be noticed late: %s", error.message)
        self._timeout = to


#: An attempt that the engine knows no longer, and an engine that cannot change a timeout.
_IN_VAIN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)


def _as_duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
