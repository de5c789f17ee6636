"""Limits on the real engine, seen from outside: a server counts who calls it at the same time."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from activities.limits import LIMIT_WORKFLOW, TELL, AskForPlace, Holder, KeepLimit, TellOfPlace
from onthedot.database.pool import connection
from onthedot.database.runs import read_run
from onthedot.engine import TASK_QUEUE, limit_workflow_id, workflow_id
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import TaskRegistration
from tests import services
from tests.running import Office, office, worker_process
from workflows.limit import LimitWorkflow

SIZE = 3


@dataclass
class Crm:
    """A server that takes a while to answer, and counts."""

    url: str = ""
    takes: float = 0.05  # seconds
    going_on: int = 0
    most_at_once: int = 0
    calls: Counter[str] = field(default_factory=Counter)  # by run id

    async def answer(self, request: web.Request) -> web.Response:
        self.calls[request.headers["Idempotency-Key"]] += 1
        self.going_on += 1
        self.most_at_once = max(self.most_at_once, self.going_on)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.going_on -= 1
        return web.Response()


@asynccontextmanager
async def crm() -> AsyncIterator[Crm]:
    made = Crm()
    app = web.Application()
    app.router.add_get("/", made.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", services.free_port())
        await site.start()
        made.url = site.name
        yield made
    finally:
        await runner.cleanup()


@pytest.fixture
def settings(database_url: str, own_temporal: str) -> Settings:
    return Settings(
        database_url=database_url, temporal_address=own_temporal, http_allow=("127.0.0.0/8",)
    )


async def register(at: Office, url: str, limit: str, number: int = 0) -> str:
    """A task that only runs on request, under the limit; its id."""
    task_id = f"{limit}-{number}"
    sent = {
        "id": task_id,
        "name": limit,
        "schedule": {"kind": "interval", "every": "365d"},
        "action": {"kind": "http", "url": url},
        "policies": {"overlap": "allow", "limits": {limit: SIZE}},
    }
    await at.registration.register(TaskRegistration.model_validate(sent), by="tester")
    return task_id


async def ask_for_runs(at: Office, url: str, limit: str, tasks: int, each: int) -> list[str]:
    """Register tasks that share a limit, and ask for so many runs of each; their ids."""
    task_ids = [await register(at, url, limit, number) for number in range(tasks)]
    return [
        (await at.registration.trigger(task_id, by="tester")).run_id
        for _ in range(each)
        for task_id in task_ids
    ]


async def hold_for_good(at: Office, limit: str, task_id: str) -> None:
    """Let all places of the limit be held by runs of the task that will never give them back."""
    task = await at.engine.client.get_workflow_handle(workflow_id(task_id)).describe()
    held = [
        AskForPlace(
            limit=limit,
            run_id=f"{task_id}@held-{number}",
            task_id=task_id,
            workflow_run_id=task.run_id,
            ready_at=task.start_time,
            size=SIZE,
        )
        for number in range(SIZE)
    ]
    await at.engine.client.start_workflow(
        LIMIT_WORKFLOW,
        KeepLimit(name=limit, held=[Holder(ask=one, since=one.ready_at) for one in held]),
        id=limit_workflow_id(limit),
        task_queue=TASK_QUEUE,
    )


async def first_in_line(at: Office, limit: str) -> AskForPlace | None:
    handle = at.engine.client.get_workflow_handle_for(LimitWorkflow.run, limit_workflow_id(limit))
    return next(iter((await handle.query(LimitWorkflow.standing)).line), None)


async def ended(at: Office, count: int, within: float) -> list[Run]:
    """All runs, as soon as so many have ended."""

    async def have_ended() -> list[Run]:
        async with connection(at.pool) as conn:
            found = await (await conn.execute("SELECT * FROM runs")).fetchall()
        runs = [read_run(row) for row in found if read_run(row).status.is_final]
        assert len(runs) == count, f"{len(runs)} of {count} have ended"
        return runs

    runs: list[Run] = await services.assert_eventually(have_ended, within=within, every=0.25)
    return runs


async def test_200_runs_of_20_tasks_are_never_more_than_their_limit_at_once_and_none_is_lost(
    settings: Settings, tmp_path: Path
) -> None:
    async with crm() as server, office(settings) as at:
        with worker_process(settings, tmp_path / "worker.log"):
            ids = await ask_for_runs(at, server.url, "crm-many", tasks=20, each=10)
            runs = await ended(at, 200, within=120)
    assert {run.status for run in runs} == {RunStatus.SUCCEEDED}
    assert sorted(run.run_id for run in runs) == sorted(ids)
    assert server.calls == Counter(ids)
    assert server.most_at_once == SIZE


async def test_a_worker_that_is_killed_while_its_runs_hold_a_limit_leaks_no_place(
    settings: Settings, tmp_path: Path
) -> None:
    async with crm() as server, office(settings) as at:
        server.takes = 3600
        with worker_process(settings, tmp_path / "first.log") as first:
            ids = await ask_for_runs(at, server.url, "crm-killed", tasks=5, each=3)
            await services.assert_eventually(lambda: server.going_on == SIZE, within=60)
            os.killpg(first.pid, signal.SIGKILL)
            await services.assert_eventually(lambda: server.going_on == 0, within=10)
        held = set(server.calls)
        server.takes = 0.05
        with worker_process(settings, tmp_path / "second.log"):
            runs = await ended(at, 15, within=120)
    assert {run.status for run in runs} == {RunStatus.SUCCEEDED}
    assert sorted(run.run_id for run in runs) == sorted(ids)
    assert server.calls == Counter(ids) + Counter(held)
    assert server.most_at_once == SIZE


async def test_a_run_starts_though_the_answer_that_it_waits_overtook_its_place(
    settings: Settings, tmp_path: Path
) -> None:
    async with crm() as server, office(settings) as at:
        task_id = await register(at, server.url, "crm-crossed")
        await hold_for_good(at, "crm-crossed", task_id)
        with worker_process(settings, tmp_path / "first.log") as first:
            asked = await at.registration.trigger(task_id, by="tester")
            waits = await services.assert_eventually(
                lambda: first_in_line(at, "crm-crossed"), within=60
            )
            os.killpg(first.pid, signal.SIGKILL)
        task = at.engine.client.get_workflow_handle(workflow_id(task_id))
        for granted in (True, False):  # the next worker hears both at once
            await task.signal(TELL, TellOfPlace(ask=waits, granted=granted, held=SIZE, before=0))
        with worker_process(settings, tmp_path / "second.log"):
            (run,) = await ended(at, 1, within=60)
    assert (run.run_id, run.status) == (asked.run_id, RunStatus.SUCCEEDED)
    assert server.calls == Counter([asked.run_id])
