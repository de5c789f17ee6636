"""Policies that the engine itself keeps, with a real server and real workers; docs/policies.md."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from activities.upkeep import Upkeep as UpkeepActivities
from onthedot.database.run_log import RunLog
from onthedot.run import Run, RunStatus
from onthedot.upkeep import Upkeep
from onthedot.worker import _Parts as Parts  # the very workers that a process runs
from tests.histories.stage import Stage, set_up
from tests.services import assert_eventually

BY = "tester"


@pytest.fixture
async def played(database_url: str, temporal_server: str) -> AsyncIterator[Stage]:
    """A scheduler that sends runs, and nobody who executes those of other queues."""
    async with set_up(database_url, temporal_server) as stage, stage.worker():
        yield stage


@asynccontextmanager
async def executor(stage: Stage, queue: str) -> AsyncIterator[None]:
    """An executor of this queue that has one slot."""
    async with AsyncExitStack() as running:
        log = await running.enter_async_context(RunLog(stage.pool))
        parts = Parts(replace(stage.settings, worker_slots=1), stage.engine, log, "narrow")
        running.push_async_callback(parts.close)
        keeper = Upkeep(stage.settings, stage.pool, stage.engine, stage.registration)
        for one in parts.workers("executor", (queue,), UpkeepActivities(keeper)):
            await running.enter_async_context(one)
        yield


async def ask(stage: Stage, queue: str, **policies: Any) -> str:
    """A task far from its due time, and a run of it that waits for a worker; its id."""
    name = f"task-{uuid4().hex[:12]}"
    hourly = {"kind": "interval", "every": "1h"}
    await stage.register(name, hourly, queue=queue, **policies)
    await stage.registration.trigger(name, by=BY)
    await stage.wait_until_sent(name)
    return name


async def started(stage: Stage, names: list[str]) -> list[str]:
    """The tasks in the order in which their runs have started, once all have."""

    async def all_ended() -> list[Run]:
        found = [run for name in names for run in await stage.rows(name)]
        assert [run.status for run in found] == [RunStatus.SUCCEEDED] * len(names)
        return found

    found = await assert_eventually(all_ended, within=30, every=0.2)
    in_order = sorted(found, key=lambda run: run.started_at)
    return [run.task_id for run in in_order]


async def test_of_runs_that_wait_for_a_slot_the_urgent_start_first(played: Stage) -> None:
    queue = f"narrow-{uuid4().hex[:8]}"
    asked = [5, 3, 4, 1, 3, 2, 1, 5]
    names = [await ask(played, queue, priority=priority) for priority in asked]
    priorities = dict(zip(names, asked, strict=True))
    async with executor(played, queue):
        in_order = [priorities[name] for name in await started(played, names)]
    assert in_order == sorted(asked)


async def test_a_customer_with_few_runs_does_not_wait_for_all_of_another(played: Stage) -> None:
    queue = f"narrow-{uuid4().hex[:8]}"
    many = [await ask(played, queue, fairness_key="many") for _ in range(8)]
    few = [await ask(played, queue, fairness_key="few") for _ in range(2)]
    async with executor(played, queue):
        in_order = await started(played, [*many, *few])
    assert max(in_order.index(name) for name in few) < 6


async def test_usual_priorities_add_nothing_to_a_history(played: Stage) -> None:
    queue = f"narrow-{uuid4().hex[:8]}"
    found = []
    for policies in ({}, {"priority": 1, "fairness_key": "customer-7"}):
        name = await ask(played, queue, **policies)
        handle = played.engine.client.get_workflow_handle(f"task/{name}")
        history = await handle.fetch_history()
        scheduled = [
            event.activity_task_scheduled_event_attributes
            for event in history.events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        found += [(one.priority.priority_key, one.priority.fairness_key) for one in scheduled]
    assert found == [(0, ""), (1, "customer-7")]


async def test_a_run_that_no_worker_has_taken_ends_with_its_task(played: Stage) -> None:
    queue = f"nobodys-{uuid4().hex[:8]}"
    name = await ask(played, queue)
    await played.delete(name)  # and its workflow comes to its end
    (run,) = await played.wait_for(name, RunStatus.CANCELLED)
    assert (run.reason, run.started_at) == ("the task was deleted", None)
    other = await ask(played, queue)
    async with executor(played, queue):  # a worker that comes does not run it
        assert await started(played, [other]) == [other]
    (run,) = await played.rows(name)
    assert (run.status, run.started_at) == (RunStatus.CANCELLED, None)
