"""Procrastinate on Postgres: ``schedule_at`` once, ``periodic`` with a column for seconds again.

Workers take 30 jobs at a time, as its page on concurrency shows, and look for due jobs every 5 s,
which is the default: a job that comes due by its time alone is not notified of.
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import procrastinate

from bench import calls
from bench.peers import clerk, cron_fields

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"])
)


@app.task(name="perform")
async def called(name: str, timestamp: int | None = None) -> None:
    if os.environ.get(calls.URL):
        await asyncio.to_thread(calls.perform, name)
    else:
        calls.note(name)


def _schedule(work: dict[str, Any]) -> None:
    """As decorators do it, for each task."""
    for name, start in work["starts"]:
        every = work["every"]
        seconds, minutes = cron_fields(start, every)
        cron = f"{minutes} * * * * {seconds}"
        app.periodic(cron=cron, periodic_id=name, task_kwargs={"name": name})(called)


async def _defer(work: dict[str, Any]) -> None:
    async with app.open_async():
        for name, start in work["starts"]:
            at = datetime.fromtimestamp(start, UTC)
            await called.configure(schedule_at=at).defer_async(name=name)


async def _prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def _work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=30)


if work_file := os.environ.get("BENCH_WORK"):
    _schedule(json.loads(Path(work_file).read_text(encoding="utf-8")))

if __name__ == "__main__":
    match sys.argv[1]:
        case "prepare":
            asyncio.run(_prepare())
        case "worker":
            asyncio.run(_work())
        case "clerk":
            clerk(lambda work: asyncio.run(_defer(work)))
