"""What operators see of an attempt: figures, the ids on log lines, the span of its trace."""

import contextlib
from datetime import datetime
from types import TracebackType
from typing import Self

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.messages import ExecuteAttempt, Outcome
from onthedot import clocks, logs, metrics, tracing
from onthedot.engine import queue_of
from onthedot.run import Trigger

_HANDED_BACK, _CUT_OFF, _BEGAN = "handed back", "cut off", "began"
#: In the row of a run that is not started again: an action that takes a moment has said nothing.
MAY_HAVE_BEGUN = "its worker was lost, and may have begun it"
_LOST_BEFORE = "its worker was lost, and it was started again"
_STOPPED_BEFORE = "its worker stopped, and it was started again"
_GIVEN_BACK = {"HandedBack": "handed_back", "WorkerStopped": "worker_stopped"}


class Watch:
    """Watches one attempt, from its arrival at this worker to its end."""

    def __init__(self, order: ExecuteAttempt) -> None:
        self._order = order
        self._queue = queue_of(activity.info().task_queue)
        self._held = metrics.WAITING
        self._outcome: str | None = None
        self.follows_a_loss = False  # another worker had it before, and was lost
        self.had_begun = False  # so far as it said so: an action that takes a moment does not
        self.remark: str | None = None  # what that means for the row of the run
        self._lines = contextlib.ExitStack()

    def __enter__(self) -> Self:
        order, info = self._order, activity.info()
        self._held.inc()
        about = {"task_id": order.task_id, "run_id": order.run_id, "attempt": order.number}
        self._lines.enter_context(logs.about(**about, workflow_id=info.workflow_id))
        tracing.describe(**about, trigger=order.trigger, due_at=order.due_at.isoformat())
        clocks.ENGINE.arrived(info.started_time)
        if info.attempt > 1:
            word, is_of_last, _ = _told_before()
            given_back = word in (_HANDED_BACK, _CUT_OFF) and is_of_last
            self.follows_a_loss = not given_back
            self.had_begun = word in (_BEGAN, _CUT_OFF)
            if self.follows_a_loss:
                self.remark = _LOST_BEFORE
            elif word == _CUT_OFF:
                self.remark = _STOPPED_BEFORE
            metrics.REDELIVERED.labels("lost" if self.follows_a_loss else "handed_back").inc()
        return self

    def started(self, at: datetime) -> None:
        """Its instant has come, and the action begins."""
        self._held.dec()
        self._held = metrics.GOING_ON
        self._held.inc()
        tracing.happened("started")
        if self._order.number == 1:
            metrics.FIRINGS.labels(self._queue, self._order.trigger.value).inc()
            if self._is_scheduled:
                metrics.START_LAG.labels(self._queue).observe(self._lag(at))

    def ended(self, outcome: Outcome) -> None:
        self._outcome = outcome.status.value
        tracing.describe(status=outcome.status)
        if self._order.number == 1 and self._is_scheduled and outcome.started_at is not None:
            lag = self._lag(outcome.started_at)
            metrics.RUN_LAG.labels(self._queue, outcome.status.value).observe(lag)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._held.dec()
        given_back = error.type if isinstance(error, ApplicationError) else None
        outcome = self._outcome or _GIVEN_BACK.get(given_back or "", "error")
        metrics.ATTEMPTS.labels(self._order.action.kind, outcome).inc()
        self._lines.close()

    @property
    def _is_scheduled(self) -> bool:
        return self._order.trigger is Trigger.SCHEDULE

    def _lag(self, started_at: datetime) -> float:
        return (started_at - self._order.due_at).total_seconds()


def begun() -> tuple[str, int]:
    """What the heartbeats of an attempt say whose action has begun."""
    return _BEGAN, activity.info().attempt


def tell_handed_back(claim: str | None = None) -> None:
    """Say in a heartbeat that this worker gives the attempt back: the next tells it from a loss.

    The action has not begun, so that a ``claim`` that the log may have is the next one's.
    """
    activity.heartbeat(_HANDED_BACK, activity.info().attempt, claim or passed_on_claim())


def tell_cut_off() -> None:
    """The same of an attempt whose action had begun."""
    activity.heartbeat(_CUT_OFF, activity.info().attempt)


def passed_on_claim() -> str | None:
    """The claim of the worker that had this attempt before, if it gave it back without beginning."""
    word, is_of_last, claim = _told_before()
    return claim if word == _HANDED_BACK and is_of_last else None


def _told_before() -> tuple[str | None, bool, str | None]:
    """What heartbeats said last of an attempt, whether the worker before this one did, and its claim.

    The engine keeps what was said last, over workers that say nothing.
    """
    info = activity.info()
    word, number, claim = (*info.heartbeat_details, None, None, None)[:3]
    return word, info.attempt > 1 and number == info.attempt - 1, claim
