"""Runs beside others in a long history: their task continues as new, and they go on."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from onthedot import schedule
from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import IntervalSchedule, TaskState
from tests.histories.stage import Stage, every, set_up, shell
from tests.services import assert_eventually
from workflows import apart as apart_module
from workflows import history as history_module
from workflows.run import RunHere

BY = "tester"
SUCCEEDED, FAILED, CANCELLED = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED


@dataclass(frozen=True)
class Overlapping:
    """A task whose runs go on until they are told how to end."""

    stage: Stage
    task_id: str
    folder: Path

    async def run(self) -> str:
        """A run that goes on by now; its id."""
        run = await self.stage.registration.trigger(self.task_id, by=BY)
        await assert_eventually(lambda: self._goes_on(run.run_id), within=20, every=0.1)
        return run.run_id

    async def _goes_on(self, run_id: str) -> bool:
        row = await self.row(run_id)
        assert row.status is RunStatus.RUNNING, row
        return True

    def end(self, run_id: str, code: int = 0) -> None:
        written = self.folder / f"{run_id}.new"
        written.write_text(str(code))
        written.rename(self.folder / run_id)

    async def row(self, run_id: str) -> Run:
        return next(row for row in await self.stage.rows(self.task_id) if row.run_id == run_id)

    async def ended(self, run_id: str, status: RunStatus) -> Run:
        async def has_ended() -> Run:
            row = await self.row(run_id)
            assert row.status is status, row
            return row

        row: Run = await assert_eventually(has_ended, within=30, every=0.1)
        return row

    async def history(self) -> str:
        """The id of its workflow's run."""
        described = await self.stage.engine.client.get_workflow_handle(
            f"task/{self.task_id}"
        ).describe()
        return described.run_id

    async def apart(self) -> list[str]:
        """The open workflows that make runs of it."""
        query = f"WorkflowType = 'Run' AND ExecutionStatus = 'Running' AND WorkflowId STARTS_WITH 'apart/{self.task_id}.'"
        return [one.id async for one in self.stage.engine.client.list_workflows(query)]

    async def revised_in_the_lead(self) -> None:
        """A new version comes once the next occurrence is sent off."""

        async def is_sent() -> bool:
            return len(await self.apart()) == 1

        await assert_eventually(is_sent, within=30, every=0.1)
        spec = (await self.stage.task(self.task_id)).spec
        revised = spec.model_copy(update={"name": "Another name"})
        await self.stage.registration.revise(self.task_id, revised, by=BY)

    async def carried(self) -> str:
        """A run that was carried along as the task continued as new; its id."""
        before = await self.history()
        first, second = await self.run(), await self.run()
        self.end(first)
        await self.ended(first, SUCCEEDED)
        await self.continued(before)
        return second

    async def continued(self, before: str) -> None:
        async def has_continued() -> bool:
            assert await self.history() != before
            return True

        await assert_eventually(has_continued, within=20, every=0.1)


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made, made.worker():
        yield made


def _names() -> Iterator[str]:
    return (f"task-{uuid4().hex[:12]}" for _ in range(1000))


def _is_sent_early(name: str) -> bool:
    """Whether what it does every 10 s is sent off in time to be called back."""
    now = datetime.now(UTC)
    when = IntervalSchedule(every=timedelta(seconds=10), anchor=now)
    return schedule.lead(when, name, now + when.every, now) > timedelta(seconds=4.4)


async def overlapping(
    stage: Stage,
    folder: Path,
    when: dict[str, Any] | None = None,
    *,
    follow_ups: dict[str, list[str]] | None = None,
    **policies: Any,
) -> Overlapping:
    name = next(one for one in _names() if _is_sent_early(one))
    end = f'"{folder}/$ONTHEDOT_RUN_ID"'
    script = shell(
        f"until [ -e {end} ]; do sleep 0.05; done; code=$(cat {end}); rm {end}; exit $code"
    )
    given = {"overlap": "allow", **policies}
    await stage.register(name, when or every(86_400), script, follow_ups=follow_ups, **given)
    return Overlapping(stage, name, folder)


@pytest.fixture
async def task(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Overlapping:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    return await overlapping(stage, tmp_path)


async def test_runs_that_always_overlap_are_all_made_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 40)
    monkeypatch.setattr(history_module, "TOO_LONG_HISTORY", 300)
    name = f"task-{uuid4().hex[:12]}"
    await stage.register(name, every(1), shell("sleep 3.5"), overlap="allow")
    handle = stage.engine.client.get_workflow_handle(f"task/{name}")
    histories = set()
    for _ in range(30):
        histories.add((await handle.describe()).run_id)
        await asyncio.sleep(1)
    await stage.registration.delete(name, by=BY, let_finish=True)
    await stage.ended(name)
    rows = await stage.rows(name)
    assert len(histories) > 2
    assert 28 <= len(rows) <= 33
    assert {row.status for row in rows} <= {SUCCEEDED, CANCELLED}
    assert [row.status for row in rows[:26]] == [SUCCEEDED] * 26
    gaps = {later.due_at - due.due_at for due, later in itertools.pairwise(rows)}
    assert gaps == {timedelta(seconds=1)}
    assert max(row.lag_ms or 0 for row in rows) < 1000


async def test_a_run_that_is_carried_along_ends_in_the_log(task: Overlapping) -> None:
    run_id = await task.carried()
    assert len(await task.apart()) == 1
    task.end(run_id)
    row = await task.ended(run_id, SUCCEEDED)
    assert row.trigger is Trigger.MANUAL
    assert row.attempt_count == 1


