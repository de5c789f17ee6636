"""Works out which occurrences of a pause are run after all when their task is resumed.

How many they will be is asked before, by people; both answers come from here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from temporalio import activity

from activities.plan import MOST_ROWS, NotRun, NotRunRows, newest_before
from onthedot import duration, schedule
from onthedot.run import RunStatus
from onthedot.task import CatchUp, Schedule

#: A resume catches up with at most so many occurrences, the first of its pause.
MOST_CAUGHT_UP = MOST_ROWS
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class CatchUpPause:
    """The occurrences after ``cursor`` up to ``until`` (aware UTC) are those of a pause."""

    task_id: str
    schedule: Schedule
    cursor: datetime
    until: datetime
    catch_up: CatchUp


@dataclass(frozen=True, kw_only=True)
class CaughtUp:
    """What becomes of them."""

    kept: list[datetime]  # to be run, in order
    not_run: list[NotRun]


@activity.defn(name="catch-up")
async def catch_up(order: CatchUpPause) -> CaughtUp:
    """The occurrences of the pause that run after all, and the others with their reason."""
    kept = _kept(order)
    oldest = max(_oldest(order), order.cursor + _INSTANT)
    within = duration.write(order.catch_up.within)
    too_old = f"paused; older than the catch-up window of {within}"
    keeps = f"paused; catch-up keeps {order.catch_up.keep}"
    if order.catch_up.keep == "all":
        keeps = f"paused; catch-up runs no more than {MOST_CAUGHT_UP}"
    parts = [
        _not_run(order, order.cursor, oldest - _INSTANT, too_old),
        _not_run(order, oldest - _INSTANT, order.until, keeps, but=frozenset(kept)),
    ]
    return CaughtUp(kept=kept, not_run=[one for one in parts if one.due_at])


def catch_up_count(
    when: Schedule, task_id: str, paused_at: datetime, now: datetime, catch_up: CatchUp
) -> int:
    """How many runs a resume at ``now`` starts, of a pause since ``paused_at`` (both aware UTC)."""
    order = CatchUpPause(
        task_id=task_id, schedule=when, cursor=paused_at, until=now, catch_up=catch_up
    )
    return len(_kept(order))


def _kept(order: CatchUpPause) -> list[datetime]:
    if order.catch_up.keep == "none":
        return []
    just_before = max(order.cursor, _oldest(order) - _INSTANT)
    due_times = schedule.due_times(order.schedule, order.task_id, just_before)
    found = takewhile(lambda due: due <= order.until, due_times)
    kept = list(islice(found, MOST_CAUGHT_UP if order.catch_up.keep == "all" else 1))
    if order.catch_up.keep == "latest" and kept:
        limit = order.until + _INSTANT
        return [newest_before(order.schedule, order.task_id, kept[0], limit)]
    return kept


def _oldest(order: CatchUpPause) -> datetime:
    return order.until - min(order.catch_up.within, order.until - order.cursor)


def _not_run(
    order: CatchUpPause,
    after: datetime,
    until: datetime,
    reason: str,
    but: Collection[datetime] = (),
) -> NotRun:
    found = NotRunRows(RunStatus.SKIPPED, reason)
    for due in schedule.due_times(order.schedule, order.task_id, after):
        if due > until:
            break
        if found.full:
            found.pass_to(until)
            break
        if due not in but:
            found.add(due)
    return found.close()
