"""One attempt of a run: wait for its instant, perform its action, say how it ended."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.action import ActionKind, Ended, Running, Stop, failed, now
from activities.http import HttpCalls
from activities.instant import WaitingRoom, handed_back
from activities.live import LiveLog, Showing, running_row
from activities.messages import ExecuteAttempt, Outcome
from activities.output import OutputCapture
from activities.own_row import OwnRows
from activities.plain import plain_text
from activities.plan import why_missed
from activities.pulse import HEARTBEAT_TIMEOUT, Pulse
from activities.python import Functions
from activities.rush import Rush
from activities.shell import Processes
from activities.watch import (
    MAY_HAVE_BEGUN,
    Watch,
    begun,
    passed_on_claim,
    tell_cut_off,
    tell_handed_back,
)
from activities.workflow import Workflows
from onthedot import duration, metrics
from onthedot.errors import DatabaseUnavailable
from onthedot.handlers import Handlers
from onthedot.run import Output, RunStatus
from onthedot.settings import Settings

log = logging.getLogger(__name__)

_CLEAN_UP = 15.0  # how long an action that is stopped may take to end
_CLAIM_TRIES = 3
_CLAIM_PAUSE = 0.2


class Executor:
    """Executes attempts. One for each worker: it watches for that worker's shutdown."""

    def __init__(
        self,
        settings: Settings,
        live_log: LiveLog,
        client: Client,
        handlers: Handlers,
        worker: str,
        *,
        is_told: bool = False,
    ) -> None:
        """``worker`` names this worker in the log.

        ``is_told`` says that the engine tells it of a cancellation by itself, not only in answer to
        a heartbeat.
        """
        self._live_log, self._own_rows, self._client = live_log, OwnRows(live_log), client
        self._worker = worker
        self._is_told = is_told
        self._waiting_room, self._rush = WaitingRoom(), Rush()
        self._http = HttpCalls(settings)
        self._processes = Processes(settings)
        self._functions = Functions(settings, handlers)
        self._kinds: Mapping[str, ActionKind] = {
            "http": self._http,
            "shell": self._processes,
            "python": self._functions,
            "workflow": Workflows(client),
        }
        self._kept: set[asyncio.Task[None]] = set()

    @activity.defn(name="attempt")
    async def execute_attempt(self, order: ExecuteAttempt) -> Outcome:
        """Wait for ``order.start_at``, then perform the action under its timeout.

        What the action gets wrong is in the outcome. Raise ApplicationError, to be sent to
        another worker, when this one shuts down.
        """
        with Watch(order) as watch:
            outcome = await self._execute(order, watch)
            watch.ended(outcome)
            return outcome

    async def _execute(self, order: ExecuteAttempt, watch: Watch) -> Outcome:
        pulse, thread = Pulse(self._client), contextlib.AsyncExitStack()
        try:
            if watch.follows_a_loss:
                self._rush.one_came()
                if known := await self._own_rows.found(order):
                    return known
            if not watch.had_begun and (why := _why_missed(order)):
                remark = f"{why}; {MAY_HAVE_BEGUN}" if watch.follows_a_loss else why
                return replace(self._not_started(order, RunStatus.MISSED), remark=remark)
            try:
                await self._wait(order, pulse)
                pulse.begin()
                has_thread = await thread.enter_async_context(self._functions.thread_for(order))
            except asyncio.CancelledError:
                return self._stopped_before_start(order)
            running = Running(
                order=order, output=OutputCapture(), started_at=now(), has_thread=has_thread
            )
            watch.started(running.started_at)
            pulse.say(*begun())
            if refused := await self._claimed_before(running):
                return refused
            outcome = await self._start(running)
            if watch.remark:
                outcome = replace(outcome, remark=watch.remark)
            outcome = await self._own_rows.recorded(order, outcome)
        finally:
            pulse.end()
            await thread.aclose()
        if watch.follows_a_loss:
            await self._rush.over(order, outcome, within=pulse.may_be_silent_for)
        return outcome

    async def _wait(self, order: ExecuteAttempt, pulse: Pulse) -> None:
        """Until its instant has come, so that the engine notices a loss of this worker in time."""
        left = max(order.start_at - now(), timedelta())
        if self._is_told:
            pulse.wait(left)
        else:
            pulse.lower(HEARTBEAT_TIMEOUT)
        is_silent = self._is_told and pulse.outlasts(left)
        heartbeat = None if is_silent else pulse.heartbeat
        await self._waiting_room.wait_until(order.start_at, heartbeat=heartbeat)

    async def close(self) -> None:
        """Show what is left to show, and let go of connections; after the worker has ended."""
        await self._waiting_room.close()
        if self._kept:
            await asyncio.wait(self._kept, timeout=2)
        await self._http.close()
        self._processes.close()
        self._functions.close()

    async def _claimed_before(self, running: Running) -> Outcome | None:
        """How a run ended that another worker had claimed; None where it is to start here."""
        order = running.order
        # A workflow is not claimed: its id already makes it start once, and be found again.
        if order.delivery != "at_most_once" or order.action.kind == "workflow":
            return None
        claim = passed_on_claim() or uuid4().hex
        try:
            if not await self._claim(running, claim):
                return await self._end_elsewhere(order)
        except asyncio.CancelledError:
            return self._stopped_before_start(order, claim)
        running.started_at = now()
        return None

    async def _end_elsewhere(self, order: ExecuteAttempt) -> Outcome:
        try:
            known = await self._own_rows.find(order)
        except DatabaseUnavailable as error:  # it may have succeeded: asked again, as after a loss
            raise _not_claimed("see how the run ended", error) from error
        return known or self._not_started(order, RunStatus.FAILED, "worker lost")

    async def _start(self, running: Running) -> Outcome:
        showing = Showing(self._live_log, running, self._worker, self._keep)
        try:
            ended = await self._perform(running)
        finally:
            running.output.close()
            showing.end()
        return self._outcome(running, ended)

    async def _claim(self, running: Running, claim: str) -> bool:
        row = running_row(running, self._worker)
        for tries_left in reversed(range(_CLAIM_TRIES)):
            try:
                ours = await self._live_log.claim(row, claim)
                metrics.CLAIMS.labels("taken" if ours else "refused").inc()
                return ours
            except Exception as error:
                metrics.CLAIMS.labels("failed").inc()
                if not tries_left:
                    tell_handed_back(claim)
                    raise _not_claimed("claim the run", error) from error
            await asyncio.sleep(_CLAIM_PAUSE)
        raise AssertionError("unreachable")

    async def _perform(self, running: Running) -> Ended | None:
        """How the action ended; None when it was stopped, ``running.stop`` says why."""
        action = asyncio.create_task(self._guard(running))
        timeout = running.order.timeout.total_seconds()
        try:
            done, _ = await asyncio.wait({action}, timeout=timeout)
            why = None if done else Stop.TIMED_OUT
        except asyncio.CancelledError:
            why = _why_stopped()
            if why is None:  # the machinery's: the SDK knows what to answer
                await _stop(action)
                raise
        if action.done():
            return action.result()
        running.stop = why
        await _stop(action)
        if not action.done():
            running.remark = running.remark or "the action does not stop: it was left to itself"
        return None

    async def _guard(self, running: Running) -> Ended:
        try:
            return await self._kinds[running.order.action.kind].perform(running)
        except asyncio.CancelledError:
            if running.stop is not None:
                raise
            return failed("the action cancelled itself")
        except Exception as error:
            log.exception("attempt %s of %s", running.order.number, running.order.run_id)
            return failed(f"an error in Onthedot: {type(error).__name__}: {error}")

    def _outcome(self, running: Running, ended: Ended | None) -> Outcome:
        if ended is None:
            ended = self._ended_by(running)
        return Outcome(
            status=ended.status,
            started_at=running.started_at,
            finished_at=now(),
            worker=self._worker,
            output=running.output.kept(),
            error=plain_text(ended.error) if ended.error else None,
            result=running.result or None,
            retry_after=ended.retry_after,
            may_retry=ended.may_retry,
        )

    def _ended_by(self, running: Running) -> Ended:
        """What being stopped means for the attempt; raise when it is to be run again."""
        order, remark = running.order, f"; {running.remark}" if running.remark else ""
        at_most_once = order.delivery == "at_most_once"
        match running.stop:
            case Stop.CANCELLED:
                return Ended(status=RunStatus.CANCELLED, error=running.remark, may_retry=False)
            case Stop.TIMED_OUT:
                error = f"took longer than its timeout of {duration.write(order.timeout)}{remark}"
                # what was stopped half-way may have had its effect already
                return Ended(status=RunStatus.TIMED_OUT, error=error, may_retry=not at_most_once)
        if at_most_once and order.action.kind != "workflow":
            return failed(f"worker stopped{remark}", may_retry=False)
        tell_cut_off()
        raise ApplicationError(
            "the worker stopped while the run went on",
            type="WorkerStopped",
            next_retry_delay=timedelta(milliseconds=10),
            category=ApplicationErrorCategory.BENIGN,
        )

    def _stopped_before_start(self, order: ExecuteAttempt, claim: str | None = None) -> Outcome:
        """The answer to the cancellation that is being handled."""
        match _why_stopped():
            case Stop.CANCELLED:
                return self._not_started(order, RunStatus.CANCELLED)
            case Stop.WORKER_STOPS:
                raise handed_back("the worker stopped before the run started", claim) from None
        raise asyncio.CancelledError

    def _not_started(
        self, order: ExecuteAttempt, status: RunStatus, error: str | None = None
    ) -> Outcome:
        return Outcome(
            status=status,
            started_at=None,
            finished_at=now(),
            worker=self._worker,
            output=Output(),
            error=error,
            may_retry=False,
        )

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)


