"""New workflow code comes while thousands of tasks are open."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from onthedot.engine import workflow_id
from onthedot.task import TaskState
from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Scenario
from tests.faults.watch import now

_ROOT = Path(__file__).parents[2]
_STEP = "    async def _follow_agenda(self) -> None:\n"
_PATCH = "a-moment-of-thought"
_CHANGE = f"""\
        if workflow.patched("{_PATCH}"):
            await workflow.sleep(timedelta(milliseconds=1))
"""


@pytest.mark.long
async def test_workers_come_back_one_by_one_with_changed_workflow_code(
    cluster: Cluster, scenario: Scenario, tmp_path: Path
) -> None:
    """The change puts a timer before each step of a task, behind ``workflow.patched``."""
    changed = _changed_code(tmp_path)
    every = {"kind": "interval", "every": "10s"}
    tomorrow = {"kind": "once", "at": (now() + timedelta(days=1)).isoformat()}
    try:
        async with scenario(
            "two workers SIGTERMed in turn, back with changed workflow code",
            load="the mix, 60 tasks every 10 s, 2,000 for tomorrow; 40 of them are changed",
            promise="nothing lost, nothing twice, all on time",
            settles_within=180,
        ) as watch:
            waiting = await watch.register_many(
                dict.fromkeys((f"waiting-{number}" for number in range(2000)), tomorrow)
            )
            await watch.mix()
            old = await watch.register_many(
                dict.fromkeys((f"old-{number}" for number in range(60)), every)
            )
            await asyncio.sleep(10)
            for worker in cluster.workers:
                await _come_back_with(worker, changed)
            new = await watch.register("new", every)
            for task in [*old[:20], *waiting[:20]]:
                await watch.change(task, TaskState.PAUSED)
                await watch.change(task, TaskState.ACTIVE)
            await asyncio.sleep(15)
            assert await _takes_the_new_way(cluster, new.task_id)
            assert not await _takes_the_new_way(cluster, old[0].task_id)
    finally:
        for worker in cluster.workers:
            await _come_back_with(worker, _ROOT)


def _changed_code(folder: Path) -> Path:
    """A copy of our code in which a task's workflow does one thing more."""
    for part in ("onthedot", "workflows", "activities", "web", "templates", "tests"):
        shutil.copytree(_ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    code = folder / "workflows" / "task.py"
    text = code.read_text(encoding="utf-8")
    assert text.count(_STEP) == 1
    code.write_text(text.replace(_STEP, f"{_STEP}{_CHANGE}"), encoding="utf-8")
    return folder


async def _come_back_with(worker: Part, code: Path) -> None:
    worker.code = code
    await worker.restart()


async def _takes_the_new_way(cluster: Cluster, task_id: str) -> bool:
    """Whether the history of a task says that it was patched by this change."""
    client = await Client.connect(cluster.settings.temporal)
    events = client.get_workflow_handle(workflow_id(task_id)).fetch_history_events()
    return any(
        [
            _PATCH.encode() in event.marker_recorded_event_attributes.SerializeToString()
            async for event in events
            if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
        ]
    )
