"""Workflows that may have ended."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

_RPC_TIMEOUT = timedelta(seconds=3)


async def arrives(signal: Awaitable[None]) -> bool:
    """Whether a signal that is being sent has arrived: False when the workflow has ended."""
    try:
        await signal
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def goes_on(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether a workflow goes on, as far as the engine answers."""
    try:
        found = await handle.describe(rpc_timeout=_RPC_TIMEOUT)
    except RPCError as error:
        return error.status is not RPCStatusCode.NOT_FOUND
    return found.status is WorkflowExecutionStatus.RUNNING
