"""What a lost worker means for a run, by its task's policies."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from onthedot.database.pool import connection
from onthedot.database.runs import read_run
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import TaskRegistration
from tests import services
from tests.running import Office, office, worker_process

BY = "tester"


async def only_row(at: Office, task_id: str) -> Run:
    async with connection(at.pool) as conn:
        found = await conn.execute("SELECT * FROM runs WHERE task_id = %s", [task_id])
        rows = await found.fetchall()
        assert len(rows) == 1, rows
        return read_run(rows[0])


async def has_ended(at: Office, task_id: str) -> Run:
    async def ended() -> Run:
        run = await only_row(at, task_id)
        assert run.status.is_final, run
        return run

    found: Run = await services.assert_eventually(ended, within=60, every=0.2)
    return found


async def register(
    at: Office, schedule: dict[str, str], script: str, policies: dict[str, Any]
) -> str:
    """A task whose runs may go on for long; its id."""
    task_id = f"task-{uuid4().hex[:12]}"
    sent = {
        "id": task_id,
        "name": task_id,
        "schedule": schedule,
        "action": {"kind": "shell", "script": script},
        "policies": {"timeout": "10m", **policies},
    }
    await at.registration.register(TaskRegistration.model_validate(sent), by=BY)
    return task_id


async def lose_its_worker(at: Office, folder: Path, policies: dict[str, Any]) -> str:
    """Ask for a run that goes on for long, and kill its worker; the task's id."""
    started, hourly = folder / "started", {"kind": "interval", "every": "1h"}
    with worker_process(at.settings, folder / "worker-1.log") as victim:
        task_id = await register(at, hourly, f"echo started >> {started}; sleep 600", policies)
        await at.registration.trigger(task_id, by=BY)
        await services.assert_eventually(started.exists, within=60)
        os.kill(victim.pid, signal.SIGKILL)
    return task_id


async def test_a_run_that_is_to_run_at_most_once_fails_with_its_worker_and_is_not_tried_again(
    settings: Settings, tmp_path: Path
) -> None:
    policies = {"delivery": "at_most_once", "retry": {"attempts": 3, "backoff": "0s"}}
    async with AsyncExitStack() as running:
        at = await running.enter_async_context(office(settings))
        task_id = await lose_its_worker(at, tmp_path, policies)
        running.enter_context(worker_process(settings, tmp_path / "worker-2.log"))
        run = await has_ended(at, task_id)
        assert (run.status, run.error) == (RunStatus.FAILED, "worker lost")
        assert run.attempt_count <= 1
        assert (tmp_path / "started").read_text() == "started\n"

        again = await at.registration.rerun(run.run_id, by=BY)  # is another run, that may start
        twice = "started\nstarted\n"
        await services.assert_eventually(
            lambda: (tmp_path / "started").read_text() == twice, within=30
        )
        await at.registration.cancel_run(again.run_id, by=BY)


async def test_a_run_whose_worker_was_lost_is_cancelled_with_its_task(
    settings: Settings, tmp_path: Path
) -> None:
    """No worker comes that could run it; the task's workflow comes to its end all the same."""
    async with AsyncExitStack() as running:
        at = await running.enter_async_context(office(settings))
        task_id = await lose_its_worker(at, tmp_path, {})
        running.enter_context(
            worker_process(settings, tmp_path / "worker-2.log", "--role", "scheduler")
        )

        await at.registration.delete(task_id, by=BY)
        run = await has_ended(at, task_id)
        assert (run.status, run.reason) == (RunStatus.CANCELLED, "the task was deleted")
        assert (tmp_path / "started").read_text() == "started\n"
        handle = at.engine.client.get_workflow_handle(f"task/{task_id}")
        await services.assert_eventually(lambda: _has_closed(handle), within=30, every=0.5)


async def test_a_run_that_had_begun_is_repeated_whatever_its_catch_up_policy(
    settings: Settings, tmp_path: Path
) -> None:
    """At least once is for what began; catch-up is for what did not."""
    begun, soon = tmp_path / "begun", {"kind": "once", "in": "3s"}
    script = f"echo x >> {begun}; test $(wc -l < {begun}) -gt 1 || sleep 600"
    async with AsyncExitStack() as running:
        at = await running.enter_async_context(office(settings))
        with worker_process(settings, tmp_path / "worker-1.log") as victim:
            task_id = await register(at, soon, script, {"catch_up": {"keep": "none"}})
            await services.assert_eventually(begun.exists, within=60)
            await asyncio.sleep(3)  # it heartbeats
            os.kill(victim.pid, signal.SIGKILL)
        await asyncio.sleep(10)
        running.enter_context(worker_process(settings, tmp_path / "worker-2.log"))
        run = await has_ended(at, task_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.reason == "its worker was lost, and it was started again"
    assert begun.read_text() == "x\nx\n"


async def _has_closed(handle: Any) -> bool:
    return (await handle.describe()).close_time is not None
