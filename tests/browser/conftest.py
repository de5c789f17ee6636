"""A real stack and a real browser: the web app, a worker, Chromium."""

import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from playwright.async_api import Browser, BrowserContext, Error, async_playwright

from onthedot import access
from onthedot.settings import Settings
from tests import services
from tests.integration.web_client import Web, let_in, serving

#: Opens the browser's window, signed in by a link: ``async with signed_in(java_script_enabled=False)``.
SignedIn = Callable[..., AbstractAsyncContextManager[BrowserContext]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium, or the one that ``playwright install chromium`` has fetched."""
    installed = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        try:
            started = await playwright.chromium.launch(
                executable_path=installed, args=["--no-sandbox"]
            )
        except Error as error:
            pytest.skip(f"no Chromium here, install chromium: {error.message.splitlines()[0]}")
        yield started
        await started.close()


@pytest.fixture
def settings(database_url: str, own_temporal: str) -> Settings:
    return Settings(
        database_url=database_url,
        temporal_address=own_temporal,
        shell=True,
        handlers=("onthedot.examples:*",),
        http_allow=("127.0.0.0/8",),
        worker_slots=20,
    )


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Web]:
    """The web app; call it for REST."""
    assert settings.database_url
    await let_in(settings.database_url)
    async with serving(settings) as running:
        yield running


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A worker with both roles."""
    command = [sys.executable, "-m", "onthedot", "worker"]
    # It has nothing else in its environment: what it needs comes from the settings.
    with services.running(command, tmp_path / "worker.log", environment=settings.to_environment()):
        yield


@pytest.fixture
def signed_in(browser: Browser, web: Web) -> SignedIn:
    @asynccontextmanager
    async def open_context(**options: Any) -> AsyncIterator[BrowserContext]:
        context = await browser.new_context(**options)
        context.set_default_timeout(15_000)
        try:
            page = await context.new_page()
            await page.goto(await sign_in_link(web))
            await page.close()
            yield context
        finally:
            await context.close()  # the web app waits for the stream of an open page

    return open_context


async def sign_in_link(web: Web) -> str:
    assert web.settings.database_url
    port = urlsplit(web.url).port
    assert port
    async with await psycopg.AsyncConnection.connect(web.settings.database_url) as connection:
        return await access.make_sign_in_link(connection, replace(web.settings, port=port))
