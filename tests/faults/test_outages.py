"""Everything that could run a task is away for a while, or everything is at once."""

import asyncio
import random
import signal
from datetime import timedelta

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import Watch, now


async def lose_all_workers(cluster: Cluster, watch: Watch, *, seconds: float) -> None:
    async with watch.outage() as heals:
        await asyncio.gather(*(worker.kill() for worker in cluster.workers))
        await asyncio.sleep(seconds)
        heals()
        await asyncio.gather(*(worker.start() for worker in cluster.workers))


@pytest.mark.long
@pytest.mark.parametrize("keep", ["all", "latest", "none"])
async def test_what_was_due_while_no_worker_ran_is_caught_up(
    cluster: Cluster, scenario: Scenario, keep: str
) -> None:
    async with scenario(
        "all workers SIGKILLed for 10 minutes of schedule, in 30 s",
        load=f"5 tasks of each minute (every 3 s), 5 due at once meanwhile; the mix; catch-up "
        f"keeps {keep}",
        loses_attempts=True,
        promise=f"{keep} caught up within 10 s of the recovery",
    ) as watch:
        await watch.mix()
        policies = {"catch_up": {"keep": keep}}
        for number in range(5):
            every = {"kind": "interval", "every": "3s"}
            await watch.register(f"often-{number}", every, policies=policies)
            once = {"kind": "once", "at": (now() + timedelta(seconds=20)).isoformat()}
            await watch.register(f"once-{number}", once, policies=policies)
        await asyncio.sleep(6)
        await lose_all_workers(cluster, watch, seconds=30)
        await asyncio.sleep(8)


@pytest.mark.long
async def test_all_workers_are_killed_just_as_runs_begin_that_are_not_caught_up(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "all workers SIGKILLed 20 ms after 20 runs were due, back after 15 s",
        load="the mix, 20 tasks due at once; catch-up keeps none",
        loses_attempts=True,
        promise="none caught up; what had begun says that it may have",
    ) as watch:
        await watch.mix()
        due_at = now() + timedelta(seconds=8)
        once = {"kind": "once", "at": due_at.isoformat()}
        for number in range(20):
            policies = {"catch_up": {"keep": "none"}}
            await watch.register(f"once-{number}", once, policies=policies)
        await asyncio.sleep((due_at - now()).total_seconds() + 0.02)
        await lose_all_workers(cluster, watch, seconds=15)
        await asyncio.sleep(3)


@pytest.mark.long
async def test_occurrences_older_than_the_catch_up_window_are_missed(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "all workers SIGKILLed for 45 s",
        load="3 tasks, each every 4 s; catch-up within 15 s",
        loses_attempts=True,
        promise="older ones are missed, with the reason",
    ) as watch:
        policies = {"catch_up": {"keep": "all", "within": "15s"}}
        for number in range(3):
            every = {"kind": "interval", "every": "4s"}
            await watch.register(f"often-{number}", every, policies=policies)
        await asyncio.sleep(6)
        await lose_all_workers(cluster, watch, seconds=45)
        await asyncio.sleep(8)


@pytest.mark.long
async def test_one_worker_is_killed_then_both_then_they_come_back(
    cluster: Cluster, scenario: Scenario
) -> None:
    one, other = cluster.workers
    async with scenario(
        "one worker SIGKILLed, 10 s later the other, 8 s later both back",
        load="the mix, 20 tasks due at once",
        loses_attempts=True,
        promise="on time, after the outage within 10 s of the recovery",
    ) as watch:
        await watch.mix()
        await watch.herd(20, now() + timedelta(seconds=20))
        await asyncio.sleep(3)
        await one.kill()
        await asyncio.sleep(10)
        async with watch.outage() as heals:
            await other.kill()
            await asyncio.sleep(8)
            heals()
            await asyncio.gather(one.start(), other.start())
        await asyncio.sleep(5)


@pytest.mark.long
async def test_workers_are_killed_at_random(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "a worker SIGKILLed every 12 to 18 s, by turns, at random",
        load="the mix twice",
        loses_attempts=True,
        promise="on time",
    ) as watch:
        await watch.mix(2)
        for number in range(6):
            await asyncio.sleep(random.uniform(11, 17))
            worker = cluster.workers[number % 2]
            await worker.kill()
            await asyncio.sleep(1)
            await worker.start()
        await asyncio.sleep(10)


@pytest.mark.long
async def test_everything_is_killed_at_once_and_started_again(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "everything SIGKILLed at once, started again after 5 s",
        load="the mix, 20 tasks due at once meanwhile",
        loses_attempts=True,
        promise="nothing lost, on time after the recovery",
    ) as watch:
        await watch.mix()
        await watch.herd(20, now() + timedelta(seconds=12))
        await asyncio.sleep(6)
        async with watch.outage() as heals:
            for part in cluster.parts:
                part.signal(signal.SIGKILL)
            await asyncio.gather(*(part.ended() for part in cluster.parts))
            await asyncio.sleep(5)
            heals()
            await cluster.heal()
        await asyncio.sleep(10)


@pytest.mark.long
async def test_everything_is_asked_to_stop_and_started_again(
    cluster: Cluster, scenario: Scenario
) -> None:
    """A rolling restart: each of ours in its turn, the other takes over."""
    async with scenario(
        "SIGTERM to each worker and web instance in its turn, started again",
        load="the mix twice, 30 tasks due at once",
        promise="nothing lost, nothing twice, all on time",
    ) as watch:
        await watch.mix(2)
        await watch.herd(30, now() + timedelta(seconds=18))
        for part in cluster.ours:
            await asyncio.sleep(3)
            part.signal(signal.SIGTERM)
            assert await part.ended() in (0, -signal.SIGTERM), part.name
            await part.start()
        await asyncio.sleep(5)
