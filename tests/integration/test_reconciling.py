"""What heals by itself: each step between the row and the workflow may have been the last one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onthedot import worker
from onthedot.database import tasks
from onthedot.database.pool import connection
from onthedot.engine import UPKEEP_WORKFLOW_ID
from onthedot.errors import EngineUnavailable, TaskExists
from onthedot.registration import Registration
from onthedot.run import RunStatus
from onthedot.task import CatchUp, Task, TaskRegistration, TaskState
from onthedot.task_workflows import TaskWorkflows
from onthedot.upkeep import Upkeep
from tests import services
from tests.histories.stage import HELLO, Stage, every, once_in, set_up, shell
from tests.services import assert_eventually

BY = "tester"


@pytest.fixture(autouse=True)
def _nothing_needs_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    monkeypatch.setattr("onthedot.upkeep._SURELY_STARTED", timedelta())


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made:
        yield made


def _id() -> str:
    return f"t-{uuid4().hex}"


def _alive() -> None:
    """Nobody waits for a heartbeat here."""


def _upkeep(stage: Stage) -> Upkeep:
    return Upkeep(stage.settings, stage.pool, stage.engine, stage.registration)


async def _reconcile(stage: Stage) -> int:
    return await _upkeep(stage).reconcile(_alive)


async def _sql(stage: Stage, statement: str, *values: object) -> None:
    async with await psycopg.AsyncConnection.connect(
        stage.settings.database_url or "", autocommit=True
    ) as conn:
        changed = await conn.execute(statement.encode(), values)
        assert changed.rowcount == 1


async def _workflows(stage: Stage, task_id: str) -> int:
    """How many workflows the task has had."""
    found = stage.engine.client.list_workflows(f"WorkflowId = 'task/{task_id}'")
    return len([one async for one in found])


async def _describe(stage: Stage, task_id: str) -> WorkflowExecutionDescription:
    return await stage.engine.client.get_workflow_handle(f"task/{task_id}").describe()


async def _request_of(stage: Stage, task_id: str) -> tasks.Request:
    async with connection(stage.pool) as conn:
        row = await (
            await conn.execute("SELECT id FROM requests WHERE task_id = %s", [task_id])
        ).fetchone()
        assert row
        request = await tasks.get_request(conn, row["id"])
    assert request
    return request


async def _is_sent(stage: Stage, task_id: str) -> bool:
    async with connection(stage.pool) as conn:
        query = "SELECT sent_at IS NOT NULL AS is_sent FROM requests WHERE task_id = %s"
        row = await (await conn.execute(query, [task_id])).fetchone()
    assert row
    return bool(row["is_sent"])


@asynccontextmanager
async def _temporal(port: int) -> AsyncIterator[None]:
    """An engine that starts while this loop goes on."""
    with services.temporary_folder() as folder:
        server = services.running_temporal(folder, port)
        await asyncio.to_thread(server.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


async def test_a_task_registered_while_the_engine_is_away_runs_when_it_is_back(
    database_url: str,
) -> None:
    port, task_id = services.free_port(), _id()
    sent = {"id": task_id, "name": "early", "schedule": once_in(2), "action": HELLO}
    async with set_up(database_url, f"127.0.0.1:{port}", lazy=True) as away:
        task = await away.registration.register(TaskRegistration.model_validate(sent), by=BY)
        assert not task.in_step
        assert (await away.task(task_id)).state is TaskState.ACTIVE
        assert await _reconcile(away) == 0
        async with _temporal(port):
            assert await assert_eventually(lambda: _reconcile(away), within=30) == 1
            async with set_up(database_url, f"127.0.0.1:{port}") as back, back.worker():
                await back.wait_for(task_id, RunStatus.SUCCEEDED)
                await back.wait_for_state(task_id, TaskState.FINISHED)
                assert len(await back.rows(task_id)) == 1
                assert await _reconcile(back) == 0


async def test_a_lost_mark_starts_no_second_workflow(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(3))
    await stage.marked(task_id)
    before = (await _describe(stage, task_id)).run_id
    await _sql(stage, "UPDATE tasks SET engine_version = 0 WHERE id = %s", task_id)
    assert await _reconcile(stage) == 1
    await stage.marked(task_id)
    async with stage.worker():
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        await stage.ended(task_id)
    assert (await _describe(stage, task_id)).run_id == before
    assert [run.status for run in await stage.rows(task_id)] == [RunStatus.SUCCEEDED]


async def test_a_mark_lost_until_the_task_was_over_does_not_run_it_again(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(1))
    async with stage.worker():
        await stage.ended(task_id)
        before = (await _describe(stage, task_id)).run_id
        lost = "UPDATE tasks SET engine_version = 0, state = 'active' WHERE id = %s"
        await _sql(stage, lost, task_id)
        assert await _reconcile(stage) == 1
        await stage.marked(task_id)
        assert (await _describe(stage, task_id)).run_id == before
        assert len(await stage.rows(task_id)) == 1


async def test_a_deletion_reaches_a_workflow_whose_start_was_not_marked(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(3600))
    await stage.marked(task_id)
    await _sql(stage, "UPDATE tasks SET engine_version = 0 WHERE id = %s", task_id)
    async with stage.worker():
        await stage.registration.delete(task_id, by=BY)
        await stage.ended(task_id)
    assert (await stage.marked(task_id)).state is TaskState.DELETED


async def test_a_change_whose_sending_was_lost_is_sent_again(stage: Stage) -> None:
    task_id = await stage.register(_id(), every(3600))
    await stage.marked(task_id)
    await _sql(stage, "UPDATE tasks SET version = 2, state = 'paused' WHERE id = %s", task_id)
    async with stage.worker():
        assert await _reconcile(stage) == 1
        assert (await stage.marked(task_id)).engine_version == 2

        async def knows() -> bool:
            return await (await _describe(stage, task_id)).memo_value("version") == 2

        await assert_eventually(knows)
        await stage.delete(task_id)


@pytest.mark.parametrize("state", [TaskState.ACTIVE, TaskState.PAUSED])
async def test_a_change_that_comes_after_the_only_occurrence_does_not_run_it_again(
    stage: Stage, tmp_path: Path, state: TaskState
) -> None:
    ran = tmp_path / "ran"
    task_id = await stage.register(_id(), once_in(2), shell(f"echo x >> {ran}"))
    await stage.marked(task_id)
    change = "UPDATE tasks SET version = 2, state = %s, updated_at = now() WHERE id = %s"
    await _sql(stage, change, str(state), task_id)
    async with stage.worker():
        await stage.ended(task_id)  # it has not heard of the change
        assert (await stage.task(task_id)).state is state
        assert await _reconcile(stage) == 1
        if state is TaskState.PAUSED:
            await stage.registration.resume(task_id, by=BY, catch_up=CatchUp(keep="all"))
        await stage.wait_for_state(task_id, TaskState.FINISHED)
        await stage.ended(task_id)
    assert ran.read_text() == "x\n"
    assert [run.status for run in await stage.rows(task_id)] == [RunStatus.SUCCEEDED]
    assert await _workflows(stage, task_id) == 2


async def test_a_request_that_no_worker_took_is_sent_again_and_runs_once(stage: Stage) -> None:
    task_id = await stage.register(_id(), every(3600))
    run = await stage.registration.trigger(task_id, by=BY)
    assert not await _is_sent(stage, task_id)
    async with stage.worker():
        assert await assert_eventually(lambda: _reconcile(stage), within=20) == 1
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        assert await _is_sent(stage, task_id)
        assert await _reconcile(stage) == 0
        assert [one.run_id for one in await stage.rows(task_id)] == [run.run_id]
        await stage.delete(task_id)


async def test_a_request_whose_workflow_ended_as_it_was_told_is_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No workflow takes it, and none can be started beside the one that has just begun."""
    task_id = await stage.register(_id(), every(3600))
    await stage.marked(task_id)

    async def not_found(*_: object) -> bool:
        return False

    with monkeypatch.context() as patched:
        patched.setattr(TaskWorkflows, "_update", not_found)
        await stage.registration.trigger(task_id, by=BY)
    assert not await _is_sent(stage, task_id)
    async with stage.worker():
        assert await assert_eventually(lambda: _reconcile(stage), within=20) == 1
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        await stage.delete(task_id)


