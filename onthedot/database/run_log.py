"""The log, written: all writers in a process hand their entries to one flusher.

It writes what has come together in one statement and only then answers each of the writers (group
commit). An entry is a run with how its task stands; rows move forward only, so that writing one
again changes nothing.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from onthedot import metrics, tracing
from onthedot.database.pool import CHANNEL, Connection, Pool, connection, transaction
from onthedot.database.runs import SQL, add_to_reason, make_month, some_runs
from onthedot.errors import DatabaseBusy, DatabaseUnavailable
from onthedot.run import Run, RunStatus
from onthedot.task import TaskState

logger = logging.getLogger(__name__)

_GATHER_SECONDS = 0.01
#: Of one flush; a statement of more rows might take longer than anybody waits for it.
_MOST_ENTRIES, _MOST_ROWS = 500, 1000
_WITHIN_SECONDS = 3.0
_BETWEEN_LOOKS = 0.5  # whether Postgres is back
_TOLD_TASKS = 50
_OUTPUTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a task stands, said by its workflow. It counts only for the version it names.

    Without a ``state`` it is said by one of its runs, which knows only when it is due after it. A run
    that finishes its task says that, and counts as its workflow's word.
    """

    task_id: str
    version: int
    next_due_at: datetime | None
    state: TaskState | None


@dataclass(slots=True, eq=False)
class _Entry:
    runs: Sequence[Run]
    progress: Progress | None
    written: asyncio.Future[None]


