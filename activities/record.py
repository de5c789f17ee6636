"""Hands what a task's workflow knows to the log."""

from dataclasses import dataclass
from datetime import datetime

from temporalio import activity

from onthedot.database.run_log import Progress, RunLog
from onthedot.run import Run
from onthedot.task import TaskState


@dataclass(frozen=True, kw_only=True)
class RecordProgress:
    """Rows for the log, and how the task stands; for the log's projection of the task."""

    task_id: str
    version: int
    state: TaskState
    next_due_at: datetime | None
    runs: list[Run]


class Recorder:
    """Writes to the log of this process, many workflows' rows at a time."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    @activity.defn(name="record")
    async def record(self, order: RecordProgress) -> None:
        """Return when the rows are committed; raise DatabaseUnavailable when they could not be."""
        progress = Progress(
            task_id=order.task_id,
            version=order.version,
            next_due_at=order.next_due_at,
            state=order.state,
        )
        await self._log.write(order.runs, progress)