async def _asked(stage: Stage, task_id: str, times: int = 1) -> list[str]:
    """Runs that are asked for, and of which the engine has not been told."""
    storing = stage.registration.storing_only()
    return [(await storing.trigger(task_id, by=BY)).run_id for _ in range(times)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the engine is told from now on: task and run. Tasks of the name ``stuck`` take nothing."""
    told: list[tuple[str, str]] = []
    start_runs = TaskWorkflows.start_runs

    async def tell(self: TaskWorkflows, task: Task, request: tasks.Request) -> bool:
        told.append((task.id, request.run_ids[0]))
        if task.id.startswith("stuck"):
            await asyncio.sleep(1)
            raise EngineUnavailable
        return await start_runs(self, task, request)

    monkeypatch.setattr(TaskWorkflows, "start_runs", tell)
    return told


async def test_requests_that_are_not_taken_keep_no_other_from_its_turn(
    stage: Stage, sent: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._PAGE", 4)
    stuck = [await stage.register(f"stuck-{_id()}", every(3600)) for _ in range(6)]
    good = await stage.register(_id(), every(3600))
    for task_id in (*stuck, *stuck, good):
        await _asked(stage, task_id)
    async with stage.worker():
        began = time.monotonic()
        assert await _reconcile(stage) == 1
        assert time.monotonic() - began < 5
        assert await _is_sent(stage, good)
        # of each stuck task one was tried
        assert sorted(task_id for task_id, _ in sent) == sorted([*stuck, good])
        await stage.delete(good)


async def test_what_was_asked_of_a_task_is_sent_in_order_one_after_the_other(
    stage: Stage, sent: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._PAGE", 2)
    task_id = await stage.register(_id(), every(3600), overlap="queue_all")
    runs = await _asked(stage, task_id, 5)
    async with stage.worker():
        assert await _reconcile(stage) == 5
        assert sent == [(task_id, run_id) for run_id in runs]
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=5)
        await stage.delete(task_id)


async def test_a_request_that_is_refused_holds_up_no_other_of_its_task(
    stage: Stage, sent: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await stage.register(_id(), every(3600))
    first, second = await _asked(stage, task_id, 2)
    tell = TaskWorkflows.start_runs

    async def refuse_first(self: TaskWorkflows, task: Task, request: tasks.Request) -> bool:
        if request.run_ids == [first]:
            raise RPCError("refused", RPCStatusCode.INVALID_ARGUMENT, b"")
        return await tell(self, task, request)

    monkeypatch.setattr(TaskWorkflows, "start_runs", refuse_first)
    async with stage.worker():
        assert await _reconcile(stage) == 1
        assert sent == [(task_id, second)]
        await stage.delete(task_id)


async def test_changes_that_are_not_taken_do_not_hold_requests_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await stage.register(_id(), every(3600))
    good = await stage.register(_id(), every(3600))
    for task_id in (stuck, good):
        await stage.marked(task_id)
    await stage.registration.storing_only().pause(stuck, by=BY)
    await _asked(stage, good)

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(TaskWorkflows, "apply", hang)
    async with stage.worker():
        round_ = asyncio.create_task(_reconcile(stage))
        await assert_eventually(lambda: _is_sent(stage, good), within=20)
        assert not round_.done()
        round_.cancel()
        monkeypatch.undo()
        await stage.delete(good)


async def test_a_request_does_not_overtake_the_change_before_it(
    stage: Stage, sent: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await stage.register(_id(), every(3600))
    await stage.marked(task_id)
    task = await stage.task(task_id)
    await stage.registration.storing_only().revise(
        task_id, task.spec.model_copy(update={"name": "revised"}), by=BY
    )
    await _asked(stage, task_id)
    apply = TaskWorkflows.apply

    async def apply_slowly(self: TaskWorkflows, task: Task, *, again: bool = False) -> None:
        await asyncio.sleep(0.5)
        await apply(self, task, again=again)
        sent.append((task_id, "the change"))

    monkeypatch.setattr(TaskWorkflows, "apply", apply_slowly)
    async with stage.worker():
        assert await _reconcile(stage) == 2
        assert sent[0] == (task_id, "the change")
        (run,) = await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        assert run.task_version == 2
        await stage.delete(task_id)


async def test_a_request_that_is_repeated_with_its_key_is_sent_again_at_once(stage: Stage) -> None:
    """The web instance that stored it was lost before it could send it: upkeep comes later."""
    task_id = await stage.register(_id(), every(3600))
    run = await stage.registration.trigger(task_id, by=BY, key=task_id)
    assert not await _is_sent(stage, task_id)  # there was no worker to take it
    async with stage.worker():

        async def repeated() -> bool:
            again = await stage.registration.trigger(task_id, by=BY, key=task_id)
            assert again.run_id == run.run_id
            return await _is_sent(stage, task_id)

        await assert_eventually(repeated, within=20)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        assert [one.run_id for one in await stage.rows(task_id)] == [run.run_id]
        await stage.delete(task_id)


@pytest.mark.parametrize("again", [1, 100])
async def test_the_same_request_runs_once_however_often_it_is_sent(
    stage: Stage, tmp_path: Path, again: int
) -> None:
    """Also while its run goes on, and the log does not know of it yet."""
    count = tmp_path / "count"
    task_id = await stage.register(_id(), every(3600), shell(f"echo run >> {count}; sleep 1"))
    async with stage.worker():
        await stage.registration.trigger(task_id, by=BY)
        request = await _request_of(stage, task_id)
        sent = await asyncio.gather(*(stage.registration.send(request) for _ in range(again)))
        assert all(sent)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        assert await stage.registration.send(request)
        await stage.delete(task_id)
    assert count.read_text(encoding="utf-8") == "run\n"
    assert len(await stage.rows(task_id)) == 1


async def test_a_request_whose_mark_was_lost_does_not_run_a_finished_task_again(
    stage: Stage,
) -> None:
    task_id = await stage.register(_id(), once_in(1))
    async with stage.worker():
        await stage.ended(task_id)
        await stage.registration.trigger(task_id, by=BY)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=2)
        await stage.ended(task_id)
        before = (await _describe(stage, task_id)).run_id
        await _sql(stage, "UPDATE requests SET sent_at = NULL WHERE task_id = %s", task_id)
        assert await _reconcile(stage) == 1
        assert (await _describe(stage, task_id)).run_id == before
        assert await _is_sent(stage, task_id)


async def test_a_run_that_waited_for_its_instant_as_all_workers_went_is_a_matter_of_catch_up(
    stage: Stage,
) -> None:
    """It was sent off before the outage, which it then outlives in the engine's queue."""
    policies = {"catch_up": {"keep": "none"}}
    task_id = await stage.register_with_long_lead(_id(), 9, **policies)
    async with stage.worker():
        await stage.wait_until_sent(task_id)
    due_at = (await stage.task(task_id)).next_due_at
    assert due_at and due_at > datetime.now(UTC)
    await asyncio.sleep((due_at - datetime.now(UTC)).total_seconds() + 10.5)
    async with stage.worker():
        await stage.wait_for_state(task_id, TaskState.FINISHED)
    (row,) = await stage.rows(task_id)
    assert (row.status, row.started_at) == (RunStatus.MISSED, None)
    assert row.reason == "outage; catch-up keeps none"


async def test_a_task_whose_workflow_was_terminated_goes_on_where_its_log_stands(
    stage: Stage,
) -> None:
    task_id = await stage.register(_id(), every(1))
    async with stage.worker():
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=2)
        await stage.engine.client.get_workflow_handle(f"task/{task_id}").terminate("lost")
        before = len(await stage.rows(task_id))

        async def compared() -> bool:
            return await _upkeep(stage).compare(_alive) == 1

        await assert_eventually(compared, within=20)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=before + 3)
        status = (await _describe(stage, task_id)).status
        assert status is WorkflowExecutionStatus.RUNNING
        await stage.delete(task_id)
    due = [run.due_at for run in await stage.rows(task_id)]
    assert {later - earlier for earlier, later in pairwise(due)} == {timedelta(seconds=1)}


