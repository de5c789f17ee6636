"""The network between our processes and the two services is slow, broken, or loses answers."""

import asyncio
import random

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.network import Link


def links(cluster: Cluster, kind: str, behind: str) -> list[Link]:
    """Those between all of a kind and a service."""
    return [
        link
        for (name, service), link in cluster.links.items()
        if name.startswith(kind) and service == behind
    ]


@pytest.mark.fast
async def test_answers_are_lost_after_what_was_asked_is_done(
    cluster: Cluster, scenario: Scenario
) -> None:
    """A commit whose answer is lost looks like one that failed; clients and workers repeat it."""
    async with scenario(
        "answers lost to what Postgres has committed, then of Temporal to web instances, six times",
        load="the mix; 30 registrations that are repeated with the same key",
        promise="nothing twice, all rows",
    ) as watch:
        await watch.mix()
        commits = [*links(cluster, "web", "postgres"), *links(cluster, "worker", "postgres")]
        starts = links(cluster, "web", "temporal")
        lost_before = [sum(link.lost_answers for link in kind) for kind in (commits, starts)]
        soon = {"kind": "once", "in": "8s"}
        registering = [
            asyncio.create_task(watch.register(f"repeated-{number}", soon, with_id=number % 2 == 0))
            for number in range(30)
        ]
        for _ in range(6):
            for link in commits:
                link.lose_answers(to=b"COMMIT")
            await asyncio.sleep(0.5)
            for link in commits:
                link.heal()
            for link in starts:
                link.lose_answers()
            await asyncio.sleep(0.5)
            for link in starts:
                link.heal()
        await asyncio.gather(*registering)
        lost = [sum(link.lost_answers for link in kind) for kind in (commits, starts)]
        assert lost[0] >= lost_before[0] + 4, "answers to a COMMIT"
        assert lost[1] > lost_before[1], "answers of Temporal"
        await asyncio.sleep(8)


@pytest.mark.long
async def test_answers_of_the_engine_to_workers_are_lost(
    cluster: Cluster, scenario: Scenario
) -> None:
    """With them go tasks that were on their way, and what is known of those that were done."""
    async with scenario(
        "answers of Temporal lost to all workers for half a second, five times",
        load="the mix",
        promise="on time, nothing twice",
    ) as watch:
        await watch.mix()
        at_risk = links(cluster, "worker", "temporal")
        lost_before = sum(link.lost_answers for link in at_risk)
        for _ in range(5):
            await asyncio.sleep(random.uniform(7, 9))
            for link in at_risk:
                link.lose_answers()
            await asyncio.sleep(0.5)
            for link in at_risk:
                link.heal()
        assert sum(link.lost_answers for link in at_risk) >= lost_before + 5
        await asyncio.sleep(10)


@pytest.mark.fast
async def test_a_worker_that_is_cut_off_from_the_engine_leaves_its_runs_to_the_other(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "the link of a worker to Temporal swallows everything for 13 s",
        load="the mix",
        loses_attempts=True,
        promise="on time, rows as they were",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(3)
        cluster.links["worker-1", "temporal"].swallow()
        await asyncio.sleep(13)
        cluster.links["worker-1", "temporal"].heal()
        await asyncio.sleep(5)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["cut", "swallow"])
async def test_all_are_cut_off_from_postgres(
    cluster: Cluster, scenario: Scenario, fault: str
) -> None:
    async with scenario(
        f"all links to Postgres {fault} for 20 s",
        load="the mix",
        promise="on time, all rows afterwards",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(3)
        away = [*links(cluster, "web", "postgres"), *links(cluster, "worker", "postgres")]
        for link in away:
            getattr(link, fault)()
        await asyncio.sleep(20)
        for link in away:
            link.heal()
        await asyncio.sleep(5)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["cut", "swallow"])
async def test_all_are_cut_off_from_temporal(
    cluster: Cluster, scenario: Scenario, fault: str
) -> None:
    async with scenario(
        f"all links to Temporal {fault} for 20 s",
        load="the mix; a task is registered meanwhile",
        loses_attempts=True,
        promise="on time after the recovery, the registration stands",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(3)
        away = [*links(cluster, "web", "temporal"), *links(cluster, "worker", "temporal")]
        async with watch.outage() as heals:
            for link in away:
                getattr(link, fault)()
            await watch.register("meanwhile", {"kind": "interval", "every": "2s"})
            await asyncio.sleep(20)
            heals()
            for link in away:
                link.heal()
        await asyncio.sleep(10)


@pytest.mark.long
async def test_a_slow_network_makes_nothing_late(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "50 ms on each way of each link for 30 s, connections dropped every 2 to 4 s",
        load="the mix",
        loses_attempts=True,
        promise="on time",
    ) as watch:
        await watch.mix()
        for link in cluster.links.values():
            link.delay = 0.05
        for _ in range(10):
            # Not to the beat: what is tried again after so many seconds would meet each drop.
            await asyncio.sleep(random.uniform(2, 4))
            for link in cluster.links.values():
                link.drop()
        for link in cluster.links.values():
            link.heal()
        await asyncio.sleep(3)
