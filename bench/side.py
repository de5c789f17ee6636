"""What all sides of the benchmark have in common."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import calls, processes
from bench.plan import Action, Work, free_port
from bench.processes import Family


class Side(Protocol):
    """An installation that runs, with nothing in it yet."""

    #: Its work begins this long before a task is due, in seconds.
    lead: float
    #: Whether its recurring tasks are part of its code: to register them is to start it anew.
    recurring_in_code: bool

    async def register(self, work: Work) -> float | None:
        """Have ``work`` done: how many tasks it took a second; None where they are in its code."""

    def family(self) -> Family:
        """Its processes, as they are now."""

    async def problems(self, work: Work) -> list[str]:
        """What is wrong with its own account of ``work``, after it was done."""


@dataclass(frozen=True)
class Place:
    """Where an installation lives, and what its workers are to do."""

    folder: Path
    workers: int  # processes
    url: str | None  # the HTTP server to call; None: do nothing but the note

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    def environment(self, **more: str) -> dict[str, str]:
        """For its processes: ours without any settings, and where calls are noted."""
        foreign = ("ONTHEDOT_", "TEMPORAL_", "PG", "CELERY_", "PROCRASTINATE_", "DBOS_")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
        own = {"PYTHONPATH": str(processes.ROOT), calls.FOLDER: str(self.calls)}
        return kept | own | ({calls.URL: self.url} if self.url else {}) | more


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A side that may be measured."""

    name: str
    title: str
    version: Callable[[], str]
    start: Callable[[Place], AbstractAsyncContextManager[Side]]
    why_not: Callable[[], str | None] = lambda: None


@asynccontextmanager
async def started(offer: Offer, workers: int, action: Action):  # type: ignore[no-untyped-def]
    """A fresh installation with its place, until the block is left; nothing remains of it."""
    with folder() as path:
        (path / "calls").mkdir(mode=0o777)
        if action == "noop":
            place = Place(path, workers, None)
            async with offer.start(place) as side:
                yield side, place
            return
        port = free_port()
        place = Place(path, workers, f"http://127.0.0.1:{port}")
        server = [sys.executable, "-m", "bench.server", str(port)]
        async with processes.running(server, path / "server.log", environment=place.environment()):
            await _listening(port)
            async with offer.start(place) as side:
                yield side, place


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that also the account which Postgres runs as may go to."""
    with tempfile.TemporaryDirectory(prefix="onthedot-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError(f"nothing listens on port {port}")
