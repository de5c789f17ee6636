"""Runs that wait at a worker: they cost nothing, hear of changes, are not lost with the worker."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo

from onthedot import schedule, temporal_server
from onthedot.engine import workflow_id
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import OnceSchedule, TaskRegistration
from onthedot.temporal_server import SETTINGS
from tests import services
from tests.faults.test_policies_worker_lost import has_ended, only_row
from tests.running import Office, office, worker_process

BY = "tester"
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED


async def register(at: Office, due_at: datetime, script: str, *, lead: float) -> str:
    """Register a task whose lead is at least so long, in seconds; its id."""
    once = OnceSchedule(at=due_at)
    ids = (f"waits-{due_at.timestamp():.0f}-{number}" for number in count())
    wanted = timedelta(seconds=lead)
    task_id = next(one for one in ids if schedule.lead(once, one, due_at, None) >= wanted)
    sent = {
        "id": task_id,
        "name": task_id,
        "schedule": {"kind": "once", "at": due_at.isoformat()},
        "action": {"kind": "shell", "script": script},
        "policies": {"timeout": "10m"},
    }
    await at.registration.register(TaskRegistration.model_validate(sent), by=BY)
    return task_id


async def attempt(at: Office, task_id: str) -> PendingActivityInfo | None:
    """Its attempt as the engine knows it, once a worker has it."""
    handle = at.engine.client.get_workflow_handle(workflow_id(task_id))
    described = (await handle.describe()).raw_description
    taken = [one for one in described.pending_activities if one.state == STARTED]
    return taken[0] if taken else None


async def is_taken(at: Office, task_id: str) -> PendingActivityInfo:
    async def taken() -> PendingActivityInfo:
        found = await attempt(at, task_id)
        assert found is not None
        return found

    found: PendingActivityInfo = await services.assert_eventually(taken, within=40, every=0.2)
    return found


async def wait_at_a_lost_worker(at: Office, due_at: datetime, lead: float, folder: Path) -> str:
    """Have a run wait, and kill its worker; the task's id."""
    with worker_process(at.settings, folder / "victim.log") as victim:
        task_id = await register(at, due_at, "true", lead=lead)
        await is_taken(at, task_id)
        os.kill(victim.pid, signal.SIGKILL)
    return task_id


async def taken_and_called_back(at: Office, tmp_path: Path) -> PendingActivityInfo:
    """Have a run wait, and its task due sooner: the run as it waited."""
    done = tmp_path / "done"
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=40)
    with worker_process(at.settings, tmp_path / "worker.log"):
        task_id = await register(at, due_at, f"date +%s.%N >> {done}", lead=30)
        await is_taken(at, task_id)
        await asyncio.sleep(7)  # past its first heartbeats, if it makes any
        waiting = await is_taken(at, task_id)
        sooner = due_at - timedelta(seconds=12)
        change = {"schedule": OnceSchedule(at=sooner)}
        await at.registration.amend(
            task_id, lambda spec: spec.model_copy(update=change), str(sooner), by=BY
        )
        run = await has_ended(at, task_id)
    assert (run.status, run.due_at) == (RunStatus.SUCCEEDED, sooner)
    assert run.started_at is not None
    assert run.started_at - sooner < timedelta(seconds=5)
    assert len(done.read_text().splitlines()) == 1
    return waiting


async def test_a_waiting_run_says_nothing_and_hears_that_it_is_called_back(
    at: Office, tmp_path: Path
) -> None:
    waited = await taken_and_called_back(at, tmp_path)
    assert not waited.HasField("last_heartbeat_time")


