"""Policies that the engine itself keeps, with a real server and real workers; docs/policies.md."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from activities.follow_ups import FollowUpActivities
from activities.upkeep import UpkeepActivities
from onthedot.database import runs
from onthedot.database.pool import connection
from onthedot.database.run_log import RunLog
from onthedot.follow_ups import FollowUpStarter
from onthedot.run import Run, RunStatus
from onthedot.task import TaskState
from onthedot.upkeep import Upkeep
from onthedot.worker import _Parts as Parts  # the very workers that a process runs
from tests.histories.stage import Stage, set_up, shell
from tests.services import assert_eventually
from workflows.messages import ReviseTask

BY = "tester"


@pytest.fixture
async def played(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    """A scheduler that sends runs, and nobody who executes those of other queues."""
    async with set_up(database_url, own_temporal) as stage, stage.worker():
        yield stage


@asynccontextmanager
async def executor(stage: Stage, queue: str) -> AsyncIterator[None]:
    """An executor of this queue that has one slot."""
    async with AsyncExitStack() as running:
        log = await running.enter_async_context(RunLog(stage.pool))
        parts = Parts(replace(stage.settings, worker_slots=1), stage.engine, log, "narrow")
        running.push_async_callback(parts.close)
        keeper = Upkeep(stage.settings, stage.pool, stage.engine, stage.registration)
        follow_ups = FollowUpActivities(FollowUpStarter(stage.pool, stage.registration.send))
        upkeep = UpkeepActivities(keeper)
        for one in parts.workers("executor", (queue,), upkeep, follow_ups):
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


async def test_a_run_that_no_worker_takes_does_not_hold_a_deleted_task_for_ever(
    played: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to be let finish; a worker that had it would have ended by then."""
    monkeypatch.setattr("workflows.run._MARGIN", timedelta(seconds=2))
    name = await ask(played, f"nobodys-{uuid4().hex[:8]}", timeout="3s")
    played.send_instead(name, ReviseTask, lambda desired: replace(desired, let_finish=True))
    began = datetime.now(UTC)
    await played.delete(name)
    assert datetime.now(UTC) - began > timedelta(seconds=5)
    (run,) = await played.wait_for(name, RunStatus.CANCELLED)
    assert (run.reason, run.started_at) == ("the task was deleted", None)


async def run_once(stage: Stage, script: str, **policies: Any) -> Run:
    """How a run of this script ended."""
    name = f"task-{uuid4().hex[:12]}"
    hourly = {"kind": "interval", "every": "1h"}
    await stage.register(name, hourly, shell(script), **policies)
    asked = await stage.registration.trigger(name, by=BY)

    async def ended() -> Run:
        async with connection(stage.pool) as conn:
            run = await runs.get_run(conn, asked.run_id)
        assert run.status.is_final
        return run

    found: Run = await assert_eventually(ended, within=40, every=0.1)
    return found


async def test_an_exit_code_may_say_that_trying_again_is_in_vain(played: Stage) -> None:
    retry = {"attempts": 3, "backoff": "0s", "not_on": ["2"]}
    run = await run_once(played, 'exit "$ONTHEDOT_ATTEMPT"', retry=retry)
    assert [one.error for one in run.attempts] == [
        "the process ended with exit code 1",
        "the process ended with exit code 2",
    ]
    assert run.status is RunStatus.FAILED
    assert run.error == ("the process ended with exit code 2; not tried again: retry.not_on has 2")


async def test_an_attempt_is_stopped_when_the_time_of_its_run_is_over(played: Stage) -> None:
    run = await run_once(played, "sleep 60", run_timeout="2s", retry={"attempts": 3})
    assert run.status is RunStatus.TIMED_OUT
    assert run.error == (
        "the run took longer than its run_timeout of 2s; "
        "its last attempt: took longer than its timeout of 2s"
    )
    assert run.finished_at - run.started_at < timedelta(seconds=10)
    assert run.attempt_count == 1


async def test_a_task_that_resumes_by_itself_is_active_with_its_next_due_time(
    played: Stage,
) -> None:
    name = f"task-{uuid4().hex[:12]}"
    await played.register(name, {"kind": "interval", "every": "1h"})
    until = datetime.now(UTC) + timedelta(seconds=2)
    played.send_instead(name, ReviseTask, lambda desired: replace(desired, paused_until=until))
    paused = await played.registration.pause(name, by=BY)
    assert (paused.state, paused.next_due_at) == (TaskState.PAUSED, None)
    await played.wait_for_state(name, TaskState.ACTIVE)
    assert datetime.now(UTC) >= until
    task = await played.task(name)
    assert task.version == paused.version
    assert task.next_due_at is not None
    assert until < task.next_due_at <= until + timedelta(hours=1)
