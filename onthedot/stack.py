"""`onthedot up`: Postgres, Temporal, the workers and the web app, as children of one supervisor."""

import asyncio
import contextlib
import fcntl
import logging
import logging.handlers
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from onthedot import access, duration, ports
from onthedot.console import Console
from onthedot.database import embedded
from onthedot.database.embedded import EmbeddedPostgres
from onthedot.database.migrate import migrate
from onthedot.errors import FieldError, InvalidSettings
from onthedot.readiness import Announcement
from onthedot.settings import PREFIX, Settings
from onthedot.supervisor import Child, Supervisor
from onthedot.temporal_server import TemporalServer

_LOOPBACK = ("127.0.0.0/8", "::1/128")


async def up(settings: Settings, console: Console) -> None:
    """Run the whole stack until SIGINT or SIGTERM; a second one ends it at once.

    Raises InvalidSettings when a port or the data directory is in use, Unavailable when a part
    does not start. Nothing is left running afterwards.
    """
    with _sole_use(settings):
        ports.check_free(settings)
        stack = Stack(settings, console)
        asked = _when_asked_to_stop(stack.supervisor)
        starting = asyncio.create_task(stack.start())
        waiting = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await waiting
        finally:
            waiting.cancel()
            starting.cancel()
            await asyncio.wait({starting, waiting})
            await stack.stop()


def with_local_defaults(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """What `up` allows that a server does not: commands, HTTP to this machine, the examples.

    What the operator has said in ``environment`` stands.
    """
    changes: dict[str, object] = {}
    if not environment.get(PREFIX + "SHELL"):
        changes["shell"] = True
    if not environment.get(PREFIX + "HTTP_ALLOW"):
        changes["http_allow"] = _LOOPBACK
    if not environment.get(PREFIX + "HANDLERS"):
        changes["handlers"] = ("onthedot.examples:*",)
    if settings.temporal_ui_url is None and settings.temporal_address is None:
        changes["temporal_ui_url"] = f"http://127.0.0.1:{settings.temporal_ui_port}"
    return replace(settings, **changes)  # type: ignore[arg-type] # the keys are checked above


def running(settings: Settings, environment: Mapping[str, str]) -> Settings | None:
    """The settings of the stack that runs on this data directory, or None.

    What ``environment`` says stands.
    """
    try:
        lines = _running_file(settings.data_dir).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, PermissionError):
        return None
    written = dict(line.split("=", 1) for line in lines)
    return Settings.from_environment({**written, **environment})