def _not_claimed(what: str, error: Exception) -> ApplicationError:
    """Another attempt is to come soon, here or elsewhere."""
    return ApplicationError(
        f"the log cannot be reached to {what}: {error}",
        type="NotClaimed",
        next_retry_delay=timedelta(seconds=1),
    )


def _why_missed(order: ExecuteAttempt) -> str | None:
    """Why it is not to start any more; None where it is."""
    return why_missed(order.due_at, now(), order.catch_up) if order.catch_up else None


def _why_stopped() -> Stop | None:
    """Why the SDK cancelled this activity; None where it must hear of the cancellation itself."""
    details = activity.cancellation_details()
    if details is None or details.paused or details.reset:
        return None
    if details.worker_shutdown and not details.cancel_requested:
        return Stop.WORKER_STOPS
    return Stop.CANCELLED


async def _stop(action: asyncio.Task[Ended]) -> None:
    """Cancel ``action`` and wait until it has cleaned up, whatever else happens, but not for ever."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _CLEAN_UP
    action.cancel()
    while not action.done() and (left := until - loop.time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({action}, timeout=left)
    action.add_done_callback(_look_at)


def _look_at(action: asyncio.Task[Ended]) -> None:
    """Take note of how an action that nobody waits for any more has ended."""
    if not action.cancelled():
        action.exception()
