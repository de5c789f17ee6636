"""Python functions: async ones run on the loop, the others in threads."""

import asyncio
import contextlib
import inspect
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from activities.action import SUCCEEDED, Ended, Running, failed
from activities.instant import handed_back
from activities.messages import ExecuteAttempt
from activities.threads import Threads
from onthedot.errors import FieldError, InvalidInput
from onthedot.handlers import Handler, Handlers, RunContext
from onthedot.settings import Settings
from onthedot.task import Action, PythonAction

_OURS = Path(__file__).parent
_NOTICE = 1.0  # seconds that a function which is cancelled gets to notice it
_THREAD_WITHIN = 20.0  # seconds; the engine gives an attempt 60 beside its timeout
_LOADED_WITHIN = 5.0


class Functions:
    """Performs ``python`` actions."""

    def __init__(self, settings: Settings, handlers: Handlers) -> None:
        self._handlers = handlers
        self._slots = asyncio.Semaphore(settings.worker_threads)
        self._threads = Threads(settings.worker_threads)
        self._most_left = settings.worker_threads * 4
        self._left = 0  # functions that were stopped and go on in their threads

    @asynccontextmanager
    async def thread_for(self, order: ExecuteAttempt) -> AsyncIterator[bool]:
        """Keep a thread for the function that is to be called; whether it needs one.

        Until there is one the attempt has not started. Raise ApplicationError ``HandedBack`` where
        that takes long: another worker may have one.
        """
        if not await self._needs_thread(order.action):
            yield False
            return
        try:
            async with asyncio.timeout(_THREAD_WITHIN):
                await self._slots.acquire()
        except TimeoutError:
            raise handed_back("all threads of this worker were taken") from None
        try:
            yield True
        finally:
            self._slots.release()

    async def _needs_thread(self, action: Action) -> bool:
        if not isinstance(action, PythonAction):
            return False
        try:
            async with asyncio.timeout(_LOADED_WITHIN):
                return not (await self._load(action.handler)).is_async
        except (InvalidInput, TimeoutError):  # to call it will tell what is wrong
            return False

    async def perform(self, running: Running) -> Ended:
        """Call the function; what it returns is the result, what it raises the error."""
        action, order = running.order.action, running.order
        assert isinstance(action, PythonAction)
        context = RunContext(
            run_id=order.run_id,
            task_id=order.task_id,
            due_at=order.due_at,
            attempt=order.number,
            outcome=order.outcome,
            write=running.output.write,
        )
        try:
            handler = await self._load(action.handler)
            arguments = handler.arguments(action.arguments, order.outcome)
        except InvalidInput as error:
            return failed(str(error), may_retry=False)
        if handler.context_parameter is not None:
            arguments[handler.context_parameter] = context
        try:
            if handler.is_async:
                returned = await handler.function(**arguments)
            else:
                returned = await self._call_in_thread(running, context, handler, arguments)
                if inspect.isawaitable(returned):
                    returned = await returned
        except asyncio.CancelledError:
            context.cancelled.set()
            raise
        # SystemExit, too: it must not end the worker
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return _raised(running, error)
        running.keep_returned(returned)
        return SUCCEEDED

    async def _load(self, name: str) -> Handler:
        if self._handlers.is_loaded(name):
            return self._handlers.load(name)
        # an import may take seconds, which other runs must not wait for
        return await asyncio.to_thread(self._handlers.load, name)

    async def _call_in_thread(
        self, running: Running, context: RunContext, handler: Handler, arguments: dict[str, Any]
    ) -> Any:
        if self._left > self._most_left:
            raise RuntimeError(
                f"{self._left} functions that were stopped still go on in this worker: "
                "make them look at context.cancelled, or async, and start the worker again"
            )
        async with contextlib.nullcontext() if running.has_thread else self._slots:
            call = self._threads.call(lambda: handler.function(**arguments))
            try:
                return await call.result()
            except asyncio.CancelledError:
                context.cancelled.set()
                if not await call.ends_within(_NOTICE):
                    self._left += 1
                    call.when_it_ends(self._count_down)
                    running.remark = (
                        "its function goes on in its thread: one that is not async cannot be "
                        "stopped, it has to look at context.cancelled"
                    )
                raise

    def close(self) -> None:
        """End the threads that have nothing to do."""
        self._threads.close()

    def _count_down(self) -> None:
        self._left -= 1


def _raised(running: Running, error: BaseException) -> Ended:
    """The answer for a function that raised; the traceback, from it on, goes into the output."""
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent == _OURS:
        frames = frames.tb_next
    running.output.write("".join(traceback.format_exception(type(error), error, frames)))
    text = "".join(traceback.format_exception_only(error)).strip()
    return failed(text)


def check(action: PythonAction, handlers: Handlers, *, here: bool) -> list[FieldError]:
    """What is wrong with ``action``. With ``here``, the handler is imported, to see."""
    try:
        if here:
            handlers.load(action.handler).arguments(action.arguments)
        else:
            handlers.refuse_if_not_allowed(action.handler)
    except InvalidInput as error:
        return list(error.fields)
    return []
