"""Processes: each in a process group of its own, which ends with its run (Linux)."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from activities.action import SUCCEEDED, Ended, Running, failed
from activities.messages import ExecuteAttempt
from activities.output import OutputCapture
from activities.reaper import Reaper
from activities.threads import Call, Threads
from onthedot.errors import FieldError
from onthedot.settings import Settings
from onthedot.task import ShellAction

_GRACE = 5.0  # seconds between TERM and KILL
_SETTLING = 2.0  # that children get to end by themselves once the process has
_POLL = 0.02
_PIECE = 64 * 1024  # bytes, what a pipe holds
_PIECES = 4  # for one look: all of the worker waits for it
_IDLE_THREADS = 4
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# All that a process gets of the worker's environment.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")

_Process = subprocess.Popen[bytes]

if sys.version_info < (3, 11, 7):
    # Before https://github.com/python/cpython/issues/104372 was mended no thread went on from vfork to
    # exec, which a file system that hangs makes long.
    subprocess._USE_VFORK = False  # type: ignore[misc]


class Processes:
    """Performs ``shell`` actions."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = settings.shell
        self._reaper = Reaper()
        self._threads = Threads(_IDLE_THREADS)
        self._undoing: set[asyncio.Task[None]] = set()

    async def perform(self, running: Running) -> Ended:
        """Run the process until it and its group have ended.

        The result has ``exit_code`` or, where a signal ended it, ``signal``.
        """
        action = running.order.action
        assert isinstance(action, ShellAction)
        if not self._allowed:
            return failed("commands are turned off on this worker", may_retry=False)
        self._reaper.start()
        read_end, write_end = os.pipe()
        output = _PipeReader(read_end, running.output)
        try:
            process = await self._started(action, running, write_end)
        except (OSError, ValueError) as error:
            output.close()
            return failed(f"the process cannot be started: {error}")
        except asyncio.CancelledError:
            output.close()
            raise
        group = _Group(process)
        try:
            await group.leader_ends()
            if not await group.settles(output):
                running.result["left_behind"] = True
        finally:
            await group.end()
            output.drain()
            output.close()
            self._reaper.forget(process.pid)
            running.result.update(_describe(process.returncode))
        return _judge(process.returncode)

    def close(self) -> None:
        """End what is left, which is nothing once all runs have ended."""
        self._threads.close()
        self._reaper.close()

    async def _started(self, action: ShellAction, running: Running, output: int) -> _Process:
        """The process; raise OSError or ValueError when it cannot be started.

        That is done in a thread: its folder or program may be on a file system that hangs. Whoever
        stops waiting for it has it ended.
        """
        try:
            starting = self._threads.call(partial(self._start, action, running.order, output))
        except RuntimeError as error:  # there can be no more threads
            os.close(output)
            raise OSError(str(error)) from error
        try:
            process: _Process = await starting.result()
        except asyncio.CancelledError:
            await self._undo(starting, running)
            raise
        return process

    def _start(self, action: ShellAction, order: ExecuteAttempt, output: int) -> _Process:
        try:
            process = _start(action, order, output)
        finally:
            os.close(output)
        self._reaper.watch(process.pid)  # before anything else: this worker may be killed
        return process

    async def _undo(self, starting: Call, running: Running) -> None:
        """End the process once it is started, however late; wait a moment for that."""
        undoing = asyncio.create_task(self._end_once_started(starting))
        self._undoing.add(undoing)
        undoing.add_done_callback(self._undoing.discard)
        done, _ = await asyncio.wait({undoing}, timeout=2 * _GRACE)
        if not done:
            running.remark = "its process is still being started, and will be ended then"

    async def _end_once_started(self, starting: Call) -> None:
        try:
            process: _Process = await starting.result()
        except (OSError, ValueError):  # it could not be started
            return
        await _Group(process).end()
        self._reaper.forget(process.pid)


class _Group:
    """A process, and all that it starts and that stays in its process group."""

    def __init__(self, leader: _Process) -> None:
        self._leader = leader

    async def leader_ends(self) -> None:
        """Wait until the process ends; what it started may go on."""
        try:
            descriptor = os.pidfd_open(self._leader.pid)
        except (AttributeError, OSError):  # a system without: look now and then
            await _until(lambda: self._leader.poll() is not None, None)
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _set, ended)
        try:
            await ended
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def settles(self, output: "_PipeReader") -> bool:
        """Whether all of the group ends by itself, and closes the output, in a moment."""
        return await _until(lambda: output.is_at_end() and not self._is_alive(), _SETTLING)

    async def end(self) -> None:
        """TERM, some seconds for the group to clean up, KILL."""
        if not self._is_alive():
            return
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)  # one that is stopped does not see TERM before
        if not await _until(lambda: not self._is_alive(), _GRACE):
            self._send(signal.SIGKILL)
            # an orphan that nobody waits for stays a zombie in its group: it is dead enough
            await _until(lambda: not self._is_alive(), 1.0)

    def _is_alive(self) -> bool:
        if self._leader.poll() is None:
            return True
        # The number cannot be another group's while one of this group lives.
        try:
            os.killpg(self._leader.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # a child that became somebody else
        return True

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader.pid, number)


