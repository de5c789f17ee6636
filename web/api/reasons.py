"""What keeps a task from running, one reason a function: from facts that were read before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, takewhile
from typing import Literal

from onthedot import schedule as schedules
from onthedot.clocks import MOST_SKEW
from onthedot.database.workers import Worker
from onthedot.engine import EngineHealth
from onthedot.run import Run, RunStatus, Trigger
from onthedot.suspension import REMEDY, Suspension
from onthedot.task import OverlapPolicy, Task, TaskState

Code = Literal[
    "deleted",
    "finished",
    "paused",
    "never_due",
    "engine_unreachable",
    "no_scheduler",
    "no_worker",
    "change_pending",
    "suspended",
    "before_window",
    "excluded",
    "limit",
    "overlap",
    "queued",
    "failing",
    "clock_skew",
]

_SKEW = timedelta(seconds=MOST_SKEW)
_SET_CLOCKS = "Let NTP set the clocks of all machines."
_MEANWHILE = {
    OverlapPolicy.SKIP: "what is due meanwhile is skipped",
    OverlapPolicy.QUEUE_ONE: "the next one waits for its end, others are skipped",
    OverlapPolicy.QUEUE_ALL: "those that follow wait for its end",
    OverlapPolicy.CANCEL_RUNNING: "it is cancelled when the next one is due",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a task does not run. ``since`` is aware UTC, ``remedy`` what would help."""

    code: Code
    message: str
    since: datetime | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a task at ``now`` (aware UTC)."""

    task: Task
    now: datetime
    due: list[datetime]  # the next due times
    going_on: list[Run]  # runs that wait or go on, the first due first
    latest: list[Run]  # the newest rows, the newest first
    health: EngineHealth
    clock_ahead: timedelta  # Postgres' clock beside ours
    workers: Sequence[Worker] = ()  # as they say of themselves
    suspension: Suspension | None = None


def reasons(facts: Facts) -> list[Reason]:
    """All that keeps the task from running, what weighs most first; none when nothing does."""
    if facts.task.state in (TaskState.DELETED, TaskState.FINISHED):
        return [*_ended(facts), *_failing(facts), *_clock(facts)]
    parts = (
        _paused,
        _never_due,
        _engine,
        _suspended,
        _pending,
        _window,
        _excluded,
        _busy,
        _failing,
        _clock,
    )
    return list(chain.from_iterable(part(facts) for part in parts))


def _ended(facts: Facts) -> Iterator[Reason]:
    task = facts.task
    if task.state is TaskState.DELETED:
        yield Reason(
            code="deleted",
            message=f"It was deleted by {task.updated_by}.",
            since=task.updated_at,
            remedy=f"POST /api/v1/tasks/{task.id}/versions/{max(task.version - 1, 1)}/restore",
        )
    else:
        yield Reason(
            code="finished",
            message="It is finished: no occurrence is left.",
            since=task.last_run_at,
            remedy="Give it another schedule.",
        )


def _paused(facts: Facts) -> Iterator[Reason]:
    pause = facts.task.pause
    if pause is None:
        return
    by = f" by {pause.by}" if pause.by else ""
    why = f": {pause.reason}" if pause.reason else ""
    until = f"until {pause.until:%Y-%m-%d %H:%M:%S} UTC" if pause.until else "until it is resumed"
    yield Reason(
        code="paused",
        message=f"It is paused{by}{why}. Its occurrences are skipped {until}.",
        since=pause.since,
        remedy=f"POST /api/v1/tasks/{facts.task.id}/resume",
    )


def _never_due(facts: Facts) -> Iterator[Reason]:
    if facts.task.state is TaskState.ACTIVE and not facts.due and not facts.going_on:
        remedy = "Give it another schedule."
        yield Reason(code="never_due", message="Its schedule has no due time left.", remedy=remedy)


def _engine(facts: Facts) -> Iterator[Reason]:
    health, queue = facts.health, facts.task.spec.queue
    if not health.reachable:
        remedy = "Start Temporal; `onthedot doctor` says which part does not answer."
        yield Reason(code="engine_unreachable", message=f"{health.detail}.", remedy=remedy)
    elif not any(worker.schedules for worker in health.workers):
        message = "No worker with the scheduler role is polling."
        yield Reason(code="no_scheduler", message=message, remedy="Start `onthedot worker`.")
    elif not any(worker.executes for worker in health.workers):
        yield Reason(
            code="no_worker",
            message=f"No worker polls the queue {queue}.",
            remedy=f"Start `onthedot worker --role executor --queue {queue}`.",
        )


def _suspended(facts: Facts) -> Iterator[Reason]:
    if facts.suspension is not None:
        yield Reason(
            code="suspended",
            message="It is suspended: the workers' code does not fit what its workflow has done.",
            since=facts.suspension.since,
            remedy=REMEDY,
        )


def _pending(facts: Facts) -> Iterator[Reason]:
    task = facts.task
    if not task.in_step:
        yield Reason(
            code="change_pending",
            message=f"The engine has version {task.engine_version} of it, and not yet version "
            f"{task.version}: the change is sent again until it is taken.",
            since=task.updated_at,
        )


def _window(facts: Facts) -> Iterator[Reason]:
    starts_at = getattr(facts.task.spec.schedule, "starts_at", None)
    if isinstance(starts_at, datetime) and starts_at > facts.now:
        yield Reason(
            code="before_window",
            message=f"Its schedule starts at {starts_at:%Y-%m-%d %H:%M:%S} UTC.",
            remedy="Change schedule.starts_at.",
        )


def _excluded(facts: Facts) -> Iterator[Reason]:
    """Due times before the next one that fall on days that are left out."""
    schedule = facts.task.spec.schedule
    if not facts.due or getattr(schedule, "exclude", None) is None:
        return
    without = schedule.model_copy(update={"exclude": None})
    first = schedules.next_due(without, facts.task.id, facts.now)
    if first is not None and first < facts.due[0]:
        yield Reason(
            code="excluded",
            message=f"It would be due at {first:%Y-%m-%d %H:%M:%S} UTC, on a day that its schedule "
            "leaves out.",
            remedy="Change schedule.exclude.",
        )


def _busy(facts: Facts) -> Iterator[Reason]:
    """What goes on, and what waits for it or for a limit."""
    policy = facts.task.spec.policies.overlap
    others = [run for run in facts.going_on if run.trigger is not Trigger.BACKFILL]
    running = [run for run in others if run.status is RunStatus.RUNNING]
    waiting = [run for run in others if run.status is RunStatus.WAITING]
    limited = [run for run in waiting if _waits_for_limit(facts.task, run)]
    if limited:
        first = limited[0]
        message = f"{_number(limited)} for a place: {first.reason} ({first.run_id})."
        remedy = "Raise the limit, or cancel a run that holds it."
        yield Reason(code="limit", message=message, since=first.due_at, remedy=remedy)
    if running and policy in _MEANWHILE:
        first = running[0]
        yield Reason(
            code="overlap",
            message=f"A run goes on ({first.run_id}): {_MEANWHILE[policy]}.",
            since=first.started_at,
            remedy=f"POST /api/v1/runs/{first.run_id}/cancel, or another policies.overlap.",
        )
    queued = [run for run in waiting if run not in limited]
    if queued:
        message = (
            f"{_number(queued)} for their turn or a free worker."
            if len(queued) > 1
            else (f"A run waits for its turn or a free worker ({queued[0].run_id}).")
        )
        yield Reason(code="queued", message=message, since=queued[0].due_at)


def _waits_for_limit(task: Task, run: Run) -> bool:
    """As workflows.places says it in the run's row, beside what the caller may have given."""
    said = run.reason or ""
    return any(f"limit {name}: " in said for name in task.spec.policies.limits)


