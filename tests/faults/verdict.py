"""What is said of a history: the promises that were not kept, and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tests.faults.history import Row


class Broken(StrEnum):
    """A promise that was not kept."""

    LOST = "lost"  # a due time without a row
    UNFINISHED = "unfinished"  # its row has no end
    LATE = "late"  # it started after its deadline
    EARLY = "early"  # it started before it was due
    NOT_RUN = "not run"  # its row says that it did not run, and there was no reason for that
    RAN = "ran"  # it ran although it was not to run
    ENDED_BADLY = "ended badly"  # it ran, and its action did not end as it always does
    TWO_ROWS = "two rows"  # an occurrence has more than one row
    UNCALLED_FOR = "uncalled for"  # a row that belongs to no due time and no request
    DOUBLED = "doubled"  # seen more often than its attempts, and those that were lost, explain
    UNSEEN = "unseen"  # the log says that it ran, and nobody outside has seen it
    UNLOGGED = "unlogged"  # it was seen outside, and the log does not say so
    BACKWARDS = "backwards"  # a row changed after its end, or vanished
    FORGOTTEN = "forgotten"  # a registration that was acknowledged is not there
    REGISTERED_TWICE = "registered twice"  # one registration made two tasks


@dataclass(frozen=True, kw_only=True)
class Violation:
    kind: Broken
    task_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.task_id}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was judged. Lags are in seconds, counted from when something could run the task."""

    occurrences: int
    runs: int
    calls: int
    skipped: int
    missed: int
    worst_lag: float
    p50: float
    p99: float
    lost: int
    doubled: int
    lost_attempts: int  # repeats after an attempt whose worker was lost


@dataclass(frozen=True, kw_only=True)
class Verdict:
    violations: list[Violation]
    figures: Figures

    def __str__(self) -> str:
        return "\n".join(map(str, self.violations)) or "all promises were kept"


def at(moment: datetime) -> str:
    """A moment as a violation names it."""
    return f"{moment:%H:%M:%S.%f}"[:-3]


def words(rows: Sequence[Row]) -> str:
    """Rows as a violation names them."""
    return "; ".join(_row_in_words(row) for row in rows)


def _row_in_words(row: Row) -> str:
    parts = [f"{row.status}"]
    if row.reason:
        parts.append(f"({row.reason})")
    if row.started_at:
        parts.append(f"from {at(row.started_at)}")
    if row.finished_at:
        parts.append(f"to {at(row.finished_at)}")
    return " ".join(parts)
