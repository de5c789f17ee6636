"""The sides that are other projects: their programs (bench.peers) with what those need."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from bench import processes
from bench.plan import Work, free_port
from bench.processes import ROOT, Family
from bench.side import Place
from onthedot.database import embedded
from onthedot.database.embedded import EmbeddedPostgres

#: Where `make bench` installs the peers.
PYTHON = ROOT / ".bench" / "bin" / "python"
_START_WITHIN = 60.0

Command = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a peer is run."""

    module: str  # of bench.peers
    package: str  # as it is called on PyPI
    needs: str  # "postgres" or "redis"
    #: The commands of each part, given how many worker processes there are to be and where.
    parts: Callable[[Place], Mapping[str, Sequence[Command]]]
    prepares: bool = False  # it makes its tables by the role ``prepare``
    #: Its recurring tasks are part of its code, which is read when its processes start.
    recurring_in_code: bool = False

    def why_not(self) -> str | None:
        """Why it cannot be measured here."""
        if not PYTHON.exists():
            return "not installed: `make bench` installs the peers, where PyPI can be reached"
        if self.needs == "redis" and shutil.which("redis-server") is None:
            return "there is no redis-server: apt-get install redis-server"
        return None if _version(self.package) else f"{self.package} could not be installed"

    def version(self) -> str:
        return _version(self.package) or "?"

    @asynccontextmanager
    async def running(self, place: Place) -> AsyncIterator["Peer"]:
        """A fresh installation in ``place``."""
        async with AsyncExitStack() as stack:
            needed, pid, environment = await stack.enter_async_context(_NEEDS[self.needs](place))
            peer = Peer(self, place, environment, {needed: [pid]}, stack)
            if self.prepares:
                await peer.prepare()
            await peer.start({})
            yield peer


@dataclass
class Peer:
    """A peer that runs, and the clerk who registers with it."""

    program: Program
    place: Place
    environment: dict[str, str]
    needed: dict[str, list[int]]  # the database or broker
    stack: AsyncExitStack
    lead: float = 0.0
    _parts: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    _running: AsyncExitStack | None = None

    @property
    def recurring_in_code(self) -> bool:
        return self.program.recurring_in_code

    async def prepare(self) -> None:
        command = [str(PYTHON), "-m", f"bench.peers.{self.program.module}", "prepare"]
        async with processes.running(
            command, self.place.folder / "said.log", environment=self.environment
        ) as child:
            if await asyncio.to_thread(child.wait):
                raise RuntimeError(self._said())

    async def start(self, more: Mapping[str, str]) -> None:
        """Start its processes; those that run are ended first."""
        if self._running is not None:
            await self._running.aclose()
        self._running = AsyncExitStack()
        self.stack.push_async_exit(self._running)
        self._parts = {}
        for part, commands in self.program.parts(self.place).items():
            self._parts[part] = [
                await self._running.enter_async_context(
                    processes.running(
                        [str(PYTHON), "-m", *command],
                        self.place.folder / "said.log",
                        environment=self.environment | dict(more),
                        talks="clerk" in command,
                    )
                )
                for command in commands
            ]
        await self._hear("ready")
        await asyncio.sleep(3)  # most do not say when their workers have begun

    async def register(self, work: Work) -> float | None:
        if work.every is not None and self.program.recurring_in_code:
            file = self.place.folder / "work.json"
            file.write_text(work.text(), encoding="utf-8")
            await self.start({"BENCH_WORK": str(file)})
            return None
        [clerk] = self._clerks()
        assert clerk.stdin is not None
        clerk.stdin.write(work.text().encode() + b"\n")
        clerk.stdin.flush()
        return work.tasks / float(await self._hear(None))

    def family(self) -> Family:
        """Without a clerk who only registers."""
        pids = {part: [one.pid for one in some] for part, some in self._parts.items()}
        return Family(
            {**self.needed, **{part: pids[part] for part in pids if part != "clerk"}}, alone={}
        )

    async def problems(self, work: Work) -> list[str]:
        return []

    def _clerks(self) -> list[subprocess.Popen[bytes]]:
        return [one for some in self._parts.values() for one in some if one.stdin is not None]

    async def _hear(self, expected: str | None) -> str:
        """The next line of the clerk."""
        [clerk] = self._clerks()
        assert clerk.stdout is not None
        line = (await asyncio.to_thread(clerk.stdout.readline)).decode().strip()
        if not line or expected not in (None, line):
            raise RuntimeError(f"{self.program.module} broke: {line}\n{self._said()}")
        return line

    def _said(self) -> str:
        return (self.place.folder / "said.log").read_text(encoding="utf-8")[-3000:]


