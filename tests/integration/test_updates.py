"""Changes and requests, many at once, on a real engine: each is taken once, and none is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.service import RPCError, RPCStatusCode

from onthedot import temporal_server
from onthedot.database.pool import connection
from onthedot.database.tasks import Request
from onthedot.errors import (
    DatabaseUnavailable,
    EngineUnavailable,
    KeyReused,
    VersionMismatch,
)
from onthedot.run import Run, RunStatus
from onthedot.task import OnceSchedule, Task, TaskRegistration, TaskSpec, TaskState
from onthedot.task_workflows import TaskWorkflows
from onthedot.upkeep import Upkeep
from tests import services
from tests.histories.stage import HELLO, Stage, every, once_in, set_up, shell
from tests.services import assert_eventually

BY = "tester"


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made:
        yield made


def _id() -> str:
    return f"u-{uuid4().hex}"


async def _reconcile(stage: Stage) -> int:
    upkeep = Upkeep(stage.settings, stage.pool, stage.engine, stage.registration)
    return await upkeep.reconcile(lambda: None)


async def _spec(stage: Stage, task_id: str, **changes: object) -> TaskSpec:
    task = await stage.task(task_id)
    sent = {**task.spec.model_dump(), **changes}
    return TaskRegistration.model_validate(sent).spec()


async def _in_step(stage: Stage, task_id: str) -> Task:
    async def is_so() -> Task | None:
        task = await stage.task(task_id)
        return task if task.in_step else None

    task: Task = await assert_eventually(is_so, within=30)
    return task


async def test_100_triggers_at_once_run_once_each(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(3600), overlap="allow")
    async with stage.worker():
        asked = await asyncio.gather(
            *(stage.registration.trigger(task_id, by=BY, key=f"key {n % 50}") for n in range(100))
        )
        ids = {run.run_id for run in asked}
        assert len(ids) == 50
        await _reconcile_until_sent(stage, task_id)
        rows = await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=50)
        assert {run.run_id for run in rows} == ids
        assert Counter(run.attempt_count for run in rows) == {1: 50}
        await stage.delete(task_id)


async def _reconcile_until_sent(stage: Stage, task_id: str) -> None:
    """As the installation's upkeep does, every few seconds."""

    async def all_sent() -> bool:
        await _reconcile(stage)
        query = "SELECT count(*) AS n FROM requests WHERE task_id = %s AND sent_at IS NULL"
        async with connection(stage.pool) as conn:
            row = await (await conn.execute(query, [task_id])).fetchone()
        assert row is not None
        return bool(row["n"] == 0)

    await assert_eventually(all_sent, within=30, every=0.5)


