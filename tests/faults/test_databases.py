"""Postgres is killed, away, full, or out of connections."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from onthedot.launch import Account
from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario
from tests.faults.watch import now

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a file system is mounted, which root alone may"
)


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
        async with taking_all_connections(url) as taken:
            assert taken > 100
            await asyncio.sleep(20)
        await asyncio.sleep(3)


@pytest.mark.long
@as_root
async def test_the_disk_of_the_log_is_full(cluster: Cluster, scenario: Scenario) -> None:
    async with scenario(
        "the disk of the log full for 20 s",
        load="the mix",
        promise="on time, all rows afterwards",
    ) as watch:
        with log_on_a_tiny_disk(cluster) as disk:
            await watch.mix()
            await asyncio.sleep(3)
            await asyncio.to_thread(fill, cluster, disk)
            await asyncio.sleep(20)
            filled_at = now() - timedelta(seconds=15)
            written = sum(row.due_at > filled_at for row in watch.latest())
            assert written < 10, "it was not full: of about 40 rows"
            (disk / "filling").unlink()
            await asyncio.sleep(5)


@pytest.mark.long
@as_root
async def test_all_of_postgres_is_on_a_disk_that_is_full(
    cluster: Cluster, scenario: Scenario
) -> None:
    """Its WAL, too: then it takes nothing, and may stop."""
    async with (
        on_a_small_disk(cluster) as disk,
        scenario(
            "the disk of Postgres, with its WAL, full for 20 s",
            load="the mix; 5 registrations meanwhile",
            promise="on time, all rows afterwards, refused registrations take effect when repeated",
        ) as watch,
    ):
        await watch.mix()
        await asyncio.sleep(3)
        await asyncio.to_thread(fill_up, disk)
        filled_at = now()
        soon = {"kind": "interval", "every": "2s"}
        registering = [
            asyncio.create_task(watch.register(f"meanwhile-{number}", soon)) for number in range(5)
        ]
        await asyncio.sleep(20)
        written = sum(row.due_at > filled_at + timedelta(seconds=5) for row in watch.latest())
        assert written < 10, "it was not full: of about 40 rows"
        (disk / "filling").unlink()
        if not cluster.postgres.is_running:
            await cluster.postgres.start()
        await asyncio.gather(*registering)
        await asyncio.sleep(5)


@asynccontextmanager
async def on_a_small_disk(cluster: Cluster) -> AsyncIterator[Path]:
    """The data of Postgres lies on a file system of its own within the block, with little room."""
    folder, aside = cluster.folder / "postgres", cluster.folder / "postgres-aside"
    account = cluster.postgres_server.account()
    assert account is not None
    await stopped(cluster)
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    folder.rename(aside)
    folder.mkdir()
    try:
        with file_system(folder, used + _ROOM, account):
            try:
                await asyncio.to_thread(copy, aside, folder)
                await cluster.postgres.start()
                yield folder
                await stopped(cluster)
                shutil.rmtree(aside)
                aside.mkdir()
                await asyncio.to_thread(copy, folder, aside)
            finally:
                if cluster.postgres.is_running:
                    await cluster.postgres.kill()
    finally:
        folder.rmdir()
        aside.rename(folder)
        await cluster.postgres.start()


@contextmanager
def file_system(folder: Path, size: int, account: Account) -> Iterator[None]:
    """One of ``size`` bytes, in memory, for ``account``, within the block."""
    options = f"size={size},uid={account.uid},gid={account.gid},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this root may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


#: Bytes beyond what its data has: a segment of WAL, and some more.
_ROOM = 40 * 2**20


def copy(source: Path, target: Path) -> None:
    """With owners and rights."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


async def stopped(cluster: Cluster) -> None:
    cluster.postgres.signal(signal.SIGINT)  # without waiting for its clients
    await cluster.postgres.ended()


def fill_up(disk: Path) -> None:
    with (disk / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@contextmanager
def log_on_a_tiny_disk(cluster: Cluster) -> Iterator[Path]:
    """The table of this month's log lies in a tablespace of 8 MiB within the block."""
    disk = cluster.folder / "disk"
    disk.mkdir(exist_ok=True)
    account = cluster.postgres_server.account()
    assert account is not None
    table = sql.Identifier(f"runs_{now():%Y_%m}")
    move = sql.SQL("ALTER TABLE {} SET TABLESPACE {}")
    # A vacuum would find room in the pages that were filled and are free again.
    keep = sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = {})")
    with (
        file_system(disk, 8 * 2**20, account),
        psycopg.connect(cluster.postgres_server.url(), autocommit=True) as connection,
    ):
        place = sql.Literal(str(disk))
        connection.execute(sql.SQL("CREATE TABLESPACE tiny LOCATION {}").format(place))
        connection.execute(sql.SQL("VACUUM FULL {}").format(table))  # no room within it
        connection.execute(keep.format(table, sql.Literal(False)))
        connection.execute(move.format(table, sql.Identifier("tiny")))
        try:
            yield disk
        finally:  # all that follows would miss the table
            (disk / "filling").unlink(missing_ok=True)
            connection.execute(move.format(table, sql.Identifier("pg_default")))
            connection.execute(keep.format(table, sql.Literal(True)))
        connection.execute("DROP TABLESPACE tiny")


def fill(cluster: Cluster, disk: Path) -> None:
    """Leave no room on it, nor in the pages that the table has already."""
    fill_up(disk)
    fills = """
        INSERT INTO runs (run_id, task_id, task_version, trigger, due_at, status, reason)
        SELECT 'filler', 'filler', 1, 'manual', now() + n * interval '1 microsecond', 'missed', 'x'
        FROM generate_series(1, 100000) AS n
    """
    with (
        psycopg.connect(cluster.postgres_server.url(), autocommit=True) as connection,
        pytest.raises(psycopg.errors.DiskFull),  # its rows are rolled back, and keep their room
    ):
        connection.execute(fills)


@asynccontextmanager
async def taking_all_connections(url: str) -> AsyncIterator[int]:
    """Every connection that a server gives, but for the few that it keeps for its superuser."""

    def take() -> list[psycopg.Connection[Any]]:
        held = []
        try:
            while True:
                held.append(psycopg.connect(url, autocommit=True))
        except psycopg.OperationalError as error:
            assert "too many" in str(error) or "remaining connection slots" in str(error)
        return held

    held = await asyncio.to_thread(take)  # the links must not stand still
    try:
        yield len(held)
    finally:
        for one in held:
            one.close()
