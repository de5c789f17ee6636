"""How many runs a resumed task catches up with, said before it is resumed."""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile

from activities.catch_up import MOST_CAUGHT_UP, catch_up_count
from onthedot import schedule
from onthedot.task import CatchUp, Schedule

#: As far as it is counted.
MOST = MOST_CAUGHT_UP


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """``runs`` occurrences would run, ``left_out`` ones would not; both are counted up to MOST."""

    since: datetime  # aware UTC
    until: datetime
    runs: int
    left_out: int


def count(
    of: Schedule, task_id: str, since: datetime, now: datetime, catch_up: CatchUp | None
) -> CaughtUp:
    """What becomes of the occurrences between ``since`` and ``now``; without catch-up none runs."""
    due_times = schedule.due_times(of, task_id, since)
    passed = sum(1 for _ in islice(takewhile(lambda due: due <= now, due_times), MOST))
    runs = catch_up_count(of, task_id, since, now, catch_up) if catch_up else 0
    return CaughtUp(since=since, until=now, runs=runs, left_out=max(passed - runs, 0))