def _number(runs: list[Run]) -> str:
    return "A run waits" if len(runs) == 1 else f"{len(runs)} runs wait"


def _failing(facts: Facts) -> Iterator[Reason]:
    ended = [run for run in facts.latest if run.status.is_final and run.started_at is not None]
    failed = list(takewhile(lambda run: run.status.is_failure, ended))
    if not failed:
        return
    newest = failed[0]
    many = f"Its last {len(failed)} runs" if len(failed) > 1 else "Its last run"
    at_least = " or more" if len(failed) == len(facts.latest) else ""
    yield Reason(
        code="failing",
        message=f"{many}{at_least} failed; the newest: {newest.error or newest.status.value}",
        since=failed[-1].started_at,
        remedy=f"GET /api/v1/runs/{newest.run_id} has its output.",
    )


def _clock(facts: Facts) -> Iterator[Reason]:
    ahead = facts.clock_ahead
    if abs(ahead) > _SKEW:
        side = "ahead of" if ahead > timedelta() else "behind"
        yield Reason(
            code="clock_skew",
            message=f"Postgres' clock is {abs(ahead).total_seconds():.1f} s {side} this server's: "
            "runs seem early or late.",
            remedy=_SET_CLOCKS,
        )
    for worker in facts.workers:
        if abs(worker.clock_skew_ms) > MOST_SKEW * 1000 and facts.task.spec.queue in worker.queues:
            ahead = timedelta(milliseconds=worker.clock_skew_ms)
            side, when = ("ahead of", "early") if ahead > timedelta() else ("behind", "late")
            yield Reason(
                code="clock_skew",
                message=f"The clock of worker {worker.identity} is {abs(ahead).total_seconds():.1f} s "
                f"{side} Postgres': what it runs starts {when}.",
                remedy=_SET_CLOCKS,
            )