class _PipeReader:
    """Takes what comes out of a pipe into an output, as it comes."""

    def __init__(self, descriptor: int, output: OutputCapture) -> None:
        self._descriptor = descriptor
        self._output = output
        self._open = True
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def is_at_end(self) -> bool:
        """Whether all of the writers have closed it, or are gone.

        A few pieces are taken to see that: some write as fast as they are read.
        """
        for _ in range(_PIECES):
            if not self._read():
                break
        return not self._open

    def drain(self) -> None:
        """Take what a group that has just ended has left in the pipe.

        No more than a pipe holds: a process that has left its group may write for ever.
        """
        self._read()

    def close(self) -> None:
        """Close the pipe: a process that still writes gets SIGPIPE."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _read(self) -> bool:
        """Take one piece; False when there is none, now or for ever."""
        if not self._open:
            return False
        try:
            piece = os.read(self._descriptor, _PIECE)
        except BlockingIOError:
            return False
        if not piece:
            self.close()
            return False
        self._output.write(piece)
        return True


def _start(action: ShellAction, order: ExecuteAttempt, output: int) -> _Process:
    """The process; raise OSError or ValueError when it cannot be started."""
    argv = list(action.command) if action.command else ["/bin/sh", "-c", action.script or ""]
    if not Path(argv[0]).is_absolute():
        raise ValueError(f"{argv[0]} is not an absolute path")
    return subprocess.Popen(  # noqa: S603  what the task says, where the operator allows it
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=_environment(action.env, order),
        cwd=action.cwd or _home(),
        start_new_session=True,
    )


def _environment(given: Mapping[str, str], order: ExecuteAttempt) -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        **passed_on,
        **given,
        "ONTHEDOT_RUN_ID": order.run_id,
        "ONTHEDOT_TASK_ID": order.task_id,
        "ONTHEDOT_DUE_AT": order.due_at.isoformat().replace("+00:00", "Z"),
        "ONTHEDOT_ATTEMPT": str(order.number),
        **({"ONTHEDOT_OUTCOME": json.dumps(order.outcome)} if order.outcome else {}),
    }


def _home() -> str:
    home = os.environ.get("HOME", "/")
    return home if Path(home).is_dir() else "/"


def _describe(code: int | None) -> dict[str, object]:
    if code is not None and code < 0:
        return {"signal": _signal_name(-code)}
    return {"exit_code": code}


def _judge(code: int | None) -> Ended:
    if code == 0:
        return SUCCEEDED
    if code is not None and code < 0:
        return failed(f"the process was ended by {_signal_name(-code)}")
    return failed(f"the process ended with exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time ones between the first and the last have no name
        return f"signal {number}"


async def _until(condition: Callable[[], bool], seconds: float | None) -> bool:
    """Whether ``condition`` comes true within ``seconds``; it is looked at again and again."""
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while not condition():
        if end is not None and loop.time() >= end:
            return False
        await asyncio.sleep(_POLL)
    return True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def check(action: ShellAction, settings: Settings, *, here: bool) -> list[FieldError]:
    """What is wrong with ``action``. With ``here``, this machine's files are looked at."""
    if not settings.shell:
        return [
            FieldError(
                "action.kind",
                "shell",
                "commands are turned off",
                "The operator turns them on with ONTHEDOT_SHELL=on",
            )
        ]
    return [*_check_texts(action), *_check_program(action, here), *_check_cwd(action, here)]


def _check_texts(action: ShellAction) -> Iterator[FieldError]:
    texts = {f"action.command.{number}": text for number, text in enumerate(action.command or ())}
    texts |= {f"action.env.{name}": text for name, text in action.env.items()}
    texts |= {"action.script": action.script or "", "action.cwd": action.cwd or ""}
    for field, text in texts.items():
        if "\0" in text:
            yield FieldError(field, text, "holds a NUL", "Leave it out")
    if action.script and not action.script.strip():
        yield FieldError(
            "action.script", action.script, "nothing but white space", "Give what /bin/sh is to do"
        )
    for name in action.env:
        if name.startswith("ONTHEDOT_"):
            yield FieldError(
                f"action.env.{name}", action.env[name], "the name is reserved", "Give another name"
            )


def _check_program(action: ShellAction, here: bool) -> Iterator[FieldError]:
    if not action.command:
        return
    program, field = action.command[0], "action.command"
    remedy = "Give the whole path of a program that the workers have, such as /usr/bin/env"
    if not program.startswith("/"):
        yield FieldError(field, program, "not an absolute path", remedy)
    elif here and "\0" not in program:
        if not Path(program).is_file():
            yield FieldError(field, program, "no such file", remedy)
        elif not os.access(program, os.X_OK):
            yield FieldError(field, program, "not executable", f"chmod +x {program}")


def _check_cwd(action: ShellAction, here: bool) -> Iterator[FieldError]:
    cwd, field = action.cwd, "action.cwd"
    if cwd is None:
        return
    if not cwd.startswith("/"):
        yield FieldError(field, cwd, "not an absolute path", "Give the whole path of a folder")
    elif here and "\0" not in cwd and not Path(cwd).is_dir():
        yield FieldError(field, cwd, "no such folder", "Give a folder that the workers have")
