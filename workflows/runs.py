"""The runs of a task: started, queued or left out as its overlap policy says."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow

from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import OverlapPolicy, TaskState
from workflows.log import TaskLog
from workflows.messages import KeepTask, RunOrder
from workflows.run import RunInFlight

MOST_QUEUED = 100
OVERLAP = "overlap: the run before it went on"
#: Events after which queued runs wait for a new history: they could keep this one busy for ever.
FULL_HISTORY = 10_000


class Runs:
    """Runs in flight, and those that wait for their turn.

    Backfills have a lane of their own: they run one after the other, beside all others.
    """

    def __init__(
        self,
        state: KeepTask,
        log: TaskLog,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        on_recalled: Callable[[RunOrder], None],
        on_failed: Callable[[], None],
    ) -> None:
        """``spawn`` lets a run be followed, ``on_recalled`` gets one that came back in time, and
        ``on_failed`` hears of a failure.
        """
        self._state, self._log, self._spawn = state, log, spawn
        self._on_recalled, self._on_failed = on_recalled, on_failed
        self._in_flight: dict[str, RunInFlight] = {}
        self._came_too_late: set[str] = set()  # runs that were recalled and started all the same

    @property
    def any_in_flight(self) -> bool:
        return bool(self._in_flight)

    @property
    def any_recalled(self) -> bool:
        return any(run.recalled for run in self._in_flight.values())

    @property
    def any_at_all(self) -> bool:
        return bool(self._in_flight or self._state.queue or self._state.backfill)

    @property
    def are_busy(self) -> bool:
        """Whether a run goes on that the next one would overlap with."""
        return bool(self._state.queue) or any(
            run.takes_place and not _is_backfill(run.order) for run in self._in_flight.values()
        )

    @property
    def has_room(self) -> bool:
        """Whether another run of an outage may wait in the queue."""
        return len(self._state.queue) < MOST_QUEUED

    @property
    def late_by(self) -> timedelta:
        """By how much the latest to start of those that go on was late."""
        lanes = (run for run in self._in_flight.values() if not _is_backfill(run.order))
        return max((run.late_by for run in lanes), default=timedelta())

    def come_due(self, order: RunOrder) -> None:
        """Start a run, or do what the overlap policy says."""
        if order.run_id in self._in_flight or order.run_id in self._came_too_late:
            return
        policy = self._state.spec.policies.overlap
        if policy is OverlapPolicy.ALLOW or not self.are_busy:
            self._start(order)
            return
        self._show_those_before()
        if order.trigger is Trigger.CATCH_UP:  # those of an outage run one after the other
            self._state.queue.append(order)
            self._log.show_waiting(order)
        elif policy is OverlapPolicy.CANCEL_RUNNING:
            self._take_the_place_of_others(order)
        elif len(self._state.queue) < _ROOM.get(policy, 0):
            self._state.queue.append(order)
            self._log.show_waiting(order)
        else:
            self._log.leave_out(order, RunStatus.SKIPPED, OVERLAP)

    def start_on_request(self, order: RunOrder) -> None:
        if self._state.state is TaskState.DELETED:
            self._leave_out_idle(order)
        elif _is_backfill(order):
            self._state.backfill.append(order)
        else:
            self.recall_waiting()  # it is not busy; but it may be when their instant comes
            self.come_due(order)

    def start_queued(self) -> None:
        """Start the first of each queue whose lane is free."""
        if workflow.info().get_current_history_length() > FULL_HISTORY:
            return
        lanes = {_is_backfill(run.order) for run in self._in_flight.values() if run.takes_place}
        if self._state.queue and False not in lanes:
            self._start(self._state.queue.pop(0))
        if self._state.backfill and True not in lanes:
            self._start(self._state.backfill.pop(0))

    def recall_waiting(self) -> None:
        """Ask for the runs back whose instant is still ahead."""
        for run in self._in_flight.values():
            run.recall()

    def cancel(self, run_id: str, reason: str) -> None:
        """Cancel a run, wherever it is."""
        if run := self._in_flight.get(run_id):
            run.cancel(reason)
        for queue in (self._state.queue, self._state.backfill):
            for order in [one for one in queue if one.run_id == run_id]:
                queue.remove(order)
                self._log.leave_out(order, RunStatus.CANCELLED, reason)

    def let_go(self) -> None:
        """What waits for its turn does not run once its task is paused or deleted."""
        deleted = self._state.state is TaskState.DELETED
        for queue in (self._state.queue, self._state.backfill):
            for order in [one for one in queue if deleted or one.trigger in _BY_ITSELF]:
                queue.remove(order)
                self._leave_out_idle(order)

    def _show_those_before(self) -> None:
        """A run that others wait for may itself wait for a worker: then nobody has shown it yet."""
        for run in self._in_flight.values():
            if not run.waits and not run.shown:
                run.shown = True
                self._log.show_waiting(run.order)

    def _take_the_place_of_others(self, order: RunOrder) -> None:
        for queued in self._state.queue:
            reason = "overlap: a later one took its place"
            self._log.leave_out(queued, RunStatus.SKIPPED, reason)
        self._state.queue[:] = [order]
        for run in self._in_flight.values():
            if not _is_backfill(run.order):
                run.cancel("overlap: the next one was due")

    def _start(self, order: RunOrder) -> None:
        state = self._state
        run = RunInFlight(order, state.task_id, state.version, state.spec, self._log.add)
        self._in_flight[order.run_id] = run
        self._spawn(self._follow(run))

    async def _follow(self, run: RunInFlight) -> None:
        row = await run.to_end()
        del self._in_flight[run.order.run_id]
        if run.recalled:
            self._settle(run.order, row)
        else:
            self._log.add(row)
        if row.status.is_failure:
            self._on_failed()
        self.start_queued()

    def _settle(self, order: RunOrder, row: Run) -> None:
        """A run that was recalled has ended; its row tells whether the recall came in time."""
        if row.started_at is not None:
            self._came_too_late.add(row.run_id)
            self._log.add(row)
        elif self._state.state is TaskState.DELETED:
            self._leave_out_idle(order)
        else:
            self._on_recalled(order)

    def _leave_out_idle(self, order: RunOrder) -> None:
        if self._state.state is TaskState.DELETED:
            self._log.leave_out(order, RunStatus.CANCELLED, "the task was deleted")
        else:
            self._log.leave_out(order, RunStatus.SKIPPED, "paused")


_BY_ITSELF = (Trigger.SCHEDULE, Trigger.CATCH_UP)
#: How many runs may wait for the one that goes on.
_ROOM = {OverlapPolicy.QUEUE_ONE: 1, OverlapPolicy.QUEUE_ALL: MOST_QUEUED}


def _is_backfill(order: RunOrder) -> bool:
    return order.trigger is Trigger.BACKFILL
