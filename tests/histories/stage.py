"""A whole engine for a recording: registration, the log, and a worker that comes and goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest

from activities.follow_ups import FollowUpActivities
from activities.upkeep import Keeper, UpkeepActivities
from onthedot import schedule
from onthedot.database import runs, tasks
from onthedot.database.pool import Pool, connection, open_pool
from onthedot.database.run_log import RunLog
from onthedot.engine import Engine, run_queue
from onthedot.errors import DatabaseUnavailable
from onthedot.follow_ups import FollowUpStarter
from onthedot.registration import Registration
from onthedot.run import Run, RunStatus
from onthedot.settings import Settings
from onthedot.task import OnceSchedule, Task, TaskRegistration, TaskState
from onthedot.upkeep import Upkeep
from onthedot.worker import _Parts as Parts  # the very workers that a process runs
from tests.services import assert_eventually

Message = TypeVar("Message")

HELLO = {"kind": "python", "handler": "onthedot.examples:hello"}


def shell(script: str) -> dict[str, Any]:
    return {"kind": "shell", "script": script}


def every(seconds: float) -> dict[str, Any]:
    return {"kind": "interval", "every": f"{seconds}s"}


def once_in(seconds: float) -> dict[str, Any]:
    return {"kind": "once", "in": f"{seconds}s"}


class Stage:
    """What scenarios are played on. ``played`` says which task a scenario has used."""

    def __init__(self, settings: Settings, pool: Pool, engine: Engine) -> None:
        self.settings, self.pool, self.engine = settings, pool, engine
        self.registration = Registration(settings, pool, engine)
        self._workflows = self.registration._workflows
        self.played: dict[str, str] = {}

    @asynccontextmanager
    async def worker(
        self, log: RunLog | None = None, keeper: Keeper | None = None
    ) -> AsyncIterator[None]:
        """A worker in this process; its identity is the same on every machine."""
        async with AsyncExitStack() as running:
            log = log or await running.enter_async_context(RunLog(self.pool))
            parts = Parts(self.settings, self.engine, log, "recorder")
            running.push_async_callback(parts.close)
            keeper = keeper or Upkeep(self.settings, self.pool, self.engine, self.registration)
            follow_ups = FollowUpActivities(FollowUpStarter(self.pool, self.registration.send))
            upkeep = UpkeepActivities(keeper)
            for one in parts.workers("all", ("default",), upkeep, follow_ups):
                await running.enter_async_context(one)
            yield

    async def register(
        self,
        name: str,
        when: dict[str, Any],
        action: dict[str, Any] | None = None,
        *,
        queue: str = "default",
        follow_ups: dict[str, list[str]] | None = None,
        **policies: Any,
    ) -> str:
        """Register the task of the scenario ``name``; its id."""
        self.played[name] = name
        sent = {"id": name, "name": name, "schedule": when, "queue": queue, "policies": policies}
        sent = {**sent, "action": action or HELLO, "follow_ups": follow_ups or {}}
        await self.registration.register(TaskRegistration.model_validate(sent), by="recorder")
        return name

    def send_instead(
        self, task_id: str, kind: type[Message], change: Callable[[Message], Message]
    ) -> None:
        """From now on, ``change`` what this task's workflow is sent of this kind."""
        update = self._workflows._update

        async def changed(to: str, update_id: str, which: object, message: object) -> bool:
            if to == task_id and isinstance(message, kind):
                message = change(message)
            return await update(to, update_id, which, message)

        self._workflows._update = changed  # type: ignore[method-assign]

    async def register_with_long_lead(self, name: str, seconds: float, **given: Any) -> str:
        """A task that is due once in ``seconds``, and is sent to a worker over 5 s before."""
        due_at = datetime.now(UTC) + timedelta(seconds=seconds)
        when = OnceSchedule(at=due_at)
        found = (f"{name}_{number}" for number in range(1000))
        task_id = next(
            one for one in found if schedule.lead(when, one, due_at, None).total_seconds() > 7
        )
        await self.register(task_id, {"kind": "once", "at": due_at.isoformat()}, **given)
        self.played[name] = self.played.pop(task_id)
        return task_id

    async def task(self, task_id: str) -> Task:
        async with connection(self.pool) as conn:
            return await tasks.get_task(conn, task_id)

    async def marked(self, task_id: str) -> Task:
        """The task, once it is written down that the engine has taken it."""

        async def is_marked() -> Task | None:
            task = await self.task(task_id)
            return task if task.in_step else None

        task: Task = await assert_eventually(is_marked)
        return task

    async def rows(self, task_id: str) -> list[Run]:
        """The rows of the log for a task, by due time."""
        query = "SELECT * FROM runs WHERE task_id = %s ORDER BY due_at, run_id"
        async with connection(self.pool) as conn:
            found = await conn.execute(query, [task_id])
            return [runs.read_run(row) for row in await found.fetchall()]

    async def wait_for(
        self, task_id: str, status: RunStatus, count: int = 1, within: float = 40
    ) -> list[Run]:
        """The task's rows of this status, as soon as there are ``count`` of them."""

        async def has_them() -> list[Run]:
            rows = await self.rows(task_id)
            found = [run for run in rows if run.status is status]
            seen = [(str(run.status), run.reason) for run in rows]
            assert len(found) >= count, f"{task_id}: {len(found)} of {count} {status} in {seen}"
            return found

        found: list[Run] = await assert_eventually(has_them, within=within, every=0.1)
        return found

    async def wait_for_state(self, task_id: str, state: TaskState) -> None:
        async def is_so() -> bool:
            task = await self.task(task_id)
            assert task.state is state, f"{task_id} is {task.state}, not {state}"
            return True

        await assert_eventually(is_so, within=30, every=0.1)

    async def wait_until_sent(self, task_id: str) -> None:
        """Until the run that comes next waits at a worker for its instant."""
        handle = self.engine.client.get_workflow_handle(f"task/{task_id}")

        async def is_sent() -> bool:
            return bool((await handle.describe()).raw_description.pending_activities)

        await assert_eventually(is_sent, within=30, every=0.1)
        await asyncio.sleep(0.3)  # the worker takes it: a recall then meets the wait, not the queue

    async def apart(self, task_id: str) -> list[str]:
        """The ids of the workflows that make or made runs of it."""
        query = f"WorkflowId STARTS_WITH 'apart/{task_id}.'"
        found = [one async for one in self.engine.client.list_workflows(query)]
        return [one.id for one in sorted(found, key=lambda one: one.start_time)]

    async def take_and_forget(self, queue: str) -> None:
        """Be a worker that is lost as soon as it has taken a run of this queue."""
        poll = PollActivityTaskQueueRequest(
            namespace=self.engine.client.namespace,
            task_queue=TaskQueue(name=run_queue(queue)),
            identity="recorder",
        )
        await self.engine.client.workflow_service.poll_activity_task_queue(poll)

    async def delete(self, task_id: str) -> None:
        """Delete the task and wait until its workflow has come to its end."""
        await self.registration.delete(task_id, by="recorder")
        await self.ended(task_id)

    async def ended(self, task_id: str) -> None:
        await asyncio.wait_for(
            self.engine.client.get_workflow_handle(f"task/{task_id}").result(), timeout=30
        )


