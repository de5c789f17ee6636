"""Temporal is killed; then nothing can run until it is back."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from onthedot.task import TaskState
from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.engine import histories
from tests.faults.watch import Watch, now, until


@pytest.mark.fast
async def test_temporal_is_killed_and_comes_back(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "Temporal SIGKILLed, back after 3 s",
        load="the mix; a task is registered meanwhile",
        loses_attempts=True,
        promise="on time after the recovery, the registration stands",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(4)
        async with watch.outage() as heals:
            await cluster.temporal.kill()
            await watch.register("meanwhile", {"kind": "interval", "every": "2s"})
            await asyncio.sleep(2)
            heals()
            await cluster.temporal.start()
        await asyncio.sleep(5)


@pytest.mark.fast
async def test_runs_that_end_while_temporal_is_away_are_not_run_again(
    cluster: Cluster, scenario: Scenario
) -> None:
    """Their workers keep what they have to say until somebody hears it.

    They heartbeat two seconds after their start, shortly before the engine dies: it must be back
    before it takes them for lost.
    """
    async with scenario(
        "Temporal SIGKILLed while 20 runs go on, back after they have ended",
        load="20 tasks due at once, each for 2.5 s",
        promise="no run is repeated",
    ) as watch:
        due_at = now() + timedelta(seconds=4)
        await watch.herd(20, due_at, "/after/2.5")
        await until(due_at + timedelta(seconds=2.2))
        async with watch.outage() as heals:
            await cluster.temporal.kill()
            await asyncio.sleep(1.5)
            heals()
            await cluster.temporal.start()
        await watch.settled(due_at)
        assert sorted(Counter(one.key for one in await watch.calls()).values()) == [1] * 20


@pytest.mark.long
async def test_temporal_is_killed_again_and_again(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "Temporal SIGKILLed five times",
        load="the mix, 20 tasks due at once",
        loses_attempts=True,
        promise="on time after each recovery",
    ) as watch:
        await watch.mix()
        await watch.herd(20, now() + timedelta(seconds=22))
        for _ in range(5):
            await asyncio.sleep(4)
            async with watch.outage() as heals:
                await cluster.temporal.kill()
                await asyncio.sleep(1)
                heals()
                await cluster.temporal.start()
        await asyncio.sleep(10)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_changes_reach_a_task_that_often_continues_as_new(
    cluster: Cluster, scenario: Scenario
) -> None:
    """Each pause and resume is an Update; so many of them fill many histories.

    Between them are stretches in which it is certain what an occurrence must be.
    """
    async with scenario(
        "20,000 changes, through which the workflows continue as new",
        load="20 tasks, each every 1 s, paused and resumed 500 times; every 50 times it is left "
        "alone for 6 s, paused, and then resumed",
        promise="on time unless paused, no change lost",
        judged_for=12,
        settles_within=180,
    ) as watch:
        tasks = [
            await watch.register(f"changed-{number}", {"kind": "interval", "every": "1s"})
            for number in range(20)
        ]
        await asyncio.gather(*(_change_often(watch, task.task_id, 500) for task in tasks))
        for task in tasks:
            stored = await watch.call("GET", f"/tasks/{task.task_id}")
            assert stored["version"] == 1001
            assert stored["state"] == "active"
            assert await histories(cluster, task.task_id) >= 3


async def _change_often(watch: Watch, task_id: str, times: int) -> None:
    for number in range(times):
        for state in (TaskState.PAUSED, TaskState.ACTIVE):
            await watch.change(watch.tasks[task_id], state)
            if number % 50 == 49:
                await asyncio.sleep(6)