async def test_a_run_that_is_carried_along_more_than_once_ends_in_the_log(
    task: Overlapping,
) -> None:
    first = await task.carried()
    second = await task.carried()
    assert len(await task.apart()) == 2
    for run_id in (first, second):
        task.end(run_id)
        await task.ended(run_id, SUCCEEDED)


async def test_a_run_that_is_carried_along_can_be_cancelled(task: Overlapping) -> None:
    run_id = await task.carried()
    await task.stage.registration.cancel_run(run_id, by=BY)
    row = await task.ended(run_id, CANCELLED)
    assert row.reason == "cancelled on request"


async def test_deleting_a_task_cancels_the_runs_that_were_carried_along(task: Overlapping) -> None:
    run_id = await task.carried()
    await task.stage.delete(task.task_id)
    row = await task.ended(run_id, CANCELLED)
    assert row.reason == "the task was deleted"
    assert await task.apart() == []


async def test_a_run_that_is_carried_along_may_finish_as_its_task_is_deleted(
    task: Overlapping,
) -> None:
    run_id = await task.carried()
    await task.stage.registration.delete(task.task_id, by=BY, let_finish=True)
    await asyncio.sleep(1)
    task.end(run_id)
    await task.ended(run_id, SUCCEEDED)
    await task.stage.ended(task.task_id)


async def test_what_follows_a_run_is_started_and_its_failure_counted_though_it_was_carried_along(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    follower = await overlapping(stage, tmp_path)
    follows = {"on_failure": [follower.task_id]}
    retry = {"attempts": 2, "backoff": "100ms"}
    task = await overlapping(stage, tmp_path, follow_ups=follows, retry=retry, pause_on_failure=1)
    run_id = await task.carried()
    task.end(run_id, 3)
    await asyncio.sleep(1)
    task.end(run_id, 3)
    row = await task.ended(run_id, FAILED)
    assert row.attempt_count == 2
    await stage.wait_for_state(task.task_id, TaskState.PAUSED)
    await stage.wait_for(follower.task_id, RunStatus.RUNNING)


async def test_a_run_that_is_called_back_is_made_from_the_new_version(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent off beside another, some seconds before its due time."""
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    task = await overlapping(stage, tmp_path, every(10))
    await task.run()
    await task.revised_in_the_lead()
    rows = await stage.wait_for(task.task_id, RunStatus.RUNNING, count=2)
    (due,) = (row for row in rows if row.trigger is Trigger.SCHEDULE)
    assert due.task_version == 2
    assert (due.lag_ms or 0) < 1000


async def test_a_run_that_cannot_be_called_back_any_more_holds_up_none_after_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task's workflow took it to be in time, and its own did not."""
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    monkeypatch.setattr(RunHere, "_hears", property(lambda _: False))
    task = await overlapping(stage, tmp_path, every(10))
    await task.run()
    await task.revised_in_the_lead()
    rows = await stage.wait_for(task.task_id, RunStatus.RUNNING, count=3)
    first, second = (row for row in rows if row.trigger is Trigger.SCHEDULE)
    assert (first.task_version, second.task_version) == (1, 2)
    assert second.due_at - first.due_at == timedelta(seconds=10)
    assert max(row.lag_ms or 0 for row in (first, second)) < 1000


async def test_runs_apart_keep_to_the_limits_of_their_task(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    task = await overlapping(stage, tmp_path, limits={f"limit-{uuid4().hex[:8]}": 2})
    carried = await task.carried()
    second = await task.run()
    third = await stage.registration.trigger(task.task_id, by=BY)

    async def waits() -> bool:
        assert "2 of 2 held" in str((await task.row(third.run_id)).reason)
        return True

    await assert_eventually(waits, within=20, every=0.1)
    task.end(carried)
    await task.ended(carried, SUCCEEDED)
    task.end(third.run_id)
    row = await task.ended(third.run_id, SUCCEEDED)
    assert "waited" in str(row.reason)
    task.end(second)
    await task.ended(second, SUCCEEDED)


async def test_a_run_leaves_its_line_as_its_task_is_deleted(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 5)
    task = await overlapping(stage, tmp_path, limits={f"limit-{uuid4().hex[:8]}": 1})
    first = await task.run()
    second = await stage.registration.trigger(task.task_id, by=BY)
    await stage.wait_for(task.task_id, RunStatus.WAITING)
    await stage.registration.delete(task.task_id, by=BY, let_finish=True)
    await task.ended(second.run_id, CANCELLED)
    task.end(first)
    await task.ended(first, SUCCEEDED)
    await stage.ended(task.task_id)


async def terminate(task: Overlapping) -> str:
    (workflow_id,) = await task.apart()
    await task.stage.engine.client.get_workflow_handle(workflow_id).terminate()
    return workflow_id


async def test_a_run_whose_workflow_was_terminated_after_it_was_carried_along_has_failed(
    task: Overlapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_module, "_LOOK", timedelta(seconds=2))
    monkeypatch.setattr(apart_module, "_HEARD_WITHIN", timedelta(seconds=1))
    run_id = await task.carried()
    monkeypatch.setattr(history_module, "LONG_HISTORY", 2_000)  # it looks where it stays for long
    workflow_id = await terminate(task)
    row = await task.ended(run_id, FAILED)
    assert row.error == f"the workflow that made it was ended from outside: {workflow_id}"
    await task.stage.delete(task.task_id)


async def test_a_run_ends_in_the_log_though_its_tasks_workflow_was_terminated(
    task: Overlapping,
) -> None:
    run_id = await task.carried()
    await task.stage.engine.client.get_workflow_handle(f"task/{task.task_id}").terminate()
    task.end(run_id)
    await task.ended(run_id, SUCCEEDED)