class Stack:
    """The parts of one installation, on one machine."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.supervisor = Supervisor(console.say, self._relay)
        self._quiet = {
            name: _log_file(settings.data_dir / "logs" / f"{name}.log")
            for name in ("postgres", "temporal")
        }
        self._metrics_ports: list[int] = []

    async def start(self) -> None:
        """Start all parts, each when those it needs are ready, and say how to use them."""
        if self.settings.database_url is None:
            await self._start_postgres()
        if self.settings.temporal_address is None:
            await self._start_temporal()
        await asyncio.to_thread(self._write_running)
        with self.console.step("Database up to date"):
            link = await self._prepare_database()
        await self._start_workers()
        await self._start_web()
        self._welcome(link)

    def _write_running(self) -> None:
        """Leave our settings for the commands that are run beside us (they hold a password)."""
        file = _running_file(self.settings.data_dir)
        file.unlink(missing_ok=True)
        lines = [f"{name}={value}" for name, value in self.settings.to_environment().items()]
        _write_secret(file, "\n".join(lines) + "\n")

    async def stop(self) -> None:
        grace = duration.write(self.settings.shutdown_grace)
        self.console.say(f"Stopping: runs may go on for {grace}; Ctrl-C again ends all at once")
        await self.supervisor.stop()
        _running_file(self.settings.data_dir).unlink(missing_ok=True)
        for log in self._quiet.values():
            for handler in log.handlers[:]:
                log.removeHandler(handler)
                handler.close()
        self.console.say("Stopped. Tasks and log are kept in " + str(self.settings.data_dir))

    async def _start_postgres(self) -> None:
        postgres = EmbeddedPostgres(
            self.settings.data_dir / "postgres", self.settings.postgres_port
        )
        with self.console.step(f"Postgres on 127.0.0.1:{postgres.port}"):
            await asyncio.to_thread(postgres.prepare)
            await self.supervisor.start(
                Child(
                    name="postgres",
                    command=postgres.command(),
                    account=postgres.account(),
                    environment=embedded.ENVIRONMENT,
                    prepare=lambda: asyncio.to_thread(postgres.prepare),
                    is_ready=lambda: asyncio.to_thread(postgres.is_ready),
                    is_quoted=True,
                    stop_signal=embedded.STOP_SIGNAL,
                    death_signal=embedded.STOP_SIGNAL,
                )
            )
            await asyncio.to_thread(postgres.make_database)
        self.settings = replace(self.settings, database_url=postgres.url())

    async def _start_temporal(self) -> None:
        folder = self.settings.data_dir / "temporal"
        folder.mkdir(mode=0o700, exist_ok=True)
        temporal = TemporalServer(
            folder / "temporal.db",
            self.settings.temporal_port,
            self.settings.temporal_ui_port,
            self.settings.temporal_namespace,
        )
        with self.console.step(f"Temporal on {temporal.address}"):
            await self.supervisor.start(
                Child(
                    name="temporal",
                    command=temporal.command(),
                    is_ready=temporal.is_ready,
                    is_quoted=True,
                )
            )
        self.settings = replace(self.settings, temporal_address=temporal.address)

    async def _prepare_database(self) -> str:
        """Migrate, let the admin's key in, and return a link that signs in."""
        assert self.settings.database_url is not None
        await migrate(self.settings.database_url)
        key = await asyncio.to_thread(_admin_key, self.settings.data_dir / "api-key")
        async with await psycopg.AsyncConnection.connect(self.settings.database_url) as connection:
            await access.ensure_api_key(connection, key, "admin", "admin")
            return await access.make_sign_in_link(connection, self.settings)

    async def _start_workers(self) -> None:
        count = self.settings.workers or len(os.sched_getaffinity(0))
        with self.console.step(f"{count} worker{'s' if count > 1 else ''}"):
            self._metrics_ports = self._free_ports(count)
            children = [
                self._worker(f"worker-{number}", port)
                for number, port in enumerate(self._metrics_ports, 1)
            ]
            try:
                async with asyncio.TaskGroup() as starting:
                    for child in children:
                        starting.create_task(self.supervisor.start(child))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None

    def _free_ports(self, count: int) -> list[int]:
        """For the workers' metrics: free ones, or those from the one that was asked for on."""
        if first := self.settings.metrics_port:
            return list(range(first, first + count))
        found: set[int] = set()
        while len(found) < count:
            found.add(ports.free(self.settings.metrics_host))
        return sorted(found)

    def _worker(self, name: str, metrics_port: int) -> Child:
        announcement = Announcement()

        async def is_ready() -> bool:
            return announcement.has_come()

        return Child(
            name=name,
            command=_ours("worker"),
            environment={
                **self._environment(),
                **announcement.environment,
                PREFIX + "METRICS_PORT": str(metrics_port),
            },
            is_ready=is_ready,
            grace=self.settings.shutdown_grace.total_seconds() + 20,
        )

    async def _start_web(self) -> None:
        settings = self.settings
        with self.console.step(f"Web app on {settings.host}:{settings.port}"):
            await self.supervisor.start(
                Child(
                    name="web",
                    command=_ours("web"),
                    environment=self._environment(),
                    is_ready=lambda: asyncio.to_thread(_answers, local_url(settings) + "/healthz"),
                )
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**kept, **self.settings.to_environment()}

    def _relay(self, name: str, line: str) -> None:
        if name in self._quiet:
            self._quiet[name].info(line)
        else:
            self.console.relay(name, line)

    def _welcome(self, link: str) -> None:
        settings = self.settings
        say = self.console.say
        say()
        say(f"  Web app      {settings.url}")
        say(f"  Sign in      {link}")
        say("               (works once, for 24 hours; `onthedot sign-in` gives another)")
        say(f"  API          {settings.url}/api/v1  (key: {settings.data_dir / 'api-key'})")
        if settings.temporal_ui_url:
            say(f"  Temporal UI  {settings.temporal_ui_url}")
        of_workers = " ".join(f":{port}" for port in self._metrics_ports)
        say(f"  Metrics      {settings.url}/metrics  (of the workers: {of_workers})")
        say(f"  Logs         {settings.data_dir / 'logs'}")
        say("  Stop         Ctrl-C")
        say()


@contextmanager
def _sole_use(settings: Settings) -> Iterator[None]:
    """Make the data directory, and hold its lock; raise InvalidSettings when another does."""
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="ascii")
    except OSError as error:
        remedy = "give a directory that you may write to"
        problem = f"cannot be used ({error.strerror})"
        raise InvalidSettings(
            FieldError(PREFIX + "DATA_DIR", str(folder), problem, remedy)
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            problem = (
                f"in use by another `onthedot up` (process {lock.read().strip() or 'unknown'})"
            )
            remedy = "stop that one, or give this one a directory and ports of its own"
            raise InvalidSettings(
                FieldError(PREFIX + "DATA_DIR", str(folder), problem, remedy)
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _when_asked_to_stop(supervisor: Supervisor) -> asyncio.Event:
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            supervisor.kill()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return asked


def _ours(command: str) -> list[str]:
    # -P: a folder named `web` where the operator stands is not our package.
    return [sys.executable, "-P", "-m", "onthedot", command]


def _admin_key(file: Path) -> str:
    """The key in ``file``, which is made where it is missing."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii").strip()
    key = access.new_api_key()
    _write_secret(file, key + "\n")
    return key


def _write_secret(file: Path, text: str) -> None:
    """Make ``file``, which nobody else can read, not even for a moment."""
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(text, encoding="utf-8")


def _running_file(data_dir: Path) -> Path:
    return data_dir / "running.env"


def local_url(settings: Settings) -> str:
    """Where this machine reaches the web app, which may listen on all addresses."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _log_file(path: Path) -> logging.Logger:
    """A log of 10 MB and one before it; it goes nowhere else."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    log = logging.Logger(path.stem, logging.INFO)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=10_000_000, backupCount=1, encoding="utf-8"
    )
    log.addHandler(handler)
    return log
