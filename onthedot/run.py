"""Runs: the executions of tasks, as the log keeps them."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class RunStatus(StrEnum):
    WAITING = "waiting"  # asked for, or for its turn, a limit or a worker
    RUNNING = "running"  # an attempt goes on, or the next one is waited for
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the action's last attempt went wrong, or its worker was lost
    TIMED_OUT = "timed_out"  # the last attempt took longer than the task's timeout
    CANCELLED = "cancelled"  # somebody did, deleted its task, or the next took its place
    SKIPPED = "skipped"  # did not run by a policy: the reason says which
    MISSED = "missed"  # did not run: left out by catch-up, or its task was changed first

    @property
    def is_final(self) -> bool:
        return self not in (RunStatus.WAITING, RunStatus.RUNNING)

    @property
    def is_failure(self) -> bool:
        return self in (RunStatus.FAILED, RunStatus.TIMED_OUT)


class Trigger(StrEnum):
    SCHEDULE = "schedule"  # its time came
    MANUAL = "manual"  # somebody asked for it
    BACKFILL = "backfill"  # somebody asked for a past range
    CATCH_UP = "catch_up"  # its time passed while nothing could run
    FOLLOW_UP = "follow_up"  # a run of another task ended

    @property
    def is_occurrence(self) -> bool:
        """Whether the schedule called for the run, in time or later."""
        return self in (Trigger.SCHEDULE, Trigger.CATCH_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What an action said: at most 16 KiB of its head and tail, and the size that it had."""

    text: str = ""
    size: int = 0  # bytes, before anything was left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run. Instants are aware UTC."""

    number: int  # 1 is the first
    status: RunStatus
    started_at: datetime
    finished_at: datetime
    worker: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One row of the log. Instants are aware UTC; rows move forward and never back."""

    run_id: str
    task_id: str
    task_version: int
    trigger: Trigger
    due_at: datetime
    status: RunStatus
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    attempt_count: int = 0
    worker: str | None = None
    output: Output | None = None
    error: str | None = None
    result: dict[str, Any] | None = (
        None  # what the kind of action adds: an HTTP status, an exit code
    )
    asked_by: str | None = None  # of a run that somebody asked for
    arguments: dict[str, Any] | None = None  # that it was asked with

    @property
    def lag_ms(self) -> float | None:
        """How long after its due time the first attempt started, in milliseconds."""
        if self.started_at is None:
            return None
        return round((self.started_at - self.due_at).total_seconds() * 1000, 3)


def scheduled_run_id(task_id: str, due_at: datetime) -> str:
    """The id of the run of an occurrence: the same whoever works it out."""
    return f"{task_id}.{_stamp(due_at)}"


def requested_run_id(task_id: str, due_at: datetime, key: str) -> str:
    """The id of a run that somebody asked for; ``key`` identifies the request."""
    return f"{task_id}.{_stamp(due_at)}.{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def due_at_of(run_id: str) -> datetime | None:
    """The due time that is written in a run id, or None when it is none of ours."""
    parts = run_id.split(".")
    if len(parts) not in (2, 3):
        return None
    try:
        return datetime.strptime(parts[1], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


_STAMP = "%Y%m%dT%H%M%S%fZ"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_STAMP)
