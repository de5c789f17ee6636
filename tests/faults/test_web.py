"""Web instances are killed while clients register tasks."""

import asyncio
from datetime import timedelta

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import now
from tests.services import assert_eventually


@pytest.mark.fast
async def test_a_web_instance_is_killed_in_the_middle_of_registrations(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "a web instance SIGKILLed in the middle of 100 registrations, then the other",
        load="100 tasks, due 8 s after it, half of them without an id; a run asked for now and "
        "then; same keys when repeated",
        promise="what was acknowledged is there, once, and runs on time",
    ) as watch:
        places = asyncio.Semaphore(16)

        async def register(number: int) -> None:
            async with places:
                soon = {"kind": "once", "in": "8s"}
                await watch.register(f"new-{number}", soon, with_id=number % 2 == 0)

        async def ask_now_and_then() -> None:
            idle = {"kind": "once", "at": (now() + timedelta(days=1)).isoformat()}
            task = await watch.register("on-request", idle, policies={"overlap": "allow"})
            for _ in range(20):
                await watch.trigger(task)
                await asyncio.sleep(0.5)

        registering = asyncio.gather(*map(register, range(100)), ask_now_and_then())
        for web, enough in zip(cluster.webs, (20, 60), strict=True):
            await assert_eventually(lambda: len(watch.tasks) >= enough, within=30, every=0.01)  # noqa: B023
            await web.kill()
            await web.start()
        await registering
        await asyncio.sleep(5)


@pytest.mark.long
async def test_a_storm_of_registrations_holds_up_nothing(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "1,000 registrations at once",
        load="the mix; 1,000 tasks for tomorrow, 64 clients",
        promise="what runs meanwhile is on time",
        settles_within=180,
    ) as watch:
        await watch.mix()
        places = asyncio.Semaphore(64)
        tomorrow = (now() + timedelta(days=1)).isoformat()

        async def register(number: int) -> None:
            async with places:
                await watch.register(
                    f"storm-{number}", {"kind": "once", "at": tomorrow}, within=180
                )

        await asyncio.gather(*map(register, range(1000)))
