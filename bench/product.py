"""The side of Onthedot: a whole stack of its own, driven over REST, read from its log."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg

from bench.figures import Kind, Measurement, shortened
from bench.plan import EVERY, Herd, free_port, on_trial, planned
from bench.processes import Family, Span, watch
from onthedot import stack
from onthedot.launch import wrap
from onthedot.settings import Settings

_AT_ONCE = 16  # registrations under way
_START_WITHIN = 120.0


@dataclass(frozen=True)
class Product:
    """A running `onthedot up`."""

    process: subprocess.Popen[bytes]
    url: str
    key: str
    database_url: str

    def family(self) -> Family:
        """Its processes. They are found anew: a child that was lost has another id now."""
        children = psutil.Process(self.process.pid).children()
        parts: dict[str, list[int]] = {"engine": [], "workers": [], "postgres": [], "web": []}
        for child in children:
            words = child.cmdline()
            parts[_part(words)].append(child.pid)
        return Family(parts, alone={"supervisor": self.process.pid})

    async def measure(self, kind: Kind, round_: int, tasks: int) -> Measurement:
        """Register a herd and wait until all its rows are in the log."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_AT_ONCE),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        ) as client:
            tried = on_trial(kind, tasks)
            rate, _ = await self._register(client, tried)
            herd = planned(kind, round_, tasks, rate)
            family = self.family()
            registering = Span(family)
            rate, problems = await self._register(client, herd)
        await family.rest({}, herd.idle_from - time.time())
        registered, _ = registering.used()
        watched = await watch(family, herd, lambda: _has_all(self.database_url, herd))
        rows = await _rows(self.database_url, herd)
        return Measurement(
            side="onthedot",
            kind=kind,
            round=round_,
            tasks=tasks,
            due=herd.firings,
            registered_per_second=rate,
            registering=registered,
            idle=watched.idle,
            firing=watched.firing,
            firing_seconds=watched.seconds,
            memory=family.memory(),
            lags=[lag_ms / 1000 for *_, lag_ms in rows if lag_ms is not None],
            problems=problems + check(herd, rows),
        )

    async def _register(self, client: aiohttp.ClientSession, herd: Herd) -> tuple[float, list[str]]:
        """Register all, ``_AT_ONCE`` at a time: how many a second, and what went wrong."""
        bodies = [json.dumps(task).encode() for task in _tasks(herd)]
        left = iter(bodies)
        wrong: list[str] = []

        async def register_some() -> None:
            for body in left:
                async with client.post(f"{self.url}/api/v1/tasks", data=body) as answer:
                    text = await answer.text()
                if answer.status != 201:
                    wrong.append(f"a registration was answered with {answer.status}: {text[:300]}")

        begun = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(_AT_ONCE):
                clients.create_task(register_some())
        rate = len(bodies) / (time.monotonic() - begun)
        if (late := time.time() - herd.idle_from) > 0:
            wrong.append(f"registering took longer than on trial, by {late:.1f} s")
        return rate, shortened(wrong)


@asynccontextmanager
async def running(folder: Path, workers: int) -> AsyncIterator[Product]:
    """`onthedot up` with ``workers`` in ``folder``, on free ports, until the block is left."""
    ports = ("PORT", "POSTGRES_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONTHEDOT_")}
    own = {f"ONTHEDOT_{name}": str(free_port()) for name in ports}
    own["ONTHEDOT_DATA_DIR"] = str(folder / "data")
    own["ONTHEDOT_WORKERS"] = str(workers)
    own["ONTHEDOT_HANDLERS"] = "onthedot.examples:*"
    said = folder / "said.log"
    with said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own program, started at once
            wrap([sys.executable, "-P", "-m", "onthedot", "up"], death_signal=signal.SIGINT),
            env=kept | own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield await _ready(process, own, said)
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait)


async def _ready(process: subprocess.Popen[bytes], own: Mapping[str, str], said: Path) -> Product:
    url = f"http://127.0.0.1:{own['ONTHEDOT_PORT']}"
    deadline = time.monotonic() + _START_WITHIN
    async with aiohttp.ClientSession() as client:
        while not await _answers(client, f"{url}/readyz"):
            if process.poll() is not None or time.monotonic() > deadline:
                text = await asyncio.to_thread(said.read_text, encoding="utf-8")
                raise RuntimeError(f"onthedot up did not start:\n{text}")
            await asyncio.sleep(0.1)
    folder = Path(own["ONTHEDOT_DATA_DIR"])
    settings = stack.running(Settings(data_dir=folder), {})
    if settings is None or settings.database_url is None:
        raise RuntimeError(f"onthedot up has not written its settings into {folder}")
    key = await asyncio.to_thread((folder / "api-key").read_text, encoding="ascii")
    return Product(process, url, key.strip(), settings.database_url)


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _part(words: Sequence[str]) -> str:
    """Which part a child of `onthedot up` is."""
    if "start-dev" in words:
        return "engine"
    if "onthedot" in words:
        return "workers" if words[-1] == "worker" else "web"
    return "postgres"


def _tasks(herd: Herd) -> list[dict[str, Any]]:
    """What is sent to register a herd."""
    first = _instant(herd.first).isoformat()
    schedule = {"kind": "once", "at": first}
    if herd.kind == "interval":
        schedule = {"kind": "interval", "every": f"{EVERY}s", "anchor": first}
    action = {"kind": "python", "handler": "onthedot.examples:noop"}
    return [
        {"id": name, "name": name, "schedule": schedule, "action": action} for name in herd.names
    ]


def _instant(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


Row = tuple[str, datetime, str, int, float | None]
_ROWS = """
    SELECT task_id, due_at, status, attempt_count, lag_ms FROM runs
    WHERE due_at = ANY(%s) AND starts_with(task_id, %s)
"""


async def _rows(database_url: str, herd: Herd) -> list[Row]:
    due = [_instant(moment) for moment in herd.due]
    connecting = psycopg.AsyncConnection[Row].connect(database_url)
    async with await connecting as connection:
        found = await connection.execute(_ROWS, (due, herd.prefix))
        return await found.fetchall()


async def _has_all(database_url: str, herd: Herd) -> bool:
    rows = await _rows(database_url, herd)
    ended = [status for _, _, status, *_ in rows if status not in ("waiting", "running")]
    return len(ended) >= herd.tasks * herd.firings


def check(herd: Herd, rows: Sequence[Row]) -> list[str]:
    """What is wrong with the log: each task has one row for each due time, which succeeded."""
    expected = Counter((name, _instant(due)) for name in herd.names for due in herd.due)
    found = Counter((task_id, due_at) for task_id, due_at, *_ in rows)
    problems = [f"no row: {task} due {due}" for task, due in expected - found]
    problems += [f"a row too many: {task} due {due}" for task, due in found - expected]
    problems += [
        f"{status} after {tries} attempts: {task} due {due}"
        for task, due, status, tries, _ in rows
        if (status, tries) != ("succeeded", 1)
    ]
    return shortened(problems)
