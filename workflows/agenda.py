"""What a task has ahead of it.

Due times are worked out by activities, a few at a time; that of a new one-time task comes with its
start.
"""

from datetime import datetime, timedelta

from temporalio import workflow

from activities.catch_up import CatchUpPause, catch_up
from activities.messages import RunOrder
from activities.plan import (
    GRACE,
    MOST_COUNTED,
    NotRun,
    Occurrence,
    PassOver,
    PlanOccurrences,
    pass_over,
    plan,
)
from onthedot.run import RunStatus, Trigger, scheduled_run_id
from onthedot.task import CatchUp, TaskState
from workflows import patches
from workflows.log import TaskLog
from workflows.messages import KeepTask
from workflows.turns import had_its_turn, take_turn

PLANNED_AHEAD = 10


class Agenda:
    """The next occurrences of a task, and the rows of those that are not run."""

    def __init__(self, state: KeepTask, log: TaskLog) -> None:
        self._state, self._log = state, log
        self._planned = [state.only] if state.only else []
        self._ends = state.only is not None  # nothing is due after what is planned
        self._only, state.only = state.only, None
        self.took_only = False  # whether a plan was not needed

    @property
    def next(self) -> Occurrence | None:
        return self._planned[0] if self._planned else None

    @property
    def is_exhausted(self) -> bool:
        return self._ends and not self._planned

    @property
    def is_known(self) -> bool:
        """Whether ``next_due_at`` is worked out."""
        return self._state.state is not TaskState.ACTIVE or bool(self._planned) or self._ends

    def next_due_at(self) -> datetime | None:
        active = self._state.state is TaskState.ACTIVE
        return self._planned[0].due_at if active and self._planned else None

    def is_too_late(self, occurrence: Occurrence) -> bool:
        """Whether nothing could run it in time: a new plan says what becomes of it."""
        late = workflow.now() - occurrence.due_at
        return occurrence.trigger is Trigger.SCHEDULE and late > GRACE

    def take(self) -> RunOrder:
        """The next occurrence as a run to be made."""
        occurrence = self._planned.pop(0)
        self.took_only = self.took_only or occurrence is self._only
        self._state.cursor = max(self._state.cursor, occurrence.due_at)
        return self._order(occurrence.due_at, occurrence.trigger)

    def forget(self) -> None:
        """Drop the plan: another one is to be made."""
        self._planned, self._ends = [], False

    def take_back(self, due_at: datetime) -> None:
        """An occurrence that was taken is planned again."""
        self.forget()
        self._state.cursor = min(self._state.cursor, due_at - timedelta(microseconds=1))

    async def plan(self) -> None:
        """Work out the next occurrences, and what becomes of those whose time has passed."""
        order = PlanOccurrences(
            task_id=self._state.task_id,
            schedule=self._state.spec.schedule,
            catch_up=self._state.spec.policies.catch_up,
            cursor=self._state.cursor,
            now=workflow.now(),
            count=PLANNED_AHEAD,
        )
        made = await workflow.execute_local_activity(
            plan,
            order,
            start_to_close_timeout=timedelta(seconds=30),
            summary=f"what is due after {order.cursor:%Y-%m-%d %H:%M:%S}Z",
        )
        if self._state.state is not TaskState.ACTIVE or self._state.cursor != order.cursor:
            return  # the task was paused, or an occurrence was taken back meanwhile
        self._planned, self._ends = list(made.occurrences), made.ends
        for not_run in made.not_run:
            self._log_not_run(not_run)
            self._state.cursor = max(self._state.cursor, not_run.until or self._state.cursor)

    async def pass_over(self, until: datetime, status: RunStatus, reason: str) -> None:
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
        self._state.cursor = max(self._state.cursor, until)

    async def catch_up(self, until: datetime, policy: CatchUp) -> list[RunOrder]:
        """The occurrences of a pause up to ``until`` that run after all; a row for the others."""
        if until <= self._state.cursor:
            return []
        found = await workflow.execute_local_activity(
            catch_up,
            CatchUpPause(
                task_id=self._state.task_id,
                schedule=self._state.spec.schedule,
                cursor=self._state.cursor,
                until=until,
                catch_up=policy,
            ),
            start_to_close_timeout=timedelta(seconds=60),
            summary=f"occurrences of the pause; catch-up keeps {policy.keep}",
        )
        for not_run in found.not_run:
            self._log_not_run(not_run)
        self._state.cursor = max(self._state.cursor, until)
        kept = list(found.kept)
        if kept and workflow.patched(patches.CAUGHT_UP_ONCE):
            kept = [due_at for due_at in kept if due_at not in self._state.had_turn]
            for due_at in kept:
                take_turn(self._state, due_at)
        return [self._order(due_at, Trigger.CATCH_UP) for due_at in kept]

    def _log_not_run(self, not_run: NotRun) -> None:
        due = [one for one in not_run.due_at if not had_its_turn(self._state, one)]
        for due_at in due:
            last = due_at == due[-1] and not_run.uncounted
            least = "at least " if not_run.uncounted >= MOST_COUNTED else ""
            more = f" (and {least}{not_run.uncounted} more, until {not_run.until})" if last else ""
            order = self._order(due_at, Trigger.SCHEDULE)
            self._log.leave_out(order, not_run.status, not_run.reason + more)
            take_turn(self._state, due_at)

    def _order(self, due_at: datetime, trigger: Trigger) -> RunOrder:
        run_id = scheduled_run_id(self._state.task_id, due_at)
        return RunOrder(run_id=run_id, trigger=trigger, due_at=due_at)
