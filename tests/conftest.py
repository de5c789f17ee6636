"""Fixtures that all tests share."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from temporalio.testing import WorkflowEnvironment

from onthedot import temporal_server as temporal
from onthedot.database.embedded import EmbeddedPostgres
from onthedot.database.migrate import migrate
from tests import services

_TEMPLATE = "migrated"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that ran out of time says where its coroutines were, which no thread's stack shows."""
    report = yield
    if report.failed and "from pytest-timeout" in report.longreprtext:
        stacks = io.StringIO()
        with suppress(RuntimeError):  # no loop: nothing to show
            for task in asyncio.all_tasks(asyncio.get_event_loop()):
                task.print_stack(file=stacks)
        report.sections.append(("asyncio tasks", stacks.getvalue()))
    return report


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> None:
    """No test sees the settings of whoever runs it."""
    for variable in [
        name for name in os.environ if name.startswith(("ONTHEDOT_", "PG", "TEMPORAL_"))
    ]:
        del os.environ[variable]


@pytest.fixture
def assert_eventually() -> Callable[..., object]:
    """``await assert_eventually(check, within=seconds)``: see tests.services."""
    return services.assert_eventually


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """An embedded Postgres of this session's own; ``.url(database)`` says where."""
    with services.temporary_folder() as folder, services.running_postgres(folder) as postgres:
        yield postgres


@pytest.fixture(scope="session")
def _template(postgres_server: EmbeddedPostgres) -> str:
    postgres_server.make_database(_TEMPLATE)
    asyncio.run(migrate(postgres_server.url(_TEMPLATE)))
    return _TEMPLATE


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, _template: str) -> Iterator[str]:
    """The URL of a database of this test's own, with all migrations applied."""
    name = f"test_{uuid4().hex}"
    admin = postgres_server.url("postgres")
    clone = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(clone.format(sql.Identifier(name), sql.Identifier(_template)))
    yield postgres_server.url(name)
    with psycopg.connect(admin, autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[str]:
    """The address of a real Temporal dev server with our search attributes."""
    with services.temporary_folder() as folder, services.running_temporal(folder) as server:
        yield server.address


@pytest.fixture(scope="module")
def own_temporal() -> Iterator[str]:
    """An engine of one module's tests alone, for those that work for all that is open there.

    On the shared one are the tasks of tests that have no worker: hundreds that are due by now.
    """
    with services.temporary_folder() as folder, services.running_temporal(folder) as server:
        yield server.address


@pytest.fixture
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal test server whose time skips to the next timer."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=temporal.find("temporal-test-server")
    )
    async with environment:
        yield environment
