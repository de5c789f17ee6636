"""The side of Onthedot: a whole stack of its own, driven over REST, its log read in the end."""

import asyncio
import json
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
from urllib.parse import urlencode

import aiohttp
import psutil
import psycopg

from bench import processes
from bench.figures import shortened
from bench.plan import LONGEST_LEAD, Work, free_port
from bench.processes import Family
from bench.side import Place
from onthedot import stack
from onthedot.launch import wrap
from onthedot.settings import Settings

_AT_ONCE = 16  # registrations under way
_START_WITHIN = 120.0
_IN_LOG_WITHIN = 60.0
_PORTS = ("PORT", "POSTGRES_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")


@dataclass(frozen=True)
class Product:
    """A running `onthedot up`."""

    process: subprocess.Popen[bytes]
    url: str
    key: str
    database_url: str
    target: str | None  # the HTTP server that tasks call; None: a function
    lead: float = LONGEST_LEAD
    recurring_in_code: bool = False

    def family(self) -> Family:
        """Its processes. They are found anew: a child that was lost has another id now."""
        children = psutil.Process(self.process.pid).children()
        parts: dict[str, list[int]] = {"engine": [], "workers": [], "postgres": [], "web": []}
        for child in children:
            parts[_part(child.cmdline())].append(child.pid)
        return Family(parts, alone={"supervisor": self.process.pid})

    async def register(self, work: Work) -> float:
        bodies = [json.dumps(self.task_of(work, *one)).encode() for one in work.starts()]
        return await self.post("/api/v1/tasks", bodies, 201) * len(bodies)

    async def post(self, path: str, bodies: Sequence[bytes], expected: int) -> float:
        """Send all, ``_AT_ONCE`` at a time: what one is of a second. Any other answer raises."""
        left = iter(bodies)
        async with self.client() as client:

            async def send_some() -> None:
                for body in left:
                    async with client.post(self.url + path, data=body) as answer:
                        if answer.status != expected:
                            text = (await answer.text())[:300]
                            raise RuntimeError(f"{path} answered with {answer.status}: {text}")
                        await answer.read()

            begun = time.monotonic()
            async with asyncio.TaskGroup() as clients:
                for _ in range(_AT_ONCE):
                    clients.create_task(send_some())
            return 1 / (time.monotonic() - begun)

    async def sign_in(self, client: aiohttp.ClientSession) -> None:
        """As a person does, for the pages."""
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
        body = urlencode({"key": self.key})
        async with client.post(f"{self.url}/sign-in", data=body, headers=form) as answer:
            if answer.status != 200 or answer.url.path == "/sign-in":
                raise RuntimeError(f"signing in was answered with {answer.status}, {answer.url}")

    def client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_AT_ONCE),
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # the host is an address
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )

    async def problems(self, work: Work) -> list[str]:
        """Each task must have one row for each due time, which succeeded at its first attempt."""
        deadline = time.monotonic() + _IN_LOG_WITHIN
        while True:
            rows = await _rows(self.database_url, work)
            ended = [status for _, _, status, _ in rows if status not in ("waiting", "running")]
            if len(ended) >= work.firings or time.monotonic() > deadline:
                return check(work, rows)
            await asyncio.sleep(1)

    def task(self, name: str, schedule: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent to register a task."""
        action: dict[str, Any] = {"kind": "http", "url": f"{self.target}/{name}"}
        if self.target is None:
            action = {"kind": "python", "handler": "bench.calls:called"}
            action["arguments"] = {"name": name}
        return {"id": name, "name": name, "schedule": schedule, "action": action}

    def task_of(self, work: Work, name: str, start: int) -> dict[str, Any]:
        first = _instant(start).isoformat()
        if work.every is None:
            return self.task(name, {"kind": "once", "at": first})
        return self.task(name, {"kind": "interval", "every": f"{work.every}s", "anchor": first})


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[Product]:
    """`onthedot up` on free ports, until the block is left."""
    own = {f"ONTHEDOT_{name}": str(free_port()) for name in _PORTS}
    own["ONTHEDOT_DATA_DIR"] = str(place.folder / "data")
    own["ONTHEDOT_WORKERS"] = str(place.workers)
    own["ONTHEDOT_HANDLERS"] = "bench.calls:*"
    said = place.folder / "said.log"
    with said.open("ab") as output:
        process = subprocess.Popen(  # by this thread, which lives as long as we do
            wrap([sys.executable, "-P", "-m", "onthedot", "up"], death_signal=signal.SIGINT),
            env=place.environment(**own),
            cwd=processes.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield await _ready(process, own, said, place.url)
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait)


async def _ready(
    process: subprocess.Popen[bytes], own: Mapping[str, str], said: Path, target: str | None
) -> Product:
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
    return Product(process, url, key.strip(), settings.database_url, target)


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


def _instant(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


Row = tuple[str, datetime, str, int]
_ROWS = """
    SELECT task_id, due_at, status, attempt_count FROM runs
    WHERE due_at >= %s AND due_at <= %s AND starts_with(task_id, %s)
"""


async def _rows(database_url: str, work: Work) -> list[Row]:
    between = (_instant(work.first), _instant(work.last), work.label + "-")
    connecting = psycopg.AsyncConnection[Row].connect(database_url)
    async with await connecting as connection:
        found = await connection.execute(_ROWS, between)
        return await found.fetchall()


def check(work: Work, rows: Sequence[Row]) -> list[str]:
    """What is wrong with the log: each task has one row for each due time, which succeeded."""
    expected = Counter(
        (name, _instant(due)) for name, start in work.starts() for due in work.due(start)
    )
    found = Counter((task_id, due_at) for task_id, due_at, *_ in rows)
    problems = [f"no row: {task} due {due}" for task, due in expected - found]
    problems += [f"a row too many: {task} due {due}" for task, due in found - expected]
    problems += [
        f"{status} after {tries} attempts: {task} due {due}"
        for task, due, status, tries in rows
        if (status, tries) != ("succeeded", 1)
    ]
    return shortened(problems)
