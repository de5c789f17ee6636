"""Temporal without us, on the same dev server: bare workflows (the control), and its Schedules.

No lead, no log, no policies. ``python -m bench.temporal ADDRESS`` is one of their workers, which
is as the SDK makes it.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.worker import Worker

from bench import calls, processes
from bench.bare import Bare, Firings, Once
from bench.plan import Work, free_port
from bench.processes import Family
from bench.side import Place
from onthedot.temporal_server import TemporalServer

_QUEUE = "bench"
_AT_ONCE = 16  # workflows or schedules that are being made
_START_WITHIN = 60.0
#: A namespace's schedules start 30 workflows a second by default; like the dev server's other
#: limits it is raised far above what the machine can do.
_SCHEDULES_LIMIT = "worker.schedulerNamespaceStartWorkflowRPS=20000"


class Actions:
    """The activity of both."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None

    @activity.defn(name="perform")
    async def perform(self, name: str) -> None:
        if url := os.environ.get(calls.URL):
            self._client = self._client or aiohttp.ClientSession()
            async with self._client.get(f"{url}/{name}"):
                return
        calls.note(name)


@dataclass(frozen=True)
class Temporal:
    """A dev server of its own, with its workers."""

    client: Client
    pids: dict[str, list[int]]
    make: Callable[[Client, Work, str, int], Awaitable[object]]
    lead: float = 0.0
    recurring_in_code: bool = False

    def family(self) -> Family:
        return Family(self.pids, alone={})

    async def register(self, work: Work) -> float:
        left = iter(work.starts())

        async def make_some() -> None:
            for name, start in left:
                await self.make(self.client, work, name, start)

        begun = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(_AT_ONCE):
                clients.create_task(make_some())
        return work.tasks / (time.monotonic() - begun)

    async def problems(self, work: Work) -> list[str]:
        return []


async def _start_bare(client: Client, work: Work, name: str, start: int) -> None:
    firings = Firings(name, start, work.every or 0, work.times)
    await client.start_workflow(Bare.run, firings, id=name, task_queue=_QUEUE)


async def _schedule(client: Client, work: Work, name: str, start: int) -> None:
    """A schedule; once is a start delay, as Temporal's page on schedules recommends."""
    if work.every is None:
        delay = timedelta(seconds=max(0.0, start - time.time()))
        await client.start_workflow(Once.run, name, id=name, task_queue=_QUEUE, start_delay=delay)
        return
    every = timedelta(seconds=work.every)
    spec = ScheduleSpec(
        intervals=[ScheduleIntervalSpec(every=every, offset=timedelta(seconds=start % work.every))],
        start_at=datetime.fromtimestamp(start - 0.5, UTC),
    )
    action = ScheduleActionStartWorkflow(Once.run, name, id=name, task_queue=_QUEUE)
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    await client.create_schedule(name, Schedule(action=action, spec=spec, policy=policy))


@asynccontextmanager
async def bare(place: Place) -> AsyncIterator[Temporal]:
    async with _running(place, _start_bare) as side:
        yield side


@asynccontextmanager
async def schedules(place: Place) -> AsyncIterator[Temporal]:
    async with _running(place, _schedule) as side:
        yield side


@asynccontextmanager
async def _running(
    place: Place, make: Callable[[Client, Work, str, int], Awaitable[object]]
) -> AsyncIterator[Temporal]:
    server = TemporalServer(place.folder / "temporal.db", free_port(), free_port())
    command = [*server.command(), f"--dynamic-config-value={_SCHEDULES_LIMIT}"]
    log = place.folder / "said.log"
    async with AsyncExitStack() as children:
        engine = await children.enter_async_context(
            processes.running(command, log, environment=place.environment())
        )
        deadline = time.monotonic() + _START_WITHIN
        while not await server.is_ready():
            if engine.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Temporal did not start:\n{log.read_text(encoding='utf-8')}")
        client = await Client.connect(server.address)
        command = [sys.executable, "-P", "-m", "bench.temporal", server.address]
        workers = [
            await children.enter_async_context(
                processes.running(command, log, environment=place.environment())
            )
            for _ in range(place.workers)
        ]
        pids = {"engine": [engine.pid], "workers": [worker.pid for worker in workers]}
        yield Temporal(client, pids, make)


async def _work(address: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(address)
    async with Worker(
        client, task_queue=_QUEUE, workflows=[Bare, Once], activities=[Actions().perform]
    ):
        await stop.wait()
    os._exit(0)  # the SDK's core can abort an interpreter that is wound up


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
