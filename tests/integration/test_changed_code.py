"""Workers with code that does not fit: tasks are suspended, seen, and go on when it is mended."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import Worker

from activities.apart import MakeRun
from onthedot import replay
from onthedot.engine import TASK_QUEUE
from onthedot.errors import InvalidInput
from onthedot.run import RunStatus
from onthedot.suspension import count_suspended, suspension
from onthedot.task import TaskState
from tests.histories.stage import Stage, every, set_up, shell
from tests.integration.web_client import Web, let_in, serving
from tests.services import assert_eventually
from workflows.messages import KeepTask
from workflows.runner import workflow_runner
from workflows.task import TaskWorkflow


@workflow.defn(name="Task")
class ChangedTask:
    """A task's workflow that waits before it plans, which the one before it did not."""

    @workflow.run
    async def run(self, state: KeepTask) -> None:
        while True:
            await workflow.sleep(timedelta(days=1))


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made:
        yield made


@pytest.fixture
async def web(stage: Stage) -> AsyncIterator[Web]:
    assert stage.settings.database_url
    await let_in(stage.settings.database_url)
    async with serving(stage.settings) as running:
        yield running


def changed_worker(stage: Stage) -> Worker:
    return Worker(
        stage.engine.client,
        task_queue=TASK_QUEUE,
        workflows=[ChangedTask],
        workflow_runner=workflow_runner(),
    )


async def test_code_that_does_not_fit_suspends_a_task_until_it_is_taken_back(
    stage: Stage, web: Web
) -> None:
    async with stage.worker():
        await stage.register("steady", every(2), catch_up={"keep": "all"})
        await stage.wait_for("steady", RunStatus.SUCCEEDED, 2)
    async with changed_worker(stage):

        async def is_suspended() -> bool:
            return await suspension(stage.engine, "steady") is not None

        await assert_eventually(is_suspended, within=60, every=0.5)
        page = await web("GET", "/tasks/steady")
        assert "This task is suspended" in page.text and "onthedot replay" in page.text
        said = (await web("GET", "/api/v1/tasks/steady/explain")).json
        assert "suspended" in [one["code"] for one in said["reasons"]]
        changed = await web("PATCH", "/api/v1/tasks/steady", {"name": "Changed meanwhile"})
        assert changed.status == 202
        handle = stage.engine.client.get_workflow_handle("task/steady")
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        assert (await stage.task("steady")).state is TaskState.ACTIVE

        async def is_counted() -> bool:
            return await count_suspended(stage.engine) == 1

        await assert_eventually(is_counted, within=90, every=0.5)
    before = len(await stage.rows("steady"))
    async with stage.worker():
        await stage.wait_for("steady", RunStatus.SUCCEEDED, before + 10, within=90)
        await assert_eventually(lambda: _is_well(stage, "steady"), within=30, every=0.5)
        await stage.delete("steady")
    rows = [run for run in await stage.rows("steady") if run.status is RunStatus.SUCCEEDED]
    assert {later.due_at - one.due_at for one, later in pairwise(rows)} == {timedelta(seconds=2)}
    page = await web("GET", "/tasks/steady")
    assert "This task is suspended" not in page.text


@workflow.defn(name="Run")
class ChangedRun:
    """A run's workflow that waits before it sends the attempt off, which the one before did not."""

    @workflow.run
    async def run(self, asked: MakeRun) -> None:
        await workflow.sleep(timedelta(days=1))


async def test_code_that_does_not_fit_a_run_apart_shows_on_its_tasks_page(
    stage: Stage, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.history.LONG_HISTORY", 5)
    async with stage.worker():
        await stage.register("beside", every(3600), shell("sleep 3"), overlap="allow")
        for _ in range(2):
            await stage.registration.trigger("beside", by="tester")
            await stage.wait_for("beside", RunStatus.RUNNING)
    async with Worker(
        stage.engine.client,
        task_queue=TASK_QUEUE,
        workflows=[TaskWorkflow, ChangedRun],
        workflow_runner=workflow_runner(),
    ):

        async def is_suspended() -> bool:
            return await suspension(stage.engine, "beside") is not None

        await assert_eventually(is_suspended, within=90, every=0.5)
        assert "This task is suspended" in (await web("GET", "/tasks/beside")).text
    async with stage.worker():
        await stage.wait_for("beside", RunStatus.SUCCEEDED, 2, within=60)
        await assert_eventually(lambda: _is_well(stage, "beside"), within=30, every=0.5)
        await stage.delete("beside")


async def _is_well(stage: Stage, task_id: str) -> bool:
    return await suspension(stage.engine, task_id) is None


async def test_a_replay_tells_which_open_tasks_a_change_would_suspend(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.worker():
        await stage.register("first", every(2))
        await stage.register("second", every(2))
        await stage.wait_for("first", RunStatus.SUCCEEDED)
        await stage.wait_for("second", RunStatus.SUCCEEDED)
        for number in range(30):  # they wait for their start, and prove nothing
            await stage.register(f"idle-{number}", {"kind": "once", "in": "1d"})
        few = await replay.replay_open(stage.settings, sample=2)
        assert few.replayed.total() == 2
        fits = await replay.replay_open(stage.settings, sample=100)
        assert fits.failures == {} and fits.replayed["Task"] == 2
        assert fits.not_begun == 30
        assert "30 that have not begun: all of them go on" in replay.in_words(fits)
        monkeypatch.setattr("onthedot.replay.WORKFLOWS", (ChangedTask,))
        changed = await replay.replay_open(stage.settings, sample=1, tasks=["second"])
        assert list(changed.failures) == ["task/second"]
        assert "Do not roll it" in replay.in_words(changed)
        for task_id in ("first", "second", *(f"idle-{number}" for number in range(30))):
            await stage.delete(task_id)
    with pytest.raises(InvalidInput, match="has no open workflow"):
        await replay.replay_open(stage.settings, sample=1, tasks=["second"])


async def test_a_saved_history_is_replayed_and_another_file_is_refused(tmp_path: Path) -> None:
    saved = Path(__file__).parents[1] / "histories" / "http.json"
    assert (await replay.replay_files([saved])).failures == {}
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(InvalidInput, match=str(other)):
        await replay.replay_files([other])
