"""What is asked of a task besides changing it: trigger, backfill, rerun, cancel.

A request is a row first, with who asked and when; then it is an Update of the task's workflow. Its
id is the Update's, so that it happens once. When the engine does not answer, upkeep sends it again.
"""

import contextlib
import copy
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

from onthedot import backfill as backfills
from onthedot.acceptance import Acceptance
from onthedot.backfill import DueTime, Order, Which
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
    NotFound,
)
from onthedot.idempotency import bind, fingerprint, subject_of
from onthedot.observed import observed
from onthedot.run import Run, RunStatus, Trigger, requested_run_id
from onthedot.settings import Settings
from onthedot.task import OverlapPolicy, Task, TaskState
from onthedot.task_workflows import TaskWorkflows


class Requests:
    """Asks for runs, and that runs stop. Stateless: any number may run."""

    def __init__(self, settings: Settings, pool: Pool, engine: Engine) -> None:
        self._pool = pool
        self._acceptance = Acceptance(settings, pool)
        self._workflows = TaskWorkflows(engine, pool)
        self._retention = settings.retention
        self._tells = True

    def storing_only(self) -> Self:
        """The same, which leaves it to upkeep to tell the engine: for what would take too long."""
        other = copy.copy(self)
        other._tells = False
        return other

    @observed("trigger")
    async def trigger(
        self,
        task_id: str,
        *,
        by: str,
        key: str | None = None,
        arguments: dict[str, Any] | None = None,
        reason: str | None = None,
        overlap: OverlapPolicy | None = None,
    ) -> Run:
        """Ask for a run now, with ``arguments`` over those of a Python action.

        ``overlap`` is in the place of the task's own policy. Returns the run as it waits; raise
        NotFound, InvalidInput, KeyReused, DatabaseUnavailable.
        """
        print_ = fingerprint("trigger", [task_id, arguments, overlap])
        body = {"arguments": arguments, "overlap": overlap}
        return await self._run_now(task_id, body, print_, by, key, reason)

    @observed("rerun")
    async def rerun(self, run_id: str, *, by: str, key: str | None = None) -> Run:
        """Ask for a run of the same task now, with the arguments that the run was asked with."""
        async with connection(self._pool) as conn:
            run = await log.get_run(conn, run_id)
        print_ = fingerprint("rerun", run_id)
        body = {"arguments": run.arguments, "rerun_of": run_id}
        return await self._run_now(run.task_id, body, print_, by, key, f"rerun of {run_id}")

    @observed("backfill")
    async def backfill(
        self,
        task_id: str,
        start: datetime,
        end: datetime,
        *,
        by: str,
        key: str | None = None,
        which: Which = "all",
        order: Order = "oldest_first",
        at_once: int = 1,
        reason: str | None = None,
    ) -> list[Run]:
        """Ask for the runs of the due times from ``start`` to ``end`` (aware), both included.

        ``at_once`` of them go on at the same time. Raise NotFound, InvalidInput (also where there
        is nothing to run), KeyReused, DatabaseUnavailable.
        """
        task = await self._task(task_id)
        print_ = fingerprint("backfill", [task_id, start, end, which, order, at_once])
        async with connection(self._pool) as conn:
            before = await subject_of(conn, key, print_)
        if before:
            return await self._ask_again(task, before)
        if not 1 <= at_once <= backfills.MOST_AT_ONCE:
            remedy = f"give 1 to {backfills.MOST_AT_ONCE}"
            raise InvalidInput(FieldError("at_once", at_once, "out of range", remedy))
        due, chosen = await self._chosen(task, start, end, which)
        if not chosen:
            raise backfills.nothing_to_run(start, end, which, bool(due))
        body = {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "which": which,
            "order": order,
            "at_once": at_once,
        }
        due_at = [one.due_at for one in chosen]
        if order == "newest_first":
            due_at.reverse()
        request = _request("backfill", task.id, body, by, reason)
        return await self._ask_for_runs(task, due_at, request, print_, key)

    async def preview_backfill(
        self, task_id: str, start: datetime, end: datetime, *, which: Which = "all"
    ) -> tuple[int, list[DueTime]]:
        """How many due times the range has, and those that ``backfill`` would run."""
        task = await self._task(task_id)
        due, chosen = await self._chosen(task, start, end, which)
        return len(due), chosen

    @observed("cancel")
    async def cancel_run(self, run_id: str, *, by: str, key: str | None = None) -> Run:
        """Ask a run to stop. Returns it as it is now: a run takes a moment to end.

        Raise NotFound, or Conflict when it has ended.
        """
        print_ = fingerprint("cancel", run_id)
        async with transaction(self._pool) as conn:
            run = await log.get_run(conn, run_id)
            request = _request("cancel", run.task_id, {"run_id": run_id}, by, None)
            if await bind(conn, key, print_, request.id):
                return run
            if run.status.is_final:
                raise Conflict(f"the run {run_id!r} has ended already: {run.status}")
            await tasks.insert_request(conn, request, now=datetime.now(UTC))
        await self._tell(request)
        with contextlib.suppress(DatabaseUnavailable):  # what was asked is kept all the same
            async with connection(self._pool) as conn:
                return await log.get_run(conn, run_id)
        return run

    async def send(self, request: Request) -> bool:
        """Send a stored request to its task's workflow; False when the engine does not answer."""
        try:
            if request.kind == "cancel":
                if not await self._asked_for_first(request):
                    return False
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

    async def _asked_for_first(self, cancel: Request) -> bool:
        """Send what asked for the run, where that was not sent: the cancel would find no such run."""
        async with connection(self._pool) as conn:
            before = await tasks.unsent_with_run(conn, cancel.task_id, cancel.body["run_id"])
        return before is None or await self.send(before)

    async def _tell(self, request: Request) -> None:
        """Send a request that was just stored, as far as that can be done now."""
        if self._tells:
            with contextlib.suppress(DatabaseUnavailable):
                await self.send(request)

    async def _task(self, task_id: str) -> Task:
        async with connection(self._pool) as conn:
            task = await tasks.get_task(conn, task_id)
        if task.state is TaskState.DELETED:
            raise NotFound(f"the task {task_id!r} was deleted")
        return task

    async def _run_now(
        self,
        task_id: str,
        body: dict[str, Any],
        print_: str,
        by: str,
        key: str | None,
        reason: str | None,
    ) -> Run:
        task = await self._task(task_id)
        if body["arguments"] is not None:
            await self._acceptance.check_arguments(task, body["arguments"])
        request = _request("trigger", task.id, body, by, reason)
        return (await self._ask_for_runs(task, [datetime.now(UTC)], request, print_, key))[0]

    async def _chosen(
        self, task: Task, start: datetime, end: datetime, which: Which
    ) -> tuple[list[datetime], list[DueTime]]:
        now = datetime.now(UTC)
        due = backfills.due_times(task, start, end, now)
        if not due:
            return due, []
        backfills.check_kept(start, due[0], now - self._retention)
        async with connection(self._pool) as conn:
            known = await log.statuses_of_due_times(conn, task.id, due[0], due[-1])
        return due, backfills.choose(due, known, which, end)

    async def _ask_for_runs(
        self,
        task: Task,
        due_at: Sequence[datetime],
        request: Request,
        print_: str,
        key: str | None,
    ) -> list[Run]:
        trigger = Trigger.BACKFILL if request.kind == "backfill" else Trigger.MANUAL
        own = {name: request.body.get(name) for name in ("arguments", "overlap")}
        own["reason"] = request.reason
        ids = [(requested_run_id(task.id, due, request.id), due) for due in due_at]
        request.body["orders"] = [
            {"run_id": one, "due_at": due.isoformat(), "trigger": trigger, **own}
            for one, due in ids
        ]
        async with transaction(self._pool) as conn:
            before = await bind(conn, key, print_, request.id)
            if not before:
                await log.insert_waiting(
                    conn,
                    task.id,
                    task.version,
                    trigger,
                    ids,
                    by=request.created_by,
                    reason=request.reason,
                    arguments=own["arguments"],
                )
                await tasks.insert_request(conn, request, now=datetime.now(UTC))
                await tasks.tell(conn, task.id, runs=True)
        if before:
            return await self._ask_again(task, before)
        await self._tell(request)
        return [_waiting(task, one, due, trigger, request) for one, due in ids]

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
            await self._tell(request)
        return runs


def _request(kind: str, task_id: str, body: dict[str, Any], by: str, reason: str | None) -> Request:
    return Request(
        id=uuid.uuid4().hex, task_id=task_id, kind=kind, body=body, created_by=by, reason=reason
    )


async def _runs_of(conn: Connection, request_id: str) -> list[Run]:
    """The runs of a request, in its order."""
    request = await tasks.get_request(conn, request_id)
    found = await log.some_runs(conn, request.run_ids if request else [])
    by_id = {run.run_id: run for run in found}
    return [by_id[one] for one in (request.run_ids if request else []) if one in by_id]


def _waiting(task: Task, run_id: str, due_at: datetime, trigger: Trigger, request: Request) -> Run:
    return Run(
        run_id=run_id,
        task_id=task.id,
        task_version=task.version,
        trigger=trigger,
        due_at=due_at,
        status=RunStatus.WAITING,
        reason=request.reason,
        asked_by=request.created_by,
        arguments=request.body.get("arguments"),
    )
