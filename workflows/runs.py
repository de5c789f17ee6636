"""The runs of a task: started, queued or left out as its overlap policy says."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from temporalio import workflow

from activities.apart import TellOfRun
from activities.limits import TellOfPlace
from activities.messages import AfterSuccess, RunOrder
from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import OverlapPolicy, TaskSpec, TaskState
from workflows import patches
from workflows.apart import LostRuns, RunApart
from workflows.batches import Batches
from workflows.beside import Spawn
from workflows.follow_ups import PendingFollowUps
from workflows.history import is_full, is_long
from workflows.in_flight import RunInFlight
from workflows.log import TaskLog
from workflows.messages import KeepTask
from workflows.places import Places, give_back
from workflows.run import RunHere
from workflows.silent import SilentRuns
from workflows.turns import give_turn_back, had_its_turn, take_turn
from workflows.waiting_orders import FULL, MOST_WAITING, size_of

OVERLAP = "overlap: the run before it went on"
DELETED = "the task was deleted"


class Runs:
    """Runs in flight, and those that wait for their turn.

    Backfills have a lane of their own: they run in their order, beside all others.
    """

    def __init__(
        self,
        state: KeepTask,
        log: TaskLog,
        *,
        follow_ups: PendingFollowUps,
        spawn: Spawn,
        after_success: Callable[[], AfterSuccess | None],
        on_recalled: Callable[[RunOrder], None],
        on_failed: Callable[[], None],
    ) -> None:
        """``spawn`` lets a run be followed, ``after_success`` says how the task stands then where
        that is known, ``on_recalled`` gets one that came back in time, and ``on_failed`` hears of a
        failure.
        """
        self._state, self._log, self._spawn = state, log, spawn
        self._follow_ups = follow_ups
        self._after_success = after_success
        self._on_recalled, self._on_failed = on_recalled, on_failed
        self._carried = [RunApart(one, state.task_id, state.version) for one in state.apart]
        self._in_flight: dict[str, RunInFlight] = {run.order.run_id: run for run in self._carried}
        self._places: dict[str, Places] = {}  # of the runs in flight that have limits
        self._batches = Batches()
        #: An upper bound: what leaves the queues is not taken off, as counting takes long.
        self._waiting_bytes = self._size_of_waiting()
        self._silent = SilentRuns(self._in_flight, spawn)
        self._lost = LostRuns(self._in_flight, spawn)
        #: Due again, once their cancellation has been heard.
        self._come_back = {one.order.run_id for one in state.apart if one.due_again}
        self._came_too_late: set[str] = set()  # runs that were recalled and started all the same

    def go_on(self) -> None:
        """Follow what was carried along, and start what may start."""
        for run in self._carried:
            self._spawn(self._follow(run))
        self._state.apart = []
        self._lost.look()
        self.start_queued()

    def pack(self) -> None:
        """Have the state say which runs are to be carried along: none of them is bound."""
        self._state.apart = [
            run.keep(due_again=run_id in self._come_back)
            for run_id, run in self._in_flight.items()
            if isinstance(run, RunApart)
        ]

    @property
    def any_bound(self) -> bool:
        """Whether a run goes on that cannot be carried along."""
        return any(run.is_bound for run in self._in_flight.values())

    @property
    def any_recalled(self) -> bool:
        return any(run.recalled for run in self._in_flight.values())

    @property
    def any_at_all(self) -> bool:
        return bool(self._in_flight or self._state.queue or self._state.backfill)

    @property
    def are_busy(self) -> bool:
        """Whether a run goes on that the next one would overlap with."""
        return bool(self._state.queue or self._going_on)

    @property
    def has_room(self) -> bool:
        """Whether one that comes due now runs, whatever goes on."""
        return self._has_room_under(self._state.spec.policies.overlap)

    def _has_room_under(self, policy: OverlapPolicy) -> bool:
        if policy is OverlapPolicy.ALLOW:
            return self._going_on < self._state.spec.policies.overlap_limit
        return not self.are_busy

    @property
    def in_queue(self) -> int:
        return len(self._state.queue)

    @property
    def _going_on(self) -> int:
        lanes = [
            _is_backfill(run.order) for run in self._in_flight.values() if run.counts_for_overlap
        ]
        return lanes.count(False)

    @property
    def late_by(self) -> timedelta:
        """By how much the latest to start of those that go on was late."""
        lanes = (run for run in self._in_flight.values() if not _is_backfill(run.order))
        return max((run.late_by for run in lanes), default=timedelta())

    def come_due(self, order: RunOrder) -> None:
        """Start a run, or do what the overlap policy says."""
        if self._is_repeated(order):
            return
        if order.trigger.is_occurrence:
            take_turn(self._state, order.due_at)
        if order.trigger is Trigger.CATCH_UP and not self.has_room:
            self.catch_up([order])
            return
        policy, limit = self._overlap_of(order), self._state.spec.policies.overlap_limit
        if self._has_room_under(policy):
            self._start(order)
            return
        self._show_those_before()
        match policy:
            case OverlapPolicy.SKIP:
                self._log.leave_out(order, RunStatus.SKIPPED, OVERLAP)
            case OverlapPolicy.QUEUE_ONE:
                self._queue(order, 1)
            case OverlapPolicy.QUEUE_ALL:
                self._queue(order, limit)
            case OverlapPolicy.CANCEL_RUNNING:
                self._take_the_place_of_others(order)
            case OverlapPolicy.ALLOW:
                reason = f"overlap: {limit} runs went on, which is its overlap_limit"
                self._log.leave_out(order, RunStatus.SKIPPED, reason)

    def _is_repeated(self, order: RunOrder) -> bool:
        if run := self._in_flight.get(order.run_id):
            goes = run.stop_reason == DELETED and run.waits
            if goes and workflow.patched(patches.COMES_BACK):
                self._come_back.add(order.run_id)
            return True
        if order.run_id in self._came_too_late:
            return True
        return order.trigger.is_occurrence and had_its_turn(self._state, order.due_at)

    def start_on_request(self, orders: Sequence[RunOrder]) -> None:
        if self._state.state is TaskState.DELETED:
            for order in orders:
                self._leave_out_idle(order)
            return
        self._state.backfill.extend(self._that_there_is_room_for(filter(_is_backfill, orders)))
        for order in itertools.filterfalse(_is_backfill, orders):
            self.recall_waiting()  # it is not busy; but it may be when their instant comes
            self.come_due(order)

    def catch_up(self, orders: Iterable[RunOrder]) -> None:
        """Queue occurrences of a pause or an outage, however many they are."""
        self._let_wait(orders)
        self.start_queued()

    def _let_wait(self, orders: Iterable[RunOrder]) -> None:
        for order in self._that_there_is_room_for(orders):
            self._state.queue.append(order)
            self._log.show_waiting(order)

    def _that_there_is_room_for(self, orders: Iterable[RunOrder]) -> list[RunOrder]:
        """Those that may wait; the others get their row."""
        admitted = []
        sizes = [(order, size_of(order)) for order in orders]
        if sum(size for _, size in sizes) > MOST_WAITING - self._waiting_bytes:
            self._waiting_bytes = self._size_of_waiting()  # some have left since it was counted
        for order, size in sizes:
            if size > MOST_WAITING - self._waiting_bytes and workflow.patched(patches.LITTLE_ROOM):
                self._log.leave_out(order, RunStatus.SKIPPED, FULL)
            else:
                self._waiting_bytes += size
                admitted.append(order)
        return admitted

    def _size_of_waiting(self) -> int:
        return sum(map(size_of, [*self._state.queue, *self._state.backfill]))

    def start_queued(self) -> None:
        """Start the first of each queue while their lane has room."""
        if is_full():
            return
        while self._state.queue and self._may_leave_queue(self._state.queue[0]):
            self._start(self._state.queue.pop(0))
        while self._state.backfill and self._may_fill_back(self._state.backfill[0]):
            self._start(self._state.backfill.pop(0))

    def recall_waiting(self) -> None:
        """Ask for the runs back whose instant is still ahead."""
        for run in self._in_flight.values():
            run.recall()
        self._silent.give_up()

    def cancel_all(self, reason: str) -> None:
        """Cancel all runs that were sent off."""
        for run in self._in_flight.values():
            run.cancel(reason)
        self._silent.give_up()

    def let_finish(self, reason: str) -> None:
        """Let runs that workers have taken come to their end; cancel the others in time."""
        for run in self._in_flight.values():
            self._spawn(run.end_unless_taken(reason))

    def cancel(self, run_id: str, reason: str) -> None:
        """Cancel a run, wherever it is."""
        if run := self._in_flight.get(run_id):
            run.cancel(reason)
        for queue in (self._state.queue, self._state.backfill):
            for order in [one for one in queue if one.run_id == run_id]:
                queue.remove(order)
                self._log.leave_out(order, RunStatus.CANCELLED, reason)
        self._silent.give_up()

    def let_go(self) -> None:
        """What waits for its turn does not run once its task is paused or deleted."""
        if self._state.state is TaskState.ACTIVE:  # it was merely changed
            return
        deleted = self._state.state is TaskState.DELETED
        for queue in (self._state.queue, self._state.backfill):
            for order in [one for one in queue if deleted or one.trigger.is_occurrence]:
                queue.remove(order)
                self._leave_out_idle(order)
        for run in self._in_flight.values():
            if run.in_line and (deleted or run.order.trigger.is_occurrence):
                run.withdraw()

    def hear_of_place(self, news: TellOfPlace) -> None:
        """A limit has answered a run that asked it for a place."""
        if places := self._places.get(news.ask.run_id):
            places.hear(news)
        elif news.granted:
            self._spawn(give_back([news.ask.limit], news.ask.run_id))

    def hear_of_run(self, news: TellOfRun) -> None:
        """The workflow that makes a run tells of it."""
        run = self._in_flight.get(news.row.run_id)
        if isinstance(run, RunApart):
            run.hear(news)
            if news.ended:
                return  # those who follow it see to its row
        self._log.add(news.row)

    def _overlap_of(self, order: RunOrder) -> OverlapPolicy:
        return order.overlap or self._state.spec.policies.overlap

    def _queue(self, order: RunOrder, room: int) -> None:
        if len(self._state.queue) < room:
            self._let_wait([order])
        else:
            reason = f"overlap: the queue is full ({room} of {room})"
            self._log.leave_out(order, RunStatus.SKIPPED, reason)

    def _may_leave_queue(self, order: RunOrder) -> bool:
        allowed = self._overlap_of(order) is OverlapPolicy.ALLOW
        return self._going_on < (self._state.spec.policies.overlap_limit if allowed else 1)

    def _may_fill_back(self, order: RunOrder) -> bool:
        """Each backfill says how many may go on at once, and none is joined by more than that."""
        beside = [run.order.at_once for run in self._in_flight.values() if _is_backfill(run.order)]
        return len(beside) < min([order.at_once, *beside])

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
            if run.counts_for_overlap and not _is_backfill(run.order):
                run.cancel("overlap: the next one was due")

    def _start(self, order: RunOrder) -> None:
        run = self._apart(order) if self._goes_apart() else self._here(order)
        self._in_flight[order.run_id] = run
        self._spawn(self._follow(run))
        self._lost.look()

    def _goes_apart(self) -> bool:
        """Whether the run could be one too many for this history, which cannot end before it."""
        return bool(self._in_flight) and is_long() and workflow.patched(patches.APART)

    def _apart(self, order: RunOrder) -> RunInFlight:
        state = self._state
        return RunApart.begin(order, state.task_id, state.version, state.spec)

    def _here(self, order: RunOrder) -> RunInFlight:
        state = self._state
        run = RunHere(
            order,
            task_id=state.task_id,
            version=state.version,
            spec=state.spec,
            report=self._log.add,
            batches=self._batches,
            after_success=self._after_success() if _is_plain(order, state.spec) else None,
        )
        if state.spec.policies.limits:
            self._places[order.run_id] = Places(run, state.task_id, self._log.show_waiting)
        return run

    async def _follow(self, run: RunInFlight) -> None:
        places = self._places.get(run.order.run_id)
        row = await (places.run_to_end() if places else run.to_end())
        del self._in_flight[run.order.run_id]
        self._places.pop(run.order.run_id, None)
        if run.withdrawn and row.started_at is None:
            self._leave_out_idle(run.order)
        elif run.recalled:
            self._settle(run, row)
        else:
            self._log_end(run, row)
        if row.started_at is None:
            self._let_come_back(run.order)
        self._come_back.discard(row.run_id)
        self._follow_ups.after(row, run.follow_ups)
        self._count(row)
        self.start_queued()

    def _log_end(self, run: RunInFlight, row: Run) -> None:
        if not run.is_recorded:
            self._log.add(row)
        elif run.has_finished_task:
            if self._state.state is TaskState.ACTIVE and not self.any_at_all:
                self._log.has_finish(row.task_version)
            else:  # it could not know of a pause after a failure, or of runs that joined it
                self._log.task_changed()

    def _let_come_back(self, order: RunOrder) -> None:
        """Of a run that did not start: its task was deleted, and may be registered again by now."""
        if order.run_id in self._come_back:
            give_turn_back(self._state, order.due_at)
            self._on_recalled(order)
        elif self._state.state is TaskState.DELETED:
            give_turn_back(self._state, order.due_at)

    def _count(self, row: Run) -> None:
        """Runs that were cancelled or left out say nothing of how the task does."""
        if row.status.is_failure:
            self._state.failures += 1
            self._on_failed()
        elif row.status is RunStatus.SUCCEEDED:
            self._state.failures = 0

    def _settle(self, run: RunInFlight, row: Run) -> None:
        """A run that was recalled has ended; its row tells whether the recall came in time."""
        if row.started_at is not None:
            self._came_too_late.add(row.run_id)
            self._log_end(run, row)
        elif self._state.state is TaskState.DELETED:
            self._leave_out_idle(run.order)
        else:
            give_turn_back(self._state, run.order.due_at)
            self._on_recalled(run.order)

    def _leave_out_idle(self, order: RunOrder) -> None:
        if self._state.state is TaskState.DELETED:
            self._log.leave_out(order, RunStatus.CANCELLED, DELETED)
        else:
            self._log.leave_out(order, RunStatus.SKIPPED, "paused")


def _is_plain(order: RunOrder, spec: TaskSpec) -> bool:
    """Whether the row of a success says nothing that only the workflow knows, nor is waited for."""
    if order.reason is not None or spec.policies.limits or spec.follow_ups.on_success:
        return False
    if order.trigger is Trigger.CATCH_UP:
        return workflow.patched(patches.CAUGHT_UP_ROWS)
    return order.trigger is Trigger.SCHEDULE


def _is_backfill(order: RunOrder) -> bool:
    return order.trigger is Trigger.BACKFILL
