"""Actions that hang, never end, or fill up: their deadlines hold, and the others stay on time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onthedot.run import RunStatus
from onthedot.task import TaskState
from tests import services
from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import Watch

TIMES_OUT = frozenset({RunStatus.TIMED_OUT})
EVERY_4 = {"kind": "interval", "every": "4s"}
#: What one worker may grow by while its tasks misbehave, in bytes.
_MOST_GROWTH = 200 * 2**20

# It ignores TERM, as do its children, of which each starts another.
_FOREVER = "sleep 600.4711"  # of no other process
_FORKS = f"""
trap '' TERM
for depth in 1 2 3; do (trap '' TERM; {_FOREVER} & {_FOREVER}) & done
{_FOREVER}
"""


def _is_it(cmdline: Path) -> bool:
    """Whether this process sleeps for ever for us."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return _FOREVER.split()[1].encode() in cmdline.read_bytes().split(b"\0")
    return False


@asynccontextmanager
async def bounded_memory(cluster: Cluster) -> AsyncIterator[None]:
    """No worker grows much within the block."""
    before = [worker.memory() for worker in cluster.workers]
    most = list(before)

    async def look() -> None:
        while True:
            for number, worker in enumerate(cluster.workers):
                most[number] = max(most[number], worker.memory())
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
    grown = [peak - start for peak, start in zip(most, before, strict=True)]
    assert max(grown) < _MOST_GROWTH, [f"{one / 2**20:.0f} MiB" for one in grown]


def none_is_left() -> bool:
    left = [file.parent.name for file in Path("/proc").glob("[0-9]*/cmdline") if _is_it(file)]
    assert not left
    return True


def longest_that_timed_out(watch: Watch) -> float:
    """How many seconds it took; of the rows that were read last."""
    rows = [row for row in watch.latest() if row.status is RunStatus.TIMED_OUT]
    return max(
        (row.finished_at - row.started_at).total_seconds()
        for row in rows
        if row.started_at and row.finished_at
    )


@pytest.mark.long
async def test_servers_that_hang_drip_or_flood_hold_up_nobody(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "HTTP servers that hang, drip and answer without an end",
        load="the mix; 4 tasks each, with a timeout of 2 s",
        promise="timed out in time, memory bounded, the others on time",
    ) as watch:
        await watch.mix()
        for number in range(4):
            for path in ("/hang", "/drip"):
                name, policies = f"{path[1:]}-{number}", {"timeout": "2s"}
                await watch.register(name, EVERY_4, path, ends=TIMES_OUT, policies=policies)
            # enough of its answer is read, and the rest is left
            await watch.register(f"flood-{number}", EVERY_4, "/flood", policies={"timeout": "2s"})
        async with bounded_memory(cluster):
            await asyncio.sleep(20)
        assert longest_that_timed_out(watch) < 2 + 3


@pytest.mark.long
async def test_output_without_an_end_and_processes_that_ignore_term_hold_up_nobody(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "shell tasks with endless output; process trees that ignore TERM",
        load="the mix; 2 tasks each, with a timeout of 3 s",
        promise="ended in time with all their processes, memory bounded, the others on time",
    ) as watch:
        await watch.mix()
        policies = {"timeout": "3s"}
        for number in range(2):
            endless = {"kind": "shell", "script": "yes 'a line of output without an end'"}
            forks = {"kind": "shell", "script": _FORKS}
            every = {"kind": "interval", "every": "12s"}
            for name, action in (("endless", endless), ("forks", forks)):
                await watch.register(
                    f"{name}-{number}", every, action, ends=TIMES_OUT, policies=policies
                )
        async with bounded_memory(cluster):
            await asyncio.sleep(30)
        assert longest_that_timed_out(watch) < 3 + 5 + 4  # the timeout, TERM's time, KILL
        for task in list(watch.tasks.values()):
            if task.task_id.startswith(f"{watch.prefix}forks"):
                await watch.change(task, TaskState.PAUSED)
        await services.assert_eventually(none_is_left, within=30)
