"""How the engine hears that an attempt is alive, and so notices when its worker is lost.

Waiting for its instant an attempt need not say anything: its heartbeat timeout reaches beyond the
instant. So thousands may wait at no cost. Once its action has gone on for a moment it heartbeats, and
its timeout is set to what fits that.
"""

import asyncio
import logging
import zlib
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    RecordActivityTaskHeartbeatRequest,
    UpdateActivityOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.action import now

log = logging.getLogger(__name__)

#: While an action goes on its worker is given up this long after the last heartbeat.
HEARTBEAT_TIMEOUT = timedelta(seconds=6.5)
AFTER_INSTANT = timedelta(seconds=4)  # of one that was lost on its way, or while it waited
_LATE = timedelta(seconds=3)  # by how much that may be exceeded: less would cost herds
#: While an action goes on it heartbeats for the first time so many seconds after its start, each at
#: its own time in this range so that a herd does not do so together; then every so many seconds.
_FIRST = (1.0, 2.0)
_BETWEEN = 2.5
_SOON = 1.0  # when an engine that did not answer is asked again
_IN_TIME = 2.0  # before the engine would call it lost: for an engine that is slow to hear
_RPC_TIMEOUT = timedelta(seconds=2)


def heartbeat_timeout(wait: timedelta) -> timedelta:
    """What an attempt is sent off with that waits for so long at its worker."""
    return wait + AFTER_INSTANT


class Pulse:
    """What keeps one attempt alive for the engine: a timer, and a task while its timeout is changed."""

    def __init__(self, client: Client) -> None:
        self._client, self._info = client, activity.info()
        self._loop = asyncio.get_running_loop()
        self._timeout = self._info.heartbeat_timeout or timedelta()
        self._heard_at = self._loop.time() - _on_its_way(self._info.started_time)
        self._changing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said: tuple[object, ...] = ()  # in each heartbeat
        self._ended = False

    def begin(self) -> None:
        """Heartbeat from a moment after now on: most actions have ended by then.

        One that starts late may have less time than that until it would be called lost.
        """
        soonest, latest = _FIRST
        share = zlib.crc32(self._info.task_token) / 2**32
        self._beat_in(max(0.0, min(soonest + (latest - soonest) * share, self.may_be_silent_for)))

    @property
    def may_be_silent_for(self) -> float:
        """Seconds, counted from now: longer, and its worker may be called lost."""
        lost_at = self._heard_at + (self._timeout or HEARTBEAT_TIMEOUT).total_seconds()
        return lost_at - _IN_TIME - self._loop.time()

    def say(self, *details: object) -> None:
        """Have each heartbeat from now on say this."""
        self._said = details

    def end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._changing is not None:
            self._changing.cancel()

    def wait(self, left: timedelta) -> None:
        """Have a loss noticed in time of one that waits here for so long, and says nothing.

        What it was sent off with reaches too far where it came late: its worker may be the second.
        One that starts at once heartbeats soon: with these, too, a herd whose worker was lost would
        be late.
        """
        needed = heartbeat_timeout(left)
        if left and self._timeout - needed > _LATE:
            self.lower(needed)

    def outlasts(self, left: timedelta) -> bool:
        """Whether one that waits here for so long may be silent.

        It may not where a worker that is not told of cancellations had it before.
        """
        return self._timeout > left + timedelta(seconds=_IN_TIME)

    def heartbeat(self) -> None:
        """Say that it is alive; in answer it hears that it was cancelled."""
        activity.heartbeat(*self._said)
        self._heard_at = self._loop.time()

    def lower(self, to: timedelta) -> None:
        """Soon have the engine notice a loss so long after the last heartbeat, or sooner.

        Where that fails it is noticed later; while an action goes on it is tried again.
        """
        if to < self._timeout:
            self._change(to)

    def _change(self, to: timedelta) -> None:
        if self._changing is None or self._changing.done():
            self._changing = self._loop.create_task(self._set_timeout(to))

    def _beat(self) -> None:
        if self._timeout not in (timedelta(), HEARTBEAT_TIMEOUT):
            self._change(HEARTBEAT_TIMEOUT)  # which heartbeats
        if self._changing is not None and not self._changing.done():
            self._changing.add_done_callback(self._beat_again)
        else:
            self.heartbeat()
            self._beat_in(_BETWEEN)

    def _beat_again(self, _: asyncio.Task[None]) -> None:
        if self._ended:
            return
        if self._timeout == HEARTBEAT_TIMEOUT:
            self._beat_in(_BETWEEN)
        else:
            self.heartbeat()  # the SDK stops what it has heard nothing of for too long
            self._beat_in(_SOON)

    def _beat_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._beat)

    async def _set_timeout(self, to: timedelta) -> None:
        service, info = self._client.workflow_service, self._info
        said = await self._client.data_converter.encode(self._said) if self._said else []
        heartbeat = RecordActivityTaskHeartbeatRequest(
            namespace=self._client.namespace,
            task_token=info.task_token,
            details=Payloads(payloads=said) if said else None,
        )
        execution = WorkflowExecution(
            workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""
        )
        try:
            # Another timeout, too, counts from the last heartbeat that the engine has heard.
            await service.record_activity_task_heartbeat(heartbeat, timeout=_RPC_TIMEOUT)
            self._heard_at = self._loop.time()
            await set_heartbeat_timeout(self._client, execution, info.activity_id, to)
        except RPCError as error:
            if error.status not in _IN_VAIN:
                return
            if error.status is not RPCStatusCode.NOT_FOUND:
                log.warning("a loss of this worker may be noticed late: %s", error.message)
        self._timeout = to


def _on_its_way(started_at: datetime) -> float:
    """Seconds since the engine has sent an attempt here, from when it waits for a heartbeat.

    A clock that differs from the engine's does no harm: at worst a heartbeat comes early, or this
    correction is lost.
    """
    return min(max((now() - started_at).total_seconds(), 0), AFTER_INSTANT.total_seconds())


#: An attempt that the engine knows no longer, and an engine that cannot change a timeout.
_IN_VAIN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED)


async def set_heartbeat_timeout(
    client: Client, execution: WorkflowExecution, activity_id: str, to: timedelta
) -> None:
    """Change how long after its last heartbeat an attempt is called lost; raise RPCError."""
    timeout = Duration()
    timeout.FromTimedelta(to)
    change = UpdateActivityOptionsRequest(
        namespace=client.namespace,
        execution=execution,
        id=activity_id,
        activity_options=ActivityOptions(heartbeat_timeout=timeout),
        update_mask=FieldMask(paths=["heartbeat_timeout"]),
    )
    await client.workflow_service.update_activity_options(change, timeout=_RPC_TIMEOUT)
