"""Which runs a backfill makes: the due times of a past range, and what the log has of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal

from onthedot import schedule
from onthedot.errors import FieldError, InvalidInput
from onthedot.run import RunStatus
from onthedot.task import Task

#: ``missing``: without a row, or skipped or missed. ``failed``: failed or timed out.
Which = Literal["all", "missing", "failed"]
Order = Literal["oldest_first", "newest_first"]

MOST_RUNS = 1000
MOST_AT_ONCE = 100
_MOST_LOOKED_AT = 20_000
#: Nothing was due before; and a moment before the calendar's first one is no time at all.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

_CHOSEN: dict[Which, frozenset[RunStatus | None]] = {
    "all": frozenset((None, *RunStatus)),
    "missing": frozenset((None, RunStatus.SKIPPED, RunStatus.MISSED)),
    "failed": frozenset((RunStatus.FAILED, RunStatus.TIMED_OUT)),
}
#: Of several rows of a due time, the first of these says how it stands.
_WEIGHT = (
    RunStatus.SUCCEEDED,
    RunStatus.RUNNING,
    RunStatus.WAITING,
    RunStatus.FAILED,
    RunStatus.TIMED_OUT,
    RunStatus.CANCELLED,
    RunStatus.SKIPPED,
    RunStatus.MISSED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTime:
    """A due time (aware UTC) and how it stands in the log; None where it has no row."""

    due_at: datetime
    exists: RunStatus | None


def due_times(task: Task, start: datetime, end: datetime, now: datetime) -> list[datetime]:
    """The task's due times from ``start`` to ``end``, both included; raise InvalidInput."""
    _check_range(start, end, now)
    just_before = max(start, _FIRST).astimezone(UTC) - timedelta(microseconds=1)
    found = []
    for due in takewhile(
        lambda due: due <= end, schedule.due_times(task.spec.schedule, task.id, just_before)
    ):
        found.append(due)
        if len(found) > _MOST_LOOKED_AT:
            raise _too_many(end, f"more than {_MOST_LOOKED_AT}")
    return found


def check_kept(start: datetime, first: datetime, oldest: datetime) -> None:
    """Raise InvalidInput where the log would drop a run due at ``first``: it keeps the month of
    ``oldest`` and those after it.
    """
    kept_from = oldest.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if first < kept_from:
        problem = f"{first.isoformat()} was due then, and the log keeps nothing that old"
        remedy = f"give an instant from {kept_from.isoformat()} on (ONTHEDOT_RETENTION)"
        raise InvalidInput(FieldError("start", start.isoformat(), problem, remedy))


def choose(
    found: Iterable[datetime],
    known: Mapping[datetime, set[RunStatus]],
    which: Which,
    end: datetime,
) -> list[DueTime]:
    """Those of the due times that are to be run, by what the log has of them; raise InvalidInput."""
    stand = (DueTime(due_at=due, exists=_standing(known.get(due, set()))) for due in found)
    chosen = [one for one in stand if one.exists in _CHOSEN[which]]
    if len(chosen) > MOST_RUNS:
        raise _too_many(end, str(len(chosen)))
    return chosen


def nothing_to_run(start: datetime, end: datetime, which: Which, any_due: bool) -> InvalidInput:
    if any_due:
        remedy = "choose which = all to run its due times all the same"
        return InvalidInput(FieldError("which", which, "nothing in the range is to be run", remedy))
    remedy = "give a range in which the task was due"
    problem = f"nothing was due until {end.isoformat()}"
    return InvalidInput(FieldError("start", start.isoformat(), problem, remedy))


def _standing(statuses: set[RunStatus]) -> RunStatus | None:
    return next((one for one in _WEIGHT if one in statuses), None)


def _check_range(start: datetime, end: datetime, now: datetime) -> None:
    for name, moment in (("start", start), ("end", end)):
        if moment.tzinfo is None:
            remedy = "write it with an offset, such as 2026-12-01T00:00:00Z"
            raise InvalidInput(FieldError(name, moment.isoformat(), "no offset", remedy))
    if end < start:
        remedy = f"give an instant from {start.isoformat()} on"
        raise InvalidInput(FieldError("end", end.isoformat(), "before start", remedy))
    if end > now:
        remedy = "give an instant that has passed"
        raise InvalidInput(FieldError("end", end.isoformat(), "in the future", remedy))


def _too_many(end: datetime, number: str) -> InvalidInput:
    remedy = f"give a range with at most {MOST_RUNS} runs to be made"
    return InvalidInput(FieldError("end", end.isoformat(), f"{number} runs are too many", remedy))
