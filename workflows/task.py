"""A task, as a durable workflow: it waits for each due time, has the run made, hands on the outcome."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.plan import (
    GRACE,
    NotRun,
    Occurrence,
    PassOver,
    Plan,
    PlanOccurrences,
    pass_over,
    plan,
)
from activities.record import Recorder, RecordProgress
from onthedot import engine
from onthedot.run import Run, RunStatus, Trigger, scheduled_run_id
from onthedot.task import OverlapPolicy, TaskState
from workflows.messages import CancelRun, KeepTask, ReviseTask, RunOrder, StartRuns
from workflows.run import RunInFlight

PLANNED_AHEAD = 10
MOST_QUEUED = 100
#: Events after which a quiet moment is used to continue as new, and after which one is made.
LONG_HISTORY, TOO_LONG_HISTORY = 2_000, 20_000
_KEPT_REQUESTS = 200
_RECORDED_AT_ONCE = 100
_CARRIED_OUTPUTS = 20
_ONE_TRY = RetryPolicy(maximum_attempts=1)


@workflow.defn(name="Task")
class TaskWorkflow:
    """Keeps one task until it is finished or deleted. Its whole state is its input."""

    @workflow.init
    def __init__(self, state: KeepTask) -> None:
        self._state = state
        self._revision: ReviseTask | None = None
        self._plan: list[Occurrence] = []
        self._plan_ends = False
        self._running: dict[str, RunInFlight] = {}
        self._not_recalled: set[str] = set()  # runs that started although they were recalled
        self._recording = False
        self._changed = False  # how the task stands is not in the log's projection yet

    @workflow.run
    async def run(self, state: KeepTask) -> None:
        recorder = asyncio.create_task(self._record_for_ever())
        self._start_queued()
        while not self._is_over():
            if self._revision is not None:
                await self._adopt(self._revision)
            elif self._is_long():
                await self._continue_as_new()
            elif self._state.state is TaskState.ACTIVE and not self._is_exhausted():
                await self._follow_plan()
            else:
                self._finish_when_exhausted()
                await workflow.wait_condition(self._is_called)
        recorder.cancel()

    @workflow.update(description="Take over a newer version of the task's definition and state")
    async def revise(self, desired: ReviseTask) -> int:
        """Return the version that is in force; one that is not newer changes nothing."""
        if desired.version > max(
            self._state.version, self._revision.version if self._revision else 0
        ):
            self._revision = desired
        await workflow.wait_condition(lambda: self._state.version >= desired.version)
        return self._state.version

    @workflow.update(description="Start runs that were asked for")
    def start_runs(self, asked: StartRuns) -> None:
        if not self._takes(asked.request_id):
            return
        for order in asked.orders:
            if order.trigger is Trigger.BACKFILL:
                self._state.backfill.append(order)
            else:
                for waiting in self._running.values():
                    waiting.recall()
                self._come_due(order)
        self._start_queued()

    @workflow.update(description="Cancel a run")
    def cancel_run(self, asked: CancelRun) -> None:
        if not self._takes(asked.request_id):
            return
        if running := self._running.get(asked.run_id):
            running.cancel("cancelled on request")
        for queue in (self._state.queue, self._state.backfill):
            for order in [one for one in queue if one.run_id == asked.run_id]:
                queue.remove(order)
                self._leave_out(order, RunStatus.CANCELLED, "cancelled on request")

    # What is due: the plan, followed one occurrence at a time.

    async def _follow_plan(self) -> None:
        if any(running.recalled for running in self._running.values()):
            await workflow.wait_condition(
                lambda: not any(r.recalled for r in self._running.values())
            )
        if not self._plan:
            await self._make_plan()
            return
        occurrence = self._plan[0]
        name = f"due {occurrence.due_at:%Y-%m-%d %H:%M:%S}Z"
        if await self._called_before(occurrence.due_at - occurrence.lead, self._is_called, name):
            return
        if occurrence.trigger is Trigger.SCHEDULE and workflow.now() - occurrence.due_at > GRACE:
            self._plan.clear()  # nothing could run: a new plan says what becomes of it
            return
        if self._busy() and self._state.spec.policies.overlap is not OverlapPolicy.ALLOW:
            await self._called_before(
                occurrence.due_at, lambda: self._is_called() or not self._busy(), name
            )
            if self._is_called():
                return
        self._plan.pop(0)
        self._state.cursor = max(self._state.cursor, occurrence.due_at)
        run_id = scheduled_run_id(self._state.task_id, occurrence.due_at)
        if run_id not in self._not_recalled and run_id not in self._running:
            self._come_due(
                RunOrder(run_id=run_id, trigger=occurrence.trigger, due_at=occurrence.due_at)
            )

    async def _make_plan(self) -> None:
        order = PlanOccurrences(
            task_id=self._state.task_id,
            schedule=self._state.spec.schedule,
            catch_up=self._state.spec.policies.catch_up,
            cursor=self._state.cursor,
            now=workflow.now(),
            count=PLANNED_AHEAD,
        )
        version = self._state.version
        made: Plan = await workflow.execute_local_activity(
            plan,
            order,
            start_to_close_timeout=timedelta(seconds=30),
            summary=f"what is due after {order.cursor:%Y-%m-%d %H:%M:%S}Z",
        )
        if version != self._state.version or self._revision is not None:
            return  # it is for a definition that is no longer in force
        self._plan, self._plan_ends = list(made.occurrences), made.ends
        for not_run in made.not_run:
            self._log_not_run(not_run)
            self._state.cursor = max(self._state.cursor, not_run.until or self._state.cursor)
        self._changed = self._changed or bool(made.not_run)

    def _log_not_run(self, not_run: NotRun) -> None:
        for due_at in not_run.due_at:
            order = RunOrder(
                run_id=scheduled_run_id(self._state.task_id, due_at),
                trigger=Trigger.SCHEDULE,
                due_at=due_at,
            )
            last = due_at == not_run.due_at[-1] and not_run.uncounted
            more = f" (and {not_run.uncounted} more, until {not_run.until})" if last else ""
            self._leave_out(order, not_run.status, not_run.reason + more)

    async def _pass_over(self, until: datetime, status: RunStatus, reason: str) -> None:
        """Give a row to each occurrence up to ``until`` that was not run."""
        if until <= self._state.cursor:
            return
        passed = await workflow.execute_local_activity(
            pass_over,
            PassOver(
                task_id=self._state.task_id,
                schedule=self._state.spec.schedule,
                cursor=self._state.cursor,
                until=until,
                status=status,
                reason=reason,
            ),
            start_to_close_timeout=timedelta(seconds=60),
            summary=f"occurrences passed over: {reason}",
        )
        self._log_not_run(passed)
        self._state.cursor = until

    # Runs: started, queued or left out by the overlap policy.

    def _come_due(self, order: RunOrder) -> None:
        if not self._busy():
            self._start(order)
            return
        match self._state.spec.policies.overlap:
            case OverlapPolicy.ALLOW:
                self._start(order)
            case OverlapPolicy.CANCEL_RUNNING:
                self._leave_out_queued(RunStatus.SKIPPED, "overlap: a later one took its place")
                for running in self._running.values():
                    if running.order.trigger is not Trigger.BACKFILL:
                        running.cancel("overlap: the next one was due")
                self._state.queue.append(order)
            case OverlapPolicy.QUEUE_ONE if not self._state.queue:
                self._state.queue.append(order)
            case OverlapPolicy.QUEUE_ALL if len(self._state.queue) < MOST_QUEUED:
                self._state.queue.append(order)
            case _:
                self._leave_out(order, RunStatus.SKIPPED, "overlap: the run before it went on")

    def _busy(self) -> bool:
        """Whether a run goes on that the next one would overlap with; backfills do not count."""
        return bool(self._state.queue) or any(
            running.order.trigger is not Trigger.BACKFILL and not running.waits
            for running in self._running.values()
        )

    def _start_queued(self) -> None:
        lanes = {running.order.trigger is Trigger.BACKFILL for running in self._running.values()}
        if self._state.queue and False not in lanes:
            self._start(self._state.queue.pop(0))
        if self._state.backfill and True not in lanes:
            self._start(self._state.backfill.pop(0))

    def _start(self, order: RunOrder) -> None:
        state = self._state
        running = RunInFlight(
            order, state.task_id, state.version, state.spec, state.unrecorded.append
        )
        self._running[order.run_id] = running
        workflow_task = asyncio.create_task(self._follow(running))
        workflow_task.set_name(f"run {order.run_id}")

    async def _follow(self, running: RunInFlight) -> None:
        run = await running.to_end()
        del self._running[running.order.run_id]
        if running.recalled:
            self._settle_recalled(running, run)
        else:
            self._state.unrecorded.append(run)
        if run.status.is_failure and self._state.spec.policies.pause_on_failure:
            self._pause_after_failure()
        self._start_queued()

    def _settle_recalled(self, running: RunInFlight, run: Run) -> None:
        if run.started_at is not None:  # the recall came too late
            self._not_recalled.add(run.run_id)
            self._state.unrecorded.append(run)
        elif self._state.state is TaskState.ACTIVE:  # it is planned again
            self._plan, self._plan_ends = [], False
            just_before = running.order.due_at - timedelta(microseconds=1)
            self._state.cursor = min(self._state.cursor, just_before)
        else:
            self._leave_out_idle(running.order)

    def _leave_out_idle(self, order: RunOrder) -> None:
        """An order that found its task paused or deleted."""
        if self._state.state is TaskState.DELETED:
            self._leave_out(order, RunStatus.CANCELLED, "the task was deleted")
        else:
            self._leave_out(order, RunStatus.SKIPPED, "paused")

    def _leave_out(self, order: RunOrder, status: RunStatus, reason: str) -> None:
        self._state.unrecorded.append(
            Run(
                run_id=order.run_id,
                task_id=self._state.task_id,
                task_version=self._state.version,
                trigger=order.trigger,
                due_at=order.due_at,
                finished_at=workflow.now(),
                status=status,
                reason=reason,
            )
        )

    def _leave_out_queued(self, status: RunStatus, reason: str) -> None:
        for order in self._state.queue:
            self._leave_out(order, status, reason)
        self._state.queue.clear()

    # Changes of the task itself.

    async def _adopt(self, desired: ReviseTask) -> None:
        old = self._state
        new_schedule = desired.spec.schedule != old.spec.schedule
        for running in self._running.values():
            running.recall()
        if old.state is TaskState.PAUSED and (
            new_schedule or desired.state is not TaskState.PAUSED
        ):
            await self._pass_over(desired.changed_at, RunStatus.SKIPPED, "paused")
        elif old.state is TaskState.ACTIVE and new_schedule:
            reason = "the task was changed before it could run"
            await self._pass_over(desired.changed_at, RunStatus.MISSED, reason)
        old.version, old.spec, old.state = desired.version, desired.spec, desired.state
        if new_schedule:
            old.cursor = desired.changed_at
        self._plan, self._plan_ends = [], False
        if self._revision is desired:
            self._revision = None
        self._let_go_of_orders()
        workflow.upsert_search_attributes(engine.search_attribute_changes(old.spec, old.state))
        workflow.upsert_memo({"version": old.version})
        workflow.set_current_details(f"{old.state}, version {old.version}")

    def _let_go_of_orders(self) -> None:
        """What waits for its turn does not run once its task is paused or deleted."""
        state = self._state
        if state.state is TaskState.DELETED:
            self._leave_out_queued(RunStatus.CANCELLED, "the task was deleted")
            for order in state.backfill:
                self._leave_out(order, RunStatus.CANCELLED, "the task was deleted")
            state.backfill.clear()
        elif state.state is TaskState.PAUSED:
            for order in [one for one in state.queue if one.trigger is not Trigger.MANUAL]:
                state.queue.remove(order)
                self._leave_out_idle(order)

    def _pause_after_failure(self) -> None:
        if self._state.state is not TaskState.ACTIVE:
            return
        self._state.state = TaskState.PAUSED
        self._plan, self._changed = [], True
        for running in self._running.values():
            running.recall()
        workflow.upsert_search_attributes(
            engine.search_attribute_changes(self._state.spec, TaskState.PAUSED)
        )
        workflow.set_current_details("paused after a failure")

    def _takes(self, request_id: str) -> bool:
        """Whether a request is new; the engine itself drops repeats only until we continue as new."""
        if request_id in self._state.taken:
            return False
        self._state.taken = [*self._state.taken, request_id][-_KEPT_REQUESTS:]
        return True

    # The log: a coroutine of its own, so that runs go on while the log does not answer.

    async def _record_for_ever(self) -> None:
        pause = timedelta(seconds=1)
        while True:
            await workflow.wait_condition(self._has_news)
            runs, self._changed = self._state.unrecorded[:_RECORDED_AT_ONCE], False
            self._recording = True
            try:
                await workflow.execute_local_activity_method(
                    Recorder.record,
                    RecordProgress(
                        task_id=self._state.task_id,
                        version=self._state.version,
                        state=self._state.state,
                        next_due_at=self._next_due_at(),
                        runs=runs,
                    ),
                    start_to_close_timeout=timedelta(seconds=4),
                    retry_policy=_ONE_TRY,
                    summary=f"{len(runs)} rows for the log",
                )
            except ActivityError:
                self._changed, self._recording = True, False
                await workflow.sleep(pause, summary="the log does not answer")
                pause = min(pause * 2, timedelta(seconds=30))
            else:
                del self._state.unrecorded[: len(runs)]
                self._recording = False
                pause = timedelta(seconds=1)

    def _has_news(self) -> bool:
        planning = self._state.state is TaskState.ACTIVE and not self._plan and not self._plan_ends
        return (bool(self._state.unrecorded) or self._changed) and not planning

    def _next_due_at(self) -> datetime | None:
        active = self._state.state is TaskState.ACTIVE
        return self._plan[0].due_at if active and self._plan else None

    # When the workflow goes on, begins anew, or ends.

    async def _called_before(self, moment: datetime, called: Callable[[], bool], name: str) -> bool:
        """Wait until ``moment``; True when ``called`` came true before it."""
        left = moment - workflow.now()
        if left <= timedelta():
            return called()
        try:
            await workflow.wait_condition(called, timeout=left, timeout_summary=name)
        except TimeoutError:
            return False
        return True

    def _is_called(self) -> bool:
        return self._revision is not None or self._is_long() or self._is_over() or self._is_idle()

    def _is_exhausted(self) -> bool:
        return self._plan_ends and not self._plan

    def _is_idle(self) -> bool:
        """Whether an active task has nothing left to do but to be finished."""
        active = self._state.state is TaskState.ACTIVE
        return active and self._is_exhausted() and not self._is_at_work()

    def _is_at_work(self) -> bool:
        return bool(self._running or self._state.queue or self._state.backfill)

    def _finish_when_exhausted(self) -> None:
        if self._is_idle():
            self._state.state, self._changed = TaskState.FINISHED, True

    def _is_over(self) -> bool:
        ended = self._state.state in (TaskState.FINISHED, TaskState.DELETED)
        recorded = not (self._state.unrecorded or self._changed or self._recording)
        answered = self._revision is None and workflow.all_handlers_finished()
        return ended and recorded and answered and not self._is_at_work()

    def _is_long(self) -> bool:
        length = workflow.info().get_current_history_length()
        return length > (LONG_HISTORY if not self._running else TOO_LONG_HISTORY)

    async def _continue_as_new(self) -> None:
        """Begin anew with this state. Runs cannot be taken along: they end first."""
        if self._running:
            await workflow.wait_condition(lambda: not self._running)
            if self._state.spec.policies.overlap is OverlapPolicy.SKIP:
                reason = "overlap: the run before it went on"
                await self._pass_over(workflow.now(), RunStatus.SKIPPED, reason)
        answered = workflow.all_handlers_finished
        await workflow.wait_condition(
            lambda: self._revision is not None or (answered() and not self._recording)
        )
        if self._revision is None and not self._running:
            self._lighten()
            workflow.continue_as_new(self._state)

    def _lighten(self) -> None:
        """Leave outputs out of a long backlog of rows: what is carried along must stay small."""
        rows = self._state.unrecorded
        for index, run in enumerate(rows[:-_CARRIED_OUTPUTS]):
            rows[index] = replace(run, output=None, result=None)
