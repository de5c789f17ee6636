"""The registration service: validates, stores what is desired, then tells the task's workflow.

The row comes first. When the engine does not answer the row stands, the result's ``in_step`` is
False, and upkeep sends it again.
"""

import asyncio
import contextlib
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from activities.checks import check_action, takes_time
from onthedot import schedule
from onthedot.database import runs as log
from onthedot.database import tasks
from onthedot.database.pool import Connection, Pool, connection, transaction
from onthedot.database.tasks import Request
from onthedot.engine import Engine
from onthedot.errors import (
    Conflict,
    DatabaseUnavailable,
    EngineUnavailable,
    FieldError,
    InvalidInput,
    KeyReused,
    NotFound,
    TaskExists,
    VersionMismatch,
)
from onthedot.run import Run, RunStatus, Trigger, requested_run_id
from onthedot.settings import Settings
from onthedot.task import (
    MAX_DEFINITION_BYTES,
    PythonAction,
    Task,
    TaskRegistration,
    TaskSpec,
    TaskState,
)
from onthedot.task_workflows import TaskWorkflows

MOST_BACKFILLED = 1000
_TRIES = 10  # for a change without If-Match that meets others


class Registration:
    """Registers, changes and asks of tasks. Stateless: any number may run."""

    def __init__(self, settings: Settings, pool: Pool, engine: Engine) -> None:
        self._settings, self._pool = settings, pool
        self._workflows = TaskWorkflows(engine)
        self._marks = _Marks(pool, self.apply_again)

    async def close(self) -> None:
        await self._marks.close()

    async def register(self, sent: TaskRegistration, *, by: str, key: str | None = None) -> Task:
        """Store a new task and start its workflow.

        Raise InvalidInput, TaskExists, KeyReused or DatabaseUnavailable; then nothing is stored.
        """
        print_ = _fingerprint("register", sent.model_dump(mode="json"))
        if key and (task_id := await self._subject(key, print_)):
            return await self._hand_over(await self._task(task_id), again=True)
        now = datetime.now(UTC)
        task_id = sent.id or f"task-{uuid.uuid4().hex[:12]}"
        spec = await self._accept(task_id, sent.spec(), now)
        task, again = await self._store_new(task_id, spec, by, now, key, print_)
        return await self._hand_over(task, again=again)

    async def revise(
        self, task_id: str, spec: TaskSpec, *, by: str, if_version: int | None = None
    ) -> Task:
        """Give the task another definition; raise as ``register``, NotFound or VersionMismatch."""
        now = datetime.now(UTC)

        async def revised(task: Task) -> tuple[TaskSpec, TaskState]:
            same = spec.schedule == task.spec.schedule
            accepted = await self._accept(task.id, spec, now, check_schedule=not same)
            revived = task.state is TaskState.FINISHED and not same
            return accepted, TaskState.ACTIVE if revived else task.state

        return await self._change(task_id, revised, by, if_version)

    async def pause(self, task_id: str, *, by: str, if_version: int | None = None) -> Task:
        """Let the task's occurrences be skipped; raise NotFound, Conflict, VersionMismatch."""
        return await self._change(task_id, _to(TaskState.PAUSED), by, if_version)

    async def resume(self, task_id: str, *, by: str, if_version: int | None = None) -> Task:
        """Let the task's occurrences run again; raise NotFound, Conflict, VersionMismatch."""
        return await self._change(task_id, _to(TaskState.ACTIVE), by, if_version)

    async def delete(self, task_id: str, *, by: str, if_version: int | None = None) -> Task:
        """Take the task back: a run that goes on ends, none follows, its log stays."""
        return await self._change(task_id, _to(TaskState.DELETED), by, if_version)

    async def trigger(
        self,
        task_id: str,
        *,
        by: str,
        key: str | None = None,
        arguments: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> Run:
        """Ask for a run now, with ``arguments`` over those of a Python action.

        Returns the run as it waits; raise NotFound, InvalidInput, KeyReused, DatabaseUnavailable.
        """
        task = await self._task(task_id)
        if arguments is not None:
            await self._check_arguments(task, arguments)
        print_ = _fingerprint("trigger", [task_id, arguments])
        order: dict[str, Any] = {"trigger": Trigger.MANUAL, "arguments": arguments}
        due_at = [datetime.now(UTC)]
        return (await self._ask_for_runs(task, due_at, order, print_, by, key, reason))[0]

    async def backfill(
        self, task_id: str, start: datetime, end: datetime, *, by: str, key: str | None = None
    ) -> list[Run]:
        """Ask for the runs of each due time from ``start`` to ``end``, one after the other."""
        task = await self._task(task_id)
        due_at = _range(task, start, end)
        print_ = _fingerprint("backfill", [task_id, str(start), str(end)])
        return await self._ask_for_runs(
            task, due_at, {"trigger": Trigger.BACKFILL}, print_, by, key, None
        )

    async def rerun(self, run_id: str, *, by: str, key: str | None = None) -> Run:
        """Ask for a run of the same task now."""
        async with connection(self._pool) as conn:
            run = await log.get_run(conn, run_id)
        return await self.trigger(run.task_id, by=by, key=key, reason=f"rerun of {run_id}")

    async def cancel_run(self, run_id: str, *, by: str, key: str | None = None) -> Run:
        """Ask a run to stop. Returns it as it is now: a run takes a moment to end.

        Raise NotFound, or Conflict when it has ended.
        """
        print_ = _fingerprint("cancel", run_id)
        async with transaction(self._pool) as conn:
            run = await log.get_run(conn, run_id)
            request = _request("cancel", run.task_id, {"run_id": run_id}, by)
            if key and not await tasks.remember_key(conn, key, print_, request.id):
                await _bound(conn, key, print_)
                return run
            if run.status.is_final:
                raise Conflict(f"the run {run_id!r} has ended already: {run.status}")
            await tasks.insert_request(conn, request, now=datetime.now(UTC))
        await self.send(request)
        async with connection(self._pool) as conn:
            return await log.get_run(conn, run_id)

    async def apply_again(self, task: Task) -> bool:
        """Send a task whose workflow may not know of it; False when the engine does not answer."""
        return (await self._hand_over(task, again=True)).in_step

    async def send(self, request: Request) -> bool:
        """Send a stored request to its task's workflow; False when the engine does not answer."""
        try:
            if request.kind == "cancel":
                taken = await self._workflows.cancel_run(request.task_id, request)
            else:
                async with connection(self._pool) as conn:
                    task = await tasks.get_task(conn, request.task_id)
                taken = await self._workflows.start_runs(task, request)
        except EngineUnavailable:
            return False
        async with connection(self._pool) as conn:
            if not taken:  # there is no workflow that could end its runs
                await log.cancel_runs(conn, request.run_ids, now=datetime.now(UTC))
            await tasks.mark_sent(conn, request.id)
        return True

    async def _accept(
        self, task_id: str, spec: TaskSpec, now: datetime, *, check_schedule: bool = True
    ) -> TaskSpec:
        """The definition as it is stored; raise InvalidInput with all that is wrong with it."""
        size = len(spec.model_dump_json().encode())
        if size > MAX_DEFINITION_BYTES:
            remedy = f"keep it under {MAX_DEFINITION_BYTES} bytes"
            raise InvalidInput(FieldError("task", f"{size} bytes", "too large", remedy))
        wrong = schedule.check(spec.schedule, now, task_id) if check_schedule else []
        wrong += await self._check_action(spec)
        InvalidInput.raise_if_any(wrong)
        return spec.model_copy(update={"schedule": schedule.resolve(spec.schedule, now)})

    async def _check_action(self, spec: TaskSpec) -> list[FieldError]:
        if takes_time(spec.action, self._settings):
            return await asyncio.to_thread(check_action, spec.action, self._settings, spec.queue)
        return check_action(spec.action, self._settings, spec.queue)

    async def _check_arguments(self, task: Task, arguments: dict[str, Any]) -> None:
        action = task.spec.action
        if not isinstance(action, PythonAction):
            remedy = "only a task with a python action takes arguments; leave them out"
            raise InvalidInput(FieldError("arguments", arguments, "not taken", remedy))
        merged = action.model_copy(update={"arguments": {**action.arguments, **arguments}})
        spec = task.spec.model_copy(update={"action": merged})
        InvalidInput.raise_if_any(await self._check_action(spec))

    async def _task(self, task_id: str) -> Task:
        async with connection(self._pool) as conn:
            task = await tasks.get_task(conn, task_id)
        if task.state is TaskState.DELETED:
            raise NotFound(f"the task {task_id!r} was deleted")
        return task

    async def _change(
        self,
        task_id: str,
        changed: "_Change",
        by: str,
        if_version: int | None,
    ) -> Task:
        for _ in range(_TRIES):
            task = await self._task(task_id)
            if if_version is not None and task.version != if_version:
                raise VersionMismatch(f"the task is at version {task.version}, not {if_version}")
            spec, state = await changed(task)
            if (spec, state) == (task.spec, task.state):
                return task
            if after := await self._store(task, spec, state, by):
                return await self._hand_over(after)
        raise VersionMismatch("the task is being changed by others; try again")

    async def _store_new(
        self, task_id: str, spec: TaskSpec, by: str, now: datetime, key: str | None, print_: str
    ) -> tuple[Task, bool]:
        """The new task, or the one that the same request has made before, and which it is."""
        due_at = schedule.next_due(spec.schedule, task_id, now)
        one_commit = transaction if key else connection  # a single statement is its own
        async with one_commit(self._pool) as conn:
            if key and not await tasks.remember_key(conn, key, print_, task_id):
                return await tasks.get_task(conn, await _bound(conn, key, print_)), True
            task = await tasks.insert_task(conn, task_id, spec, by=by, now=now, next_due_at=due_at)
            if task is None:
                remedy = "Choose another, leave it out to get one, or change that task by PUT"
                taken = FieldError("id", task_id, "is taken", remedy)
                raise TaskExists(f"a task with the id {task_id!r} exists already", taken)
        return task, False

    async def _store(self, task: Task, spec: TaskSpec, state: TaskState, by: str) -> Task | None:
        now = datetime.now(UTC)
        active = state is TaskState.ACTIVE
        due_at = schedule.next_due(spec.schedule, task.id, now) if active else None
        async with connection(self._pool) as conn:
            return await tasks.change_task(
                conn, task, spec=spec, state=state, by=by, now=now, next_due_at=due_at
            )

    async def _hand_over(self, task: Task, *, again: bool = False) -> Task:
        if task.in_step and not again:
            return task
        try:
            await self._workflows.apply(task, again=again)
        except EngineUnavailable:
            return task
        self._marks.add(task.id, task.version)
        return replace(task, engine_version=task.version)

    async def _ask_for_runs(
        self,
        task: Task,
        due_at: list[datetime],
        order: dict[str, Any],
        print_: str,
        by: str,
        key: str | None,
        reason: str | None,
    ) -> list[Run]:
        kind = "backfill" if order["trigger"] is Trigger.BACKFILL else "trigger"
        request = _request(kind, task.id, {}, by)
        ids = [(requested_run_id(task.id, due, request.id), due) for due in due_at]
        orders = [{"run_id": one, "due_at": due.isoformat(), **order} for one, due in ids]
        request.body["orders"] = orders
        made_before = None
        async with transaction(self._pool) as conn:
            if key and not await tasks.remember_key(conn, key, print_, request.id):
                made_before = await _bound(conn, key, print_)
            else:
                await log.insert_waiting(
                    conn, task.id, task.version, order["trigger"], ids, reason=reason
                )
                await tasks.insert_request(conn, request, now=datetime.now(UTC))
                await tasks.tell(conn, task.id, runs=True)
        if made_before:
            return await self._ask_again(task, made_before)
        await self.send(request)
        return [_waiting(task, one, due, order["trigger"], reason) for one, due in ids]

    async def _ask_again(self, task: Task, request_id: str) -> list[Run]:
        """The runs of a request that was stored before; it is sent again where they wait.

        The process that stored it may have been lost before it could send it. A finished task has
        no workflow that would know it again: there it is left to upkeep.
        """
        async with connection(self._pool) as conn:
            runs = await _runs_of(conn, request_id)
            request = await tasks.get_request(conn, request_id)
        waits = any(run.status is RunStatus.WAITING for run in runs)
        if request and waits and task.state is not TaskState.FINISHED:
            await self.send(request)
        return runs

    async def _subject(self, key: str, print_: str) -> str | None:
        async with connection(self._pool) as conn:
            return await _bound(conn, key, print_) if await tasks.get_key(conn, key) else None


class _Marks:
    """Writes down, some at a time, which versions the engine has taken.

    Nobody waits for it: a mark that is lost makes upkeep send the same version again.
    """

    def __init__(self, pool: Pool, apply: Callable[[Task], Awaitable[object]]) -> None:
        self._pool, self._apply = pool, apply
        self._taken: dict[str, int] = {}
        self._writer: asyncio.Task[None] | None = None

    def add(self, task_id: str, version: int) -> None:
        self._taken[task_id] = version
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="engine versions")

    async def close(self) -> None:
        if self._writer:
            await self._writer

    async def _write(self) -> None:
        while self._taken:
            await asyncio.sleep(0.02)
            taken, self._taken = sorted(self._taken.items()), {}
            with contextlib.suppress(DatabaseUnavailable):
                async with connection(self._pool) as conn:
                    overtaken = await tasks.mark_taken(conn, taken)
                # A change that came before the start found no workflow that it could be told to.
                for task in overtaken:
                    await self._apply(task)


