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
from onthedot.task import CatchUp, Pause, Task, TaskSpec, TaskState, as_json, as_stored
from onthedot.versions import TaskVersion, What


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A trigger, a backfill or a cancel that was asked for; its id makes it happen once."""

    id: str
    task_id: str
    kind: str
    body: dict[str, Any]
    created_by: str
    reason: str | None = None
    created_at: datetime | None = None  # aware UTC; None before it is stored
    sent_at: datetime | None = None  # when the engine took it

    @property
    def run_ids(self) -> list[str]:
        """The runs that it is about."""
        if self.kind == "cancel":
            return [self.body["run_id"]]
        return [one["run_id"] for one in self.body["orders"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change makes of a task, and what is kept of it."""

    what: What
    spec: TaskSpec
    state: TaskState
    pause: Pause | None = None  # of a task that is paused then
    reason: str | None = None
    catch_up: CatchUp | None = None
    let_finish: bool = False

    def changes(self, task: Task) -> bool:
        """Whether ``task`` is any different afterwards."""
        before, after = task.pause or Pause(), self.pause or Pause()
        same = (self.spec, self.state) == (task.spec, task.state)
        return not same or (before.reason, before.until) != (after.reason, after.until)


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
#: Those of a row of ``tasks``, as ``read_task`` wants it.
TASK_COLUMNS = (
    *_PLAIN,
    "spec",
    "state",
    "last_status",
    "pause_reason",
    "paused_until",
    "paused_at",
    "paused_by",
    "catch_up",
    "let_finish",
)
_SQL = queries.load(
    Path(__file__).with_suffix(".sql"),
    task=TASK_COLUMNS,
    request=queries.columns_of(Request),
    version=queries.columns_of(TaskVersion),
)


def read_task(row: dict[str, Any]) -> Task:
    """The task in a row of ``tasks``."""
    state = TaskState(row["state"])
    return Task(
        spec=TaskSpec.model_validate(row["spec"]),
        state=state,
        last_status=RunStatus(row["last_status"]) if row["last_status"] else None,
        pause=_read_pause(row) if state is TaskState.PAUSED else None,
        catch_up=CatchUp.model_validate(row["catch_up"]) if row["catch_up"] else None,
        let_finish=row["let_finish"],
        in_hand=bool(row.get("in_hand")),
        **{name: row[name] for name in _PLAIN},
    )


def _read_pause(row: dict[str, Any]) -> Pause:
    return Pause(
        reason=row["pause_reason"],
        until=row["paused_until"],
        since=row["paused_at"],
        by=row["paused_by"],
    )


_BEYOND = 2**62  # no version comes so far


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
    change: Change,
    *,
    by: str,
    now: datetime,
    next_due_at: datetime | None,
) -> Task | None:
    """Raise the version of ``task`` and keep the change; None when it was changed meanwhile."""
    pause = change.pause or Pause()
    row = await _one(
        conn,
        "change_task",
        id=task.id,
        version=task.version,
        from_state=task.state,
        state=change.state,
        by=by,
        now=now,
        next_due_at=next_due_at,
        what=change.what,
        reason=change.reason,
        pause_reason=pause.reason,
        paused_until=pause.until,
        paused_at=pause.since,
        paused_by=pause.by,
        catch_up=Jsonb(as_json(change.catch_up)) if change.catch_up else None,
        let_finish=change.let_finish,
        **_columns(change.spec),
        **_news(task.id),
    )
    return read_task(row) if row else None


async def list_versions(
    conn: Connection, task_id: str, *, before: int | None = None, limit: int
) -> list[TaskVersion]:
    """The versions of a task, the newest first; those below ``before``."""
    cursor = await conn.execute(
        _SQL["list_versions"],
        {"id": task_id, "before": _BEYOND if before is None else before, "limit": limit},
    )
    return [_read_version(row) for row in await cursor.fetchall()]


async def get_version(conn: Connection, task_id: str, version: int) -> TaskVersion:
    """Raise NotFound when the task never had it, or when it is no longer kept."""
    found = await find_versions(conn, task_id, [version])
    if not found:
        raise NotFound(f"there is no version {version} of the task {task_id!r}")
    return found[0]


