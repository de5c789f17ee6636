"""What the control runs: the least that fires on time, a timer and an activity."""

import sys
import time
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow


@dataclass(frozen=True)
class Herd:
    """``times`` firings, the first at ``first`` (Unix time), then ``every`` so many seconds."""

    first: float
    every: float
    times: int


@dataclass(frozen=True)
class Firing:
    name: str
    due_at: float  # Unix time


@activity.defn
async def note_lag(firing: Firing) -> None:
    """No work, but a line that says how late it began."""
    lag = time.time() - firing.due_at
    sys.stdout.write(f"{firing.name} {firing.due_at:.0f} {lag:.6f}\n")
    sys.stdout.flush()


@workflow.defn
class Bare:
    """Fires; where that is not once, it then waits on, as a recurring task does."""

    @workflow.run
    async def run(self, herd: Herd) -> None:
        due_at = herd.first
        for _ in range(herd.times):
            await workflow.sleep(max(0.0, due_at - workflow.time()))
            await workflow.execute_activity(
                note_lag,
                Firing(workflow.info().workflow_id, due_at),
                start_to_close_timeout=timedelta(minutes=1),
            )
            due_at += herd.every
        if herd.times > 1:
            await workflow.sleep(max(0.0, due_at - workflow.time()))
