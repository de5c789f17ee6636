"""Commands as real processes, also those that do not want to end."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from activities import shell
from activities.output import OutputCapture
from onthedot.run import RunStatus
from onthedot.settings import PREFIX, RUN_VARIABLES
from onthedot.task import ShellAction
from tests.attempts import SHUTDOWN, Bench, bench, order
from tests.services import is_alive

STUBBORN = "trap '' TERM; echo $$ > {pids}; sleep 600 & echo $! >> {pids}; wait; wait; sleep 600"


@pytest.fixture
async def executing() -> AsyncIterator[Bench]:
    async with bench(shell=True) as made:
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace between TERM and KILL is short."""
    monkeypatch.setattr(shell, "_GRACE", 0.5)


def pids_in(path: Path, count: int) -> list[int] | None:
    """The process ids that a script wrote, once there are ``count``."""
    found = path.read_text().split() if path.exists() else []
    return list(map(int, found)) if len(found) == count else None


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_command_runs_without_a_shell(executing: Bench) -> None:
    outcome = await executing.execute(order("shell", command=["/bin/echo", "$HOME", "a b;ls"]))

    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert outcome.output.text == "$HOME a b;ls\n"
    assert outcome.result == {"exit_code": 0}


async def test_a_script_runs_in_a_shell_and_both_outputs_are_kept(executing: Bench) -> None:
    outcome = await executing.execute(order("shell", script="echo one; echo two >&2; exit 3"))

    assert outcome.status is RunStatus.FAILED
    assert outcome.output.text == "one\ntwo\n"
    assert outcome.result == {"exit_code": 3}
    assert outcome.error == "the process ended with exit code 3"


async def test_a_signal_that_ends_a_process_is_named(executing: Bench) -> None:
    outcome = await executing.execute(order("shell", script="kill -SEGV $$"))

    assert outcome.status is RunStatus.FAILED
    assert outcome.result == {"signal": "SIGSEGV"}
    assert outcome.error == "the process was ended by SIGSEGV"


