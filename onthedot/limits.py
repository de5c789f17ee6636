"""Limits as they stand: which tasks name them, which runs hold them, and which wait in line."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import WorkflowHandle, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

from activities.limits import AskForPlace, Holder, KeepLimit
from onthedot.database.lists import LimitUse
from onthedot.engine import Engine, limit_workflow_id, translate
from onthedot.errors import EngineUnavailable
from workflows.limit import LimitWorkflow

_RPC_TIMEOUT = timedelta(seconds=3)
_AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit, with the runs that hold it and those that wait, the first one first."""

    use: LimitUse
    held_by: Sequence[Holder]
    waiting: Sequence[AskForPlace]


async def standing(engine: Engine, uses: Sequence[LimitUse]) -> list[Limit]:
    """How these limits stand; raise EngineUnavailable, also when no worker answers."""
    await engine.connected()
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(use: LimitUse) -> Limit:
        async with places:
            found = await _ask(engine, use.name)
        return Limit(use=use, held_by=found.held, waiting=found.line)

    return list(await asyncio.gather(*map(one, uses)))


async def _ask(engine: Engine, name: str) -> KeepLimit:
    handle: WorkflowHandle[LimitWorkflow, None] = engine.client.get_workflow_handle_for(
        LimitWorkflow.run, limit_workflow_id(name)
    )
    try:
        return await handle.query(
            LimitWorkflow.standing,
            reject_condition=QueryRejectCondition.NOT_OPEN,
            rpc_timeout=_RPC_TIMEOUT,
        )
    except WorkflowQueryRejectedError:  # it has ended: nobody holds it
        return KeepLimit(name=name)
    except WorkflowQueryFailedError as error:
        raise EngineUnavailable(
            f"no worker tells how the limit {name!r} stands: {error}"
        ) from error
    except RPCError as error:
        match error.status:
            case RPCStatusCode.NOT_FOUND:
                return KeepLimit(name=name)
            case RPCStatusCode.FAILED_PRECONDITION:  # none has polled lately
                raise EngineUnavailable("no worker tells how limits stand") from error
        raise translate(error) from error
