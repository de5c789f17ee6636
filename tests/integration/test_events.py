"""The live stream: what changes in Postgres reaches every page that is open."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg
import pytest

from onthedot.database.pool import CHANNEL
from tests import services
from tests.integration.web_client import KEY, Web
from tests.services import assert_eventually
from web.events import Change, read_change


@dataclass
class Stream:
    """What a page has heard: the names of the events, in order."""

    names: list[str] = field(default_factory=list)
    ended: bool = False

    async def read(self, response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if line.startswith(b"event: "):
                self.names.append(line.decode().removeprefix("event: ").strip())
        self.ended = True

    def count(self, name: str) -> int:
        return self.names.count(name)


@asynccontextmanager
async def listening(
    web: Web, query: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """An open stream that has been welcomed."""
    sent = {"Authorization": f"Bearer {KEY}", **(headers or {})}
    async with web.session.get(f"{web.url}/events{query}", headers=sent) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        stream = Stream()
        reading = asyncio.create_task(stream.read(response))
        try:
            await assert_eventually(lambda: "hello" in stream.names)
            yield stream
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def notify(web: Web, *payloads: str) -> None:
    assert web.settings.database_url
    async with await psycopg.AsyncConnection.connect(
        web.settings.database_url, autocommit=True
    ) as conn:
        for payload in payloads:
            await conn.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])


async def is_listening(web: Web) -> bool:
    """Whether the app's connection for events has come so far as to listen."""
    assert web.settings.database_url
    async with await psycopg.AsyncConnection.connect(web.settings.database_url) as conn:
        cursor = await conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'onthedot events' AND query LIKE 'LISTEN%%' AND state = 'idle'"
        )
        return await cursor.fetchone() is not None


async def test_a_registration_reaches_every_open_page(web: Web) -> None:
    await assert_eventually(lambda: is_listening(web))
    task = {
        "id": f"t-{uuid4().hex}",
        "name": "Test",
        "schedule": {"kind": "interval", "every": "1h"},
        "action": {"kind": "shell", "command": ["/bin/true"]},
    }
    async with (
        listening(web) as page,
        listening(web, f"?task={task['id']}") as own,
        listening(web, "?task=another") as other,
    ):
        assert (await web("POST", "/api/v1/tasks", task)).status == 201
        await assert_eventually(lambda: "tasks" in page.names and "tasks" in other.names)
        await assert_eventually(lambda: "task" in own.names)
        assert "task" not in page.names + other.names


async def test_a_run_reaches_pages_of_the_log(web: Web) -> None:
    await assert_eventually(lambda: is_listening(web))
    async with listening(web) as page:
        await notify(web, '{"tasks": [], "runs": true}')
        await assert_eventually(lambda: "runs" in page.names)
        assert "tasks" not in page.names


async def test_a_storm_of_changes_is_a_few_events(web: Web) -> None:
    await assert_eventually(lambda: is_listening(web))
    async with listening(web) as page:
        began = time.monotonic()
        for number in range(40):
            await notify(web, *[f'{{"tasks": ["t{number}-{n}"], "runs": true}}' for n in range(10)])
        await notify(web, '{"tasks": ["the-last"]}')
        took = time.monotonic() - began
        await assert_eventually(lambda: page.count("tasks") >= 2)
        assert page.count("tasks") <= took / 0.5 + 3


async def test_a_page_that_comes_back_is_told_that_anything_may_have_changed(web: Web) -> None:
    async with listening(web, "?task=t", headers={"Last-Event-ID": "1"}) as page:
        await assert_eventually(lambda: set(page.names) == {"hello", "runs", "task", "tasks"})


async def test_after_a_lost_connection_pages_are_told_that_anything_may_have_changed(
    web: Web,
) -> None:
    await assert_eventually(lambda: is_listening(web))
    async with listening(web) as page:
        assert web.settings.database_url
        async with await psycopg.AsyncConnection.connect(
            web.settings.database_url, autocommit=True
        ) as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'onthedot events'"
            )
        await assert_eventually(lambda: {"runs", "tasks"} <= set(page.names))


async def test_a_stranger_hears_nothing(web: Web) -> None:
    answer = await web("GET", "/events", key=None, headers={"Accept": "text/event-stream"})
    assert answer.status == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_server_stops_although_a_page_is_open(web: Web, number: signal.Signals) -> None:
    with services.temporary_folder() as folder:
        port = services.free_port()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--factory",
            "web.app:create_app",
            f"--port={port}",
        ]
        environment: dict[str, Any] = web.settings.to_environment()
        with services.running(command, folder / "web.log", environment=environment) as child:
            other = Web(f"http://127.0.0.1:{port}", web.settings, web.session)

            async def answers() -> bool:
                try:
                    return (await other("GET", "/healthz")).status == 200
                except aiohttp.ClientConnectorError:
                    return False

            await assert_eventually(answers, within=30)
            async with listening(other) as page:
                child.send_signal(number)
                await assert_eventually(lambda: child.poll() is not None, within=10)
                assert page.ended
        assert "Traceback" not in (folder / "web.log").read_text()


@pytest.mark.parametrize(
    ("payload", "change"),
    [
        ('{"tasks": ["a"], "runs": false}', Change(frozenset({"a"}), False)),
        ('{"runs": true}', Change(frozenset(), True)),
        ('{"tasks": null, "runs": true}', Change(None, True)),
        ("", Change(None, True)),
        ("[1]", Change(None, True)),
        ('{"tasks": 5}', Change(None, True)),
    ],
)
def test_a_notification_that_cannot_be_read_says_that_anything_changed(
    payload: str, change: Change
) -> None:
    assert read_change(payload) == change
