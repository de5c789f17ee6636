"""The web app for integration tests."""

from collections.abc import AsyncIterator

import pytest

from onthedot.settings import Settings
from tests.integration.web_client import Web, let_in, serving


@pytest.fixture
def web_settings(database_url: str, temporal_server: str) -> Settings:
    """Settings of a web app with a database of its own, and no worker."""
    return Settings(
        database_url=database_url,
        temporal_address=temporal_server,
        shell=True,
        handlers=("onthedot.examples:*",),
        http_allow=("127.0.0.0/8",),
    )


@pytest.fixture
async def web(web_settings: Settings) -> AsyncIterator[Web]:
    """The web app; call it: ``await web("GET", "/api/v1/tasks")``."""
    assert web_settings.database_url
    await let_in(web_settings.database_url)
    async with serving(web_settings) as running:
        yield running
