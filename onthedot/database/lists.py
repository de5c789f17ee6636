"""Reading tasks and runs for lists, counts and figures. Pages go by keyset, never by offset."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from psycopg import sql

from onthedot.database import tasks
from onthedot.database.pool import Connection
from onthedot.database.queries import load
from onthedot.database.runs import read_run
from onthedot.database.tasks import TASK_COLUMNS, Request, read_task
from onthedot.errors import FieldError, InvalidInput, NotFound
from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import Task, TaskState
from onthedot.versions import TaskVersion

SQL = load(Path(__file__).with_suffix(".sql"), task=TASK_COLUMNS)

TaskSort = Literal["next_due", "created", "name", "last_run"]
T = TypeVar("T")

_MOST_COUNTED = 200_000  # rows of the log that one figure looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks. What is None or empty does not filter; deleted ones only where asked for."""

    states: Sequence[TaskState] = ()
    schedule: str | None = None  # the kind
    action: str | None = None  # the kind
    tag: str | None = None
    queue: str | None = None
    search: str | None = None  # a part of the name or the id, in any case

    @property
    def is_empty(self) -> bool:
        """Whether it finds all tasks."""
        narrowing = (self.schedule, self.action, self.tag, self.queue, self.search)
        return not self.states and not any(narrowing)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs. ``since`` and ``until`` (aware) are of the due time; ``until`` is exclusive."""

    task_id: str | None = None
    statuses: Sequence[RunStatus] = ()
    trigger: Trigger | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, and the cursor that gives those which follow."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """A limit as tasks name it."""

    name: str
    sizes: list[int]  # that they give it, each once, ascending
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The state of the whole. Lags are milliseconds, of scheduled runs due in the last hour."""

    tasks: dict[TaskState, int]
    runs_last_hour: dict[RunStatus, int]
    runs_last_day: dict[RunStatus, int]
    counted_all: bool  # False when the log has more runs than the figures look at
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    pending_changes: int  # tasks of which the engine has not taken the last change
    pending_requests: int  # triggers, backfills and cancels that it has not been sent


@dataclass(frozen=True, slots=True)
class _Order:
    """How a sort orders tasks, and which come after the one at a cursor."""

    by: str
    after: str
    after_null: str = "false"  # the same where the value at the cursor is NULL


_ORDERS: dict[TaskSort, _Order] = {
    "next_due": _Order(
        "next_due_at ASC NULLS LAST, id",
        "((next_due_at, id) > (%(at)s::timestamptz, %(at_id)s) OR next_due_at IS NULL)",
        "(next_due_at IS NULL AND id > %(at_id)s)",
    ),
    "created": _Order(
        "created_at DESC, id DESC", "(created_at, id) < (%(at)s::timestamptz, %(at_id)s)"
    ),
    "last_run": _Order(
        "last_run_at DESC NULLS LAST, id",
        "(last_run_at < %(at)s::timestamptz OR (last_run_at = %(at)s::timestamptz AND id > %(at_id)s)"
        " OR last_run_at IS NULL)",
        "(last_run_at IS NULL AND id > %(at_id)s)",
    ),
    "name": _Order("lower(name), id", "(lower(name), id) > (lower(%(at)s), %(at_id)s)"),
}


async def list_tasks(
    conn: Connection,
    wanted: TaskFilter,
    *,
    sort: TaskSort = "next_due",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Task]:
    """A page of tasks; raise InvalidInput when ``cursor`` is none of this list's."""
    where, values = _which_tasks(wanted)
    if cursor is not None:
        at, at_id = _read_cursor(cursor, sort)
        where.append(_ORDERS[sort].after if at is not None else _ORDERS[sort].after_null)
        values |= {"at": at, "at_id": at_id}
    query = _compose("list_tasks", where, limit + 1, order=sql.SQL(_ORDERS[sort].by))
    rows = await (await conn.execute(query, values)).fetchall()
    found = [read_task(row) for row in rows]
    return _page(found, limit, lambda task: _write_cursor(sort, _sorted_by(task, sort), task.id))


async def task_ids(conn: Connection, wanted: TaskFilter, *, limit: int) -> list[str]:
    """The ids of the tasks, sorted."""
    where, values = _which_tasks(wanted)
    rows = await (await conn.execute(_compose("task_ids", where, limit), values)).fetchall()
    return [row["id"] for row in rows]


