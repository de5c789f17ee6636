"""What is asked for as a run, what the executor is sent for one attempt, and what it answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from onthedot.run import Attempt, Output, RunStatus, Trigger
from onthedot.task import Action, CatchUp, OverlapPolicy


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """A run that waits for its turn."""

    run_id: str
    trigger: Trigger
    due_at: datetime  # aware UTC
    arguments: dict[str, Any] | None = None  # in the place of the action's own
    overlap: OverlapPolicy | None = None  # in the place of the task's own
    at_once: int = 1  # of a backfill: it starts while fewer than so many of them go on
    reason: str | None = None  # why it was asked for
    outcome: dict[str, Any] | None = None  # of the run that it follows


@dataclass(frozen=True, kw_only=True)
class AfterSuccess:
    """How a task stands once a run of it has succeeded, as its workflow sees it beforehand."""

    next_due_at: datetime | None  # aware UTC; None when it is finished then


@dataclass(frozen=True, kw_only=True)
class ExecuteAttempt:
    """One attempt of a run. It starts at ``start_at`` (aware UTC), not before."""

    run_id: str
    task_id: str
    task_version: int
    trigger: Trigger
    due_at: datetime
    start_at: datetime
    number: int  # 1 is the first
    action: Action
    timeout: timedelta  # of the action itself, counted from its start
    delivery: Literal["at_least_once", "at_most_once"]
    outcome: dict[str, Any] | None = None  # of the run that it follows
    after_success: AfterSuccess | None = None  # where the attempt may write its run's final row
    catch_up: CatchUp | None = None  # what becomes of a run that nothing could start in time


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended. Only the machinery's own troubles are raised instead."""

    status: RunStatus  # succeeded, failed, timed_out, cancelled or missed
    started_at: datetime | None  # None when it did not start
    finished_at: datetime
    worker: str
    output: Output
    error: str | None = None
    result: dict[str, Any] | None = None
    retry_after: timedelta | None = None  # what a server asked for
    may_retry: bool = True  # False where another attempt would be wrong
    remark: str | None = None  # what the row of the run shall say
    is_recorded: bool = False  # whether the final row of the run is in the log already

    def attempt(self, number: int) -> Attempt | None:
        """The attempt as the log keeps it; None where it did not start."""
        if self.started_at is None:
            return None
        return Attempt(
            number=number,
            status=self.status,
            started_at=self.started_at,
            finished_at=self.finished_at,
            worker=self.worker,
            error=self.error,
        )

    @property
    def end_codes(self) -> tuple[str, ...]:
        """What a policy calls this failure: ``404`` and ``4xx``, or an exit code such as ``2``."""
        result = self.result or {}
        if self.status is not RunStatus.FAILED:
            return ()
        if isinstance(status := result.get("status"), int):
            return str(status), f"{status // 100}xx"
        if isinstance(code := result.get("exit_code"), int):
            return (str(code),)
        return ()
