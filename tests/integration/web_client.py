"""A real web app for tests: uvicorn on a free port, and a client that speaks to it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import uuid4

import aiohttp
import psycopg
import uvicorn
from fastapi import FastAPI
from multidict import CIMultiDictProxy
from psycopg.rows import dict_row

from onthedot.access import ensure_api_key
from onthedot.settings import Settings
from web.app import create_app

KEY = "otd_a-key-of-the-tests"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    text: str
    json: Any


@dataclass(frozen=True, slots=True)
class Web:
    """The running app, and requests to it: ``key`` and ``json`` as every API client sends them."""

    url: str
    settings: Settings
    session: aiohttp.ClientSession

    async def __call__(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        params: Any = None,
    ) -> Answer:
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        async with self.session.request(
            method,
            self.url + path,
            json=json,
            data=data,
            params=params,
            headers=sent,
            allow_redirects=False,
        ) as got:
            text = await got.text()
            decoded = await got.json(content_type=None) if "json" in got.content_type else None
            return Answer(got.status, got.headers, text, decoded)


@asynccontextmanager
async def serving(settings: Settings, app: FastAPI | None = None) -> AsyncIterator[Web]:
    """The web app under uvicorn, in this process, until the block is left."""
    app = app or create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", timeout_keep_alive=600
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if running.done():
                await running
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=60)
        ) as session:
            yield Web(url, settings, session)
    finally:
        server.should_exit = True
        await running


async def let_in(database_url: str, key: str = KEY) -> None:
    """Make ``key`` an admin's."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await ensure_api_key(connection, key, "tester")


def task(**changes: Any) -> dict[str, Any]:
    """A task as it is sent, which is fine but for ``changes``."""
    return {
        "id": f"t-{uuid4().hex}",
        "name": "Nightly report",
        "schedule": {"kind": "cron", "cron": "0 2 * * *", "timezone": "Europe/Berlin"},
        "action": {"kind": "shell", "command": ["/bin/echo", "hello"]},
        **changes,
    }


async def registered(web: Web, **changes: Any) -> dict[str, Any]:
    """A task that was registered; what was answered."""
    answer = await web("POST", "/api/v1/tasks", task(**changes))
    assert answer.status == 201, answer.text
    document: dict[str, Any] = answer.json
    return document


async def rows(web: Web, query: LiteralString, *values: Any) -> list[dict[str, Any]]:
    """The rows of a query of the web app's database."""
    assert web.settings.database_url
    async with await psycopg.AsyncConnection.connect(
        web.settings.database_url, row_factory=dict_row, autocommit=True
    ) as connection:
        found = await connection.execute(query, values)
        return await found.fetchall() if found.description else []


async def count(database_url: str, table: str) -> int:
    """How many rows ``table`` has."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
        assert row is not None
        return int(row[0])