async def list_requests(
    conn: Connection, task_id: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Request]:
    """A page of what was asked of a task, the newest first."""
    after = None
    if cursor is not None:
        at, at_id = _read_cursor(cursor, "asked")
        assert at is not None
        after = (at, at_id)
    found = await tasks.list_requests(conn, task_id, after=after, limit=limit + 1)

    def cursor_after(request: Request) -> str:
        assert request.created_at is not None
        return _write_cursor("asked", request.created_at.isoformat(), request.id)

    return _page(found, limit, cursor_after)


async def list_versions(
    conn: Connection, task_id: str, *, cursor: str | None = None, limit: int = 50
) -> Page[TaskVersion]:
    """A page of a task's versions, the newest first."""
    before = int(_read_cursor(cursor, "version")[1]) if cursor is not None else None
    found = await tasks.list_versions(conn, task_id, before=before, limit=limit + 1)
    return _page(found, limit, lambda one: _write_cursor("version", None, str(one.version)))


async def list_runs(
    conn: Connection, wanted: RunFilter, *, cursor: str | None = None, limit: int = 50
) -> Page[Run]:
    """A page of the log, newest due time first, without outputs, results and attempts."""
    where, values = _which_runs(wanted)
    if cursor is not None:
        at, at_id = _read_cursor(cursor, "due")
        where.append("(due_at, run_id) < (%(at)s::timestamptz, %(at_id)s)")
        values |= {"at": at, "at_id": at_id}
    rows = await (await conn.execute(_compose("list_runs", where, limit + 1), values)).fetchall()
    found = [read_run(row) for row in rows]
    return _page(found, limit, lambda run: _write_cursor("due", run.due_at.isoformat(), run.run_id))


async def upcoming_tasks(conn: Connection, *, before: datetime, limit: int = 500) -> list[Task]:
    """Active tasks that are due next before ``before`` (aware), soonest first."""
    found = await conn.execute(SQL["upcoming_tasks"], {"before": before, "limit": limit})
    return [read_task(row) for row in await found.fetchall()]


async def list_limits(
    conn: Connection, *, cursor: str | None = None, limit: int = 50
) -> Page[LimitUse]:
    """A page of the limits that tasks name, by name."""
    after = _read_cursor(cursor, "limit")[1] if cursor else ""
    found = await conn.execute(SQL["limits"], {"after": after, "name": None, "limit": limit + 1})
    limits = [LimitUse(**row) for row in await found.fetchall()]
    return _page(limits, limit, lambda one: _write_cursor("limit", None, one.name))


def _page(found: list[T], limit: int, cursor_after: Callable[[T], str]) -> Page[T]:
    """The first ``limit`` of what was found, which is one more where there is a next page."""
    items = found[:limit]
    return Page(items, cursor_after(items[-1]) if len(found) > limit else None)


async def get_limit(conn: Connection, name: str) -> LimitUse:
    """One limit; raise NotFound when no task names it."""
    found = await conn.execute(SQL["limits"], {"after": "", "name": name, "limit": 1})
    row = await found.fetchone()
    if row is None:
        raise NotFound(f"no task has a limit {name!r}")
    return LimitUse(**row)


async def figures(conn: Connection, *, now: datetime) -> Figures:
    """The state of the whole at ``now`` (aware)."""
    bound = {"now": now, "limit": _MOST_COUNTED}
    states = await (await conn.execute(SQL["task_states"])).fetchall()
    statuses = await (await conn.execute(SQL["run_statuses"], bound)).fetchall()
    lag = await _one(conn, "lag", bound)
    pending = await _one(conn, "pending", {})
    p50, p99 = lag["percentiles"] or (None, None)
    return Figures(
        tasks=dict.fromkeys(TaskState, 0)
        | {TaskState(row["state"]): row["tasks"] for row in states},
        runs_last_hour={RunStatus(row["status"]): row["hour"] for row in statuses if row["hour"]},
        runs_last_day={RunStatus(row["status"]): row["day"] for row in statuses},
        counted_all=sum(row["day"] for row in statuses) < _MOST_COUNTED,
        lag_p50_ms=p50,
        lag_p99_ms=p99,
        lag_max_ms=lag["max_ms"],
        pending_changes=pending["changes"],
        pending_requests=pending["requests"],
    )