class UnreachableLog(RunLog):
    """A log that refuses all rows at once, as after a failure a moment ago."""

    async def write(self, *_: object, **__: object) -> None:
        raise DatabaseUnavailable("Postgres did not answer a moment ago")


class FailingKeeper:
    """Upkeep whose every chore fails."""

    async def reconcile(self, alive: Callable[[], None]) -> int:
        raise DatabaseUnavailable("Postgres does not answer")

    async def compare(self, alive: Callable[[], None]) -> int:
        raise DatabaseUnavailable("Postgres does not answer")

    async def apply_retention(self) -> None:
        raise DatabaseUnavailable("Postgres does not answer")


@asynccontextmanager
async def set_up(
    database_url: str, temporal_address: str, *, lazy: bool = False
) -> AsyncIterator[Stage]:
    """A stage on these services. It has no worker yet; it can have none when it is ``lazy``."""
    settings = Settings(
        database_url=database_url,
        temporal_address=temporal_address,
        shell=True,
        handlers=("onthedot.examples:*",),
        http_allow=("127.0.0.0/8",),
        shutdown_grace=timedelta(seconds=1),
    )
    pool = await open_pool(settings)
    engine = await Engine.connect(settings, identity="recorder", lazy=lazy)
    stage = Stage(settings, pool, engine)
    try:
        yield stage
    finally:
        await stage.registration.close()
        await pool.close()
