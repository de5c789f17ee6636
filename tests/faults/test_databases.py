"""Postgres is killed, away, full, or out of connections."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario


@pytest.mark.fast
async def test_postgres_is_killed_and_comes_back(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "Postgres SIGKILLed, back after 3 s",
        load="the mix",
        promise="on time, all rows afterwards",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(4)
        await cluster.postgres.kill()
        await asyncio.sleep(3)
        await cluster.postgres.start()
        await asyncio.sleep(2)


@pytest.mark.long
async def test_runs_are_on_time_while_postgres_is_away_for_a_minute(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "Postgres away for 60 s",
        load="20 runs a second",
        promise="on time, no effect twice, all rows afterwards",
        settles_within=120,
    ) as watch:
        await asyncio.gather(
            *(
                watch.register(f"steady-{number}", {"kind": "interval", "every": "2s"}, within=120)
                for number in range(40)
            )
        )
        await asyncio.sleep(6)
        await cluster.postgres.kill()
        await asyncio.sleep(60)
        await cluster.postgres.start()


@pytest.mark.long
async def test_a_run_that_must_be_claimed_waits_for_postgres_and_runs_once(
    cluster: Cluster, scenario: Scenario
) -> None:
    async with scenario(
        "Postgres away for 15 s, runs that are at most once",
        load="4 tasks, each every 3 s",
        promise="within 10 s of the recovery, no effect twice",
    ) as watch:
        policies = {"delivery": "at_most_once"}
        for number in range(4):
            every = {"kind": "interval", "every": "3s"}
            await watch.register(f"once-at-most-{number}", every, policies=policies)
        await asyncio.sleep(5)
        async with watch.outage(only_at_most_once=True):
            await cluster.postgres.kill()
            await asyncio.sleep(15)
            await cluster.postgres.start()
        await asyncio.sleep(5)


@pytest.mark.long
async def test_postgres_has_no_connection_left(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "Postgres out of connections for 20 s",
        load="the mix",
        promise="on time, all rows afterwards",
    ) as watch:
        await watch.mix()
        await asyncio.sleep(3)
        url = cluster.postgres_server.url()
        for part in cluster.ours:  # they hold connections: from now on they need new ones
            cluster.links[part.name, "postgres"].drop()
        with taking_all_connections(url) as taken:
            assert taken > 100
            await asyncio.sleep(20)
        await asyncio.sleep(3)


@contextmanager
def taking_all_connections(url: str) -> Iterator[int]:
    """Every connection that a server gives, but for the few that it keeps for its superuser."""
    held = []
    try:
        while True:
            held.append(psycopg.connect(url, autocommit=True))
    except psycopg.OperationalError as error:
        assert "too many" in str(error) or "remaining connection slots" in str(error)
    try:
        yield len(held)
    finally:
        for one in held:
            one.close()
