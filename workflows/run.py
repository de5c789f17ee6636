"""One run of a task, from its order to its end, as the task's workflow follows it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.apart import HowToStop
from activities.attempt import Executor
from activities.messages import AfterSuccess, ExecuteAttempt, Outcome, RunOrder
from activities.pulse import heartbeat_timeout
from onthedot import duration
from onthedot.engine import run_queue
from onthedot.run import Attempt, Output, Run, RunStatus
from onthedot.task import Action, Policies, PythonAction, TaskSpec
from workflows import patches
from workflows.batches import Batches
from workflows.in_flight import RunInFlight
from workflows.retry import NotAgain, after_attempt

#: What an attempt may take beyond its action's timeout: to stop the action, and to report.
_MARGIN = timedelta(seconds=60)
#: What the machinery gets wrong (a lost worker, a full one) is tried again until it succeeds.
_MACHINERY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=2)
)


class RunHere(RunInFlight):
    """A run whose attempts are activities of the workflow that follows it."""

    def __init__(
        self,
        order: RunOrder,
        *,
        task_id: str,
        version: int,
        spec: TaskSpec,
        report: Callable[[Run], None],
        batches: Batches,
        after_success: AfterSuccess | None = None,
    ) -> None:
        """``report`` gets rows that are to be shown; its attempts pass through ``batches``.

        With ``after_success`` its first attempt may write the final row itself.
        """
        super().__init__(order, max(order.due_at, workflow.now()), spec.follow_ups)
        self.spec = spec
        self.remark: str | None = None  # what its final row shall say
        self._task_id, self._version, self._report = task_id, version, report
        self._after_success = after_success
        self._batches = batches
        self._attempts: list[Attempt] = []
        self._handle: workflow.ActivityHandle[Outcome] | None = None
        self._ended = False

    @property
    def is_bound(self) -> bool:
        return True

    @property
    def has_begun(self) -> bool:
        return bool(self._attempts)

    @property
    def has_finished_task(self) -> bool:
        after = self._after_success
        return self.is_recorded and after is not None and after.next_due_at is None

    @property
    def may_be_silent(self) -> bool:
        return self.is_asked_to_stop and self.waits and not self.held_back

    def _tell(self, how: HowToStop, reason: str, *, is_first: bool) -> None:
        if self._handle and is_first:
            self._handle.cancel()

    async def to_end(self) -> Run:
        number = 0
        try:
            while True:
                number += 1
                if row := await self._make_attempt(number):
                    return row
        finally:
            self._ended = True

    async def end_unless_taken(self, reason: str) -> None:
        # whether a worker has taken it cannot be seen from here
        while not self._ended:
            attempt = self._handle
            goes_on = attempt is not None and not attempt.done()
            start_in = max(self.start_at - workflow.now(), timedelta())
            try:
                await workflow.wait_condition(
                    lambda: self._ended or self._handle is not attempt,  # noqa: B023 - awaited here
                    timeout=start_in + self.spec.policies.timeout + _MARGIN if goes_on else None,
                    timeout_summary="then a run that a worker has taken has ended",
                )
            except TimeoutError:
                self.cancel(reason)
                return

    async def _make_attempt(self, number: int) -> Run | None:
        """The final row, or None when another attempt follows, after its pause."""
        outcome = await self._attempt(number)
        row = self._row(number, outcome)
        if self._was_recalled_too_late(outcome):
            self.recalled, self._stop_reason, self.remark = False, None, _RECALLED_TOO_LATE
            row = replace(row, status=RunStatus.RUNNING, finished_at=None, reason=self.remark)
            self._report(row)
            return None
        if self._stop_reason is not None:
            return row
        retry, now = self.spec.policies.retry, workflow.now()
        follows = after_attempt(retry, outcome, number, self._first_at, now)
        if isinstance(follows, NotAgain):
            return replace(row, error=f"{row.error}; {follows.why}") if follows.why else row
        self._report(replace(row, status=RunStatus.RUNNING, finished_at=None))
        if await self._cancelled_within(min(follows.after, self._time_left()), number):
            now = workflow.now()
            return replace(
                row, status=RunStatus.CANCELLED, reason=self._stop_reason, finished_at=now
            )
        if self._time_left() <= timedelta():
            error = self._out_of_time(row.error)
            return replace(row, status=RunStatus.TIMED_OUT, error=error, finished_at=workflow.now())
        return None

    def _was_recalled_too_late(self, outcome: Outcome) -> bool:
        """Whether its action had begun when its worker heard that it was asked back."""
        is_cut_off = outcome.status is RunStatus.CANCELLED and outcome.started_at is not None
        may_run_again = self.spec.policies.delivery != "at_most_once"
        return self.recalled and is_cut_off and may_run_again and workflow.patched(patches.CUT_OFF)

    @property
    def _first_at(self) -> datetime:
        """When its first attempt started."""
        return self._attempts[0].started_at if self._attempts else self.start_at

    def _time_left(self) -> timedelta:
        """Until the whole run has taken as long as it may; an attempt in its lead has it all."""
        whole = self.spec.policies.run_timeout
        if whole is None:
            return timedelta.max
        if not self._attempts:
            return whole
        left = whole - (workflow.now() - self._first_at)
        return left - left % _MILLISECOND

    def _out_of_time(self, error: str | None) -> str:
        whole = duration.write(self.spec.policies.run_timeout or timedelta())
        return f"the run took longer than its run_timeout of {whole}; its last attempt: {error}"

    async def _attempt(self, number: int) -> Outcome:
        timeout, left = self.spec.policies.timeout, self._time_left()
        outcome = await self._executed(number, min(timeout, left))
        self.is_recorded = outcome.is_recorded
        if outcome.status is RunStatus.TIMED_OUT and left <= timeout:
            return replace(outcome, error=self._out_of_time(outcome.error), may_retry=False)
        return outcome

    async def _executed(self, number: int, longest: timedelta) -> Outcome:
        await self._batches.pass_through()
        if self._stop_reason is not None:  # together with its order
            return _unheard_of(RunStatus.CANCELLED)
        policies, now = self.spec.policies, workflow.now()
        start_at = self.start_at if number == 1 else now
        wait = max(start_at - now, timedelta())
        order = ExecuteAttempt(
            run_id=self.order.run_id,
            task_id=self._task_id,
            task_version=self._version,
            trigger=self.order.trigger,
            due_at=self.order.due_at,
            start_at=start_at,
            number=number,
            action=_with_arguments(self.spec.action, self.order),
            timeout=longest,
            delivery=policies.delivery,
            outcome=self.order.outcome,
            after_success=self._after_success if number == 1 else None,
            catch_up=policies.catch_up if number == 1 and self.is_scheduled else None,
        )
        self._handle = workflow.start_activity_method(
            Executor.execute_attempt,
            order,
            task_queue=run_queue(self.spec.queue),
            start_to_close_timeout=wait + longest + _MARGIN,
            heartbeat_timeout=heartbeat_timeout(wait),
            retry_policy=_MACHINERY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{self.order.trigger} run due {self.order.due_at:%Y-%m-%d %H:%M:%S}Z, attempt {number}",
            priority=_priority(policies),
        )
        try:
            return await self._handle
        except ActivityError as error:
            return self._of_no_worker(error)
        except asyncio.CancelledError:  # in the moment in which it was to be sent
            if self._stop_reason is None:
                raise
            return _unheard_of(RunStatus.CANCELLED)

    def _of_no_worker(self, error: ActivityError) -> Outcome:
        if is_cancelled_exception(error):
            return _unheard_of(RunStatus.CANCELLED)
        cause = f"the worker could not run it: {error.cause or error}"
        if self._stop_reason is not None:  # it was lost before it could heed that
            return _unheard_of(RunStatus.CANCELLED, error=cause)
        may_retry = self.spec.policies.delivery != "at_most_once"
        return _unheard_of(RunStatus.FAILED, workflow.now(), cause, may_retry=may_retry)

    async def _cancelled_within(self, delay: timedelta, number: int) -> bool:
        try:
            await workflow.wait_condition(
                lambda: self._stop_reason is not None,
                timeout=delay,
                timeout_summary=f"before attempt {number + 1}",
            )
        except TimeoutError:
            return False
        return True

    def _row(self, number: int, outcome: Outcome) -> Run:
        if attempt := outcome.attempt(number):
            self._attempts.append(attempt)
        return Run(
            run_id=self.order.run_id,
            task_id=self._task_id,
            task_version=self._version,
            trigger=self.order.trigger,
            due_at=self.order.due_at,
            status=outcome.status,
            started_at=self._attempts[0].started_at if self._attempts else None,
            finished_at=outcome.finished_at,
            reason=self._stop_reason
            if outcome.status is RunStatus.CANCELLED
            else in_words(self.order, self.remark, outcome.remark),
            attempts=list(self._attempts),
            attempt_count=len(self._attempts),
            worker=outcome.worker,
            output=outcome.output,
            error=outcome.error,
            result=outcome.result,
        )


_RECALLED_TOO_LATE = "a change of its task came as it began, and it was started again"
_USUAL_PRIORITY = 3
_MILLISECOND = timedelta(milliseconds=1)


def _priority(policies: Policies) -> Priority:
    if policies.priority == _USUAL_PRIORITY and policies.fairness_key is None:
        return Priority.default  # which adds nothing to a history
    return Priority(priority_key=policies.priority, fairness_key=policies.fairness_key)


def _unheard_of(
    status: RunStatus,
    started_at: datetime | None = None,
    error: str | None = None,
    *,
    may_retry: bool = True,
) -> Outcome:
    """The outcome of an attempt of which no worker could say what happened."""
    return Outcome(
        status=status,
        started_at=started_at,
        finished_at=workflow.now(),
        worker="",
        output=Output(),
        error=error,
        may_retry=may_retry,
    )


def in_words(order: RunOrder, *remarks: str | None) -> str | None:
    """The reason in a run's row: why it was asked for, and what came of it."""
    return "; ".join(filter(None, (order.reason, *remarks))) or None


def _with_arguments(action: Action, order: RunOrder) -> Action:
    if order.arguments is None or not isinstance(action, PythonAction):
        return action
    return action.model_copy(update={"arguments": {**action.arguments, **order.arguments}})
