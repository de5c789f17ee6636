"""Workers are killed, stopped and asked to leave."""

import asyncio
import signal
from datetime import datetime, timedelta

import pytest

from onthedot.run import RunStatus
from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import Watch, now, until


@pytest.mark.fast
async def test_a_worker_is_killed_a_second_before_a_herd_is_due(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "one of two workers SIGKILLed 1 s before a herd",
        load="the mix, 40 tasks due at once",
        loses_attempts=True,
        promise="on time",
    ) as watch:
        await watch.mix()
        due_at = now() + timedelta(seconds=14)
        await watch.herd(40, due_at)
        await until(due_at - timedelta(seconds=1))
        await cluster.workers[0].kill()
        await until(due_at + timedelta(seconds=3))
        await cluster.workers[0].start()


@pytest.mark.long
async def test_a_worker_is_killed_a_second_before_a_large_herd_is_due(
    cluster: Cluster, scenario: Scenario
) -> None:
    """Half of it waits there, and goes to the other worker all at once.

    Of 1,000 the last ones are about 10 s late on two cores: docs/decisions.md has how late.
    """
    async with scenario(
        "one of two workers SIGKILLed 1 s before a large herd",
        load="500 tasks due at once",
        loses_attempts=True,
        promise="on time",
        settles_within=120,
    ) as watch:
        due_at = now() + timedelta(seconds=110)
        await watch.herd(500, due_at, "python")
        await until(due_at - timedelta(seconds=1))
        await cluster.workers[0].kill()
        await until(due_at + timedelta(seconds=20))
        await cluster.workers[0].start()


@pytest.mark.long
async def test_a_worker_is_killed_at_each_step_of_a_run(
    cluster: Cluster, scenario: Scenario
) -> None:
    """Sent off, waiting, claimed, acting, writing its row, telling the engine: all within a moment.

    The moments are counted from the due time of 20 runs, half of which the worker has that is
    killed; a run that does nothing but call its server takes some 20 ms.
    """
    moments = (-2.5, -0.3, 0.0, 0.004, 0.008, 0.015, 0.03, 0.06, 0.15, 0.6, 1.7)  # seconds
    async with scenario(
        f"a worker SIGKILLed at {len(moments)} moments of 20 runs, from 2.5 s before they are due "
        "to 1.7 s after",
        load="the mix; of the 20 each fourth goes on for 1.5 s, and each fourth is at most once",
        loses_attempts=True,
        promise="on time, no row lost, at most once where that is wanted",
    ) as watch:
        await watch.mix()
        for number, moment in enumerate(moments):
            due_at = now() + timedelta(seconds=7)
            await asyncio.gather(
                *(_run_of_a_kind(watch, number, kind, due_at) for kind in range(20))
            )
            worker = cluster.workers[number % 2]
            await until(due_at + timedelta(seconds=moment))
            await worker.kill()
            await asyncio.sleep(1)
            await worker.start()
        await asyncio.sleep(5)


async def _run_of_a_kind(watch: Watch, number: int, kind: int, due_at: datetime) -> None:
    name, once = f"step-{number}-{kind}", {"kind": "once", "at": due_at.isoformat()}
    match kind % 4:
        case 0:
            await watch.register(name, once, "/after/1.5")
        case 1:
            policies = {"delivery": "at_most_once"}
            ends = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED})  # "worker lost"
            await watch.register(name, once, ends=ends, policies=policies)
        case 2:
            await watch.register(name, once, "python")
        case _:
            await watch.register(name, once)


@pytest.mark.fast
async def test_what_a_worker_does_that_was_stopped_and_goes_on_changes_nothing(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "a worker SIGSTOPped past its heartbeats, then SIGCONTed",
        load="the mix",
        loses_attempts=True,
        promise="on time, rows as they were",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(4)
        cluster.workers[1].signal(signal.SIGSTOP)
        await asyncio.sleep(13)
        cluster.workers[1].signal(signal.SIGCONT)
        await asyncio.sleep(5)
