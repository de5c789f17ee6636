"""Works out what is due next. Due times never come from workflow code: a new time-zone database
or cron library must not change a replay. It needs no database.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from temporalio import activity

from onthedot import duration, schedule
from onthedot.run import RunStatus, Trigger
from onthedot.task import CatchUp, Schedule

#: An occurrence that is at most this late simply runs; what is later is a matter of catch-up.
GRACE = timedelta(seconds=10)
#: The due times of such a span are planned ahead, as far as there is room for them.
_CERTAIN = timedelta(days=1)
#: So many occurrences that do not run get a row each; the last row counts the rest,
MOST_ROWS = 1000
#: as far as counting stays cheap.
MOST_COUNTED = 50_000


@dataclass(frozen=True, kw_only=True)
class PlanOccurrences:
    """What is due after ``cursor``, seen at ``now`` (both aware UTC)."""

    task_id: str
    schedule: Schedule
    catch_up: CatchUp
    cursor: datetime
    now: datetime
    count: int  # how many occurrences to plan


@dataclass(frozen=True, kw_only=True)
class PassOver:
    """Occurrences after ``cursor`` up to ``until`` that do not run, all for the same reason."""

    task_id: str
    schedule: Schedule
    cursor: datetime
    until: datetime
    status: RunStatus
    reason: str


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    due_at: datetime
    lead: timedelta  # how long before its due time it is sent to a worker
    trigger: Trigger = Trigger.SCHEDULE


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """Occurrences that do not run, with their reason; the last row may count further ones."""

    status: RunStatus
    reason: str
    due_at: list[datetime] = field(default_factory=list)
    uncounted: int = (
        0  # further ones without a row of their own; from MOST_COUNTED on, at least so many
    )
    until: datetime | None = None  # the last of all of them


@dataclass(frozen=True, kw_only=True)
class Plan:
    occurrences: list[Occurrence]  # to be run, in order
    not_run: list[NotRun]
    ends: bool  # nothing is due after these


@activity.defn(name="plan")
async def plan(order: PlanOccurrences) -> Plan:
    """The next occurrences, and what becomes of those whose time has passed."""
    due_times = schedule.due_times(order.schedule, order.task_id, order.cursor)
    not_run, kept, ahead = _sort_out(due_times, order)
    late = [Occurrence(due_at=due, lead=timedelta(), trigger=Trigger.CATCH_UP) for due in kept]
    planned = _soon(ahead, order.now)
    cut_off = len(planned) < len(ahead) or len(ahead) == order.count or len(kept) == MOST_ROWS
    return Plan(occurrences=late + _with_leads(planned, order), not_run=not_run, ends=not cut_off)


@activity.defn(name="pass-over")
async def pass_over(order: PassOver) -> NotRun:
    """The occurrences that were passed over."""
    found = NotRunRows(order.status, order.reason)
    for due in schedule.due_times(order.schedule, order.task_id, order.cursor):
        if due > order.until or found.full:
            break
        found.add(due)
    return found.close()


def why_missed(due_at: datetime, now: datetime, catch_up: CatchUp) -> str | None:
    """Why an occurrence does not run which nothing could start until ``now``; None where it does."""
    late = now - due_at
    if late <= GRACE:
        return None
    if late > catch_up.within:
        return _longer_than(catch_up.within)
    return _keeps(catch_up.keep) if catch_up.keep == "none" else None


def _longer_than(within: timedelta) -> str:
    return f"outage longer than the catch-up window of {duration.write(within)}"


def _keeps(keep: str) -> str:
    return f"outage; catch-up keeps {keep}"


def _soon(ahead: list[datetime], now: datetime) -> list[datetime]:
    """Those within a day, and one more: a plan stands, also when the rules of its zone change."""
    return ahead[: sum(due - now <= _CERTAIN for due in ahead) + 1]


class _Sorted(NamedTuple):
    not_run: list[NotRun]
    late: list[datetime]  # to be caught up
    ahead: list[datetime]


def _sort_out(due_times: Iterator[datetime], order: PlanOccurrences) -> _Sorted:
    keep, within = order.catch_up.keep, order.catch_up.within
    too_old = NotRunRows(RunStatus.MISSED, _longer_than(within))
    not_kept = NotRunRows(RunStatus.MISSED, _keeps(keep))
    kept: list[datetime] = []
    ahead: list[datetime] = []
    for due in due_times:
        if too_old.full and order.now - due > within:  # a long outage: go on where it matters
            rest = schedule.due_times(order.schedule, order.task_id, order.now - within)
            later = _sort_out(rest, order)
            return later._replace(not_run=[too_old.close(), *later.not_run])
        if not_kept.full:
            newest = newest_before(order.schedule, order.task_id, due, order.now - GRACE)
            kept = [newest] if keep == "latest" else []
            not_kept.pass_to(newest - timedelta(microseconds=len(kept)))
            rest = schedule.due_times(order.schedule, order.task_id, newest)
            ahead = _sort_out(rest, order).ahead
            break
        late = order.now - due
        if late <= GRACE:
            ahead.append(due)
        elif late > within:
            too_old.add(due)
        elif keep == "none":
            not_kept.add(due)
        elif keep == "latest":
            if kept:
                not_kept.add(kept.pop())
            kept.append(due)
        else:
            kept.append(due)
        if len(ahead) == order.count or len(kept) == MOST_ROWS:
            break
    return _Sorted([rows.close() for rows in (too_old, not_kept) if rows.found], kept, ahead)


def newest_before(when: Schedule, task_id: str, due_before: datetime, limit: datetime) -> datetime:
    """The last due time before ``limit``; ``due_before`` is one of them.

    It halves the time that is left, as there may be millions of them.
    """
    newest, none_after = due_before, limit
    while none_after - newest > timedelta(seconds=1):
        middle = newest + (none_after - newest) / 2
        due = schedule.next_due(when, task_id, middle)
        if due is not None and due < limit:
            newest = due
        else:
            none_after = middle
    for due in schedule.due_times(when, task_id, newest):
        if due >= limit:
            break
        newest = due
    return newest


def _with_leads(due_times: list[datetime], order: PlanOccurrences) -> list[Occurrence]:
    previous: datetime | None = None
    occurrences = []
    for due in due_times:
        lead = schedule.lead(order.schedule, order.task_id, due, previous)
        occurrences.append(Occurrence(due_at=due, lead=lead))
        previous = due
    return occurrences


class NotRunRows:
    """Collects occurrences that do not run; past MOST_ROWS it only counts them."""

    def __init__(self, status: RunStatus, reason: str) -> None:
        self._status, self._reason = status, reason
        self.found: list[datetime] = []
        self._rest = 0
        self._last: datetime | None = None

    def add(self, due: datetime) -> None:
        self._last = due
        if len(self.found) < MOST_ROWS:
            self.found.append(due)
        else:
            self._rest += 1

    def pass_to(self, last: datetime) -> None:
        """Add all up to ``last`` without counting them."""
        self._last = last

    @property
    def full(self) -> bool:
        return self._rest >= MOST_COUNTED

    def close(self) -> NotRun:
        return NotRun(
            status=self._status,
            reason=self._reason,
            due_at=self.found,
            uncounted=self._rest,
            until=self._last,
        )