@pytest.fixture
def silent_temporal(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine that tells workers of a cancellation in answer to a heartbeat alone."""
    for_workers = ("frontend.WorkerCommandsEnabled", "system.enableCancelActivityWorkerCommand")
    rest = {name: value for name, value in SETTINGS.items() if name not in for_workers}
    monkeypatch.setattr(temporal_server, "SETTINGS", rest)
    with services.temporary_folder() as folder, services.running_temporal(folder) as server:
        yield server.address


@pytest.mark.long
async def test_where_the_engine_tells_workers_nothing_a_waiting_run_heartbeats(
    silent_temporal: str, settings: Settings, tmp_path: Path
) -> None:
    async with office(replace(settings, temporal_address=silent_temporal)) as at:
        waited = await taken_and_called_back(at, tmp_path)
    assert waited.HasField("last_heartbeat_time")
    assert waited.activity_options.heartbeat_timeout.ToTimedelta() < timedelta(seconds=8)


@pytest.mark.long
async def test_a_run_whose_worker_is_lost_while_it_waits_starts_within_the_promise(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    task_id = await wait_at_a_lost_worker(at, due_at, 20, tmp_path)
    with worker_process(settings, tmp_path / "worker-2.log"):
        run = await has_ended(at, task_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.started_at is not None
    assert timedelta() <= run.started_at - due_at < timedelta(seconds=10)


async def test_a_run_that_came_late_to_a_worker_that_is_lost_starts_within_the_promise(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    with worker_process(settings, tmp_path / "sends.log", "--role", "scheduler"):
        task_id = await register(at, due_at, "true", lead=25)
        await asyncio.sleep((due_at - datetime.now(UTC)).total_seconds() - 10)
        executes = ("--role", "executor")
        with worker_process(settings, tmp_path / "victim.log", *executes) as victim:
            await is_taken(at, task_id)
            await asyncio.sleep(0.5)  # it asks for a shorter timeout
            os.kill(victim.pid, signal.SIGKILL)
        with worker_process(settings, tmp_path / "worker.log", *executes):
            run = await has_ended(at, task_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.started_at is not None
    assert timedelta() <= run.started_at - due_at < timedelta(seconds=10)


async def test_a_task_that_is_deleted_and_registered_again_in_the_lead_runs_and_says_so(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=25)
    with worker_process(settings, tmp_path / "worker.log"):
        task_id = await register(at, due_at, "exit 1", lead=20)
        await is_taken(at, task_id)
        await at.registration.delete(task_id, by=BY)
        assert (await has_ended(at, task_id)).status is RunStatus.CANCELLED
        assert await register(at, due_at, "true", lead=20) == task_id

        async def ran() -> Run:
            run = await only_row(at, task_id)
            assert run.status is RunStatus.SUCCEEDED, run
            return run

        run = await services.assert_eventually(ran, within=60, every=0.2)
    assert (run.reason, run.task_version, run.attempt_count) == (None, 3, 1)


async def test_a_change_is_heeded_although_the_worker_of_the_waiting_run_is_lost(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    """The engine would miss that worker only 4 s after the instant at which the run was to start."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
    task_id = await wait_at_a_lost_worker(at, due_at, 50, tmp_path)
    with worker_process(settings, tmp_path / "worker.log"):
        sooner = due_at - timedelta(seconds=25)
        change = {"schedule": OnceSchedule(at=sooner)}
        await at.registration.amend(
            task_id, lambda spec: spec.model_copy(update=change), "sooner", by=BY
        )
        run = await has_ended(at, task_id)
    assert (run.status, run.due_at) == (RunStatus.SUCCEEDED, sooner)
    assert run.started_at is not None
    assert timedelta() <= run.started_at - sooner < timedelta(seconds=5)


async def test_a_task_can_be_deleted_although_the_worker_of_its_waiting_run_is_lost(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=60)
    task_id = await wait_at_a_lost_worker(at, due_at, 50, tmp_path)
    with worker_process(settings, tmp_path / "worker.log"):
        await at.registration.delete(task_id, by=BY)
        run = await has_ended(at, task_id)
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "the task was deleted")
    assert run.finished_at is not None
    assert run.finished_at < due_at - timedelta(seconds=20)


async def test_a_run_that_is_held_up_and_starts_late_is_not_taken_for_lost(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    """While it waits it is silent: the engine takes it for lost 4 s after its instant."""
    started = tmp_path / "started"
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=25)
    with worker_process(settings, tmp_path / "worker.log") as worker:
        task_id = await register(at, due_at, f"echo >> {started}; sleep 6", lead=20)
        await is_taken(at, task_id)
        await asyncio.sleep((due_at - datetime.now(UTC)).total_seconds() - 0.5)
        os.kill(worker.pid, signal.SIGSTOP)
        await asyncio.sleep(3.1)
        os.kill(worker.pid, signal.SIGCONT)
        run = await has_ended(at, task_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.started_at is not None
    assert timedelta(seconds=2.5) < run.started_at - due_at < timedelta(seconds=10)
    assert len(started.read_text().splitlines()) == 1


async def test_a_run_that_waited_long_is_missed_as_soon_as_others_once_it_goes_on(
    at: Office, settings: Settings, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=40)
    # the first would go on for long after its worker has gone
    script = f"date +%s.%N >> {started}; test $(wc -l < {started}) -gt 1 || sleep 600"
    with worker_process(settings, tmp_path / "worker-1.log") as victim:
        task_id = await register(at, due_at, script, lead=30)
        waiting = await is_taken(at, task_id)
        assert waiting.activity_options.heartbeat_timeout.ToTimedelta() > timedelta(seconds=30)
        await services.assert_eventually(started.exists, within=60)
        await asyncio.sleep(4)  # it has heartbeat by then
        going_on = await is_taken(at, task_id)
        assert going_on.activity_options.heartbeat_timeout.ToTimedelta() < timedelta(seconds=8)
        os.kill(victim.pid, signal.SIGKILL)
        killed_at = datetime.now(UTC)
    with worker_process(settings, tmp_path / "worker-2.log"):
        run = await has_ended(at, task_id)
    assert run.status is RunStatus.SUCCEEDED
    again_at = float(started.read_text().splitlines()[-1])
    assert again_at - killed_at.timestamp() < 10
