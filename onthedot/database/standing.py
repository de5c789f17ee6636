"""How the whole stands, in a few figures that are cheap to read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from onthedot.database import queries, workers
from onthedot.database.pool import Connection
from onthedot.database.workers import Worker
from onthedot.task import TaskState

SQL = queries.load(Path(__file__).with_suffix(".sql"))

#: A run that started in time shows in the log a second later; rows may wait for a moment.
OVERDUE_AFTER = timedelta(seconds=15)
_MOST_OVERDUE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    states: Mapping[TaskState, int]  # tasks by state, deleted ones included
    queues: Mapping[str, int]  # active tasks by queue, the fullest first
    oldest_change: float  # seconds that a change waits for the engine; 0 when none does
    oldest_request: float  # the same of triggers, backfills and cancels
    overdue: int  # active tasks whose due time passed without a trace of a run
    workers: Sequence[Worker]


async def standing(conn: Connection) -> Standing:
    """The figures as they are now."""
    rows = await _rows(conn, "tasks")
    (ages,) = await _rows(conn, "ages")
    bound = {"grace": OVERDUE_AFTER, "limit": _MOST_OVERDUE}
    (overdue,) = await _rows(conn, "overdue", bound)
    states, queues = Counter[TaskState](), Counter[str]()
    for row in rows:
        states[TaskState(row["state"])] += row["tasks"]
        if row["queue"] is not None:
            queues[row["queue"]] += row["tasks"]
    return Standing(
        states={state: states[state] for state in TaskState},
        queues=dict(queues.most_common()),
        oldest_change=max(ages["change"] or 0.0, 0.0),
        oldest_request=max(ages["request"] or 0.0, 0.0),
        overdue=overdue["tasks"],
        workers=await workers.seen(conn),
    )


async def _rows(
    conn: Connection, name: str, values: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    return await (await conn.execute(SQL[name], values)).fetchall()
