"""A task, as a durable workflow: it waits for each due time, has the run made, tells the log."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow

from activities.apart import TELL_OF_RUN, TellOfRun
from activities.catch_up import MOST_CAUGHT_UP
from activities.limits import TELL, TellOfPlace
from activities.messages import AfterSuccess, RunOrder
from activities.plan import GRACE, Occurrence
from onthedot import engine
from onthedot.run import RunStatus, Trigger
from onthedot.task import OverlapPolicy, TaskState
from workflows import patches
from workflows.agenda import Agenda
from workflows.beside import Beside
from workflows.follow_ups import PendingFollowUps
from workflows.history import is_long, is_too_long
from workflows.log import TaskLog
from workflows.messages import CancelRun, KeepTask, ReviseTask, StartRuns
from workflows.runs import DELETED, OVERLAP, Runs

_KEPT_REQUESTS = 200
_FEWER_CAUGHT_UP = 100  # of an outage, in the queue, before the patch


@workflow.defn(name="Task")
class TaskWorkflow:
    """Keeps one task until it is finished or deleted. Its whole state is its input."""

    @workflow.init
    def __init__(self, state: KeepTask) -> None:
        self._state = state
        self._revision: ReviseTask | None = None
        self._by_time = False  # versions that this workflow had taken were lost
        self._beside = Beside()
        self._log = TaskLog(state)
        self._agenda = Agenda(state, self._log)
        self._follow_ups = PendingFollowUps(state, self._beside.spawn)
        self._runs = Runs(
            state,
            self._log,
            follow_ups=self._follow_ups,
            spawn=self._beside.spawn,
            after_success=self._after_success,
            on_recalled=self._take_back,
            on_failed=self._pause_after_failure,
        )

    @workflow.run
    async def run(self, state: KeepTask) -> None:
        agenda = self._agenda
        log = self._beside.spawn(self._log.keep(self._is_settled, agenda.next_due_at))
        self._runs.go_on()
        self._follow_ups.go_on()
        self._describe(self._state.state)
        while not self._is_over():
            self._beside.check()
            if self._revision is not None:
                await self._adopt(self._revision)
            elif self._is_long():
                await self._continue_as_new()
            elif self._state.state is TaskState.PAUSED and self._state.paused_until is not None:
                await self._wait_out_pause(self._state.paused_until)
            elif self._state.state is TaskState.ACTIVE and not agenda.is_exhausted:
                await self._follow_agenda()
            elif self._is_idle():
                self._state.state = TaskState.FINISHED
                self._log.task_finished()
            else:
                await workflow.wait_condition(self._is_called)
        log.cancel()

    @workflow.update(description="Take over a newer version of the task's definition and state")
    async def revise(self, desired: ReviseTask) -> int:
        """Return the version that is in force; one that is not newer changes nothing."""
        latest = self._revision or self._state
        newer, at = desired.version > latest.version, latest.changed_at
        if not newer and at is not None and desired.changed_at > at:
            newer = self._by_time = workflow.patched(patches.LATER_CHANGES)
        if newer:
            self._revision = desired
        await workflow.wait_condition(lambda: self._follows(desired))
        return self._state.version

    @workflow.update(description="Start runs that were asked for")
    def start_runs(self, asked: StartRuns) -> None:
        if self._takes(asked.request_id):
            orders = [replace(order, at_once=asked.at_once) for order in asked.orders]
            self._runs.start_on_request(orders)
            self._runs.start_queued()

    @workflow.update(description="Cancel a run")
    def cancel_run(self, asked: CancelRun) -> None:
        if self._takes(asked.request_id):
            self._runs.cancel(asked.run_id, "cancelled on request")

    @workflow.signal(name=TELL, description="A limit answers a run that asked for a place")
    def hear_of_place(self, news: TellOfPlace) -> None:
        self._runs.hear_of_place(news)

    @workflow.signal(name=TELL_OF_RUN, description="A workflow that makes a run tells of it")
    def hear_of_run(self, news: TellOfRun) -> None:
        self._runs.hear_of_run(news)

    def _follows(self, desired: ReviseTask) -> bool:
        """Whether that, or what came after it, is in force."""
        at = self._state.changed_at
        if self._by_time and at is not None:
            return at >= desired.changed_at
        return self._state.version >= desired.version

    async def _follow_agenda(self) -> None:
        """One step: make a plan, or wait for the next occurrence and have it run."""
        if self._runs.any_recalled:  # whether they come back decides what is next
            await self._until(lambda: not self._runs.any_recalled)
            return
        occurrence = self._agenda.next
        if occurrence is None:
            await self._agenda.plan()
            return
        name = f"due {occurrence.due_at:%Y-%m-%d %H:%M:%S}Z"
        sent_at = occurrence.due_at - occurrence.lead
        if await self._called_before(sent_at, self._is_called_or_recalling, name):
            return
        if self._agenda.is_too_late(occurrence):
            self._agenda.forget()
            return
        if not self._runs.has_room:
            await self._let_others_end(occurrence, name)
        if not self._is_called_or_recalling():
            self._runs.come_due(self._agenda.take())

    async def _let_others_end(self, occurrence: Occurrence, name: str) -> None:
        """Wait for the runs before it, until it is certain that it overlaps with them.

        That is at its due time; but where they started late through no fault of their own, it
        gives them that time. Those of an outage wait in the queue: what is due meanwhile is seen
        to in time.
        """
        if occurrence.trigger is Trigger.CATCH_UP:
            most = MOST_CAUGHT_UP if workflow.patched(patches.MORE_CAUGHT_UP) else _FEWER_CAUGHT_UP
            await workflow.wait_condition(
                lambda: self._is_called_or_recalling() or self._runs.in_queue < most
            )
            return
        certain_at = occurrence.due_at + min(self._runs.late_by, GRACE)
        await self._called_before(certain_at, self._is_called_or_free, name)

    def _is_called_or_free(self) -> bool:
        return self._is_called_or_recalling() or self._runs.has_room

    def _is_called_or_recalling(self) -> bool:
        left = self._state.state is not TaskState.ACTIVE  # a failure may pause it
        return left or self._is_called() or self._runs.any_recalled

    async def _wait_out_pause(self, until: datetime) -> None:
        name = f"paused until {until:%Y-%m-%d %H:%M:%S}Z"
        if not await self._called_before(until, self._is_called, name):
            await self._hear_of_recalled()
            await self._resume(until)

    async def _hear_of_recalled(self) -> None:
        """A pause has called runs back. Those that come back are to be passed over with the rest."""
        is_paused = self._state.state is TaskState.PAUSED
        if is_paused and self._runs.any_recalled and workflow.patched(patches.RECALLED_FIRST):
            await workflow.wait_condition(
                lambda: self._beside.is_broken or not self._runs.any_recalled
            )

    async def _resume(self, at: datetime) -> None:
        """The end of a pause has come."""
        await self._agenda.pass_over(at, RunStatus.SKIPPED, "paused")
        self._state.state, self._state.paused_until = TaskState.ACTIVE, None
        self._state.failures = 0
        self._agenda.forget()
        self._log.task_changed()
        self._show_state()

    async def _adopt(self, desired: ReviseTask) -> None:
        state = self._state
        await self._hear_of_recalled()
        if state.paused_until is not None and state.paused_until <= desired.changed_at:
            await self._resume(state.paused_until)
        self._runs.recall_waiting()
        new_schedule = desired.spec.schedule != state.spec.schedule
        resumes = state.state is TaskState.PAUSED and desired.state is TaskState.ACTIVE
        caught_up: list[RunOrder] = []
        if resumes and desired.catch_up is not None:
            caught_up = await self._agenda.catch_up(desired.changed_at, desired.catch_up)
        elif state.state is TaskState.PAUSED and (
            new_schedule or desired.state is not TaskState.PAUSED
        ):
            await self._agenda.pass_over(desired.changed_at, RunStatus.SKIPPED, "paused")
        elif state.state is TaskState.ACTIVE and (
            new_schedule or desired.state is TaskState.DELETED
        ):
            reason = "the task was changed before it could run"
            await self._agenda.pass_over(desired.changed_at, RunStatus.MISSED, reason)
        anew = state.state is TaskState.DELETED
        if new_schedule or anew:
            state.cursor = desired.changed_at
        state.version, state.changed_at = desired.version, desired.changed_at
        state.spec, state.state = desired.spec, desired.state
        state.paused_until = desired.paused_until if state.state is TaskState.PAUSED else None
        if resumes or anew:
            state.failures = 0
        self._agenda.forget()
        self._runs.let_go()
        if state.state is TaskState.DELETED:
            self._end_runs(desired.let_finish)
        self._runs.catch_up(caught_up)
        self._show_state()
        if self._revision is desired:
            self._revision = None

    def _end_runs(self, let_finish: bool) -> None:
        if let_finish:
            self._runs.let_finish(DELETED)
        else:
            self._runs.cancel_all(DELETED)

    def _after_success(self) -> AfterSuccess | None:
        """How the task stands once a run that starts now has succeeded; None: it is not certain."""
        active, alone = self._state.state is TaskState.ACTIVE, not self._runs.any_at_all
        due_at = self._agenda.next_due_at()
        if due_at is None and not (active and alone and self._agenda.is_exhausted):
            return None
        # Workers that know nothing of this must not go on with the history: they would have the row
        # written again. Nor can they where no plan was made.
        if self._agenda.took_only or workflow.patched(patches.OWN_ROWS):
            return AfterSuccess(next_due_at=due_at)
        return None

    def _take_back(self, order: RunOrder) -> None:
        self._agenda.take_back(order.due_at)

    def _pause_after_failure(self) -> None:
        state = self._state
        most = state.spec.policies.pause_on_failure
        if 0 < most <= state.failures and state.state is TaskState.ACTIVE:
            state.state = TaskState.PAUSED
            self._agenda.forget()
            self._log.task_changed()
            self._runs.recall_waiting()
            self._runs.let_go()
            self._show_state()
            self._describe("paused after a failure" if most == 1 else f"paused: {most} failures")

    def _show_state(self) -> None:
        """For those who look at the task in the Temporal UI or CLI."""
        state = self._state
        changes = engine.search_attribute_changes(state.spec, state.state)
        workflow.upsert_search_attributes(changes)
        workflow.upsert_memo(engine.memo(state.spec, state.version, state.changed_at))
        until = f" until {state.paused_until:%Y-%m-%d %H:%M:%S}Z" if state.paused_until else ""
        self._describe(f"{state.state}{until}")

    def _describe(self, words: str) -> None:
        """The static summary and details do not outlive a continuing as new; this is said again."""
        state = self._state
        workflow.set_current_details(f"**{state.spec.name}**: {words}, version {state.version}")

    def _takes(self, request_id: str) -> bool:
        """Whether a request is new; the engine drops repeats itself until we continue as new."""
        if request_id in self._state.taken:
            return False
        self._state.taken = [*self._state.taken, request_id][-_KEPT_REQUESTS:]
        return True

    async def _until(self, ready: Callable[[], bool]) -> bool:
        """Wait for ``ready``, or a revision or a fault, which the main loop sees to: then True."""

        def called() -> bool:
            return self._revision is not None or self._beside.is_broken

        await workflow.wait_condition(lambda: called() or ready())
        return called()

    async def _called_before(self, moment: datetime, called: Callable[[], bool], name: str) -> bool:
        """Wait until ``moment``; True when ``called`` came true before it."""
        left = moment - workflow.now()
        if left <= timedelta() or called():
            return called()
        try:
            await workflow.wait_condition(called, timeout=left, timeout_summary=name)
        except TimeoutError:
            return False
        return True

    def _is_called(self) -> bool:
        """Whether the main loop has something else to see to."""
        to_plan = self._state.state is TaskState.ACTIVE and not self._agenda.is_known
        asked = self._revision is not None or self._beside.is_broken or to_plan
        return asked or self._is_long() or self._is_idle() or self._is_over()

    def _is_settled(self) -> bool:
        """Whether how the task stands is worth writing down: its end is told with its last run."""
        return self._agenda.is_known and not self._is_idle()

    def _is_idle(self) -> bool:
        """Whether an active task has nothing left to do but to be finished."""
        active = self._state.state is TaskState.ACTIVE
        return active and self._agenda.is_exhausted and not self._runs.any_at_all

    def _is_over(self) -> bool:
        ended = self._state.state in (TaskState.FINISHED, TaskState.DELETED)
        answered = self._revision is None and workflow.all_handlers_finished()
        done = self._log.is_complete and not self._state.follow_ups
        return ended and answered and done and not self._runs.any_at_all

    def _is_long(self) -> bool:
        return is_too_long() if self._runs.any_bound else is_long()

    async def _continue_as_new(self) -> None:
        """Begin anew with this state. Runs whose attempts are this history's end first."""
        if self._runs.any_bound:
            called = await self._until(lambda: not self._runs.any_bound)
            if not called and self._state.state is TaskState.ACTIVE:
                await self._leave_out_overlapping()
        answered = workflow.all_handlers_finished
        called = await self._until(lambda: answered() and not self._log.is_writing)
        if called or self._runs.any_bound:
            return
        # What woke this may have woken the log's writer first, and it has the oldest rows now.
        if self._log.is_writing and workflow.patched(patches.ONE_AT_A_TIME):
            return
        if self._log.is_too_long:
            await self._log.hand_over()
        else:
            self._log.pack()
            self._runs.pack()
            state = self._state
            # without one it would have that of its start again
            memo = engine.memo(state.spec, state.version, state.changed_at)
            workflow.continue_as_new(state, memo=memo)

    async def _leave_out_overlapping(self) -> None:
        """What came due while a run filled the history had no place in a queue either."""
        if self._state.spec.policies.overlap not in (
            OverlapPolicy.ALLOW,
            OverlapPolicy.CANCEL_RUNNING,
        ):
            await self._agenda.pass_over(workflow.now(), RunStatus.SKIPPED, OVERLAP)
