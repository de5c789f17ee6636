"""The desired state: tasks, and what people asked of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from onthedot.database import queries
from onthedot.database.pool import CHANNEL, Connection
from onthedot.errors import NotFound
from onthedot.run import RunStatus
from onthedot.task import Task, TaskSpec, TaskState, as_stored

_SQL = queries.load(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A trigger, a backfill or a cancel that was asked for; its id makes it happen once."""

    id: str
    task_id: str
    kind: str
    body: dict[str, Any]
    created_by: str

    @property
    def run_ids(self) -> list[str]:
        """The runs that it is about."""
        if self.kind == "cancel":
            return [self.body["run_id"]]
        return [one["run_id"] for one in self.body["orders"]]


def read_task(row: dict[str, Any]) -> Task:
    """The task in a row of ``tasks``."""
    return Task(
        spec=TaskSpec.model_validate(row["spec"]),
        state=TaskState(row["state"]),
        last_status=RunStatus(row["last_status"]) if row["last_status"] else None,
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "id",
    "version",
    "engine_version",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "next_due_at",
    "last_run_at",
    "run_count",
    "failure_count",
)


async def insert_task(
    conn: Connection,
    task_id: str,
    spec: TaskSpec,
    *,
    by: str,
    now: datetime,
    next_due_at: datetime | None,
) -> Task | None:
    """Store a new task, or one in the place of a deleted one; None when the id is taken.

    The live pages are told, as by ``change_task``.
    """
    row = await _one(
        conn,
        "insert_task",
        id=task_id,
        by=by,
        now=now,
        next_due_at=next_due_at,
        **_columns(spec),
        **_news(task_id),
    )
    return read_task(row) if row else None


async def get_task(conn: Connection, task_id: str) -> Task:
    """The task, also when it is deleted; raise NotFound."""
    row = await _one(conn, "get_task", id=task_id)
    if row is None:
        raise NotFound(f"there is no task {task_id!r}")
    return read_task(row)


async def change_task(
    conn: Connection,
    task: Task,
    *,
    spec: TaskSpec,
    state: TaskState,
    by: str,
    now: datetime,
    next_due_at: datetime | None,
) -> Task | None:
    """Raise the version of ``task`` with this spec and state; None when it was changed meanwhile."""
    row = await _one(
        conn,
        "change_task",
        id=task.id,
        version=task.version,
        state=state,
        by=by,
        now=now,
        next_due_at=next_due_at,
        **_columns(spec),
        **_news(task.id),
    )
    return read_task(row) if row else None


async def mark_taken(conn: Connection, taken: Sequence[tuple[str, int]]) -> list[Task]:
    """The engine has these versions of these tasks now; those that have a newer one meanwhile."""
    ids, versions = zip(*taken, strict=True) if taken else ((), ())
    return await _tasks(conn, "mark_taken", ids=list(ids), versions=list(versions))


async def not_in_step(conn: Connection, *, before: datetime, after: str, limit: int) -> list[Task]:
    """Tasks changed before ``before`` of which the engine does not know yet, by id past ``after``."""
    return await _tasks(conn, "not_in_step", before=before, after=after, limit=limit)


async def open_tasks(conn: Connection, *, after: str, limit: int) -> list[Task]:
    """Tasks that must have an open workflow, by id past ``after``."""
    return await _tasks(conn, "open_tasks", after=after, limit=limit)


async def some_tasks(conn: Connection, ids: Sequence[str]) -> list[Task]:
    return await _tasks(conn, "some_tasks", ids=list(ids))


async def remember_key(conn: Connection, key: str, fingerprint: str, subject: str) -> bool:
    """Bind an Idempotency-Key to what it made; False when it is bound already."""
    cursor = await conn.execute(
        _SQL["remember_key"], {"key": key, "fingerprint": fingerprint, "subject": subject}
    )
    return cursor.rowcount == 1


async def get_key(conn: Connection, key: str) -> tuple[str, str] | None:
    """The fingerprint and the subject that an Idempotency-Key is bound to."""
    row = await _one(conn, "get_key", key=key)
    return (row["fingerprint"], row["subject"]) if row else None


async def forget_keys(conn: Connection, *, before: datetime) -> None:
    await conn.execute(_SQL["forget_keys"], {"before": before})


async def insert_request(conn: Connection, request: Request, *, now: datetime) -> bool:
    """Store a request; False when one with its id is there already."""
    cursor = await conn.execute(
        _SQL["insert_request"],
        {
            "id": request.id,
            "task_id": request.task_id,
            "kind": request.kind,
            "body": Jsonb(request.body),
            "by": request.created_by,
            "now": now,
        },
    )
    return cursor.rowcount == 1


async def get_request(conn: Connection, request_id: str) -> Request | None:
    row = await _one(conn, "get_request", id=request_id)
    return _read_request(row) if row else None


async def mark_sent(conn: Connection, request_id: str) -> None:
    await conn.execute(_SQL["mark_sent"], {"id": request_id})


async def requests_not_sent(conn: Connection, *, before: datetime, limit: int) -> list[Request]:
    cursor = await conn.execute(_SQL["requests_not_sent"], {"before": before, "limit": limit})
    return [_read_request(row) for row in await cursor.fetchall()]


async def tell(conn: Connection, task_id: str, *, runs: bool = False) -> None:
    """Tell the live pages that a task (and some of its runs) changed; sent at commit."""
    await conn.execute(_SQL["tell"], _news(task_id, runs=runs))


def _news(task_id: str, *, runs: bool = False) -> dict[str, str]:
    return {"channel": CHANNEL, "news": json.dumps({"tasks": [task_id], "runs": runs})}


def _columns(spec: TaskSpec) -> dict[str, Any]:
    return {"name": spec.name, "spec": Jsonb(as_stored(spec)), "tags": list(spec.tags)}


def _read_request(row: dict[str, Any]) -> Request:
    return Request(**{name: row[name] for name in Request.__slots__})


async def _one(conn: Connection, name: str, /, **values: Any) -> dict[str, Any] | None:
    cursor = await conn.execute(_SQL[name], values)
    return await cursor.fetchone()


async def _tasks(conn: Connection, name: str, /, **values: Any) -> list[Task]:
    cursor = await conn.execute(_SQL[name], values)
    return [read_task(row) for row in await cursor.fetchall()]