async def test_of_20_changes_at_once_the_last_is_in_force(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    task_id = await stage.register(_id(), once_in(3600))
    spec = await _spec(stage, task_id)
    async with stage.worker():
        answers = await asyncio.gather(
            *(
                stage.registration.revise(
                    task_id, spec.model_copy(update={"name": f"name {n}"}), by=BY
                )
                for n in range(20)
            ),
            return_exceptions=True,
        )
        assert {type(one) for one in answers} <= {Task, VersionMismatch}
        await _reconcile(stage)
        task = await _in_step(stage, task_id)
        assert task.version == 1 + len([one for one in answers if isinstance(one, Task)])
        handle = stage.engine.client.get_workflow_handle(f"task/{task_id}")
        assert await (await handle.describe()).memo_value("version") == task.version
        await stage.delete(task_id)


async def test_a_task_that_is_not_due_for_an_hour_can_be_told_to_run_now(stage: Stage) -> None:
    task_id = await stage.register(_id(), once_in(3600))
    async with stage.worker():
        task = await stage.registration.revise(
            task_id, await _spec(stage, task_id, schedule=once_in(2)), by=BY
        )
        assert task.in_step
        (run,) = await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        await stage.ended(task_id)
    assert isinstance(task.spec.schedule, OnceSchedule)
    assert (run.due_at, run.task_version) == (task.spec.schedule.at, 2)
    assert run.lag_ms is not None
    assert run.lag_ms < 1000


async def test_a_key_that_was_used_for_another_request_is_refused(stage: Stage) -> None:
    one = await stage.register(_id(), once_in(3600))
    other = await stage.register(_id(), once_in(3600))
    run = await stage.registration.trigger(one, by=BY, key="the key")
    with pytest.raises(KeyReused):
        await stage.registration.trigger(other, by=BY, key="the key")
    with pytest.raises(KeyReused):
        await stage.registration.register(
            TaskRegistration.model_validate(
                {"name": "third", "schedule": once_in(3600), "action": HELLO}
            ),
            by=BY,
            key="the key",
        )
    assert (await stage.rows(other), [row.run_id for row in await stage.rows(one)]) == (
        [],
        [run.run_id],
    )


async def _asked_in_vain(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Run]:
    """A task and a run of it that was asked for while the engine was away; upkeep may send it."""
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    task_id = await stage.register(_id(), every(3600))
    with monkeypatch.context() as away:
        away.setattr(TaskWorkflows, "start_runs", _unavailable)
        return task_id, await stage.registration.trigger(task_id, by=BY)


async def test_what_was_asked_of_a_task_that_is_deleted_meanwhile_does_not_stay_open(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, run = await _asked_in_vain(stage, monkeypatch)
    async with stage.worker():
        await stage.delete(task_id)
        assert [row.status for row in await stage.rows(task_id)] == [RunStatus.WAITING]
        await _reconcile(stage)
    (row,) = await stage.rows(task_id)
    assert (row.run_id, row.status) == (run.run_id, RunStatus.CANCELLED)
    assert row.reason


async def _unavailable(*_: object, **__: object) -> bool:
    raise EngineUnavailable


async def test_a_run_that_is_asked_for_and_cancelled_without_a_worker_ends_cancelled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    task_id = await stage.register(_id(), every(3600), shell("sleep 20"))
    run = await stage.registration.trigger(task_id, by=BY)
    await stage.registration.cancel_run(run.run_id, by=BY)
    async with stage.worker():
        await _reconcile(stage)
        (row,) = await stage.wait_for(task_id, RunStatus.CANCELLED)
        assert row.run_id == run.run_id
        await stage.delete(task_id)


async def test_a_cancel_does_not_overtake_what_asked_for_its_run(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    ran = tmp_path / "ran"
    task_id = await stage.register(_id(), every(3600), shell(f"sleep 2; echo x >> {ran}"))
    run = await stage.registration.trigger(task_id, by=BY)  # no worker takes it
    async with stage.worker():
        await stage.registration.cancel_run(run.run_id, by=BY)
        (row,) = await stage.wait_for(task_id, RunStatus.CANCELLED)
        assert row.run_id == run.run_id
        assert await _reconcile(stage) == 0
        await stage.delete(task_id)
    assert not ran.exists()
    assert len(await stage.rows(task_id)) == 1


async def test_what_was_kept_and_taken_is_answered_although_postgres_goes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that it was not kept asks again, and has two runs."""
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    async with stage.worker():
        task_id = await stage.register(_id(), every(3600))
        with monkeypatch.context() as gone:
            gone.setattr("onthedot.database.tasks.mark_sent", away)
            run = await stage.registration.trigger(task_id, by=BY)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        await _reconcile(stage)
        assert [row.run_id for row in await stage.rows(task_id)] == [run.run_id]
        await stage.delete(task_id)


async def test_a_request_whose_rows_are_gone_is_not_taken_for_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, run = await _asked_in_vain(stage, monkeypatch)
    async with connection(stage.pool) as conn:
        await conn.execute("DELETE FROM runs WHERE run_id = %s", [run.run_id])
    async with stage.worker():
        await _reconcile(stage)
        (row,) = await stage.wait_for(task_id, RunStatus.SUCCEEDED)
        assert row.run_id == run.run_id
        await stage.delete(task_id)


@pytest.fixture
def sparing_temporal(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine whose workflows take three Updates each."""
    monkeypatch.setattr(temporal_server, "SETTINGS", {"history.maxTotalUpdates": 3})
    with services.temporary_folder() as folder, services.running_temporal(folder) as server:
        yield server.address


async def test_what_is_asked_of_a_workflow_that_takes_no_more_is_kept(
    database_url: str,
    sparing_temporal: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    async with set_up(database_url, sparing_temporal) as stage, stage.worker():
        task_id = await stage.register(_id(), every(3600), overlap="queue_all")
        runs = [await stage.registration.trigger(task_id, by=BY) for _ in range(4)]
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, 3)
        assert not (await stage.registration.pause(task_id, by=BY)).in_step
        assert await _reconcile(stage) == 0
        assert "cannot be brought in step" not in caplog.text
        handle = stage.engine.client.get_workflow_handle(f"task/{task_id}")
        await handle.terminate("to have another, as when it continues as new")
        await _reconcile_until_sent(stage, task_id)
        rows = await stage.wait_for(task_id, RunStatus.SUCCEEDED, 4)
        assert {row.run_id for row in rows} == {run.run_id for run in runs}
        assert (await _in_step(stage, task_id)).state is TaskState.PAUSED
        await stage.delete(task_id)


async def test_one_task_that_the_engine_refuses_holds_up_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onthedot.upkeep._SETTLED", timedelta())
    good, bad = "a" + _id(), "b" + _id()
    for task_id in (good, bad):
        await stage.register(task_id, once_in(3600))
    with monkeypatch.context() as away:
        away.setattr(TaskWorkflows, "apply", _unavailable)
        away.setattr(TaskWorkflows, "start_runs", _unavailable)
        for task_id in (good, bad):
            await stage.registration.pause(task_id, by=BY)
            await stage.registration.trigger(task_id, by=BY)
    apply, start_runs = TaskWorkflows.apply, TaskWorkflows.start_runs

    async def refuse_one(self: TaskWorkflows, task: Task, *, again: bool = False) -> None:
        if task.id == bad:
            raise RPCError("refused", RPCStatusCode.INVALID_ARGUMENT, b"")
        await apply(self, task, again=again)

    async def refuse_runs(self: TaskWorkflows, task: Task, request: Request) -> bool:
        if task.id == bad:
            raise RPCError("refused", RPCStatusCode.INVALID_ARGUMENT, b"")
        return await start_runs(self, task, request)

    monkeypatch.setattr(TaskWorkflows, "apply", refuse_one)
    monkeypatch.setattr(TaskWorkflows, "start_runs", refuse_runs)
    async with stage.worker():
        await _reconcile(stage)
        await _in_step(stage, good)
        await stage.wait_for(good, RunStatus.SUCCEEDED)
        monkeypatch.undo()
        await stage.delete(good)
    assert not (await stage.task(bad)).in_step
