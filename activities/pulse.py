"""How the engine hears that an attempt is alive, and so notices when its worker is lost.

Waiting for its instant an attempt need not say anything: its heartbeat timeout reaches beyond the
instant. Thousands that wait cost nothing that way. One whose action goes on for a while has its
timeout shortened, and heartbeats.
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
_FIRST, _BETWEEN = 2.0, 2.5  # seconds, while an action goes on


def heartbeat_timeout(wait: timedelta) -> timedelta:
    """What an attempt is sent off with that waits for so long at its worker."""
    return max(HEARTBEAT_TIMEOUT, wait + _AFTER_INSTANT)


class Pulse:
    """Heartbeats of an attempt while its action goes on; a timer, and a task once in its life."""

    def __init__(self, client: Client) -> None:
        self._client, self._info = client, activity.info()
        self._loop = asyncio.get_running_loop()
        timeout = self._info.heartbeat_timeout
        self._is_short = timeout is None or timeout <= HEARTBEAT_TIMEOUT
        self._shortening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Heartbeat from a moment after now on: most actions have ended by then."""
        self._timer = self._loop.call_later(_FIRST, self._beat)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._shortening is not None:
            self._shortening.cancel()

    async def shorten(self) -> None:
        """Have the engine notice a loss within the usual timeout of each heartbeat from now on.

        Where that fails it is noticed later; it is tried again with the next heartbeat, unless
        this engine cannot do it.
        """
        if self._is_short:
            return
        service, info = self._client.workflow_service, self._info
        options = ActivityOptions(heartbeat_timeout=_as_duration(HEARTBEAT_TIMEOUT))
        try:
            # First, as the shorter timeout counts from the last heartbeat that was heard.
            await service.record_activity_task_heartbeat(
                RecordActivityTaskHeartbeatRequest(
                    namespace=self._client.namespace,
                    identity=self._client.identity,
                    task_token=info.task_token,
                )
            )
            await service.update_activity_options(
                UpdateActivityOptionsRequest(
                    namespace=self._client.namespace,
                    identity=self._client.identity,
                    execution=WorkflowExecution(
                        workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""
                    ),
                    id=info.activity_id,
                    activity_options=options,
                    update_mask=FieldMask(paths=["heartbeat_timeout"]),
                )
            )
        except RPCError as error:
            log.warning("a loss of this worker would be noticed late: %s", error.message)
            self._is_short = error.status in _IN_VAIN
        else:
            self._is_short = True

    def _beat(self) -> None:
        activity.heartbeat()
        if not self._is_short and (self._shortening is None or self._shortening.done()):
            self._shortening = self._loop.create_task(self.shorten())
        self._timer = self._loop.call_later(_BETWEEN, self._beat)


#: An attempt that the engine knows no longer, and an engine that cannot change a timeout.
_IN_VAIN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)


def _as_duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
