"""The web app for integration tests."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from onthedot.database.embedded import EmbeddedPostgres
from onthedot.database.migrate import migrate
from onthedot.settings import Settings
from tests import services
from tests.integration.web_client import Web, let_in, serving
from tests.running import Stage, stage

#: Tests look back at days that are written in them.
FOR_EVER = timedelta(days=36500)


@pytest.fixture
async def on_stage(time_skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """One task's workflow in skipped time."""
    async with stage(time_skipping) as made:
        yield made


@pytest.fixture
def web_settings(database_url: str, temporal_server: str) -> Settings:
    """Settings of a web app with a database of its own, and no worker."""
    return Settings(
        database_url=database_url,
        temporal_address=temporal_server,
        shell=True,
        handlers=("onthedot.examples:*",),
        http_allow=("127.0.0.0/8",),
        retention=FOR_EVER,
    )


@pytest.fixture
async def web(web_settings: Settings) -> AsyncIterator[Web]:
    """The web app; call it: ``await web("GET", "/api/v1/tasks")``."""
    assert web_settings.database_url
    await let_in(web_settings.database_url)
    async with serving(web_settings) as running:
        yield running


@pytest.fixture(scope="session")
def live_settings(postgres_server: EmbeddedPostgres) -> Iterator[Settings]:
    """Settings of an engine and a database that have a worker."""
    with services.temporary_folder() as folder, services.running_temporal(folder) as temporal:
        postgres_server.make_database("live")
        settings = Settings(
            database_url=postgres_server.url("live"),
            temporal_address=temporal.address,
            shell=True,
            handlers=("onthedot.examples:*",),
            http_allow=("127.0.0.0/8",),
            retention=FOR_EVER,
        )
        asyncio.run(migrate(postgres_server.url("live")))
        worker = [sys.executable, "-m", "onthedot", "worker"]
        environment = os.environ | settings.to_environment()
        with services.running(worker, folder / "worker.log", environment=environment):
            yield settings


@pytest.fixture(scope="session")
async def live(live_settings: Settings) -> AsyncIterator[Web]:
    """A web app with a worker. Its engine and database are shared by the tests that use it."""
    assert live_settings.database_url
    await let_in(live_settings.database_url)
    async with serving(live_settings) as running:
        await services.assert_eventually(lambda: _is_ready(running), within=60)
        yield running


async def _is_ready(web: Web) -> bool:
    return (await web("GET", "/readyz")).status == 200