_Change = Callable[[Task], Awaitable[tuple[TaskSpec, TaskState]]]


def _to(state: TaskState) -> _Change:
    async def changed(task: Task) -> tuple[TaskSpec, TaskState]:
        if task.state is TaskState.FINISHED and state is not TaskState.DELETED:
            raise Conflict(f"the task {task.id!r} is finished: give it another schedule")
        return task.spec, state

    return changed


def _fingerprint(kind: str, request: Any) -> str:
    return hashlib.sha256(json.dumps([kind, request], sort_keys=True).encode()).hexdigest()


async def _bound(conn: Connection, key: str, print_: str) -> str:
    """What an Idempotency-Key made; raise KeyReused when that was another request."""
    found = await tasks.get_key(conn, key)
    if found is None or found[0] != print_:
        raise KeyReused(f"the Idempotency-Key {key!r} was used for another request")
    return found[1]


def _request(kind: str, task_id: str, body: dict[str, Any], by: str) -> Request:
    return Request(id=uuid.uuid4().hex, task_id=task_id, kind=kind, body=body, created_by=by)


async def _runs_of(conn: Connection, request_id: str) -> list[Run]:
    request = await tasks.get_request(conn, request_id)
    orders = request.body["orders"] if request else []
    return await log.some_runs(conn, [one["run_id"] for one in orders])


