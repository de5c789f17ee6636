"""The processes of a side: starting and ending them, their CPU time and memory by part."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import psutil

from onthedot.launch import Account, wrap

Parts = Mapping[str, float]
ROOT = Path(__file__).resolve().parents[1]

_HARDLY_MORE = 0.1  # seconds of CPU a second
_STOPPED_WITHIN = 15.0


class Family:
    """The processes of one installation: for each part those at its root.

    A root's children count with it, also those that have ended.
    """

    def __init__(self, roots: Mapping[str, Iterable[int]], *, alone: Mapping[str, int]) -> None:
        """``alone`` are processes whose children belong to other parts."""
        self._roots = {part: [psutil.Process(pid) for pid in pids] for part, pids in roots.items()}
        self._alone = {part: psutil.Process(pid) for part, pid in alone.items()}

    def cpu(self) -> Parts:
        """Seconds of CPU that each part has used since it started."""
        used = {
            part: sum(_cpu(one, with_ended=True) for root in roots for one in _tree(root))
            for part, roots in self._roots.items()
        }
        return used | {part: _cpu(one, with_ended=False) for part, one in self._alone.items()}

    def memory(self) -> Parts:
        """Bytes that each part holds; what its processes share is counted once."""
        held = {
            part: _resident(one for root in roots for one in _tree(root))
            for part, roots in self._roots.items()
        }
        return held | {part: _resident([one]) for part, one in self._alone.items()}

    async def rest(self, idle: Parts, within: float) -> bool:
        """Wait until the processes use hardly more than ``idle`` (seconds of CPU a second).

        Whether they do, within so many seconds.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            span = Span(self)
            await asyncio.sleep(1)
            if sum(span.rate().values()) < sum(idle.values()) + _HARDLY_MORE:
                return True
        return False


class Span:
    """CPU that a family uses from now on."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._before = family.cpu()
        self._begun = time.monotonic()

    def used(self) -> tuple[Parts, float]:
        """Seconds of CPU by part, and how many seconds they were used in."""
        parts = {part: used - self._before[part] for part, used in self._family.cpu().items()}
        return parts, time.monotonic() - self._begun

    def rate(self) -> Parts:
        """Seconds of CPU a second."""
        parts, seconds = self.used()
        return {part: used / seconds for part, used in parts.items()}


@asynccontextmanager
async def running(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    talks: bool = False,
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """``command`` as long as the block lasts; what it says goes to ``log``.

    One that ``talks`` is spoken to by pipes. None outlives us, however we end.
    """
    child = _start(command, log, environment, account, talks)  # by the thread that lives longest
    try:
        yield child
    finally:
        child.send_signal(stop_signal)
        try:
            await asyncio.to_thread(child.wait, _STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            await asyncio.to_thread(child.wait)


def _start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None,
    account: Account | None,
    talks: bool,
) -> subprocess.Popen[bytes]:
    with log.open("ab") as errors:
        said: int | IO[bytes] = subprocess.PIPE if talks else errors
        return subprocess.Popen(
            wrap(command, account=account),
            cwd="/" if account else ROOT,
            env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=said,
            stderr=errors,
            start_new_session=True,
        )


def _tree(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    yield from root.children(recursive=True)


def _cpu(process: psutil.Process, *, with_ended: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = times.children_user + times.children_system if with_ended else 0.0
    return float(times.user + times.system + ended)


def _resident(processes: Iterable[psutil.Process]) -> float:
    own, shared = 0.0, 0.0
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        own += memory.rss - memory.shared
        shared = max(shared, memory.shared)
    return own + shared
