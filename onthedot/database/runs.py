"""The log of runs, read one by one. ``run_log`` writes it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from onthedot.database import queries
from onthedot.database.pool import Connection
from onthedot.errors import NotFound
from onthedot.run import Attempt, Output, Run, RunStatus, Trigger, due_at_of
from onthedot.task import Task

_PLAIN = (
    "run_id",
    "task_id",
    "task_version",
    "due_at",
    "started_at",
    "finished_at",
    "reason",
    "attempt_count",
    "worker",
    "error",
    "result",
    "asked_by",
    "arguments",
)
_COLUMNS = (*_PLAIN, "trigger", "status", "output", "output_size")
SQL = queries.load(Path(__file__).with_suffix(".sql"), run=_COLUMNS)


def read_run(row: dict[str, Any], attempts: Sequence[Attempt] = ()) -> Run:
    """The run in a row of ``runs``."""
    return Run(
        trigger=Trigger(row["trigger"]),
        status=RunStatus(row["status"]),
        attempts=list(attempts),
        output=None
        if row["output"] is None
        else Output(text=row["output"], size=row["output_size"] or 0),
        **{name: row[name] for name in _PLAIN},
    )


async def get_run(conn: Connection, run_id: str) -> Run:
    """The run with its attempts; raise NotFound."""
    key = {"run_id": run_id, "due_at": due_at_of(run_id)}
    row = await (await conn.execute(SQL["get_run"], key)).fetchone() if key["due_at"] else None
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    tries = await (await conn.execute(SQL["get_attempts"], key)).fetchall()
    return read_run(row, [Attempt(**{**one, "status": RunStatus(one["status"])}) for one in tries])


async def get_output(conn: Connection, run: Run) -> str:
    """What the last attempt has said: all that was kept as chunks, else the head and tail."""
    key = {"run_id": run.run_id, "due_at": run.due_at}
    rows = await (await conn.execute(SQL["get_output"], key)).fetchall()
    kept = "".join(row["chunk"] for row in rows)
    short = run.output.text if run.output else ""
    return kept if len(kept) > len(short) else short


async def some_runs(conn: Connection, run_ids: Sequence[str]) -> list[Run]:
    """Those of the runs that are in the log, by due time."""
    cursor = await conn.execute(SQL["some_runs"], _keys(run_ids))
    return [read_run(row) for row in await cursor.fetchall()]


async def going_on(
    conn: Connection, task_id: str, *, now: datetime, limit: int = 1000
) -> list[Run]:
    """The runs of a task that wait or go on at ``now`` (aware), the first due first."""
    bound = {"task_id": task_id, "now": now, "limit": limit}
    return [read_run(row) for row in await (await conn.execute(SQL["going_on"], bound)).fetchall()]


async def had_turn(conn: Connection, task: Task, after: datetime, *, limit: int) -> list[datetime]:
    """The due times of a task after ``after`` (aware) that are over by the log, ascending.

    Those that an older version left out as the task was deleted are not: they may come again.
    """
    bound = {"task_id": task.id, "version": task.version, "after": after, "limit": limit}
    rows = await (await conn.execute(SQL["had_turn"], bound)).fetchall()
    return sorted(row["due_at"] for row in rows)


async def statuses_of_due_times(
    conn: Connection, task_id: str, first: datetime, last: datetime
) -> dict[datetime, set[RunStatus]]:
    """What the log has of a task's due times from ``first`` to ``last``, both included."""
    bound = {"task_id": task_id, "first": first, "last": last}
    rows = await (await conn.execute(SQL["statuses_of_due_times"], bound)).fetchall()
    return {row["due_at"]: set(map(RunStatus, row["statuses"])) for row in rows}


def _keys(run_ids: Sequence[str]) -> dict[str, list[Any]]:
    known = [(one, due) for one in run_ids if (due := due_at_of(one))]
    return {"run_ids": [one for one, _ in known], "due_ats": [due for _, due in known]}


async def insert_waiting(
    conn: Connection,
    task_id: str,
    task_version: int,
    trigger: Trigger,
    runs: Sequence[tuple[str, datetime]],
    *,
    by: str | None = None,
    reason: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> None:
    """Put runs that were asked for (id, due time) into the log as waiting."""
    for month in {due.replace(day=1, hour=0, minute=0, second=0, microsecond=0) for _, due in runs}:
        await conn.execute(SQL["make_month"], {"moment": month})
    await conn.execute(
        SQL["insert_waiting"],
        {
            "task_id": task_id,
            "task_version": task_version,
            "trigger": trigger,
            "reason": reason,
            "asked_by": by,
            "arguments": None if arguments is None else Jsonb(arguments),
            "run_ids": [run_id for run_id, _ in runs],
            "due_ats": [due for _, due in runs],
        },
    )


async def cancel_runs(conn: Connection, run_ids: Sequence[str], *, now: datetime) -> None:
    """End those of the runs that have not ended, where no workflow follows them any more."""
    await conn.execute(SQL["cancel_runs"], {**_keys(run_ids), "now": now})


async def add_to_reason(conn: Connection, run: Run, remark: str) -> None:
    """Say something more of a run that has ended; said again, it changes nothing."""
    values = {"run_id": run.run_id, "due_at": run.due_at, "remark": remark}
    await conn.execute(SQL["add_to_reason"], values)


async def make_month(conn: Connection, moment: datetime) -> None:
    """Make the log's partitions for the month (UTC) that ``moment`` lies in."""
    await conn.execute(SQL["make_month"], {"moment": moment})


async def months(conn: Connection) -> list[str]:
    """The months that the log has partitions for, as ``2026_11``, oldest first."""
    cursor = await conn.execute(SQL["months"])
    return [row["name"].removeprefix("runs_") for row in await cursor.fetchall()]


async def drop_month(conn: Connection, suffix: str) -> None:
    await conn.execute(SQL["drop_month"], {"suffix": suffix})