def _which_tasks(wanted: TaskFilter) -> tuple[list[str], dict[str, Any]]:
    conditions = {
        "state = ANY(%(states)s)": [str(state) for state in wanted.states],
        "spec -> 'schedule' ->> 'kind' = %(schedule)s": wanted.schedule,
        "spec -> 'action' ->> 'kind' = %(action)s": wanted.action,
        "tags @> ARRAY[%(tag)s]": wanted.tag,
        "coalesce(spec ->> 'queue', 'default') = %(queue)s": wanted.queue,
        "(name ILIKE %(search)s OR id ILIKE %(search)s)": wanted.search
        and _anywhere(wanted.search),
    }
    names = ("states", "schedule", "action", "tag", "queue", "search")
    where = [condition for condition, value in conditions.items() if value]
    if TaskState.DELETED not in wanted.states:
        where.append("state <> 'deleted'")  # the indexes are partial: they want it said
    return where, dict(zip(names, conditions.values(), strict=True))


def _which_runs(wanted: RunFilter) -> tuple[list[str], dict[str, Any]]:
    conditions = {
        "task_id = %(task_id)s": wanted.task_id,
        "due_at >= %(since)s": wanted.since,
        "due_at < %(until)s": wanted.until,
    }
    names = ("task_id", "since", "until")
    where = [condition for condition, value in conditions.items() if value is not None]
    # Written out: a partial index is not used for a value that is not known when planning.
    if wanted.trigger is not None:
        where.append(f"trigger = '{Trigger(wanted.trigger)}'")
    if wanted.statuses:
        given = ", ".join(f"'{RunStatus(status)}'" for status in wanted.statuses)
        where.append(f"status IN ({given})")
    return where, dict(zip(names, conditions.values(), strict=True))


def _compose(
    name: str, where: Sequence[str], limit: int = 0, order: sql.SQL | None = None
) -> sql.Composed:
    conditions = sql.SQL(" AND ").join(map(sql.SQL, where)) if where else sql.SQL("true")
    return sql.SQL(SQL[name]).format(
        where=conditions, limit=sql.Literal(limit), order=order or sql.SQL("")
    )


def _anywhere(text: str) -> str:
    """The LIKE pattern of ``text`` anywhere: its own wildcards are plain letters."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _sorted_by(task: Task, sort: TaskSort) -> str | None:
    match sort:
        case "name":
            return task.spec.name
        case "created":
            return task.created_at.isoformat()
        case "next_due":
            return task.next_due_at.isoformat() if task.next_due_at else None
        case "last_run":
            return task.last_run_at.isoformat() if task.last_run_at else None


def _write_cursor(sort: str, value: str | None, item_id: str) -> str:
    text = json.dumps([sort, value, item_id], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> tuple[str | None, str]:
    """The sorted value and the id that a cursor stands at; raise InvalidInput."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        given, value, item_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if given != sort:
            raise ValueError(f"a cursor of {given}")
        if sort == "version" and not re.fullmatch("[0-9]{1,9}", item_id):
            raise ValueError(f"version {item_id}")
        return _read_sorted(sort, value), _storable(item_id)
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise InvalidInput(
            FieldError(
                "cursor",
                cursor,
                "is no cursor of this list",
                "Pass next_cursor of the answer before, with the same sort; begin without one.",
            )
        ) from None


def _read_sorted(sort: str, value: Any) -> str | None:
    """The sorted value of a cursor, as Postgres reads it; raise ValueError or TypeError."""
    if sort in ("limit", "version") or (value is None and sort in ("next_due", "last_run")):
        return None
    text = _storable(value)
    if sort == "name":
        return text
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return moment.astimezone(UTC).isoformat()


def _storable(text: Any) -> str:
    """``text`` where Postgres can keep it; raise ValueError or TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"{text} is no text")
    if "\x00" in text:
        raise ValueError("a NUL")
    text.encode()  # raises ValueError for half a surrogate pair
    return text


async def _one(conn: Connection, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    row = await (await conn.execute(SQL[name], values)).fetchone()
    assert row is not None  # an aggregate has one row always
    return row
