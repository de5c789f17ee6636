"""Attempts made by an executor alone, without an engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import TypeAdapter
from temporalio.activity import ActivityCancellationDetails
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.action import now
from activities.attempt import Executor
from activities.messages import ExecuteAttempt, Outcome
from onthedot.errors import DatabaseUnavailable
from onthedot.handlers import Handlers
from onthedot.run import Run, Trigger, scheduled_run_id
from onthedot.settings import Settings
from onthedot.task import Action

WORKER = "worker-1"
SHUTDOWN = ActivityCancellationDetails(worker_shutdown=True)

_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


class MemoryLog:
    """A live log that keeps what it is handed."""

    def __init__(self) -> None:
        self.shown: list[Run] = []
        self.remarks: list[tuple[str, str]] = []
        self.recorded: list[tuple[Run, datetime | None]] = []
        self.claimed: dict[tuple[str, int], tuple[str, Run]] = {}
        self.claims_unanswered = 0  # so many of the next claims are committed, and not answered
        self.chunks: list[tuple[int, str]] = []
        self.troubles: list[Exception] = []  # each of the next calls raises one

    async def claim(self, run: Run, claim: str) -> bool:
        self._trouble()
        taken_by, _ = self.claimed.setdefault((run.run_id, run.attempt_count), (claim, run))
        if self.claims_unanswered:
            self.claims_unanswered -= 1
            raise DatabaseUnavailable
        return taken_by == claim

    async def show_running(self, run: Run) -> None:
        self._trouble()
        self.shown.append(run)

    async def record_success(self, run: Run, next_due_at: datetime | None) -> None:
        self._trouble()
        self.recorded.append((run, next_due_at))

    async def find_ended(self, run_id: str) -> Run | None:
        self._trouble()
        return next((run for run, _ in self.recorded if run.run_id == run_id), None)

    async def add_remark(self, run: Run, remark: str) -> None:
        self._trouble()
        self.remarks.append((run.run_id, remark))

    async def append_output(
        self, run_id: str, due_at: datetime, attempt: int, position: int, chunk: str
    ) -> None:
        self._trouble()
        self.chunks.append((position, chunk))

    def _trouble(self) -> None:
        if self.troubles:
            raise self.troubles.pop(0)


def order(kind: str, *, due_in: float = 0, **given: Any) -> ExecuteAttempt:
    """An attempt of an action of ``kind``; ``given`` are fields of the attempt or the action."""
    of_attempt = {
        name: given.pop(name)
        for name in ("number", "delivery", "timeout", "outcome", "after_success", "catch_up")
        if name in given
    }
    if "timeout" in of_attempt:
        of_attempt["timeout"] = timedelta(seconds=of_attempt["timeout"])
    due_at = now() + timedelta(seconds=due_in)
    plain = ExecuteAttempt(
        run_id=scheduled_run_id("task-1", due_at),
        task_id="task-1",
        task_version=1,
        trigger=Trigger.SCHEDULE,
        due_at=due_at,
        start_at=due_at,
        number=1,
        action=_ACTION.validate_python({"kind": kind, **given}),
        timeout=timedelta(seconds=30),
        delivery="at_least_once",
    )
    return replace(plain, **of_attempt)


class Bench:
    """An executor, the log that it writes, and the environment of its activities."""

    def __init__(self, settings: Settings, client: Client | None = None) -> None:
        self.log = MemoryLog()
        self.environment = ActivityEnvironment(client)
        self.heartbeats: list[datetime] = []
        self.environment.on_heartbeat = lambda *_: self.heartbeats.append(now())
        self.executor = Executor(
            settings, self.log, cast(Client, client), Handlers(settings.handlers), WORKER
        )

    async def execute(self, order: ExecuteAttempt) -> Outcome:
        return await self.environment.run(self.executor.execute_attempt, order)

    def start(self, order: ExecuteAttempt) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.execute(order))


@asynccontextmanager
async def bench(client: Client | None = None, **settings: Any) -> AsyncIterator[Bench]:
    """A bench with these settings."""
    made = Bench(Settings(**settings), client)
    try:
        yield made
    finally:
        await made.executor.close()