async def test_upkeep_that_somebody_has_ended_is_started_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_UPKEEP_LOOKED_AT_EVERY", 0.2)
    upkeep = stage.engine.client.get_workflow_handle(UPKEEP_WORKFLOW_ID)

    async def runs() -> str | None:
        with contextlib.suppress(RPCError):  # there is none
            found = await upkeep.describe()
            if found.status is WorkflowExecutionStatus.RUNNING:
                return found.run_id
        return None

    minding = asyncio.create_task(worker._mind_upkeep(stage.engine))
    try:
        first = await assert_eventually(runs)
        await asyncio.sleep(0.5)
        assert await runs() == first
        await upkeep.terminate()
        assert await assert_eventually(runs) != first
    finally:
        minding.cancel()
        await upkeep.terminate()


async def test_comparing_leaves_tasks_with_a_workflow_alone(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(3600))
    await stage.marked(task_id)

    async def is_listed() -> bool:
        return await _workflows(stage, task_id) == 1

    await assert_eventually(is_listed)
    assert await _upkeep(stage).compare(_alive) == 0
    async with stage.worker():
        await stage.delete(task_id)


def _registration(**more: Any) -> TaskRegistration:
    sent = {"name": "the same", "schedule": once_in(3600), "action": HELLO, **more}
    return TaskRegistration.model_validate(sent)


