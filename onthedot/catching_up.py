"""How many runs a resumed task catches up with, said before it is resumed."""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile

from onthedot import schedule
from onthedot.task import CatchUp, Schedule

#: As far as it is counted: the same as the most runs that are caught up with at once.
MOST = 1000


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
    keep, within = (catch_up.keep, catch_up.within) if catch_up else ("none", now - since)
    oldest = max(since, now - within)

    def number(after: datetime, until: datetime) -> int:
        due_times = schedule.due_times(of, task_id, after)
        return sum(1 for _ in islice(takewhile(lambda due: due <= until, due_times), MOST))

    passed, recent = number(since, now), number(oldest, now)
    runs = {"all": recent, "latest": min(recent, 1), "none": 0}[keep]
    return CaughtUp(since=since, until=now, runs=runs, left_out=passed - runs)