async def test_a_process_sees_its_run_and_nothing_of_the_worker(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONTHEDOT_DATABASE_URL", "postgresql://user:s3cret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    wanted = order("shell", command=[sys.executable, "-c", script], env={"COLOUR": "red"}, number=2)
    outcome = await executing.execute(wanted)

    seen = json.loads(outcome.output.text)
    assert seen["ONTHEDOT_RUN_ID"] == wanted.run_id
    assert seen["ONTHEDOT_TASK_ID"] == "task-1"
    assert seen["ONTHEDOT_ATTEMPT"] == "2"
    assert seen["ONTHEDOT_DUE_AT"].endswith("Z")
    assert {name for name in seen if name.startswith(PREFIX)} <= RUN_VARIABLES
    assert seen["COLOUR"] == "red"
    assert "s3cret" not in outcome.output.text


async def test_a_process_starts_in_its_folder_and_reads_nothing(
    executing: Bench, tmp_path: Path
) -> None:
    wanted = order("shell", script="pwd; cat; echo read", cwd=str(tmp_path))
    outcome = await executing.execute(wanted)
    assert outcome.output.text == f"{tmp_path}\nread\n"


@pytest.mark.parametrize(
    "action",
    [
        {"command": ["/no/such/program"]},
        {"command": ["/etc/passwd"]},
        {"command": ["echo", "hi"]},
        {"command": ["/bin/echo", "a\0b"]},
        {"command": ["/bin/echo"], "cwd": "/no/such/folder"},
    ],
)
async def test_what_cannot_be_started_fails(executing: Bench, action: dict[str, Any]) -> None:
    open_before = open_files()
    outcome = await executing.execute(order("shell", **action))

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert "cannot be started" in outcome.error
    assert open_files() <= open_before + 1  # the reaper's pipe


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Processes that start in / wait for this event, as on a file system that hangs."""
    start, answers = shell._start, threading.Event()

    def slow_to_start(action: ShellAction, *given: Any) -> Any:
        if action.cwd == "/":
            answers.wait(5)
        return start(action, *given)

    monkeypatch.setattr(shell, "_start", slow_to_start)
    yield answers
    answers.set()


async def test_a_process_that_is_slow_to_start_holds_up_only_its_run(
    executing: Bench, hung: threading.Event
) -> None:
    slow = executing.start(order("shell", script="pwd", cwd="/"))
    await asyncio.sleep(0)
    begun = time.monotonic()
    assert (await executing.execute(order("shell", script="true"))).status is RunStatus.SUCCEEDED
    assert time.monotonic() - begun < 4
    assert not slow.done()
    hung.set()
    assert (await slow).output.text == "/\n"


async def test_a_process_that_starts_as_its_run_is_cancelled_is_ended(
    executing: Bench, hung: threading.Event, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    going = executing.start(order("shell", script=f"echo $$ > {pids}; sleep 600", cwd="/"))
    asyncio.get_running_loop().call_later(0.3, hung.set)
    await asyncio.sleep(0.1)
    executing.environment.cancel()
    assert (await going).status is RunStatus.CANCELLED
    assert not any(map(is_alive, pids_in(pids, 1) or []))
    assert not executing.executor._processes._reaper._groups


@pytest.mark.usefixtures("soon")
async def test_a_process_that_starts_long_after_its_run_is_over_is_ended(
    executing: Bench,
    hung: threading.Event,
    tmp_path: Path,
    assert_eventually: Callable[..., Any],
) -> None:
    pids, open_before = tmp_path / "pids", open_files()
    script = f"trap 'echo $$ > {pids}' TERM; while :; do sleep 0.05; done"
    outcome = await executing.execute(order("shell", script=script, cwd="/", timeout=0.2))
    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is not None
    assert outcome.error.endswith("its process is still being started, and will be ended then")
    hung.set()
    processes = executing.executor._processes
    await assert_eventually(lambda: not processes._undoing)
    assert not processes._reaper._groups
    assert not any(map(is_alive, pids_in(pids, 1) or []))
    assert open_files() <= open_before + 1  # the reaper's pipe


async def test_commands_are_off_unless_turned_on() -> None:
    async with bench() as executing:
        outcome = await executing.execute(order("shell", command=["/bin/echo"]))
    assert outcome.status is RunStatus.FAILED
    assert not outcome.may_retry


async def test_a_process_that_takes_too_long_is_ended_with_its_children(
    executing: Bench, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"echo before; echo $$ > {pids}; sleep 600 & echo $! >> {pids}; wait"
    outcome = await executing.execute(order("shell", script=script, timeout=0.7))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.output.text == "before\n"
    assert outcome.result == {"signal": "SIGTERM"}
    found = pids_in(pids, 2)
    assert found
    assert not any(map(is_alive, found))


@pytest.mark.usefixtures("soon")
async def test_a_process_that_ignores_term_is_killed(executing: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome = await executing.execute(
        order("shell", script=STUBBORN.format(pids=pids), timeout=0.7)
    )

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.result == {"signal": "SIGKILL"}
    found = pids_in(pids, 2)
    assert found
    assert not any(map(is_alive, found))


@pytest.mark.usefixtures("soon")
async def test_a_child_that_stays_when_the_process_heeds_term_is_killed(
    executing: Bench, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    child = "trap '' TERM; while :; do sleep 0.1; done"
    script = f'sh -c "{child}" & echo $! > {pids}; wait'
    outcome = await executing.execute(order("shell", script=script, timeout=0.7))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.result == {"signal": "SIGTERM"}
    found = pids_in(pids, 1)
    assert found
    assert not is_alive(found[0])


async def test_a_process_may_clean_up_when_it_is_cancelled(
    executing: Bench, tmp_path: Path, assert_eventually: Callable[..., Any]
) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'echo cleaned up; exit 7' TERM; touch {ready}; while :; do sleep 0.05; done"
    going = executing.start(order("shell", script=script))
    await assert_eventually(ready.exists)
    executing.environment.cancel()
    outcome = await going

    assert outcome.status is RunStatus.CANCELLED
    # dash tells of the sleep that was ended, too
    assert outcome.output.text.endswith("cleaned up\n")
    assert outcome.result == {"exit_code": 7}


async def test_a_grandchild_that_holds_the_output_open_does_not_hold_the_run(
    executing: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_SETTLING", 0.3)
    pids = tmp_path / "pids"
    script = f"setsid sleep 600 & echo $! > {pids}; echo done"
    outcome = await executing.execute(order("shell", script=script))
    found = pids_in(pids, 1)
    assert found
    os.kill(found[0], signal.SIGKILL)  # it left the group, as a daemon that is meant to stay does

    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.output.text == "done\n"
    assert outcome.result == {"exit_code": 0, "left_behind": True}


async def test_what_a_process_leaves_in_its_group_ends_with_the_run(
    executing: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_SETTLING", 0.3)
    pids = tmp_path / "pids"
    script = f"sleep 600 > /dev/null 2>&1 & echo $! > {pids}"
    outcome = await executing.execute(order("shell", script=script))

    assert outcome.status is RunStatus.SUCCEEDED
    found = pids_in(pids, 1)
    assert found
    assert not is_alive(found[0])


async def test_all_of_the_output_is_there_when_a_child_writes_last(executing: Bench) -> None:
    outcome = await executing.execute(order("shell", script="(sleep 0.3; echo last) & echo first"))
    assert outcome.output.text == "first\nlast\n"
    assert outcome.result == {"exit_code": 0}


async def test_a_process_that_writes_as_fast_as_it_is_read_holds_up_nothing_else(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_SETTLING", 0.5)
    write = OutputCapture.write

    def slowly(output: OutputCapture, piece: bytes | str) -> None:
        time.sleep(0.01)  # the pipe is full again
        write(output, piece)

    monkeypatch.setattr(OutputCapture, "write", slowly)
    going = executing.start(order("shell", script="timeout 5 cat /dev/zero &"))
    loop, longest = asyncio.get_running_loop(), 0.0
    while not going.done():
        begun = loop.time()
        await asyncio.sleep(0.01)
        longest = max(longest, loop.time() - begun)
    assert (await going).result == {"exit_code": 0, "left_behind": True}
    assert longest < 1  # hundredths where nothing else runs


async def test_a_flood_is_kept_within_bounds(executing: Bench) -> None:
    wanted = order("shell", script="echo START; yes | head -c 50000000; echo END")
    outcome = await executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.output.size == 50_000_000 + len("START\nEND\n")
    assert len(outcome.output.text.encode()) <= 16 * 1024
    assert outcome.output.text.startswith("START\n")
    assert outcome.output.text.endswith("END\n")


async def test_output_shows_while_the_process_goes_on(
    executing: Bench, assert_eventually: Callable[..., Any]
) -> None:
    going = executing.start(order("shell", script="echo one; sleep 1.5; echo two; sleep 600"))
    await assert_eventually(
        lambda: "".join(text for _, text in executing.log.chunks) == "one\ntwo\n"
    )
    executing.environment.cancel()
    outcome = await going

    (row,) = executing.log.shown
    assert row.status is RunStatus.RUNNING
    assert row.worker == "worker-1"
    assert outcome.started_at == row.started_at
    assert [position for position, _ in executing.log.chunks] == [0, 4]


async def test_a_worker_that_stops_ends_its_processes(
    executing: Bench, tmp_path: Path, assert_eventually: Callable[..., Any]
) -> None:
    pids = tmp_path / "pids"
    wanted = order("shell", script=f"echo $$ > {pids}; sleep 600", delivery="at_most_once")
    going = executing.start(wanted)
    (pid,) = await assert_eventually(lambda: pids_in(pids, 1))
    executing.environment.cancel(SHUTDOWN)
    outcome = await going

    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "worker stopped"
    assert not outcome.may_retry
    assert not is_alive(pid)


async def test_a_killed_worker_leaves_no_process_behind(
    tmp_path: Path, assert_eventually: Callable[..., Any]
) -> None:
    pids = tmp_path / "pids"
    script = f"""
import asyncio
from tests.attempts import bench, order
from tests.integration.test_actions_shell import STUBBORN

async def work():
    async with bench(shell=True) as executing:
        await executing.execute(order("shell", script=STUBBORN.format(pids={str(pids)!r})))

asyncio.run(work())
"""
    root = Path(__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=root)
    try:
        found = await assert_eventually(lambda: pids_in(pids, 2), within=30)
        assert all(map(is_alive, found))
    finally:
        worker.kill()
        await worker.wait()
    await assert_eventually(lambda: not any(map(is_alive, found)))


async def test_many_processes_run_at_once(executing: Bench) -> None:
    async def one(number: int) -> str:
        outcome = await executing.execute(order("shell", script=f"sleep 0.2; echo {number}"))
        return outcome.output.text.strip()

    assert await asyncio.gather(*map(one, range(40))) == list(map(str, range(40)))
