import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from onthedot.database.embedded import ENVIRONMENT, EmbeddedPostgres
from onthedot.database.migrate import migrate, pending
from onthedot.errors import DatabaseUnavailable
from onthedot.launch import wrap
from tests import services


def _one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def test_it_keeps_utc_and_utf8(database_url: str) -> None:
    assert _one(database_url, "SHOW timezone") == "UTC"
    assert _one(database_url, "SHOW server_encoding") == "UTF8"
    assert _one(database_url, "SELECT upper('é')") == "É"


def test_it_refuses_a_wrong_password(postgres_server: EmbeddedPostgres) -> None:
    url = f"postgresql://onthedot:wrong@127.0.0.1:{postgres_server.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_it_listens_on_loopback_alone(postgres_server: EmbeddedPostgres) -> None:
    assert _one(postgres_server.url("postgres"), "SHOW listen_addresses") == "127.0.0.1"
    assert _one(postgres_server.url("postgres"), "SHOW unix_socket_directories") == ""


def test_only_its_account_can_read_its_password(postgres_server: EmbeddedPostgres) -> None:
    assert (postgres_server.directory / "password").stat().st_mode & 0o777 == 0o600
    assert postgres_server.directory.stat().st_mode & 0o777 == 0o700


def test_each_test_has_a_migrated_database_of_its_own(database_url: str) -> None:
    assert _one(database_url, "SELECT count(*) FROM tasks") == 0
    assert "/test_" in database_url


def test_a_server_that_was_killed_is_started_again() -> None:
    with services.temporary_folder() as folder:
        with services.running_postgres(folder) as postgres:
            with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
            postmaster = _postmaster(postgres)
            os.kill(postmaster, signal.SIGKILL)
        assert (postgres.data / "postmaster.pid").exists()
        with services.running_postgres(folder) as postgres:
            assert _one(postgres.url("postgres"), "SELECT one FROM kept") == 1


def test_a_lock_that_names_a_stranger_is_cleared_away() -> None:
    with services.temporary_folder() as folder:
        with services.running_postgres(folder) as postgres:
            pass
        lock = postgres.data / "postmaster.pid"
        lock.write_text(f"{os.getppid()}\n{postgres.data}\n", encoding="ascii")
        with services.running_postgres(folder) as postgres:
            assert _postmaster(postgres) != os.getppid()


def test_an_interrupted_creation_is_started_over() -> None:
    with services.temporary_folder() as folder:
        left = folder / "postgres" / "data.new"
        left.mkdir(parents=True)
        (left / "PG_VERSION").write_text("18\n", encoding="ascii")
        with services.running_postgres(folder) as postgres:
            assert _one(postgres.url("postgres"), "SELECT 1") == 1


def test_it_dies_with_the_process_that_started_it() -> None:
    with services.temporary_folder() as folder:
        postgres = EmbeddedPostgres(folder / "postgres", services.free_port())
        postgres.prepare()
        script = (
            "import sys, time; from pathlib import Path; from tests import services\n"
            f"with services.running_postgres(Path({str(folder)!r}), {postgres.port}):\n"
            "    print('up', flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"up\n"
            family = services.children_of(parent.pid)
            assert family
            parent.kill()
        asyncio.run(
            services.assert_eventually(lambda: not any(map(services.is_alive, family)), within=15)
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root; CI runs the tests as root too")
def test_root_runs_it_as_nobody_even_below_a_folder_that_nobody_can_enter() -> None:
    with services.temporary_folder() as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        with services.running_postgres(closed) as postgres:
            account = postgres.account()
            assert account is not None
            status = Path(f"/proc/{_postmaster(postgres)}/status").read_text(encoding="ascii")
            assert f"Uid:\t{account.uid}\t" in status
            assert account.uid != 0


def test_a_program_that_cannot_be_run_is_named() -> None:
    done = subprocess.run(
        wrap(["/no/such/program"]), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot run /no/such/program: No such file or directory" in done.stderr


async def test_migrations_are_applied_once_by_whoever_comes_first(
    postgres_server: EmbeddedPostgres,
) -> None:
    postgres_server.make_database("empty")
    url = postgres_server.url("empty")
    expected = await pending(url)
    assert expected
    applied = await asyncio.gather(*(migrate(url) for _ in range(4)))
    assert sorted(applied) == [[], [], [], expected]
    assert await pending(url) == []


async def test_migrating_says_when_postgres_does_not_answer() -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        await migrate(f"postgresql://127.0.0.1:{services.free_port()}/x", patience=0.3)


def _postmaster(postgres: EmbeddedPostgres) -> int:
    text = (postgres.data / "postmaster.pid").read_text(encoding="ascii")
    return int(text.split("\n", 1)[0])
