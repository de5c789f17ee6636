"""New workflow code comes while thousands of tasks are open."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from onthedot.engine import Engine, workflow_id
from onthedot.suspension import count_suspended
from onthedot.task import TaskState
from tests.faults.cluster import Cluster
from tests.faults.code import OURS, changed, come_back_with
from tests.faults.conftest import Scenario
from tests.faults.watch import now

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
    code = changed(tmp_path, "workflows/task.py", _STEP, f"{_STEP}{_CHANGE}")
    every = {"kind": "interval", "every": "10s"}
    tomorrow = {"kind": "once", "at": (now() + timedelta(days=1)).isoformat()}
    try:
        async with scenario(
            "two workers SIGTERMed in turn, back with changed workflow code",
            load="the mix, 60 tasks every 10 s; 2,000 for tomorrow, paused before and resumed after",
            promise="nothing lost, nothing twice, all on time",
            settles_within=180,
        ) as watch:
            waiting = await watch.register_many(
                dict.fromkeys((f"waiting-{number}" for number in range(2000)), tomorrow)
            )
            await watch.change_many(waiting, TaskState.PAUSED)  # from now on they have a history
            await watch.mix()
            old = await watch.register_many(
                dict.fromkeys((f"old-{number}" for number in range(60)), every)
            )
            await asyncio.sleep(10)
            for worker in cluster.workers:
                await come_back_with(worker, code)
            new = await watch.register("new", every)
            for task in old[:20]:
                await watch.change(task, TaskState.PAUSED)
                await watch.change(task, TaskState.ACTIVE)
            await watch.change_many(waiting, TaskState.ACTIVE)
            await asyncio.sleep(15)
            engine = await Engine.connect(cluster.settings)
            assert await count_suspended(engine) == 0
            assert await _takes_the_new_way(cluster, new.task_id)
            assert not await _takes_the_new_way(cluster, old[0].task_id)
    finally:
        for worker in cluster.workers:
            await come_back_with(worker, OURS)


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
