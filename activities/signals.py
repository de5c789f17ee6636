"""Signals to workflows that may have ended."""

from collections.abc import Awaitable

from temporalio.service import RPCError, RPCStatusCode


async def arrives(sending: Awaitable[None]) -> bool:
    """Whether the signal has arrived: False when the workflow has ended."""
    try:
        await sending
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