async def _register(registration: Registration, key: str | None, **more: Any) -> Task | None:
    """The task, or None when it exists already."""
    try:
        return await registration.register(_registration(**more), by=BY, key=key)
    except TaskExists:
        return None


async def test_100_registrations_with_one_key_make_one_task(stage: Stage) -> None:
    answers = await asyncio.gather(*(_register(stage.registration, "the key") for _ in range(100)))
    assert len({task.id for task in answers if task}) == 1
    assert all(answers)
    await _one_task_with_a_workflow(stage)


async def test_100_registrations_of_one_id_make_one_task_and_99_refusals(stage: Stage) -> None:
    answers = await asyncio.gather(
        *(_register(stage.registration, None, id="same") for _ in range(100))
    )
    assert len([task for task in answers if task]) == 1
    await _one_task_with_a_workflow(stage)


async def _one_task_with_a_workflow(stage: Stage) -> None:
    async with connection(stage.pool) as conn:
        rows = await (await conn.execute("SELECT id FROM tasks")).fetchall()
    assert len(rows) == 1
    task_id = rows[0]["id"]
    await stage.marked(task_id)

    async def has_one() -> bool:
        return await _workflows(stage, task_id) == 1

    await assert_eventually(has_one)
    async with stage.worker():
        await stage.delete(task_id)