def _waiting(
    task: Task, run_id: str, due_at: datetime, trigger: Trigger, reason: str | None
) -> Run:
    return Run(
        run_id=run_id,
        task_id=task.id,
        task_version=task.version,
        trigger=trigger,
        due_at=due_at,
        status=RunStatus.WAITING,
        reason=reason,
    )


def _range(task: Task, start: datetime, end: datetime) -> list[datetime]:
    if start.tzinfo is None or end.tzinfo is None:
        remedy = "write them with an offset, such as 2026-12-01T00:00:00Z"
        raise InvalidInput(FieldError("start", start.isoformat(), "no offset", remedy))
    if end < start:
        remedy = f"give an instant from {start.isoformat()} on"
        raise InvalidInput(FieldError("end", end.isoformat(), "before start", remedy))
    if end > datetime.now(UTC):
        remedy = "give an instant that has passed"
        raise InvalidInput(FieldError("end", end.isoformat(), "in the future", remedy))
    just_before = start.astimezone(UTC) - timedelta(microseconds=1)
    due_times = schedule.due_times(task.spec.schedule, task.id, just_before)
    found = []
    for due in takewhile(lambda due: due <= end, due_times):
        found.append(due)
        if len(found) > MOST_BACKFILLED:
            remedy = f"give a range with at most {MOST_BACKFILLED} due times"
            raise InvalidInput(FieldError("end", end.isoformat(), "too many runs", remedy))
    if not found:
        remedy = "give a range in which the task was due"
        raise InvalidInput(FieldError("start", start.isoformat(), "nothing was due", remedy))
    return found