async def find_versions(
    conn: Connection, task_id: str, versions: Sequence[int]
) -> list[TaskVersion]:
    """Those of the versions that are kept."""
    cursor = await conn.execute(_SQL["some_versions"], {"id": task_id, "versions": list(versions)})
    return [_read_version(row) for row in await cursor.fetchall()]


async def forget_versions(conn: Connection, *, before: datetime, kept: int) -> None:
    """Drop versions made before ``before``, but for the last ``kept`` of each task."""
    await conn.execute(_SQL["forget_versions"], {"before": before, "kept": kept})


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


async def lock_follow_ups(conn: Connection) -> None:
    """Let nobody else change who follows whom until the transaction ends."""
    await conn.execute(_SQL["lock_follow_ups"])


async def follow_ups_of(conn: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """Those of the tasks that are not deleted, each with the tasks that may follow it."""
    cursor = await conn.execute(_SQL["follow_ups_of"], {"ids": list(ids)})
    return {row["id"]: row["followers"] for row in await cursor.fetchall()}


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
            "reason": request.reason,
            "by": request.created_by,
            "now": now,
        },
    )
    return cursor.rowcount == 1


async def get_request(conn: Connection, request_id: str) -> Request | None:
    row = await _one(conn, "get_request", id=request_id)
    return _read_request(row) if row else None


async def list_requests(
    conn: Connection, task_id: str, *, after: tuple[str, str] | None = None, limit: int
) -> list[Request]:
    """What was asked of a task, the newest first, past the instant and id of ``after``."""
    at, at_id = after or (None, None)
    cursor = await conn.execute(
        _SQL["list_requests"], {"task_id": task_id, "at": at, "at_id": at_id, "limit": limit}
    )
    return [_read_request(row) for row in await cursor.fetchall()]


async def forget_requests(conn: Connection, *, before: datetime) -> None:
    """Drop requests that were answered and are older than ``before``."""
    await conn.execute(_SQL["forget_requests"], {"before": before})


async def mark_sent(conn: Connection, request_id: str) -> None:
    await conn.execute(_SQL["mark_sent"], {"id": request_id})


async def requests_not_sent(
    conn: Connection, *, before: datetime, after: Request | None = None, limit: int
) -> list[Request]:
    """What was asked before ``before`` and the engine has not taken, the oldest first, past ``after``."""
    at, at_id = (after.created_at, after.id) if after else (None, None)
    cursor = await conn.execute(
        _SQL["requests_not_sent"], {"before": before, "at": at, "at_id": at_id, "limit": limit}
    )
    return [_read_request(row) for row in await cursor.fetchall()]


async def unsent_with_run(conn: Connection, task_id: str, run_id: str) -> Request | None:
    """The request that asked for a run, where the engine has not been sent it."""
    row = await _one(conn, "unsent_with_run", task_id=task_id, orders=Jsonb([{"run_id": run_id}]))
    return _read_request(row) if row else None


async def tell(conn: Connection, task_id: str, *, runs: bool = False) -> None:
    """Tell the live pages that a task (and some of its runs) changed; sent at commit."""
    await conn.execute(_SQL["tell"], _news(task_id, runs=runs))


def _news(task_id: str, *, runs: bool = False) -> dict[str, str]:
    return {"channel": CHANNEL, "news": json.dumps({"tasks": [task_id], "runs": runs})}


def _columns(spec: TaskSpec) -> dict[str, Any]:
    return {"name": spec.name, "spec": Jsonb(as_stored(spec)), "tags": list(spec.tags)}


def _read_version(row: dict[str, Any]) -> TaskVersion:
    read = {
        "spec": TaskSpec.model_validate(row["spec"]),
        "state": TaskState(row["state"]),
        "what": What(row["what"]),
    }
    return TaskVersion(**{**row, **read})


def _read_request(row: dict[str, Any]) -> Request:
    return Request(**row)


async def _one(conn: Connection, name: str, /, **values: Any) -> dict[str, Any] | None:
    cursor = await conn.execute(_SQL[name], values)
    return await cursor.fetchone()


async def _tasks(conn: Connection, name: str, /, **values: Any) -> list[Task]:
    cursor = await conn.execute(_SQL[name], values)
    return [read_task(row) for row in await cursor.fetchall()]
