"""What workflows are sent: how a task shall be, and what was asked of it."""

from dataclasses import dataclass, field
from datetime import datetime

from activities.follow_ups import StartFollowUps
from activities.messages import RunOrder
from activities.plan import Occurrence
from onthedot.run import Run
from onthedot.task import CatchUp, FollowUps, TaskSpec, TaskState


@dataclass(frozen=True, kw_only=True)
class KeepRun:
    """A run that is made by a workflow of its own: what its task's knows of it."""

    workflow_id: str
    order: RunOrder  # without what only its attempts need
    start_at: datetime
    follow_ups: FollowUps
    recalled: bool = False
    comes_back: bool = False
    cancel_reason: str | None = None
    shown: bool = False
    in_line: bool = False
    due_again: bool = False  # it was cancelled, and its task is registered again


@dataclass(kw_only=True)
class KeepTask:
    """A TaskWorkflow's input and whole state: continuing as new loses nothing."""

    task_id: str
    version: int
    spec: TaskSpec
    state: TaskState
    cursor: datetime  # occurrences up to here are dealt with
    only: Occurrence | None = None  # all that a new task has ahead: it needs no plan
    queue: list[RunOrder] = field(default_factory=list)  # run one after the other
    backfill: list[RunOrder] = field(default_factory=list)  # the same, beside the others
    had_turn: list[datetime] = field(default_factory=list)  # the latest occurrences, by due time
    unrecorded: list[Run] = field(default_factory=list)
    changed: bool = False  # the log is to hear how the task stands, whether or not rows wait
    taken: list[str] = field(default_factory=list)  # the latest requests that were taken
    paused_until: datetime | None = None  # of a paused task that resumes by itself
    failures: int = 0  # runs that failed in a row
    follow_ups: list[StartFollowUps] = field(default_factory=list)  # that are to be started
    apart: list[KeepRun] = field(default_factory=list)  # that go on meanwhile
    changed_at: datetime | None = None  # of the version; None: not told by who started it


@dataclass(frozen=True, kw_only=True)
class ReviseTask:
    """The whole desired state of a task. A version that is not newer changes nothing.

    Where Postgres has lost versions, others with their numbers are made later.
    """

    version: int
    spec: TaskSpec
    state: TaskState
    changed_at: datetime
    paused_until: datetime | None = None  # of a paused task that resumes by itself
    catch_up: CatchUp | None = (
        None  # on resuming: for the occurrences of the pause; None skips them
    )
    let_finish: bool = False  # on deleting: a run that goes on comes to its end


@dataclass(frozen=True, kw_only=True)
class StartRuns:
    """Start runs that were asked for, in this order."""

    request_id: str
    orders: list[RunOrder]
    at_once: int = 1  # of a backfill: how many runs may go on at the same time


@dataclass(frozen=True, kw_only=True)
class CancelRun:
    request_id: str
    run_id: str
