"""The workers as the page shows them: what each says of itself, and those that only the engine sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from onthedot import engine
from onthedot.clocks import MOST_SKEW
from onthedot.database.workers import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    identity: str
    does: str
    queues: Sequence[str] = ()
    version: str | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    clock: str | None = None
    clock_is_off: bool = False


_ROLES = {
    "all": "schedules and runs tasks",
    "scheduler": "schedules tasks",
    "executor": "runs tasks",
}


def worker_rows(told: Sequence[Worker], polling: Sequence[engine.Worker]) -> list[WorkerRow]:
    """One row a worker, by identity; ``polling`` are those that the engine has seen."""
    rows = {one.identity: _told(one) for one in told}
    for one in polling:
        role = "executor" if not one.schedules else "all" if one.executes else "scheduler"
        rows.setdefault(
            one.identity,
            WorkerRow(identity=one.identity, does=_ROLES[role], seen_at=one.last_seen_at),
        )
    return sorted(rows.values(), key=lambda row: row.identity)


def _told(worker: Worker) -> WorkerRow:
    skew = worker.clock_skew_ms
    side = "ahead" if skew > 0 else "behind"
    return WorkerRow(
        identity=worker.identity,
        does=_ROLES[worker.role],
        queues=worker.queues,
        version=worker.version,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        clock="in step" if abs(skew) < 50 else f"{abs(skew) / 1000:.2f} s {side}",
        clock_is_off=abs(skew) > MOST_SKEW * 1000,
    )
