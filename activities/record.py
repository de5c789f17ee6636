"""Hands what a task's workflow knows to the log."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio import activity

from onthedot import metrics
from onthedot.database.run_log import Progress, RunLog
from onthedot.errors import DatabaseUnavailable
from onthedot.run import Run
from onthedot.task import TaskState

_HELD_FOR = 75.0  # seconds


@dataclass(frozen=True, kw_only=True)
class RecordProgress:
    """Rows for the log, and how the task stands; for the log's projection of the task."""

    task_id: str
    version: int
    state: TaskState
    next_due_at: datetime | None
    runs: list[Run]


class _Backlog:
    """The rows that workflows hold because the log did not take them, as they said it last."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, int]] = {}

    def held(self, holder: str, rows: int) -> None:
        self._held.pop(holder, None)  # the dict stays in the order of the times
        self._held[holder] = (time.monotonic(), rows)

    def taken(self, holder: str) -> None:
        self._held.pop(holder, None)

    def rows(self) -> int:
        # Its workflow tries again every 30 s at most; one that does not is elsewhere by now.
        since = time.monotonic() - _HELD_FOR
        # A copy, made at once: scrapes come from another thread.
        for holder, (at, _) in list(self._held.items()):
            if at > since:
                break
            self._held.pop(holder, None)
        return sum(rows for _, rows in list(self._held.values()))


class Recorder:
    """Writes to the log of this process, many workflows' rows at a time."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._backlog = _Backlog()
        metrics.BACKLOG.labels("workflows").set_function(self._backlog.rows)

    @activity.defn(name="record")
    async def record(self, order: RecordProgress) -> None:
        """Return when the rows are committed; raise DatabaseUnavailable when they could not be."""
        progress = Progress(
            task_id=order.task_id,
            version=order.version,
            next_due_at=order.next_due_at,
            state=order.state,
        )
        await self._write(order.task_id, order.runs, progress)

    @activity.defn(name="record-rows")
    async def record_rows(self, rows: list[Run]) -> None:
        """Return when rows of a long backlog are committed; raise DatabaseUnavailable."""
        await self._write(activity.info().workflow_id or "", rows)

    async def _write(
        self, holder: str, rows: Sequence[Run], progress: Progress | None = None
    ) -> None:
        try:
            await self._log.write(rows, progress)
        except DatabaseUnavailable:
            self._backlog.held(holder, len(rows))
            raise
        self._backlog.taken(holder)