class RunLog:
    """The log of one process. Use it as an async context manager."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._entries: list[_Entry] = []
        self._arrived = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._months: set[tuple[int, int]] = set()
        self._is_away = False
        # Output is best effort: it leaves the pool to claims and to the flusher.
        self._output_turns = asyncio.Semaphore(_OUTPUTS_AT_ONCE)
        metrics.BACKLOG.labels("flusher").set_function(
            lambda: sum(len(entry.runs) for entry in self._entries)
        )

    async def __aenter__(self) -> "RunLog":
        self._flusher = asyncio.create_task(self._flush_for_ever(), name="log flusher")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._flusher:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        self._answer(self._entries, DatabaseUnavailable("the log was closed"))

    async def write(self, runs: Sequence[Run], progress: Progress | None = None) -> None:
        """Write the rows and how their task stands; return when they are committed.

        Raise DatabaseUnavailable when they could not be written: write them again later.
        """
        # Nobody waits for a Postgres that is known to be away: the timers of a workflow stand still
        # as long as it waits for its row to be written.
        if self._is_away:
            raise DatabaseUnavailable("Postgres does not answer")
        entry = _Entry(runs, progress, asyncio.get_running_loop().create_future())
        self._entries.append(entry)
        self._arrived.set()
        try:
            await entry.written
        except asyncio.CancelledError:  # its writer has given up, and may say something else now
            if entry in self._entries:
                self._entries.remove(entry)
            raise

    async def show_running(self, run: Run) -> None:
        """Show a run that goes on."""
        await self.write([run])

    async def record_success(self, run: Run, next_due_at: datetime | None) -> None:
        """Write the final row of a run that succeeded, and when its task is due next.

        Without ``next_due_at`` its task is finished. Raise DatabaseUnavailable when that could not
        be written.
        """
        progress = Progress(
            task_id=run.task_id,
            version=run.task_version,
            next_due_at=next_due_at,
            state=None if next_due_at else TaskState.FINISHED,
        )
        await self.write([run], progress)

    async def find_ended(self, run_id: str) -> Run | None:
        """The run where its final row is in the log; raise DatabaseUnavailable."""
        async with connection(self._pool, within=_WITHIN_SECONDS) as conn:
            found = await some_runs(conn, [run_id])
        return found[0] if found and found[0].status.is_final else None

    async def add_remark(self, run: Run, remark: str) -> None:
        """Say something more in the row of a run that has ended; raise DatabaseUnavailable."""
        async with connection(self._pool, within=_WITHIN_SECONDS) as conn:
            await add_to_reason(conn, run, remark)

    async def claim(self, run: Run, claim: str) -> bool:
        """Take the attempt ``run.attempt_count`` of a run, in a commit of its own.

        It is given to one ``claim`` only; to that as often as it asks.
        """
        async with connection(self._pool) as conn:
            await self._make_months(conn, [run])
            cursor = await conn.execute(SQL["claim"], {**_row(run), "claim": claim})
            return cursor.rowcount == 1

    async def append_output(
        self, run_id: str, due_at: datetime, attempt: int, position: int, chunk: str
    ) -> None:
        """Keep a piece of output that starts ``position`` bytes after the output's start.

        It waits for its turn; what is said meanwhile had better be in the next piece.
        """
        values = {
            "run_id": run_id,
            "due_at": due_at,
            "attempt": attempt,
            "position": position,
            "chunk": chunk,
        }
        async with self._output_turns, connection(self._pool) as conn:
            await conn.execute(SQL["append_output"], values)

    async def _flush_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            if self._is_away:
                self._answer(self._entries, DatabaseUnavailable("Postgres does not answer"))
                self._entries.clear()
                await self._wait_until_back()
            await asyncio.sleep(_GATHER_SECONDS)
            count = _taken_at_once(self._entries)
            entries, self._entries = self._entries[:count], self._entries[count:]
            if not self._entries:
                self._arrived.clear()
            try:
                if entries:
                    await self._flush(entries)
            except asyncio.CancelledError:
                self._answer(entries, DatabaseUnavailable("the log was closed"))
                raise

    async def _wait_until_back(self) -> None:
        while self._is_away:
            await asyncio.sleep(_BETWEEN_LOOKS)
            with contextlib.suppress(DatabaseUnavailable):
                async with connection(self._pool, within=_WITHIN_SECONDS) as conn:
                    await conn.execute("SELECT 1")
                self._is_away = False

    async def _flush(self, entries: list[_Entry]) -> None:
        began = time.perf_counter()
        try:
            await self._write_all(entries)
        except DatabaseBusy as error:
            _measured(began, "busy")
            await self._flush_each(entries, error)
        except DatabaseUnavailable as error:
            _measured(began, "away")
            self._is_away = True
            self._arrived.set()  # for the flusher to look when it is back
            self._answer(entries, error)
        except Exception as error:  # whatever it is, the flusher goes on: all writers wait for it
            _measured(began, "refused")
            await self._flush_each(entries, error)
        else:
            _measured(began, "committed")
            self._answer(entries, None)

    async def _flush_each(self, entries: list[_Entry], error: Exception) -> None:
        """One bad entry must not hold up the others."""
        self._months.clear()
        if len(entries) == 1:
            self._tell_refused(entries[0], error)
            self._answer(entries, DatabaseUnavailable(f"Postgres refused the row: {error}"))
        else:
            for entry in entries:
                if self._is_away:
                    self._answer([entry], DatabaseUnavailable("Postgres does not answer"))
                elif not entry.written.done():  # else its writer has given up
                    await self._flush([entry])

    @staticmethod
    def _tell_refused(entry: _Entry, error: Exception) -> None:
        runs = [one.run_id for one in entry.runs]
        task = entry.runs[0].task_id if entry.runs else entry.progress and entry.progress.task_id
        about = {"task_id": task, "run_ids": runs}
        logger.warning("refused: %s: %s", runs or task, error, extra=about)

    @staticmethod
    def _answer(entries: Iterable[_Entry], error: Exception | None) -> None:
        for entry in entries:
            if entry.written.done():  # its writer has given up
                continue
            if error is None:
                entry.written.set_result(None)
            else:
                entry.written.set_exception(error)

    async def _write_all(self, entries: Sequence[_Entry]) -> None:
        runs = _furthest(run for entry in entries for run in entry.runs)
        progress = _newest(entry.progress for entry in entries if entry.progress)
        with tracing.span("log flush", rows=len(runs), tasks=len(progress)):
            await self._commit(runs, progress)
        metrics.FLUSH_ROWS.observe(len(runs))
        metrics.count_recorded(runs)

    async def _commit(self, runs: Sequence[Run], progress: Sequence[Progress]) -> None:
        async with transaction(self._pool, within=_WITHIN_SECONDS) as conn:
            await self._make_months(conn, runs)
            async with conn.pipeline():
                await conn.execute(SQL["flush"], _flush_values(runs, progress))
                if attempts := _attempt_values(runs):
                    await conn.execute(SQL["insert_attempts"], attempts)
                await conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, _news(runs, progress)))

    async def _make_months(self, conn: Connection, runs: Iterable[Run]) -> None:
        for run in runs:
            month = (run.due_at.year, run.due_at.month)
            if month not in self._months:
                await make_month(conn, run.due_at)
                self._months.add(month)


def _taken_at_once(entries: Sequence[_Entry]) -> int:
    """How many of the first entries one flush takes: one, however long, or more of few rows."""
    rows = 0
    for count, entry in enumerate(entries[:_MOST_ENTRIES]):
        rows += len(entry.runs)
        if rows > _MOST_ROWS and count:
            return count
    return min(len(entries), _MOST_ENTRIES)


def _measured(began: float, outcome: str) -> None:
    metrics.FLUSH_SECONDS.labels(outcome).observe(time.perf_counter() - began)


def _furthest(runs: Iterable[Run]) -> list[Run]:
    """One row a run, its furthest, in a fixed order so that flushes do not block each other."""
    found: dict[str, Run] = {}
    for run in runs:
        before = found.get(run.run_id)
        if before is None or _rank(run) >= _rank(before):
            found[run.run_id] = run
    return sorted(found.values(), key=lambda run: (run.due_at, run.run_id))


def _rank(run: Run) -> tuple[int, int]:
    stage = {RunStatus.WAITING: 0, RunStatus.RUNNING: 1}.get(run.status, 2)
    return stage, run.attempt_count


def _newest(progress: Iterable[Progress]) -> list[Progress]:
    """One for each task: of its latest version, and the workflow's word rather than a run's."""
    found: dict[str, Progress] = {}
    for one in progress:
        before = found.get(one.task_id)
        if before is None or _weight(one) >= _weight(before):
            found[one.task_id] = one
    return sorted(found.values(), key=lambda one: one.task_id)


def _weight(progress: Progress) -> tuple[int, bool]:
    return progress.version, progress.state is not None


_COLUMNS = (
    "run_id",
    "task_id",
    "task_version",
    "trigger",
    "due_at",
    "started_at",
    "finished_at",
    "status",
    "reason",
    "attempt_count",
    "worker",
    "output",
    "output_size",
    "error",
    "result",
)


def _row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(run, name) for name in _COLUMNS if name != "output_size"}
    row["output"] = run.output.text if run.output else None
    row["output_size"] = run.output.size if run.output else None
    row["result"] = json.dumps(run.result) if run.result is not None else None
    return row


def _flush_values(runs: Sequence[Run], progress: Sequence[Progress]) -> dict[str, list[Any]]:
    rows = [_row(run) for run in runs]
    values = {column: [row[column] for row in rows] for column in _COLUMNS}
    values["progress_id"] = [one.task_id for one in progress]
    values["progress_version"] = [one.version for one in progress]
    values["progress_due"] = [one.next_due_at for one in progress]
    values["progress_state"] = [one.state for one in progress]
    return values


def _attempt_values(runs: Iterable[Run]) -> dict[str, list[Any]] | None:
    tries = [(run, attempt) for run in runs for attempt in run.attempts]
    if not tries:
        return None
    names = ("number", "status", "started_at", "finished_at", "worker", "error")
    values: dict[str, list[Any]] = {
        name: [getattr(one, name) for _, one in tries] for name in names
    }
    values["due_at"] = [run.due_at for run, _ in tries]
    values["run_id"] = [run.run_id for run, _ in tries]
    return values


def _news(runs: Sequence[Run], progress: Sequence[Progress]) -> str:
    """What the live pages are told: which tasks, unless there are too many, and whether runs."""
    tasks = {run.task_id for run in runs} | {one.task_id for one in progress}
    named = sorted(tasks) if len(tasks) <= _TOLD_TASKS else []
    return json.dumps({"tasks": named, "runs": bool(runs)})
