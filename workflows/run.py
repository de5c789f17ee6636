"""One run of a task, from its order to its end, as the task's workflow follows it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.attempt import Executor
from activities.messages import ExecuteAttempt, Outcome
from onthedot.engine import run_queue
from onthedot.run import Attempt, Output, Run, RunStatus, Trigger
from onthedot.task import Action, PythonAction, TaskSpec
from workflows.messages import RunOrder

#: A worker that is lost is noticed after this long, so that another starts the run within 10 s.
HEARTBEAT_TIMEOUT = timedelta(seconds=8)
#: What an attempt may take beyond its action's timeout: to stop the action, and to report.
_MARGIN = timedelta(seconds=60)
#: What the machinery gets wrong (a lost worker, a full one) is tried again until it succeeds.
_MACHINERY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=10)
)


class RunInFlight:
    """A run that was sent off. It keeps the definition that it started with."""

    def __init__(
        self,
        order: RunOrder,
        task_id: str,
        version: int,
        spec: TaskSpec,
        report: Callable[[Run], None],
    ) -> None:
        self.order = order
        self.recalled = False
        self.shown = False  # the log has a row for it, whether or not a worker has it
        self._task_id, self._version, self._spec, self._report = task_id, version, spec, report
        self._start_at = max(order.due_at, workflow.now())
        self._attempts: list[Attempt] = []
        self._handle: workflow.ActivityHandle[Outcome] | None = None
        self._cancel_reason: str | None = None

    @property
    def waits(self) -> bool:
        """Whether its instant is still ahead."""
        return not self._attempts and workflow.now() < self._start_at

    @property
    def takes_place(self) -> bool:
        """Whether another run would overlap with it: unless it is on its way back."""
        return not (self.recalled and self.waits)

    @property
    def late_by(self) -> timedelta:
        """How long after its due time it was sent off."""
        return self._start_at - self.order.due_at

    def recall(self) -> None:
        """Ask for it back while the worker will still hear of it before the instant."""
        by_itself = self.order.trigger is Trigger.SCHEDULE
        if by_itself and self.waits and workflow.now() < self._start_at - _LAST_RECALL:
            self.recalled = True
            self.cancel("recalled")

    def cancel(self, reason: str) -> None:
        """Stop it; it ends as cancelled unless it ends by itself first."""
        self._cancel_reason = reason
        if self._handle:
            self._handle.cancel()

    async def to_end(self) -> Run:
        """Make as many attempts as the policy allows; the final row."""
        retry = self._spec.policies.retry
        while True:
            number = len(self._attempts) + 1
            outcome = await self._attempt(number)
            row = self._row(number, outcome)
            done = not outcome.status.is_failure or not outcome.may_retry
            if done or number >= retry.attempts or self._cancel_reason:
                return row
            self._report(replace(row, status=RunStatus.RUNNING, finished_at=None))
            delay = max(retry.delay(number), min(outcome.retry_after or timedelta(), _LONGEST_WAIT))
            if await self._cancelled_within(delay, number):
                return replace(row, status=RunStatus.CANCELLED, reason=self._cancel_reason)

    async def _attempt(self, number: int) -> Outcome:
        if self._cancel_reason is not None:  # together with its order
            return _unheard_of(RunStatus.CANCELLED, None)
        policies, now = self._spec.policies, workflow.now()
        start_at = self._start_at if number == 1 else now
        order = ExecuteAttempt(
            run_id=self.order.run_id,
            task_id=self._task_id,
            task_version=self._version,
            trigger=self.order.trigger,
            due_at=self.order.due_at,
            start_at=start_at,
            number=number,
            action=_with_arguments(self._spec.action, self.order),
            timeout=policies.timeout,
            delivery=policies.delivery,
        )
        self._handle = workflow.start_activity_method(
            Executor.execute_attempt,
            order,
            task_queue=run_queue(self._spec.queue),
            start_to_close_timeout=max(start_at - now, timedelta()) + policies.timeout + _MARGIN,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=_MACHINERY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{self.order.trigger} run due {self.order.due_at:%Y-%m-%d %H:%M:%S}Z, attempt {number}",
        )
        try:
            return await self._handle
        except ActivityError as error:
            if is_cancelled_exception(error):
                return _unheard_of(RunStatus.CANCELLED, None)
            return _unheard_of(
                RunStatus.FAILED,
                workflow.now(),
                f"the worker could not run it: {error.cause or error}",
            )
        except asyncio.CancelledError:  # in the moment in which it was to be sent
            if self._cancel_reason is None:
                raise
            return _unheard_of(RunStatus.CANCELLED, None)

    async def _cancelled_within(self, delay: timedelta, number: int) -> bool:
        try:
            await workflow.wait_condition(
                lambda: self._cancel_reason is not None,
                timeout=delay,
                timeout_summary=f"before attempt {number + 1}",
            )
        except TimeoutError:
            return False
        return True

    def _row(self, number: int, outcome: Outcome) -> Run:
        if outcome.started_at is not None:
            self._attempts.append(
                Attempt(
                    number=number,
                    status=outcome.status,
                    started_at=outcome.started_at,
                    finished_at=outcome.finished_at,
                    worker=outcome.worker,
                    error=outcome.error,
                )
            )
        return Run(
            run_id=self.order.run_id,
            task_id=self._task_id,
            task_version=self._version,
            trigger=self.order.trigger,
            due_at=self.order.due_at,
            status=outcome.status,
            started_at=self._attempts[0].started_at if self._attempts else None,
            finished_at=outcome.finished_at,
            reason=self._cancel_reason if outcome.status is RunStatus.CANCELLED else None,
            attempts=list(self._attempts),
            attempt_count=len(self._attempts),
            worker=outcome.worker,
            output=outcome.output,
            error=outcome.error,
            result=outcome.result,
        )


#: A waiting run listens for the last time a second before its instant; later it simply runs.
_LAST_RECALL = timedelta(seconds=1.5)
_LONGEST_WAIT = timedelta(hours=1)  # for a Retry-After


def _unheard_of(
    status: RunStatus, started_at: datetime | None, error: str | None = None
) -> Outcome:
    """The outcome of an attempt of which no worker could say what happened."""
    return Outcome(
        status=status,
        started_at=started_at,
        finished_at=workflow.now(),
        worker="",
        output=Output(),
        error=error,
    )


def _with_arguments(action: Action, order: RunOrder) -> Action:
    if order.arguments is None or not isinstance(action, PythonAction):
        return action
    return action.model_copy(update={"arguments": {**action.arguments, **order.arguments}})
