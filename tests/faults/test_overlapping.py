"""Runs that always overlap: their tasks continue as new all the time, whatever is killed."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.code import OURS, changed, come_back_with
from tests.faults.conftest import Scenario
from tests.faults.engine import histories, runs_apart

_LONG = "LONG_HISTORY, TOO_LONG_HISTORY = 2_000, 20_000\n"
_SHORT = "LONG_HISTORY, TOO_LONG_HISTORY = 80, 20_000\n"


@pytest.mark.long
async def test_runs_that_always_overlap_go_on_as_their_tasks_continue_as_new(
    cluster: Cluster, scenario: Scenario, tmp_path: Path
) -> None:
    """Histories are long here after 80 events, so that a minute has many of them."""
    short = changed(tmp_path, "workflows/history.py", _LONG, _SHORT)
    try:
        for worker in cluster.workers:
            await come_back_with(worker, short)
        async with scenario(
            "workers SIGKILLed in turn, then the engine; the tasks continue as new meanwhile",
            load="4 tasks every 1 s whose runs last 4.3 s, with overlap allowed",
            loses_attempts=True,
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
            assert min([await histories(cluster, one) for one in tasks]) > 4
            assert sum([await runs_apart(cluster, one) for one in tasks]) > 0
    finally:
        for worker in cluster.workers:
            await come_back_with(worker, OURS)
