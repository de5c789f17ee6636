"""Workers are killed, stopped and asked to leave."""

import asyncio
import signal
from datetime import timedelta

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import now, until


@pytest.mark.fast
async def test_a_worker_is_killed_a_second_before_a_herd_is_due(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "one of two workers SIGKILLed 1 s before a herd",
        load="the mix, 40 tasks due at once",
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
    """Half of it waits there, and goes to the other worker all at once."""
    async with scenario(
        "one of two workers SIGKILLed 1 s before a large herd",
        load="1,000 tasks due at once",
        promise="on time",
        settles_within=120,
    ) as watch:
        due_at = now() + timedelta(seconds=110)
        await watch.herd(1000, due_at, "python")
        await until(due_at - timedelta(seconds=1))
        await cluster.workers[0].kill()
        await until(due_at + timedelta(seconds=20))
        await cluster.workers[0].start()


@pytest.mark.fast
async def test_what_a_worker_does_that_was_stopped_and_goes_on_changes_nothing(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "a worker SIGSTOPped past its heartbeats, then SIGCONTed",
        load="the mix",
        promise="on time, rows as they were",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(4)
        cluster.workers[1].signal(signal.SIGSTOP)
        await asyncio.sleep(13)
        cluster.workers[1].signal(signal.SIGCONT)
        await asyncio.sleep(5)
