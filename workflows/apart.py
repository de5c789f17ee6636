"""Runs that are made by workflows of their own, so that their task's can continue as new meanwhile.

They are those that begin beside others when the task's history is long. All else is the same for
them; what they cost more is a workflow each.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Self

from temporalio import workflow

from activities.apart import BeginRun, HowToStop, MakeRun, RunWorkflows, StopRun, TellOfRun
from activities.messages import RunOrder
from onthedot.engine import run_workflow_id
from onthedot.run import Run, RunStatus
from onthedot.task import TaskSpec
from workflows.beside import Minder, Spawn
from workflows.in_flight import RunInFlight
from workflows.log import waiting_row
from workflows.messages import KeepRun
from workflows.sending import SENT_WITHIN, UNTIL_SENT

_LOOK = timedelta(minutes=1)
#: What a workflow said before it ended is heard by then.
_HEARD_WITHIN = timedelta(seconds=10)


class RunApart(RunInFlight):
    """A run that a workflow of its own makes, as the task's workflow follows it."""

    def __init__(
        self, kept: KeepRun, task_id: str, version: int, make: MakeRun | None = None
    ) -> None:
        """``make`` has that workflow started; without it, one that goes on is followed."""
        super().__init__(kept.order, kept.start_at, kept.follow_ups)
        self.workflow_id = kept.workflow_id
        self.recalled, self.shown, self.in_line = kept.recalled, kept.shown, kept.in_line
        self._comes_back, self._stop_reason = kept.comes_back, kept.cancel_reason
        self._task_id, self._version, self._make = task_id, version, make
        self._to_tell: list[StopRun] = []
        self._end: TellOfRun | None = None
        self._is_lost = False

    @classmethod
    def begin(cls, order: RunOrder, task_id: str, version: int, spec: TaskSpec) -> Self:
        kept = KeepRun(
            workflow_id=f"{run_workflow_id(order.run_id)}/{workflow.uuid4().hex[:8]}",
            order=replace(order, arguments=None, outcome=None, reason=None),
            start_at=max(order.due_at, workflow.now()),
            follow_ups=spec.follow_ups,
            in_line=bool(spec.policies.limits),  # as far as can be seen from here
        )
        make = MakeRun(task_id=task_id, version=version, spec=spec, order=order)
        return cls(kept, task_id, version, make)

    def keep(self, *, due_again: bool) -> KeepRun:
        """What is to be carried along when the task continues as new."""
        return KeepRun(
            workflow_id=self.workflow_id,
            order=self.order,
            start_at=self.start_at,
            follow_ups=self.follow_ups,
            recalled=self.recalled,
            comes_back=self._comes_back,
            cancel_reason=self._stop_reason,
            shown=self.shown,
            in_line=self.in_line,
            due_again=due_again,
        )

    @property
    def has_workflow(self) -> bool:
        """Whether that was started."""
        return self._make is None

    @property
    def is_bound(self) -> bool:
        return not self.has_workflow or bool(self._to_tell)

    @property
    def has_begun(self) -> bool:
        return self._end is not None

    @property
    def has_finished_task(self) -> bool:
        return False

    @property
    def may_be_silent(self) -> bool:
        return False  # its own workflow minds that

    def hear(self, news: TellOfRun) -> None:
        """Its workflow tells of it: perhaps that it goes on, as a recall has come too late."""
        if self.recalled and not news.recalled:
            self.recalled, self._comes_back, self._stop_reason = False, False, None
        if news.ended:
            self._end = news

    def give_up(self) -> None:
        """Its workflow goes on no more, and has not said how it ended."""
        self._is_lost = True

    def withdraw(self) -> None:
        # it may have all its places by now: what comes of it, its end tells
        self._tell(HowToStop.WITHDRAW, "withdrawn")

    async def end_unless_taken(self, reason: str) -> None:
        self._tell(HowToStop.LET_FINISH, reason)

    def _tell(self, how: HowToStop, reason: str, *, is_first: bool = True) -> None:
        self._to_tell.append(StopRun(workflow_id=self.workflow_id, how=how, reason=reason))

    async def to_end(self) -> Run:
        if self._make is not None:
            await self._begin(self._make)
            self._make = None
        while self._end is None and not self._is_lost:
            await workflow.wait_condition(lambda: bool(self._to_tell or self._end) or self._is_lost)
            if self._to_tell:
                await self._send(self._to_tell[0])
                del self._to_tell[0]
        self._to_tell.clear()
        if self._end is None:
            return self._lost_row()
        self.recalled, self.withdrawn = self._end.recalled, self._end.withdrawn
        return self._end.row

    async def _begin(self, make: MakeRun) -> None:
        await workflow.execute_local_activity_method(
            RunWorkflows.begin,
            BeginRun(workflow_id=self.workflow_id, make=make),
            start_to_close_timeout=SENT_WITHIN,
            retry_policy=UNTIL_SENT,
            summary=f"a workflow of its own for {self.order.run_id}",
        )

    async def _send(self, asked: StopRun) -> None:
        await workflow.execute_local_activity_method(
            RunWorkflows.stop,
            asked,
            start_to_close_timeout=SENT_WITHIN,
            retry_policy=UNTIL_SENT,
            summary=f"{asked.how} {self.order.run_id}: {asked.reason}",
        )

    def _lost_row(self) -> Run:
        row = waiting_row(self.order, self._task_id, self._version)
        error = f"the workflow that made it was ended from outside: {self.workflow_id}"
        return replace(row, status=RunStatus.FAILED, error=error, finished_at=workflow.now())


class LostRuns:
    """Looks after the runs apart of a task: that such a workflow is terminated, no event says."""

    def __init__(self, in_flight: Mapping[str, RunInFlight], spawn: Spawn) -> None:
        self._in_flight = in_flight
        self._minder = Minder(
            spawn,
            lambda: bool(self._apart),
            self._give_up_lost,
            every=_LOOK,
            summary="until it looks whether the workflows of its runs go on",
        )

    def look(self) -> None:
        """See to it that those that are lost end."""
        self._minder.mind()

    async def _give_up_lost(self) -> None:
        runs = [run for run in self._apart if run.has_workflow]
        ended = await workflow.execute_local_activity_method(
            RunWorkflows.find_ended,
            [run.workflow_id for run in runs],
            start_to_close_timeout=timedelta(seconds=8),
            retry_policy=UNTIL_SENT,
            summary=f"whether the workflows of {len(runs)} runs go on",
        )
        if ended:
            await workflow.sleep(_HEARD_WITHIN, summary="what they said before is heard by then")
        for run in runs:
            if run.workflow_id in ended:
                run.give_up()

    @property
    def _apart(self) -> list[RunApart]:
        return [run for run in self._in_flight.values() if isinstance(run, RunApart)]
