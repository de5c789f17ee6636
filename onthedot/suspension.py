"""Tasks that are suspended: the workers' code does not fit what their workflows have done so far.

Such a workflow is stopped, not failed: the engine tries it again and again, and it goes on where it
was as soon as workers come that have the right code. What was due meanwhile is then a matter of
catch-up.
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.service import RPCError, RPCStatusCode

from onthedot.engine import Engine, run_workflow_id, translate, workflow_id
from onthedot.errors import EngineUnavailable

#: A worker that is lost costs a try or two; from this one on it is the code.
_TRIES = 3
_RPC_TIMEOUT = timedelta(seconds=3)
#: The engine names what is wrong with a workflow after as many, as it is configured.
_SUSPENDED = "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL"
_SUSPENDED_TASKS = f"WorkflowType = 'Task' AND {_SUSPENDED}"

REMEDY = (
    "It goes on by itself once the workers run code that fits: bring back the version before, or"
    " mend the code (`onthedot replay` shows what does not fit)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """A workflow's task has failed ``tries`` times, the first time after ``since`` (aware UTC)."""

    since: datetime
    tries: int


async def suspension(engine: Engine, task_id: str) -> Suspension | None:
    """Whether the task is suspended, or a run that it has made apart; raise EngineUnavailable."""
    await engine.connected()
    try:
        if found := await _of(engine, workflow_id(task_id)):
            return found
        query = f"WorkflowId STARTS_WITH '{run_workflow_id(task_id)}.' AND {_SUSPENDED}"
        runs = engine.client.list_workflows(query, limit=1, rpc_timeout=_RPC_TIMEOUT)
        return next(iter([await _of(engine, run.id) async for run in runs]), None)
    except RPCError as error:
        raise translate(error) from error


async def _of(engine: Engine, workflow_id: str) -> Suspension | None:
    handle = engine.client.get_workflow_handle(workflow_id)
    try:
        found = await handle.describe(rpc_timeout=_RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    pending = found.raw_description.pending_workflow_task
    if pending.attempt < _TRIES:
        return None
    return Suspension(
        since=pending.original_scheduled_time.ToDatetime(tzinfo=UTC), tries=pending.attempt
    )


async def known_suspension(engine: Engine, task_id: str) -> Suspension | None:
    """The same, and None where the engine does not tell."""
    with contextlib.suppress(EngineUnavailable):
        return await suspension(engine, task_id)
    return None


async def count_suspended(engine: Engine) -> int:
    """How many tasks are suspended, as far as the engine has noticed; raise EngineUnavailable."""
    await engine.connected()
    try:
        found = await engine.client.count_workflows(_SUSPENDED_TASKS, rpc_timeout=_RPC_TIMEOUT)
    except RPCError as error:
        raise translate(error) from error
    return found.count
