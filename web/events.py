"""The live stream: Postgres tells one connection a process, which tells every open page.

The events are small and say only what changed (``tasks``, ``runs``, ``task``): a page fetches its
blocks again, and so never shows what a missed event would have left out.
"""

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from psycopg import sql

from onthedot.database.pool import CHANNEL
from onthedot.settings import Settings
from onthedot.task import Shape
from web.security import Admin
from web.services import Given

log = logging.getLogger(__name__)
router = APIRouter()

_COALESCE = 0.5  # seconds between two events of one name to one page
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 10.0  # seconds between two tries to connect


@dataclass(frozen=True, slots=True)
class Change:
    """What a notification says: these tasks (None: any of them), and whether runs changed."""

    tasks: frozenset[str] | None
    runs: bool


_ANYTHING = Change(None, True)


@dataclass(slots=True, eq=False)
class Subscription:
    """One open page, interested in all or also in one task; it gathers what has changed."""

    task: str | None
    names: set[str] = field(default_factory=set)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, change: Change) -> None:
        if change.tasks is None or change.tasks:
            self.names.add("tasks")
        if change.runs:
            self.names.add("runs")
        if self.task is not None and (change.tasks is None or self.task in change.tasks):
            self.names.add("task")
        self.woken.set()

    async def changed(self) -> list[str]:
        """The names of what changed since the last call, once something has."""
        await self.woken.wait()
        self.woken.clear()
        names, self.names = sorted(self.names), set()
        return names


class Events:
    """Listens on the channel, and tells every subscription."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url or ""
        self._subscriptions: set[Subscription] = set()
        self._listening: asyncio.Task[None] | None = None
        self.closed = False

    def start(self) -> None:
        self._listening = asyncio.create_task(self._listen(), name="listen for changes")

    def close(self) -> None:
        """End all streams: the server waits for them before it stops."""
        self.closed = True
        for subscription in self._subscriptions:
            subscription.woken.set()

    async def stop(self) -> None:
        self.close()
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    @property
    def open_streams(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, task: str | None = None) -> Iterator[Subscription]:
        subscription = Subscription(task)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _listen(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                async with await self._connect() as conn:
                    await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    wait = _FIRST_WAIT
                    self._tell(_ANYTHING)  # what was said meanwhile is lost
                    async for notification in conn.notifies():
                        self._tell(read_change(notification.payload))
            except (psycopg.Error, OSError) as error:
                log.warning("not listening for changes, trying again in %.1f s: %s", wait, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            application_name="onthedot events",
            connect_timeout=5,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )

    def _tell(self, change: Change) -> None:
        for subscription in self._subscriptions:
            subscription.hear(change)


def read_change(payload: str) -> Change:
    """What a notification says; one that cannot be read says that anything may have changed."""
    try:
        said = json.loads(payload)
        tasks = said.get("tasks", [])
        return Change(None if tasks is None else frozenset(tasks), bool(said.get("runs", False)))
    except (ValueError, TypeError, AttributeError):
        return _ANYTHING


class EventQuery(Shape):
    task: Annotated[str, Query(max_length=100)] | None = None


@router.get("/events", response_class=EventSourceResponse, include_in_schema=False)
async def events(
    request: Request, services: Given, _: Admin, query: Annotated[EventQuery, Query()]
) -> AsyncIterator[ServerSentEvent]:
    """``tasks``, ``runs`` and (for ``?task=``) ``task``: at most two a second of each.

    The data says nothing; browsers drop an event without any. FastAPI adds a ping every 15 s.
    """
    with services.events.subscribe(query.task) as subscription:
        if "last-event-id" in request.headers:
            subscription.hear(_ANYTHING)  # the page was away, and may have missed some
        yield ServerSentEvent(event="hello", raw_data="1", id="1", retry=2000)
        while not services.events.closed:
            for name in await subscription.changed():
                yield ServerSentEvent(event=name, raw_data="1")
            if not services.events.closed:
                await asyncio.sleep(_COALESCE)


@contextmanager
def closed_by_signals(events: Events) -> Iterator[None]:
    """End the streams at SIGTERM and SIGINT, then let the server do what it does at them.

    uvicorn waits for open streams before it calls the end of the lifespan: without this, one open
    page would keep it from stopping.
    """
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def end(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(events.close)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    try:
        for one in (signal.SIGTERM, signal.SIGINT):
            before[one] = signal.signal(one, end)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        before.clear()
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
