"""The real services that tests run on: each a child of the test process, on a free port."""

import asyncio
import inspect
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.plan import free_port as free_port
from onthedot.database.embedded import ENVIRONMENT, STOP_SIGNAL, EmbeddedPostgres
from onthedot.launch import Account, wrap
from onthedot.temporal_server import TemporalServer

# No power cut is tested here, and syncing makes a database per test slow. Commits stay synchronous:
# what was committed outlives a kill.
_IN_A_HURRY = {"fsync": "off", "full_page_writes": "off"}


async def assert_eventually(
    check: Callable[[], Any | Awaitable[Any]], within: float = 10, every: float = 0.05
) -> Any:
    """What ``check`` returns as soon as that is true; fail when it is not ``within`` seconds.

    An AssertionError from ``check`` counts as not yet, and is shown in the end.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() > deadline
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
        except AssertionError:
            if late:
                raise
        if late:
            raise AssertionError(f"not within {within} s: {inspect.getsource(check).strip()}")
        await asyncio.sleep(every)


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """``command`` as a child whose output goes to ``log``, until the block is left."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            wrap(command, account=account),
            env=environment,
            cwd="/" if account else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.send_signal(stop_signal)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def running_postgres(folder: Path, port: int | None = None) -> Iterator[EmbeddedPostgres]:
    """A fresh Postgres in ``folder``."""
    postgres = EmbeddedPostgres(folder / "postgres", port or free_port(), _IN_A_HURRY)
    postgres.prepare()
    log = folder / "postgres.log"
    with running(
        postgres.command(),
        log,
        stop_signal=STOP_SIGNAL,
        account=postgres.account(),
        environment=ENVIRONMENT,
    ) as child:
        _wait_until(postgres.is_ready, child, log)
        yield postgres


@contextmanager
def running_temporal(
    folder: Path, port: int | None = None, namespace: str = "default"
) -> Iterator[TemporalServer]:
    """A fresh Temporal dev server with its file in ``folder``."""
    server = TemporalServer(folder / "temporal.db", port or free_port(), namespace=namespace)
    log = folder / "temporal.log"
    with running(server.command(), log) as child:
        _wait_until(lambda: asyncio.run(server.is_ready()), child, log)
        yield server


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that also the account which Postgres runs as may go to."""
    with tempfile.TemporaryDirectory(prefix="onthedot-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children_of(pid: int) -> list[int]:
    """The living processes that ``pid`` started, and those that they started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found += [child, *children_of(child)]
    return [child for child in found if is_alive(child)]


def _wait_until(
    ready: Callable[[], bool], child: subprocess.Popen[bytes], log: Path, within: float = 60
) -> None:
    deadline = time.monotonic() + within
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{log.stem} did not start:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.05)
