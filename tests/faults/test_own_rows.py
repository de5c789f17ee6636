"""The row of a success is written by the attempt itself, whatever becomes of its worker then."""

import asyncio
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from activities.own_row import HEARD_LATE
from onthedot.database.pool import connection
from onthedot.database.runs import get_run
from onthedot.database.tasks import get_task
from onthedot.engine import workflow_id
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import Task, TaskRegistration, TaskState
from tests import services
from tests.faults.network import Link
from tests.faults.test_policies_worker_lost import has_ended, only_row
from tests.running import Office, worker_process

BY = "tester"
NEVER = datetime.max.replace(tzinfo=UTC)


async def register(at: Office, task_id: str, when: dict[str, Any], script: str) -> None:
    action = {"kind": "shell", "script": script}
    sent = {"id": task_id, "name": task_id, "schedule": when, "action": action}
    await at.registration.register(TaskRegistration.model_validate(sent), by=BY)


async def events(at: Office, task_id: str) -> list[dict[str, Any]]:
    handle = at.engine.client.get_workflow_handle(workflow_id(task_id))
    history = (await handle.fetch_history()).to_json_dict()
    return list(history["events"])


async def task(at: Office, task_id: str) -> Task:
    async with connection(at.pool) as conn:
        return await get_task(conn, task_id)


async def succeeded(at: Office, task_id: str) -> list[Run]:
    """The runs of a task that have succeeded, with their attempts."""
    query = "SELECT run_id FROM runs WHERE task_id = %s AND status = 'succeeded' ORDER BY due_at"
    async with connection(at.pool) as conn:
        found = await (await conn.execute(query, [task_id])).fetchall()
        return [await get_run(conn, row["run_id"]) for row in found]


def _without_times(run: Run) -> Run:
    attempts = [replace(one, started_at=NEVER, finished_at=NEVER) for one in run.attempts]
    return replace(
        run, run_id="", due_at=NEVER, started_at=None, finished_at=None, attempts=attempts
    )


async def test_whoever_writes_it_the_row_is_the_same(at: Office, tmp_path: Path) -> None:
    """A plan holds ten occurrences: of the last of them the workflow writes the row."""
    with worker_process(at.settings, tmp_path / "worker.log"):
        await register(at, "often", {"kind": "interval", "every": "2s"}, "echo done")

        async def enough() -> list[Run]:
            rows = await succeeded(at, "often")
            assert len(rows) >= 13
            return rows

        rows = await services.assert_eventually(enough, within=60, every=0.3)
        markers = [
            one
            for one in await events(at, "often")
            if one["eventType"] == "EVENT_TYPE_MARKER_RECORDED"
        ]
    assert 2 <= len(markers) <= 8  # plans, the rows after which the next one was not known yet
    alike = {repr(_without_times(row)) for row in rows}
    assert len(alike) == 1, alike
    assert all(len(row.attempts) == 1 and row.output and row.output.size for row in rows)
    assert all(
        (row.attempts[0].started_at, row.attempts[0].finished_at)
        == (row.started_at, row.finished_at)
        for row in rows
    )
    assert (await task(at, "often")).run_count >= 13


async def test_the_run_of_a_one_time_task_finishes_it(at: Office, tmp_path: Path) -> None:
    with worker_process(at.settings, tmp_path / "worker.log"):
        await register(at, "once", {"kind": "once", "in": "2s"}, "true")
        assert (await has_ended(at, "once")).status is RunStatus.SUCCEEDED
        finished = await task(at, "once")
        await asyncio.wait_for(
            at.engine.client.get_workflow_handle(workflow_id("once")).result(), timeout=30
        )
        history = await events(at, "once")
    assert (finished.state, finished.next_due_at) == (TaskState.FINISHED, None)
    kinds = [one["eventType"] for one in history]
    assert "EVENT_TYPE_MARKER_RECORDED" not in kinds  # it needed no plan either
    assert (await task(at, "once")).state is TaskState.FINISHED


async def test_what_a_worker_has_written_before_it_was_lost_is_not_run_again(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    """Its connections are cut while the action goes on: the engine hears nothing of the end."""
    done = tmp_path / "done"
    port = int(settings.temporal_address.rpartition(":")[2])
    async with Link(port).listening() as link:
        apart = replace(settings, temporal_address=f"127.0.0.1:{link.port}")
        with worker_process(apart, tmp_path / "victim.log") as victim:
            await register(at, "cut", {"kind": "once", "in": "3s"}, f"echo >> {done}; sleep 2")
            await services.assert_eventually(done.exists, within=60)
            link.cut()

            async def is_written() -> bool:
                return (await only_row(at, "cut")).status is RunStatus.SUCCEEDED

            await services.assert_eventually(is_written, within=30)
            os.kill(victim.pid, signal.SIGKILL)
    with worker_process(settings, tmp_path / "worker.log"):
        handle = at.engine.client.get_workflow_handle(workflow_id("cut"))
        await asyncio.wait_for(handle.result(), timeout=60)
    run = await only_row(at, "cut")
    assert (run.status, run.reason, run.attempt_count) == (RunStatus.SUCCEEDED, HEARD_LATE, 1)
    assert len(done.read_text().splitlines()) == 1
    assert (await task(at, "cut")).state is TaskState.FINISHED
