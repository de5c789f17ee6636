"""What a test knows of a scheduler that was watched: plain data, which the checker judges.

All instants are aware UTC, from clocks of one machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from onthedot.run import RunStatus, Trigger
from onthedot.task import TaskSpec, TaskState


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a task's state, which the engine had taken when it was acknowledged."""

    state: TaskState
    asked_at: datetime
    acknowledged_at: datetime


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A task whose registration was acknowledged."""

    task_id: str
    spec: TaskSpec  # as it was answered, with its anchor
    since: datetime  # it is due from then on
    observed: bool = True  # its runs call somebody who writes it down
    ends: frozenset[RunStatus] = frozenset({RunStatus.SUCCEEDED})  # how its runs may end
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A task as the database has it in the end."""

    name: str
    spec: TaskSpec
    in_step: bool  # the engine has taken it
    state: TaskState
    has_workflow: bool  # that is open


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the log."""

    run_id: str
    task_id: str
    trigger: Trigger
    due_at: datetime
    status: RunStatus
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt_count: int = 0

    @property
    def ran(self) -> bool:
        return self.started_at is not None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The log as it was read while the test went on: rows by their run's id."""

    at: datetime
    rows: Mapping[str, Row]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A run as it was seen from outside, with its Idempotency-Key: the id of the run."""

    key: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A run on request that was acknowledged."""

    run_id: str
    task_id: str
    due_at: datetime


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which nothing could run: no worker or no engine, until both were ready again."""

    begun_at: datetime
    ended_at: datetime
    healing_from: datetime | None = None  # from when on something may have run; else its end
    only_at_most_once: bool = False  # the log was away: runs that must be claimed had to wait


@dataclass(frozen=True, kw_only=True)
class History:
    """All that is known. What is due after ``until`` is not judged."""

    tasks: Sequence[Registered]
    stored: Mapping[str, Stored]
    rows: Sequence[Row]
    until: datetime
    calls: Sequence[Call] = ()
    samples: Sequence[Sample] = ()
    asked: Sequence[Asked] = ()
    outages: Sequence[Outage] = ()
    #: By how much the clock of a worker may be off, beside that of the observer.
    clocks_differ_by: timedelta = timedelta()
    #: Attempts whose worker was lost or stopped, as the engine has recorded them, by run.
    lost_attempts: Mapping[str, int] = field(default_factory=dict)
