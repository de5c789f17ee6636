"""A whole installation of real processes, each of which can be killed, stopped and cut off."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from onthedot import access
from onthedot.database.embedded import ENVIRONMENT, EmbeddedPostgres
from onthedot.database.migrate import migrate
from onthedot.launch import Account, wrap
from onthedot.readiness import Announcement
from onthedot.settings import Settings
from onthedot.temporal_server import TemporalServer
from tests import services
from tests.faults.network import Link

_ROOT = Path(__file__).parents[2]
_READY_WITHIN = 90.0


async def _nothing() -> None:
    pass


@dataclass(kw_only=True)
class Part:
    """A process of the installation. It is started again with the same command and ports."""

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] | None = None
    account: Account | None = None
    code: Path = _ROOT  # the folder that our code is taken from
    prepare: Callable[[], Awaitable[None]] = _nothing
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        await self.launch()
        await self.ready()

    async def launch(self) -> None:
        await self.prepare()
        with self.log.open("ab") as output:
            # by the thread that lives on: the kernel ends the child together with it
            self._process = subprocess.Popen(  # noqa: ASYNC220
                wrap(self.command, account=self.account),
                env=self.environment,
                cwd="/" if self.account else self.code,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READY_WITHIN
        while not await self.is_ready():
            if not self.is_running or loop.time() > deadline:
                said = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise AssertionError(f"{self.name} did not start:\n{said}")
            await asyncio.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it without a word."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, within: float = 60) -> int:
        """Its exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, within)

    async def restart(self) -> None:
        """Ask it to leave, and start it again: with what was changed here meanwhile."""
        if self.is_running:
            self.signal(signal.SIGTERM)
            await self.ended()
        await self.start()

    async def end(self) -> None:
        """End it as the test is over, in whatever state it is."""
        if self.is_running:
            await self.kill()

    def memory(self) -> int:
        """Its resident bytes."""
        status = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        return int(status[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(kw_only=True)
class Cluster:
    """Postgres, Temporal, two workers and two web instances, with a link of its own between each
    of the four and each of the two.
    """

    folder: Path
    settings: Settings
    postgres_server: EmbeddedPostgres
    key: str
    postgres: Part
    temporal: Part
    observer: Part
    observer_url: str
    seen: Path  # what the observer writes
    workers: list[Part]
    webs: list[Part]
    urls: list[str]
    links: dict[tuple[str, str], Link]  # such as ("worker-1", "temporal")

    @property
    def ours(self) -> list[Part]:
        return [*self.workers, *self.webs]

    @property
    def parts(self) -> list[Part]:
        return [self.postgres, self.temporal, *self.ours]

    async def heal(self) -> None:
        """Bring everything back that is not well."""
        for link in self.links.values():
            link.heal()
        for part in self.parts:
            if part.is_running:
                part.signal(signal.SIGCONT)
        for part in self.parts:
            if not part.is_running:
                await part.start()
            else:
                await part.ready()

    def said(self) -> str:
        """What our processes have said that is more than information."""
        lines = []
        for part in self.ours:
            for line in part.log.read_text(encoding="utf-8", errors="replace").splitlines():
                if "ERROR" in line or "CRITICAL" in line or "Traceback" in line:
                    lines.append(f"{part.name}: {line}")
        return "\n".join(lines[-40:])


@asynccontextmanager
async def running_cluster(folder: Path, **more: str) -> AsyncIterator[Cluster]:
    """A cluster in ``folder``, which the account of Postgres must be able to enter.

    ``more`` are settings of ours (``SHUTDOWN_GRACE="5s"``).
    """
    async with AsyncExitStack() as running:
        cluster = await _laid_out(folder, more, running)
        await cluster.observer.start()
        await cluster.postgres.start()
        await asyncio.to_thread(cluster.postgres_server.make_database)
        await migrate(cluster.postgres_server.url())
        url = cluster.postgres_server.url()
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await access.ensure_api_key(connection, cluster.key, "tests")
        await cluster.temporal.start()
        await asyncio.gather(*(part.start() for part in cluster.ours))
        yield cluster


async def _laid_out(folder: Path, more: Mapping[str, str], running: AsyncExitStack) -> Cluster:
    """All parts, none of which is started."""
    server = EmbeddedPostgres(
        folder / "postgres", services.free_port(), {"fsync": "off", "full_page_writes": "off"}
    )
    await asyncio.to_thread(server.prepare)
    engine = TemporalServer(folder / "temporal.db", services.free_port())
    seen, port = folder / "seen", services.free_port()
    seen.touch()
    cluster = Cluster(
        folder=folder,
        settings=Settings(
            database_url=server.url(),
            temporal_address=engine.address,
            handlers=("tests.faults.observer:note",),
            shell=True,
            http_allow=("127.0.0.0/8",),
        ),
        postgres_server=server,
        key=access.new_api_key(),
        postgres=Part(
            name="postgres",
            command=server.command(),
            log=folder / "postgres.log",
            environment=ENVIRONMENT,
            account=server.account(),
            prepare=lambda: asyncio.to_thread(server.prepare),
            is_ready=lambda: asyncio.to_thread(server.is_ready),
        ),
        temporal=Part(
            name="temporal",
            command=engine.command(),
            log=folder / "temporal.log",
            is_ready=engine.is_ready,
        ),
        observer=Part(
            name="observer",
            command=[sys.executable, "-m", "tests.faults.observer", str(port), str(seen)],
            log=folder / "observer.log",
            is_ready=lambda: _answers(f"http://127.0.0.1:{port}/"),
        ),
        observer_url=f"http://127.0.0.1:{port}",
        seen=seen,
        workers=[],
        webs=[],
        urls=[],
        links={},
    )
    for part in (cluster.postgres, cluster.temporal, cluster.observer):
        running.push_async_callback(part.end)
    for number in (1, 2):
        for kind in ("worker", "web"):
            name = f"{kind}-{number}"
            for behind, target in (("postgres", server.port), ("temporal", engine.port)):
                cluster.links[name, behind] = await running.enter_async_context(
                    Link(target).listening()
                )
            if kind == "worker":
                announcement = Announcement()
                running.callback(announcement.close)
                part = _worker(cluster, name, more, announcement)
            else:
                part = _web(cluster, name, more)
            running.push_async_callback(part.end)
    return cluster


def _worker(
    cluster: Cluster, name: str, more: Mapping[str, str], announcement: Announcement
) -> Part:
    async def is_ready() -> bool:
        nonlocal polls
        polls = announcement.has_come() or polls
        return polls

    async def prepare() -> None:
        nonlocal polls
        polls = False

    polls = False
    part = Part(
        name=name,
        command=[sys.executable, "-m", "onthedot", "worker"],
        log=cluster.folder / f"{name}.log",
        environment={**_environment(cluster, name, more), **announcement.environment},
        prepare=prepare,
        is_ready=is_ready,
    )
    cluster.workers.append(part)
    return part


def _web(cluster: Cluster, name: str, more: Mapping[str, str]) -> Part:
    port = services.free_port()
    url = f"http://127.0.0.1:{port}"
    part = Part(
        name=name,
        command=[sys.executable, "-m", "onthedot", "web"],
        log=cluster.folder / f"{name}.log",
        environment={**_environment(cluster, name, more), "ONTHEDOT_PORT": str(port)},
        is_ready=lambda: _answers(f"{url}/healthz"),
    )
    cluster.webs.append(part)
    cluster.urls.append(url)
    return part


def _environment(cluster: Cluster, name: str, more: Mapping[str, str]) -> dict[str, str]:
    """That of the tests, with each of the two services behind the part's own link."""
    links = cluster.links
    settings = replace(
        cluster.settings,
        database_url=replace(cluster.postgres_server, port=links[name, "postgres"].port).url(),
        temporal_address=f"127.0.0.1:{links[name, 'temporal'].port}",
        data_dir=cluster.folder,
    )
    given = {f"ONTHEDOT_{setting}": value for setting, value in more.items()}
    return {**os.environ, **settings.to_environment(), **given}


async def _answers(url: str) -> bool:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return await asyncio.to_thread(ask)
