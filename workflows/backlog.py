"""Rows that a task's workflow cannot carry along, as Postgres has been away for long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow

from activities.follow_ups import StartFollowUps
from activities.record import Recorder
from onthedot.engine import UPKEEP_QUEUE
from onthedot.run import Run
from workflows import follow_ups

_AT_ONCE = 50
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class KeepRows:
    """Rows of one task, and what is to be started once the log has them."""

    rows: list[Run]
    follow_ups: list[StartFollowUps]


@workflow.defn(name="Backlog")
class BacklogWorkflow:
    """Keeps rows until the log has them. Its activities are upkeep's, of the scheduler role."""

    @workflow.run
    async def run(self, kept: KeepRows) -> None:
        await keep(kept)


async def keep(kept: KeepRows) -> None:
    """Return once the log has the rows and what follows is started, however long that takes."""
    for rows in _parts(kept.rows):
        await workflow.execute_activity_method(
            Recorder.record_rows,
            rows,
            task_queue=UPKEEP_QUEUE,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=follow_ups.UNTIL_IT_SUCCEEDS,
            summary=f"log: {len(rows)} rows",
        )
    for ended in _parts(kept.follow_ups):
        await follow_ups.start(ended)


def _parts(of: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(of), _AT_ONCE):
        yield list(of[start : start + _AT_ONCE])
