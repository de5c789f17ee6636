"""Postgres has lost what the engine had taken: by a restored backup, a late replica, a new database."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from temporalio.client import WorkflowExecutionStatus

from onthedot import engine
from onthedot.database import calendars, tasks
from onthedot.database.pool import connection
from onthedot.database.tasks import Change
from onthedot.run import RunStatus
from onthedot.task import PythonAction, Task, TaskRegistration, TaskState
from onthedot.upkeep import Upkeep
from onthedot.versions import What
from tests.histories.stage import Stage, every, once_in, set_up, shell
from tests.services import assert_eventually

BY = "tester"
_OF_TASKS = {"tasks": "id", "task_versions": "task_id"}


@pytest.fixture(autouse=True)
def _nothing_needs_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onthedot.upkeep._SURELY_STARTED", timedelta())


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made:
        yield made


@asynccontextmanager
async def loss(stage: Stage, task_id: str) -> AsyncIterator[None]:
    """What is done to the task within is lost by Postgres at the end."""
    connecting = psycopg.AsyncConnection.connect(stage.settings.database_url or "", autocommit=True)
    async with await connecting as conn:

        async def each(statement: str) -> None:
            for table, column in _OF_TASKS.items():
                names = {
                    "table": sql.Identifier(table),
                    "kept": sql.Identifier(f"kept_{table}"),
                    "column": sql.Identifier(column),
                }
                await conn.execute(sql.SQL(statement).format(**names, id=sql.Literal(task_id)))

        await each("CREATE TABLE {kept} AS SELECT * FROM {table} WHERE {column} = {id}")
        yield
        await each("DELETE FROM {table} WHERE {column} = {id}")
        await each("INSERT INTO {table} SELECT * FROM {kept}")


async def rename(stage: Stage, task_id: str, name: str) -> Task:
    spec = (await stage.task(task_id)).spec.model_copy(update={"name": name})
    return await stage.registration.revise(task_id, spec, by=BY)


async def followed_name(stage: Stage, task_id: str) -> str:
    found = await stage.engine.client.get_workflow_handle(f"task/{task_id}").describe()
    name: str = await found.memo_value("name")
    return name


async def compare(stage: Stage) -> int:
    upkeep = Upkeep(stage.settings, stage.pool, stage.engine, stage.registration)
    return await upkeep.compare(lambda: None)


def new_id() -> str:
    return f"t-{uuid4().hex}"


async def test_a_task_in_a_new_database_takes_over_the_workflow_that_has_its_id(
    stage: Stage,
) -> None:
    task_id = new_id()
    async with stage.worker():
        async with loss(stage, task_id):
            await stage.register(task_id, every(1), shell("echo old"))
            await stage.wait_for(task_id, RunStatus.SUCCEEDED)
            await rename(stage, task_id, "old")
            await stage.marked(task_id)
        await stage.register(task_id, every(1), shell("echo new"))
        task = await stage.marked(task_id)
        assert task.version == 1

        async def said_since() -> list[str]:
            rows = [run for run in await stage.rows(task_id) if run.due_at > task.updated_at]
            return [run.output.text.strip() for run in rows if run.output]

        assert set(await assert_eventually(said_since)) == {"new"}
        await stage.delete(task_id)


async def test_a_change_after_a_loss_is_taken_at_once(stage: Stage) -> None:
    task_id = await stage.register(new_id(), once_in(3600))
    await stage.marked(task_id)
    async with stage.worker():
        async with loss(stage, task_id):
            await rename(stage, task_id, "lost")
            await rename(stage, task_id, "lost, too")
            assert await followed_name(stage, task_id) == "lost, too"
        changed = await rename(stage, task_id, "kept")
        assert (changed.version, changed.in_step) == (2, True)
        assert await followed_name(stage, task_id) == "kept"
        again = await rename(stage, task_id, "kept, too")
        assert (again.version, again.in_step) == (3, True)
        assert await followed_name(stage, task_id) == "kept, too"
        await stage.delete(task_id)


async def test_comparing_lets_a_workflow_follow_its_task_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = await stage.register(new_id(), every(1))
    await stage.marked(task_id)
    async with stage.worker():
        async with loss(stage, task_id):
            await stage.registration.pause(task_id, by=BY)
        assert (await stage.task(task_id)).state is TaskState.ACTIVE

        async def is_listed() -> bool:
            return await compare(stage) == 1

        await assert_eventually(is_listed)
        assert f"tasks that are behind their workflows: ['{task_id}']" in caplog.messages
        at = len(await stage.rows(task_id))
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=at + 2)
        async with connection(stage.pool) as conn:
            made = (await tasks.list_versions(conn, task_id, limit=9))[0]
        assert (made.version, made.what, made.by) == (2, What.RESTORED, "upkeep")
        assert made.reason == "later versions are lost"
        assert await compare(stage) == 0
        await stage.delete(task_id)


async def test_comparing_brings_a_task_back_whose_deletion_was_lost(stage: Stage) -> None:
    task_id = await stage.register(new_id(), every(1))
    await stage.marked(task_id)
    async with stage.worker():
        async with loss(stage, task_id):
            await stage.delete(task_id)
        before = len(await stage.rows(task_id))

        async def is_closed() -> bool:
            return await compare(stage) == 1

        await assert_eventually(is_closed)
        await stage.wait_for(task_id, RunStatus.SUCCEEDED, count=before + 2)
        await stage.delete(task_id)


async def test_comparing_does_not_run_a_task_again_whose_end_was_lost(stage: Stage) -> None:
    task_id = await stage.register(new_id(), once_in(2))
    await stage.marked(task_id)
    async with stage.worker():
        async with loss(stage, task_id):
            await stage.wait_for_state(task_id, TaskState.FINISHED)
            await stage.ended(task_id)
        assert (await stage.task(task_id)).state is TaskState.ACTIVE
        await compare(stage)
        found = await stage.engine.client.get_workflow_handle(f"task/{task_id}").describe()
        assert found.status is WorkflowExecutionStatus.COMPLETED
    assert len(await stage.rows(task_id)) == 1


async def test_comparing_tells_of_workflows_without_a_task_and_leaves_them_alone(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = new_id()
    async with stage.worker():
        async with loss(stage, task_id):
            await stage.register(task_id, once_in(3600))

        async def is_told() -> bool:
            assert await compare(stage) == 0
            return any(
                one.startswith("workflows without a task: ") and task_id in one
                for one in caplog.messages
            )

        with caplog.at_level(logging.WARNING):
            await assert_eventually(is_told)
        handle = stage.engine.client.get_workflow_handle(f"task/{task_id}")
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        await handle.terminate()


async def test_a_change_is_made_after_the_one_before_whatever_the_clock_says(stage: Stage) -> None:
    """The clock of the instance that makes the second one is an hour behind."""
    task_id = await stage.register(new_id(), every(60))
    first = await stage.task(task_id)
    late = first.updated_at - timedelta(hours=1)
    change = Change(what=What.REVISED, spec=first.spec, state=first.state)
    async with connection(stage.pool) as conn:
        second = await tasks.change_task(conn, first, change, by=BY, now=late, next_due_at=None)
        assert second and second.updated_at > first.updated_at
        (third,) = await calendars.change_tasks(conn, [second], by=BY, now=late, reason="days")
        assert third.updated_at > second.updated_at
        assert third == await tasks.get_task(conn, task_id)
        deleted = Change(what=What.DELETED, spec=first.spec, state=TaskState.DELETED)
        fourth = await tasks.change_task(conn, third, deleted, by=BY, now=late, next_due_at=None)
        anew = await tasks.insert_task(conn, task_id, first.spec, by=BY, now=late, next_due_at=None)
        assert fourth and anew and anew.updated_at > fourth.updated_at > third.updated_at


def test_which_of_two_versions_came_later() -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    sent = TaskRegistration.model_validate(
        {"name": "a", "schedule": every(60), "action": {"kind": "python", "handler": "a:b"}}
    )
    assert isinstance(sent.action, PythonAction)
    task = Task(
        id="a", spec=sent.spec(), state=TaskState.ACTIVE, version=3, engine_version=3,
        created_at=at, created_by=BY, updated_at=at, updated_by=BY, next_due_at=None,
        last_run_at=None, last_status=None, run_count=0, failure_count=0,
    )  # fmt: skip
    moment = timedelta(microseconds=1)
    for version, changed_at, has, is_ahead in (
        (3, at, True, False),
        (3, None, True, False),  # by a process that did not write it down
        (2, None, False, False),
        (4, None, True, True),
        (2, at - moment, False, False),
        (4, at + moment, True, True),
        (3, at - moment, False, False),  # the number of a version that was lost
        (5, at - moment, False, True),  # a later one that was lost
        (1, at + moment, False, True),
    ):
        known = engine.Followed(version=version, changed_at=changed_at)
        assert (known.has(task), known.is_ahead_of(task)) == (has, is_ahead), (version, changed_at)
