import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from onthedot.supervisor import Child, ChildDidNotStart, Supervisor
from tests import services

_SLEEPS = "import time\nprint('here I am', flush=True)\ntime.sleep(600)"


class Observed(Supervisor):
    """A supervisor whose words are kept."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.relayed: list[str] = []
        super().__init__(
            self.said.append, lambda name, line: self.relayed.append(f"{name}: {line}")
        )

    def says(self, words: str) -> Callable[[], bool]:
        return lambda: any(words in line for line in self.said)


@pytest.fixture
async def supervisor() -> AsyncIterator[Observed]:
    observed = Observed()
    yield observed
    await observed.stop()


def _child(script: str = _SLEEPS, **changes: object) -> Child:
    async def ready() -> bool:
        return True

    given = {"name": "child", "is_ready": ready, "command": [sys.executable, "-c", script]}
    return Child(**{**given, **changes})  # type: ignore[arg-type] # each test's own choice


def _pids(marker: str) -> list[int]:
    return [pid for pid in services.children_of(os.getpid()) if marker in _command_line(pid)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except FileNotFoundError:
        return ""


async def test_what_a_child_says_is_relayed_with_its_name(supervisor: Observed) -> None:
    await supervisor.start(_child())
    await services.assert_eventually(lambda: "child: here I am" in supervisor.relayed)


async def test_a_child_cannot_steer_the_terminal(supervisor: Observed) -> None:
    await supervisor.start(_child("print('\\x1b[2Jwiped', flush=True)\n" + _SLEEPS))
    await services.assert_eventually(lambda: "child: �[2Jwiped" in supervisor.relayed)


async def test_a_very_long_line_is_cut_and_the_next_one_is_whole(supervisor: Observed) -> None:
    await supervisor.start(_child("print('x' * 3_000_000)\n" + _SLEEPS))
    await services.assert_eventually(lambda: "child: here I am" in supervisor.relayed)
    assert len(supervisor.relayed[0]) < 20_000


async def test_a_child_that_is_killed_is_started_again(supervisor: Observed) -> None:
    await supervisor.start(_child(_SLEEPS + "# killed"))
    first = _pids("# killed")
    assert len(first) == 1
    os.kill(first[0], signal.SIGKILL)
    await services.assert_eventually(supervisor.says("child is running again"))
    assert "child was ended by SIGKILL; starting it again in 0.2 s" in supervisor.said
    # a process that has just been made has not yet the name of its program
    await services.assert_eventually(lambda: bool(_pids("# killed")))
    second = _pids("# killed")
    assert len(second) == 1
    assert second != first


async def test_each_death_in_a_row_doubles_the_wait(supervisor: Observed) -> None:
    await supervisor.start(_child("import time\ntime.sleep(0.05)"))
    await services.assert_eventually(supervisor.says("in 0.8 s"))
    waits = [line.rpartition("in ")[2] for line in supervisor.said if "starting it again" in line]
    assert waits[:3] == ["0.2 s", "0.4 s", "0.8 s"]


async def test_a_child_that_ends_before_it_is_ready_is_reported_with_what_it_said(
    supervisor: Observed,
) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(ChildDidNotStart, match=r"child ended with 3\n    no disk left"):
        await supervisor.start(
            _child("import sys\nprint('no disk left')\nsys.exit(3)", is_ready=never, is_quoted=True)
        )


async def test_a_child_that_is_not_ready_in_time_is_reported(supervisor: Observed) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(ChildDidNotStart, match="was not ready within 1 s"):
        await supervisor.start(_child(_SLEEPS + "# late", is_ready=never, ready_within=1))
    await supervisor.stop()
    assert _pids("# late") == []


async def test_children_stop_in_reverse_order() -> None:
    observed = Observed()
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
    )
    for name in ("first", "second", "third"):
        await observed.start(_child(script + _SLEEPS, name=name))
    await services.assert_eventually(lambda: len(observed.relayed) == 3)
    await observed.stop()
    assert observed.relayed[3:] == ["third: bye", "second: bye", "first: bye"]


async def test_a_child_that_does_not_stop_is_killed_with_its_group() -> None:
    observed = Observed()
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork()\n" + _SLEEPS + "# stubborn"
    )
    await observed.start(_child(stubborn, grace=0.5))
    await services.assert_eventually(lambda: len(observed.relayed) == 2)
    family = _pids("# stubborn")
    assert len(family) == 2
    await observed.stop()
    assert "child did not stop within 0.5 s; killed" in observed.said
    await services.assert_eventually(lambda: not any(map(services.is_alive, family)))


async def test_what_a_dead_child_left_in_its_group_is_killed(supervisor: Observed) -> None:
    await supervisor.start(_child("import os\nos.fork()\n" + _SLEEPS + "# family"))
    await services.assert_eventually(lambda: len(supervisor.relayed) == 2)
    family = _pids("# family")
    leader = next(pid for pid in family if os.getsid(pid) == pid)
    os.kill(leader, signal.SIGKILL)
    await services.assert_eventually(lambda: not any(map(services.is_alive, family)))


async def test_ctrl_c_in_the_terminal_does_not_reach_a_child(supervisor: Observed) -> None:
    await supervisor.start(_child(_SLEEPS + "# session"))
    (pid,) = _pids("# session")
    assert os.getsid(pid) == pid != os.getsid(0)


_SUPERVISES = """
import asyncio, sys
from onthedot.supervisor import Child, Supervisor

async def ready():
    return True

async def main():
    supervisor = Supervisor(print, lambda name, line: None)
    for name in ("one", "two"):
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        await supervisor.start(Child(name=name, command=command, is_ready=ready))
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_supervisor_that_is_killed_leaves_no_orphan() -> None:
    with subprocess.Popen([sys.executable, "-c", _SUPERVISES], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        family = services.children_of(parent.pid)
        assert len(family) == 2
        parent.kill()
    asyncio.run(services.assert_eventually(lambda: not any(map(services.is_alive, family))))
