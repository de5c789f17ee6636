"""Runs that always overlap: their tasks continue as new all the time, whatever is killed."""

import asyncio
import shutil
from pathlib import Path

import pytest
from temporalio.client import Client

from onthedot.engine import workflow_id
from tests.faults.cluster import Cluster
from tests.faults.conftest import Scenario

_ROOT = Path(__file__).parents[2]
_LONG = "LONG_HISTORY, TOO_LONG_HISTORY = 2_000, 20_000\n"
_SHORT = "LONG_HISTORY, TOO_LONG_HISTORY = 80, 20_000\n"


@pytest.mark.long
async def test_runs_that_always_overlap_go_on_as_their_tasks_continue_as_new(
    cluster: Cluster, scenario: Scenario, tmp_path: Path
) -> None:
    """Histories are long here after 80 events, so that a minute has many of them."""
    short = _with_short_histories(tmp_path)
    try:
        for worker in cluster.workers:
            worker.code = short
            await worker.restart()
        async with scenario(
            "workers SIGKILLed in turn, then the engine; the tasks continue as new meanwhile",
            load="4 tasks every 1 s whose runs last 4.3 s, with overlap allowed",
            promise="nothing lost, nothing twice, all on time",
        ) as watch:
            every = {"kind": "interval", "every": "1s"}
            for number in range(4):
                await watch.register(
                    f"beside-{number}", every, "/after/4.3", policies={"overlap": "allow"}
                )
            await asyncio.sleep(20)
            for worker in (*cluster.workers, *cluster.workers):
                await worker.kill()
                await asyncio.sleep(3)
                await worker.start()
                await asyncio.sleep(7)
            await cluster.temporal.kill()
            await cluster.temporal.start()
            await asyncio.sleep(15)
            tasks = list(watch.tasks)
            assert min([await _histories(cluster, one) for one in tasks]) > 4
            assert await _runs_apart(cluster, tasks) > 0
    finally:
        for worker in cluster.workers:
            worker.code = _ROOT
            await worker.restart()


def _with_short_histories(folder: Path) -> Path:
    """A copy of our code."""
    for part in ("onthedot", "workflows", "activities", "web", "templates", "tests"):
        shutil.copytree(_ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    code = folder / "workflows" / "history.py"
    text = code.read_text(encoding="utf-8")
    assert text.count(_LONG) == 1
    code.write_text(text.replace(_LONG, _SHORT), encoding="utf-8")
    return folder


async def _histories(cluster: Cluster, task_id: str) -> int:
    """How many a task has had."""
    client = await Client.connect(cluster.settings.temporal)
    return (await client.count_workflows(f"WorkflowId = '{workflow_id(task_id)}'")).count


async def _runs_apart(cluster: Cluster, tasks: list[str]) -> int:
    """How many of their runs a workflow of its own has made."""
    client = await Client.connect(cluster.settings.temporal)
    queries = (f"WorkflowId STARTS_WITH 'apart/{task_id}.'" for task_id in tasks)
    return sum([(await client.count_workflows(query)).count for query in queries])
