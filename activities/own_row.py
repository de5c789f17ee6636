"""An attempt that succeeds writes the final row of its run itself, where its workflow allows it.

That spares the workflow a local activity, a fifth of what a firing costs. What the log does not
take at once is left to the workflow, which keeps it until it does.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace

from activities.action import now
from activities.live import LiveLog
from activities.messages import AfterSuccess, ExecuteAttempt, Outcome
from onthedot.errors import DatabaseUnavailable
from onthedot.run import Output, Run, RunStatus

log = logging.getLogger(__name__)

#: In the row: what was due meanwhile may have been left out for a run that was over.
HEARD_LATE = "its worker was lost before the engine heard of its end"
_PATIENCE = 3.0  # seconds that a run waits for the log at most,
_SHARE = 0.25  # and for this share of the time until its task is due next, so as not to overlap,
_LEAST = 0.5  # but for so long even where that is late: it saves work where there is too much
_SPARED = 10.0  # after a wait in vain no run waits for the log for so long,
_LONG = 1.0  # unless that wait was shorter than this: then the worker may be busy itself
_FIND_WITHIN = 1.0


class OwnRows:
    """Writes them to the log of this process, and finds those of workers that were lost."""

    def __init__(self, live_log: LiveLog) -> None:
        self._log = live_log
        self._spared_until = 0.0  # by the loop's clock

    async def recorded(self, order: ExecuteAttempt, outcome: Outcome) -> Outcome:
        """The same outcome; it says whether the log has the row. Raise nothing, not even when
        the attempt is cancelled meanwhile: it has succeeded before.
        """
        after = order.after_success
        if after is None or outcome.status is not RunStatus.SUCCEEDED:
            return outcome
        loop, patience = asyncio.get_running_loop(), _patience(after)
        if loop.time() < self._spared_until:
            return outcome
        try:
            async with asyncio.timeout(patience):
                await self._log.record_success(row_of_success(order, outcome), after.next_due_at)
        except asyncio.CancelledError:
            return outcome
        except Exception as error:  # whatever it is, the workflow has the row written
            if patience >= _LONG or isinstance(error, DatabaseUnavailable):
                self._spared_until = loop.time() + _SPARED
            _tell(f"its workflow has the row of {order.run_id} written", error)
            return outcome
        return replace(outcome, is_recorded=True)

    async def found(self, order: ExecuteAttempt) -> Outcome | None:
        """How the run has succeeded at a worker that was lost when it had written the row.

        It is not looked for longer than a moment.
        """
        if order.after_success is None:
            return None
        try:
            async with asyncio.timeout(_FIND_WITHIN):
                run = await self._log.find_ended(order.run_id)
        except Exception as error:  # whatever it is, at least once means to run it
            _tell(f"{order.run_id} is run again without a look into the log", error)
            return None
        return await self._heard_of(order, run)

    async def find(self, order: ExecuteAttempt) -> Outcome | None:
        """The same, with the log's own patience; raise when it cannot be reached."""
        if order.after_success is None:
            return None
        return await self._heard_of(order, await self._log.find_ended(order.run_id))

    async def _heard_of(self, order: ExecuteAttempt, run: Run | None) -> Outcome | None:
        if run is None or run.status is not RunStatus.SUCCEEDED or run.finished_at is None:
            return None
        with contextlib.suppress(Exception):  # a remark is not worth running it again
            async with asyncio.timeout(_FIND_WITHIN):
                await self._log.add_remark(run, HEARD_LATE)
        return Outcome(
            status=run.status,
            started_at=run.started_at,
            finished_at=run.finished_at,
            worker=run.worker or "",
            output=run.output or Output(),
            error=run.error,
            result=run.result,
            is_recorded=run.task_version == order.task_version,
        )


def _tell(what: str, error: Exception) -> None:
    """A log that does not answer is told of by its flusher; anything else is unexpected."""
    is_away = isinstance(error, DatabaseUnavailable | TimeoutError)
    log.log(logging.DEBUG if is_away else logging.WARNING, "%s: %r", what, error)


def _patience(after: AfterSuccess) -> float:
    if after.next_due_at is None:
        return _PATIENCE
    left = (after.next_due_at - now()).total_seconds()
    return max(_LEAST, min(left * _SHARE, _PATIENCE))


def row_of_success(order: ExecuteAttempt, outcome: Outcome) -> Run:
    """What the workflow would write of a first attempt that has succeeded."""
    attempt = outcome.attempt(order.number)
    assert attempt is not None
    return Run(
        run_id=order.run_id,
        task_id=order.task_id,
        task_version=order.task_version,
        trigger=order.trigger,
        due_at=order.due_at,
        status=outcome.status,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        reason=outcome.remark,
        attempts=[attempt],
        attempt_count=1,
        worker=outcome.worker,
        output=outcome.output,
        error=outcome.error,
        result=outcome.result,
    )
