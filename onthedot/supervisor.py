"""Child processes that are started in order, watched, started again, and stopped in reverse.

A child has a session of its own, so that Ctrl-C reaches the supervisor alone, and it gets its
death signal from the kernel when the supervisor is killed.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from onthedot.errors import OnthedotError, Unavailable
from onthedot.launch import Account, wrap

_FIRST_BACKOFF = 0.2  # seconds; doubled at each death
_LONGEST_BACKOFF = 10.0
_HEALTHY_AFTER = 30.0  # seconds of running that make the past deaths forgotten
_LONGEST_LINE = 16 * 1024  # bytes of a child's line that are shown
_REMEMBERED_LINES = 30


class ChildDidNotStart(Unavailable):
    """A part of the stack did not start."""


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to keep running. Times are in seconds."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], Awaitable[bool]]  # asked again and again while it starts
    prepare: Callable[[], Awaitable[None]] = _nothing  # before each start; may raise OnthedotError
    environment: Mapping[str, str] | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # when the supervisor is gone
    is_quoted: bool = False  # errors repeat what it said, for `relay` does not show it
    ready_within: float = 60.0
    grace: float = 10.0  # between the stop signal and SIGKILL


@dataclass(slots=True)
class _Process:
    """What has been started of a child."""

    process: asyncio.subprocess.Process
    relay: asyncio.Task[None]
    started_at: float = field(default_factory=time.monotonic)  # a monotonic clock's seconds


class Supervisor:
    """Keeps children running.

    ``say`` gets what happens to them, ``relay`` the name of a child and a line that it said.
    """

    def __init__(self, say: Callable[[str], None], relay: Callable[[str, str], None]) -> None:
        self._say = say
        self._relay = relay
        self._kept: dict[str, _Kept] = {}

    async def start(self, child: Child) -> None:
        """Start ``child`` and keep it running; return when it is ready.

        Raises ChildDidNotStart when it ends, or is not ready in time.
        """
        kept = self._kept[child.name] = _Kept(child, self._say, self._relay)
        await kept.start()

    async def stop(self) -> None:
        """Stop all children, the last one that was started first; those of a kind together."""
        for group in _groups(list(self._kept.values())):
            await asyncio.gather(*(kept.stop() for kept in group))
        self._kept.clear()

    def kill(self) -> None:
        """End all children at once, without asking."""
        for kept in self._kept.values():
            kept.leave_alone()
            kept.signal(signal.SIGKILL)


class _Kept:
    """One child, its present process, and the task that watches over both."""

    def __init__(
        self, child: Child, say: Callable[[str], None], relay: Callable[[str, str], None]
    ) -> None:
        self.child = child
        self._say = say
        self._relay = relay
        self._said: list[str] = []
        self._present: _Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._start_process()
        await self._wait_until_ready()
        self._watch = asyncio.create_task(self._keep_running(), name=f"keep {self.child.name}")

    async def stop(self) -> None:
        self.leave_alone()
        if self._watch is not None:
            await asyncio.wait([self._watch])
        await self._end_process()

    def leave_alone(self) -> None:
        """Start it no more."""
        if self._watch is not None:
            self._watch.cancel()

    def signal(self, number: signal.Signals) -> None:
        """Send ``number`` to all of the child's process group."""
        if self._present is not None:
            with contextlib.suppress(ProcessLookupError):
                # Its pid is the number of its group too, for it leads its session.
                os.killpg(self._present.process.pid, number)

    async def _keep_running(self) -> None:
        backoff = _FIRST_BACKOFF
        problem = await self._ending()
        while True:
            self._say(f"{self.child.name} {problem}; starting it again in {backoff:.1f} s")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)
            try:
                await self._start_process()
                await self._wait_until_ready()
            except OnthedotError as error:
                await self._end_process()
                problem = f"did not start ({error})"
                continue
            except OSError as error:  # also of what looks whether it is ready
                await self._end_process()
                problem = f"cannot be started ({error})"
                continue
            self._say(f"{self.child.name} is running again")
            problem = await self._ending()
            if self._present and time.monotonic() - self._present.started_at > _HEALTHY_AFTER:
                backoff = _FIRST_BACKOFF

    async def _start_process(self) -> None:
        await self.child.prepare()
        self._said.clear()
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *wrap(
                    self.child.command,
                    death_signal=self.child.death_signal,
                    account=self.child.account,
                ),
                stdin=asyncio.subprocess.DEVNULL,
                # A pipe of our own: asyncio's would make wait() wait for grandchildren too.
                stdout=writing,
                stderr=writing,
                env=None if self.child.environment is None else dict(self.child.environment),
                cwd="/" if self.child.account else None,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._present = _Process(process, asyncio.create_task(self._relay_lines(reading)))

    async def _wait_until_ready(self) -> None:
        present = self._running()
        try:
            async with asyncio.timeout(self.child.ready_within):
                while not await self.child.is_ready():
                    if present.process.returncode is not None:
                        raise ChildDidNotStart(self._with_what_it_said(await self._ending()))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            late = f"was not ready within {self.child.ready_within:g} s"
            raise ChildDidNotStart(self._with_what_it_said(late)) from None

    async def _ending(self) -> str:
        """Wait until the process ends; how it did, for a sentence."""
        present = self._running()
        code = await present.process.wait()
        self.signal(signal.SIGKILL)  # what it has left behind in its group
        # What it said last; a grandchild may hold the pipe open for longer.
        await asyncio.wait([present.relay], timeout=0.2)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    async def _end_process(self) -> None:
        if self._present is None:
            return
        process = self._present.process
        if process.returncode is None:
            # The process alone is asked: it stops what it has started itself.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.child.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.child.grace)
            except TimeoutError:
                self._say(f"{self.child.name} did not stop within {self.child.grace:g} s; killed")
                self.signal(signal.SIGKILL)
                await process.wait()
        await asyncio.wait([self._present.relay], timeout=0.2)
        self._present.relay.cancel()
        self._present = None

    async def _relay_lines(self, reading: int) -> None:
        async for line in _lines(reading):
            del self._said[: -_REMEMBERED_LINES + 1]
            self._said.append(line)
            self._relay(self.child.name, line)

    def _running(self) -> _Process:
        if self._present is None:
            raise RuntimeError(f"{self.child.name} has not been started")
        return self._present

    def _with_what_it_said(self, problem: str) -> str:
        said = [f"    {line}" for line in self._said] if self.child.is_quoted else []
        return "\n".join([f"{self.child.name} {problem}", *said])


def _groups(kept: list[_Kept]) -> list[list[_Kept]]:
    """Neighbours whose names differ by a number alone (worker-1, worker-2), last ones first."""
    groups: list[list[_Kept]] = []
    for one in reversed(kept):
        kind = one.child.name.rpartition("-")[0]
        if groups and kind and groups[-1][0].child.name.rpartition("-")[0] == kind:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


async def _lines(reading: int) -> AsyncIterator[str]:
    """The lines that come out of a pipe, which is closed at its end. Long ones are cut."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    rest = b""
    try:
        while chunk := await reader.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield _shown(line)
            rest = rest[:_LONGEST_LINE]
        if rest:
            yield _shown(rest)
    finally:
        transport.close()


def _shown(line: bytes) -> str:
    """The line as text that cannot steer a terminal, whatever a task made a worker log."""
    text = line[:_LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")
    return "".join(one if one.isprintable() or one == "\t" else "�" for one in text)
