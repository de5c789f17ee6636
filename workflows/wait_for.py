"""Waiting with a timeout, in the same steps with every version of Python.

``workflow.wait_condition`` is made of ``asyncio.wait_for``, which since Python 3.12 goes on after
another number of turns of the event loop. That reorders it with whatever else is ready in the same
workflow task: a history that one version has made would not replay with another. So all versions
have the way of Python 3.11.
"""

import asyncio
from functools import partial
from types import ModuleType
from typing import TypeVar

from temporalio.worker import _workflow_instance

T = TypeVar("T")


def use_everywhere() -> None:
    """Have the SDK wait by this ``wait_for``. It concerns workflows alone."""
    ours = ModuleType("asyncio")
    vars(ours).update(vars(asyncio), wait_for=wait_for)
    vars(_workflow_instance)["asyncio"] = ours


async def wait_for(future: "asyncio.Future[T]", within: float | None) -> T:
    """The result of ``future``; raise TimeoutError where it has none within so many seconds."""
    if within is None or (within <= 0 and future.done()):
        return await future
    if within <= 0:
        await _cancelled(future)
        raise TimeoutError
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    wake = partial(_wake, woken)
    timer = loop.call_later(within, wake)
    future.add_done_callback(wake)
    try:
        try:
            await woken
        except asyncio.CancelledError:
            if future.done():
                return future.result()
            future.remove_done_callback(wake)
            await _cancelled(future)
            raise
        if future.done():
            return future.result()
        future.remove_done_callback(wake)
        await _cancelled(future)
        raise TimeoutError
    finally:
        timer.cancel()


async def _cancelled(future: "asyncio.Future[T]") -> None:
    """Return once those who wait for it have heard that it is cancelled."""
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(partial(_wake, heard))
    future.cancel()
    await heard


def _wake(sleeper: "asyncio.Future[None]", _: object = None) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
