"""The part ``log``: how long pages of the log take when it is long."""

import asyncio
import math
import statistics
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import psycopg

from bench import product
from bench.figures import Record
from bench.product import Product
from bench.scale import answers
from bench.side import Place, folder

_TASKS = 1000
_DAYS = 60
#: Most rows succeeded and said something; one in 50 failed, one in 500 was missed, one in 1000 came
#: by hand. Each that ran has its attempt.
_FILL = """
    INSERT INTO runs (run_id, task_id, task_version, trigger, due_at, started_at, finished_at,
                      status, reason, attempt_count, worker, error, output, output_size)
    SELECT 'task-' || n %% %(tasks)s::int || '.'
               || to_char(due AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISSUS"Z"'),
           'task-' || n %% %(tasks)s::int, 1,
           CASE WHEN n %% 1000 = 7 THEN 'manual' ELSE 'schedule' END,
           due, due + interval '5 ms', due + interval '9 ms',
           CASE WHEN n %% 50 = 3 THEN 'failed' WHEN n %% 500 = 4 THEN 'missed'
                ELSE 'succeeded' END,
           CASE WHEN n %% 500 = 4 THEN 'outage' END, 1, 'worker-1',
           CASE WHEN n %% 50 = 3 THEN 'ValueError: no such report' END,
           repeat('report ' || n || ' was written to /var/reports; ', 4), 190
    FROM generate_series(%(from)s::int, %(to)s::int) AS n,
         LATERAL (SELECT now() - (%(to)s::int - n) / (%(to)s::int - %(from)s::int + 1.0)
                               * %(days)s::int * interval '1 day') AS at (due)
"""
_FILL_ATTEMPTS = """
    INSERT INTO attempts (due_at, run_id, number, status, started_at, finished_at, worker, error)
    SELECT due_at, run_id, 1, status, started_at, finished_at, worker, error
    FROM runs WHERE status <> 'missed' ON CONFLICT DO NOTHING
"""
_TASK_ROWS = """
    INSERT INTO tasks (id, name, spec, state, engine_version, created_by, updated_by, next_due_at)
    SELECT 'task-' || n, 'Report ' || n, spec, 'paused', 1, 'bench', 'bench', NULL
    FROM generate_series(0, %(tasks)s::int - 1) AS n, (SELECT spec FROM tasks LIMIT 1) AS given
"""
_COUNT = "SELECT pg_total_relation_size(c.oid) FROM pg_class c WHERE relname ~ '^(runs|attempts)_20.._..$'"


async def measure(workers: int, rows: Sequence[int]) -> AsyncIterator[Record]:
    """One installation whose log is filled, at each size; the largest is carried on by tens."""
    with folder() as path:
        place = Place(path, workers, None)
        place.calls.mkdir(mode=0o777)
        async with product.running(place) as side:
            await _register_one(side)
            figures: list[dict[str, float]] = []
            fastest: list[dict[str, float]] = []
            filled = 0
            for size in rows:
                megabytes = await _fill(side, filled, size)
                filled = size
                taken = await _pages(side)
                medians = {name: statistics.median(each) for name, each in taken.items()}
                figures.append(medians | {"disk": megabytes})
                fastest.append({name: min(each) for name, each in taken.items()})
                yield _record(f"{size} rows", figures[-1])
    if len(figures) > 1:
        yield _record(
            f"{rows[-1] * 10} rows (extrapolated)", _ten_times(rows, figures[-1], fastest)
        )


def _record(case: str, figures: dict[str, float]) -> Record:
    return Record(part="log", side="onthedot", case=case, figures=figures)


async def _register_one(side: Product) -> None:
    """A task whose definition the others share."""
    task = side.task("first", {"kind": "cron", "cron": "0 0 1 1 *"})
    async with side.client() as client, client.post(f"{side.url}/api/v1/tasks", json=task) as done:
        if done.status != 201:
            raise RuntimeError(await done.text())


async def _fill(side: Product, filled: int, size: int) -> float:
    """Add rows until there are so many; MiB that the log has then."""
    connecting = psycopg.AsyncConnection.connect(side.database_url, autocommit=True)
    async with await connecting as connection:
        if not filled:
            for month in range(0, _DAYS + 31, 28):
                await connection.execute("SELECT make_month(%s)", [_days_ago(month)])
            await connection.execute(_TASK_ROWS, {"tasks": _TASKS})
        given = {"tasks": _TASKS, "days": _DAYS, "from": filled + 1, "to": size}
        await connection.execute(_FILL, given)
        await connection.execute(_FILL_ATTEMPTS)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        sizes = await (await connection.execute(_COUNT)).fetchall()
    await asyncio.sleep(1)
    return float(sum(row[0] for row in sizes)) / 2**20


async def _pages(side: Product) -> dict[str, list[float]]:
    """Milliseconds of some answers of each page and list."""
    deep = _days_ago(_DAYS / 2).isoformat()
    month = {"since": _days_ago(45).isoformat(), "until": _days_ago(40).isoformat()}
    asked = {
        "log": "/api/v1/runs",
        "log, deep": _with("/api/v1/runs", until=deep),
        "log of a task": _with("/api/v1/runs", task="task-7"),
        "log of a task, deep": _with("/api/v1/runs", task="task-7", until=deep),
        "failed": _with("/api/v1/runs", status="failed"),
        "failed of a task": _with("/api/v1/runs", task="task-7", status="failed"),
        "running": _with("/api/v1/runs", status="running"),
        "succeeded": _with("/api/v1/runs", status="succeeded"),
        "by hand": _with("/api/v1/runs", trigger="manual"),
        "by hand of a task": _with("/api/v1/runs", task="task-8", trigger="manual"),
        "backfilled": _with("/api/v1/runs", trigger="backfill"),
        "five days": _with("/api/v1/runs", **month),
        "stats": "/api/v1/stats",
        "page of the log": "/runs",
        "page of a task": "/tasks/task-7",
        "page of all": "/",
    }
    return {name: await answers(side, path) for name, path in asked.items()}


def _with(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}"


def _ten_times(
    rows: Sequence[int], last: dict[str, float], fastest: Sequence[dict[str, float]]
) -> dict[str, float]:
    """The last figures, each grown as its fastest answer grew before: that has the least noise."""
    decades = math.log10(rows[-1] / rows[-2])
    growth = {name: took / fastest[-2][name] for name, took in fastest[-1].items()}
    found = {name: last[name] * max(1.0, growth[name]) ** (1 / decades) for name in growth}
    return found | {"disk": last["disk"] * 10}


def _days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