@asynccontextmanager
async def _postgres(place: Place) -> AsyncIterator[tuple[str, int, dict[str, str]]]:
    """The same Postgres as Onthedot's own, with the same settings."""
    server = EmbeddedPostgres(place.folder / "postgres", free_port())
    await asyncio.to_thread(server.prepare)
    async with processes.running(
        server.command(),
        place.folder / "postgres.log",
        environment=embedded.ENVIRONMENT,
        account=server.account(),
        stop_signal=embedded.STOP_SIGNAL,
    ) as child:
        await _until(lambda: server.is_ready())
        await asyncio.to_thread(server.make_database)
        yield "postgres", child.pid, place.environment(BENCH_DATABASE=server.url())


@asynccontextmanager
async def _redis(place: Place) -> AsyncIterator[tuple[str, int, dict[str, str]]]:
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--dir", str(place.folder), "--daemonize", "no"]
    async with processes.running(command, place.folder / "redis.log") as child:
        await _until(lambda: _answers(port))
        yield "redis", child.pid, place.environment(BENCH_REDIS=f"redis://127.0.0.1:{port}/0")


_NEEDS = {"postgres": _postgres, "redis": _redis}


async def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_WITHIN
    while not await asyncio.to_thread(ready):
        if time.monotonic() > deadline:
            raise RuntimeError("what a peer needs did not start")
        await asyncio.sleep(0.1)


def _answers(port: int) -> bool:
    command = ["redis-cli", "-p", str(port), "ping"]
    return subprocess.run(command, capture_output=True, check=False).stdout.strip() == b"PONG"


@cache
def _version(package: str) -> str | None:
    """The version of ``package`` that is installed for the peers."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _each(module: str, place: Place) -> dict[str, list[Command]]:
    """A clerk, and workers that are processes of their own."""
    name = f"bench.peers.{module}"
    return {"clerk": [[name, "clerk"]], "workers": [[name, "worker"]] * place.workers}


def _apscheduler(place: Place) -> dict[str, list[Command]]:
    return {"scheduler": [["bench.peers.apscheduler", "clerk"]]}  # its clerk is its scheduler


def _celery(place: Place) -> dict[str, list[Command]]:
    app = ["celery", "-A", "bench.peers.celery"]
    quiet = "--loglevel=WARNING"
    return {
        "clerk": [["bench.peers.celery", "clerk"]],
        "workers": [[*app, "worker", quiet, f"--concurrency={place.workers}"]],
        "beat": [[*app, "beat", quiet, f"--schedule={place.folder / 'beat'}"]],
    }


APSCHEDULER = Program(
    module="apscheduler", package="APScheduler", needs="postgres", parts=_apscheduler
)
CELERY = Program(
    module="celery", package="celery", needs="redis", parts=_celery, recurring_in_code=True
)
PROCRASTINATE = Program(
    module="procrastinate",
    package="procrastinate",
    needs="postgres",
    parts=lambda place: _each("procrastinate", place),
    prepares=True,
    recurring_in_code=True,
)
DBOS = Program(
    module="dbos",
    package="dbos",
    needs="postgres",
    parts=lambda place: _each("dbos", place),
    prepares=True,
)
