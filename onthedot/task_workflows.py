"""Sends what is desired of a task to its workflow: starts it, or updates the one that is open."""

from datetime import UTC, datetime, timedelta

from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import RunOrder
from activities.plan import Occurrence
from onthedot import engine, schedule
from onthedot.database import runs
from onthedot.database.pool import Pool, connection
from onthedot.database.tasks import Request
from onthedot.engine import Engine, translate
from onthedot.errors import EngineUnavailable
from onthedot.run import Trigger
from onthedot.task import OverlapPolicy, Task, TaskState
from workflows.messages import CancelRun, KeepTask, ReviseTask, StartRuns
from workflows.task import TaskWorkflow
from workflows.turns import MOST_KEPT

_RPC_TIMEOUT = timedelta(seconds=3)
_ENDED_MEANWHILE = "the task's workflow ended as it was told; it is told again"
_IN_ORDER = (
    WorkflowExecutionStatus.RUNNING,
    WorkflowExecutionStatus.COMPLETED,
    WorkflowExecutionStatus.CONTINUED_AS_NEW,
)


class TaskWorkflows:
    """The open workflows of tasks. Every call may be made again: it happens once."""

    def __init__(self, engine: Engine, pool: Pool) -> None:
        self._engine, self._pool = engine, pool

    async def apply(self, task: Task, *, again: bool = False) -> None:
        """Make the task's workflow follow this version of it.

        Raise EngineUnavailable, or DatabaseUnavailable where the log must be asked.

        ``again`` says that it may have been applied before, by a process that then was lost.
        """
        if again and await self._has_taken(task):
            return
        # not by engine_version: the mark of a start that has just been made may still be on its way
        if task.version > 1 and await self._revise(task):
            return
        if task.state in (TaskState.ACTIVE, TaskState.PAUSED):
            await self._start_once(task)

    async def start_runs(self, task: Task, request: Request) -> bool:
        """Have the runs of a trigger or backfill made; False when the task is deleted and has ended.

        Raise EngineUnavailable, or DatabaseUnavailable where the log must be asked.
        """
        orders = read_orders(request)
        at_once = request.body.get("at_once", 1)
        asked = StartRuns(request_id=request.id, orders=orders, at_once=at_once)
        if await self._update(task.id, request.id, TaskWorkflow.start_runs, asked):
            return True
        if task.state is TaskState.DELETED:
            return False
        backfill = [one for one in orders if one.trigger is Trigger.BACKFILL]
        queue = [one for one in orders if one.trigger is not Trigger.BACKFILL]
        state = await self._state(task)
        state.queue, state.backfill, state.taken = queue, backfill, [request.id]
        try:
            await self._start(task, state)
        except WorkflowAlreadyStartedError:
            if not await self._update(task.id, request.id, TaskWorkflow.start_runs, asked):
                raise EngineUnavailable(_ENDED_MEANWHILE) from None
        return True

    async def cancel_run(self, task_id: str, request: Request) -> bool:
        """Cancel a run; False when its task's workflow has ended; raise EngineUnavailable."""
        asked = CancelRun(request_id=request.id, run_id=request.body["run_id"])
        return await self._update(task_id, request.id, TaskWorkflow.cancel_run, asked)

    async def _start_once(self, task: Task) -> None:
        try:
            await self._start(task, await self._state(task))
        except WorkflowAlreadyStartedError:
            if not await self._has_taken(task) and not await self._revise(task):
                raise EngineUnavailable(_ENDED_MEANWHILE) from None

    async def _start(self, task: Task, state: KeepTask) -> None:
        await self._engine.connected()
        try:
            await self._client.start_workflow(
                TaskWorkflow.run,
                state,
                id=engine.workflow_id(task.id),
                task_queue=engine.TASK_QUEUE,
                task_timeout=engine.TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=engine.memo(task.spec, task.version, task.updated_at),
                search_attributes=engine.search_attributes(task.spec, task.state),
                static_summary=task.spec.name,
                static_details=_details(task),
                start_delay=_until_first_wake(task, state),
                rpc_timeout=_RPC_TIMEOUT,
            )
        except RPCError as error:
            raise translate(error) from error

    async def _state(self, task: Task) -> KeepTask:
        """A workflow's state, for a start."""
        cursor = _cursor(task)
        return KeepTask(
            task_id=task.id,
            version=task.version,
            spec=task.spec,
            state=task.state,
            cursor=cursor,
            only=_only_occurrence(task),
            had_turn=await self._had_turn(task, cursor),
            paused_until=task.pause.until if task.pause else None,
            changed_at=task.updated_at,
        )

    async def _had_turn(self, task: Task, after: datetime) -> list[datetime]:
        """What a workflow has run that came to its end before it could hear of this version."""
        if task.version == 1:
            return []
        async with connection(self._pool) as conn:
            return await runs.had_turn(conn, task, after, limit=MOST_KEPT)

    async def _revise(self, task: Task) -> bool:
        desired = ReviseTask(
            version=task.version,
            spec=task.spec,
            state=task.state,
            changed_at=task.updated_at,
            paused_until=task.pause.until if task.pause else None,
            catch_up=task.catch_up,
            let_finish=task.let_finish,
        )
        # with its time: another version may have had its number, where Postgres has lost some
        update_id = f"version-{task.version}-{task.updated_at.isoformat()}"
        return await self._update(task.id, update_id, TaskWorkflow.revise, desired)

    async def _update(self, task_id: str, update_id: str, update: object, message: object) -> bool:
        """False when there is no open workflow; raise EngineUnavailable, also without workers."""
        await self._engine.connected()
        try:
            # the update is one of TaskWorkflow's, each with its own message
            await self._handle(task_id).execute_update(  # type: ignore[call-overload]
                update,
                message,
                id=update_id,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise EngineUnavailable("no worker took the change in time") from error
        except RPCError as error:
            match error.status:
                case RPCStatusCode.NOT_FOUND:
                    return False
                case RPCStatusCode.FAILED_PRECONDITION:  # it is suspended, or has had too many
                    raise EngineUnavailable(f"no change is taken now: {error.message}") from error
            raise translate(error) from error
        return True

    async def has_outrun(self, task: Task) -> bool:
        """Whether its last workflow had a version that came after this one.

        Where the row stands as it is here afterwards, Postgres has lost that version. Raise
        EngineUnavailable.
        """
        found = await self._found(task.id)
        return found is not None and (await engine.followed(found)).is_ahead_of(task)

    async def _has_taken(self, task: Task) -> bool:
        """Whether a workflow has this version, or had it and came to its end; no worker is needed."""
        found = await self._found(task.id)
        if found is None or found.status not in _IN_ORDER:
            return False
        return (await engine.followed(found)).has(task)

    async def _found(self, task_id: str) -> WorkflowExecutionDescription | None:
        """The task's last workflow."""
        await self._engine.connected()
        try:
            return await self._handle(task_id).describe(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise translate(error) from error

    def _handle(self, task_id: str) -> WorkflowHandle[TaskWorkflow, None]:
        return self._client.get_workflow_handle_for(TaskWorkflow.run, engine.workflow_id(task_id))

    @property
    def _client(self) -> Client:
        return self._engine.client


def read_orders(request: Request) -> list[RunOrder]:
    """The runs that a request asks for, from its stored form."""
    return [
        RunOrder(
            run_id=one["run_id"],
            trigger=Trigger(one["trigger"]),
            due_at=datetime.fromisoformat(one["due_at"]),
            arguments=one.get("arguments"),
            overlap=OverlapPolicy(one["overlap"]) if one.get("overlap") else None,
            at_once=request.body.get("at_once", 1),
            reason=one.get("reason"),
            outcome=one.get("outcome"),
        )
        for one in request.body["orders"]
    ]


def _cursor(task: Task) -> datetime:
    """Where a workflow that is started now begins: just before the row's next due time."""
    just_before = task.next_due_at - timedelta(microseconds=1) if task.next_due_at else None
    return max(task.updated_at, just_before or task.updated_at)


def _only_occurrence(task: Task) -> Occurrence | None:
    """Of a one-time task that is still ahead."""
    due_at = task.next_due_at
    if task.spec.schedule.kind != "once" or task.state is not TaskState.ACTIVE or due_at is None:
        return None
    return Occurrence(due_at=due_at, lead=schedule.lead(task.spec.schedule, task.id, due_at, None))


def _until_first_wake(task: Task, state: KeepTask) -> timedelta:
    """How long the workflow may sleep before it first comes to a worker."""
    due_at = task.next_due_at
    if task.state is not TaskState.ACTIVE or due_at is None or state.queue or state.backfill:
        return timedelta()
    lead = schedule.lead(task.spec.schedule, task.id, due_at, None)
    return max(due_at - lead - datetime.now(UTC), timedelta())


def _details(task: Task) -> str:
    words = schedule.describe(task.spec.schedule)
    return (
        f"**{task.spec.name}** ({task.id})\n\n"
        f"{words}, as it was registered; runs an action of kind *{task.spec.action.kind}*."
    )
