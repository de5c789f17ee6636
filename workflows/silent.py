"""Waiting runs that were asked to end, and whose workers do not answer: these may be lost."""

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from activities.recall import Recalls
from workflows.in_flight import RunInFlight

_ANSWERS_WITHIN = timedelta(seconds=2)
_ONE_TRY = RetryPolicy(maximum_attempts=1)
_PATCH = "silent runs are given up"


class SilentRuns:
    """Those among the runs in flight of one task."""

    def __init__(
        self,
        in_flight: Mapping[str, RunInFlight],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._in_flight, self._spawn = in_flight, spawn
        self._are_minded = False

    def give_up(self) -> None:
        """See to it that they end soon, if need be without an answer."""
        if self._any and not self._are_minded and workflow.patched(_PATCH):
            self._are_minded = True
            self._spawn(self._mind())

    async def _mind(self) -> None:
        while self._any:
            try:
                await workflow.wait_condition(
                    lambda: not self._any,
                    timeout=_ANSWERS_WITHIN,
                    timeout_summary="then its worker is given up",
                )
            except TimeoutError:
                with contextlib.suppress(FailureError):  # it is asked again
                    await workflow.execute_local_activity_method(
                        Recalls.give_silent_up,
                        start_to_close_timeout=timedelta(seconds=5),
                        retry_policy=_ONE_TRY,
                        summary="workers that do not answer are given up",
                    )
        self._are_minded = False

    @property
    def _any(self) -> bool:
        return any(run.may_be_silent for run in self._in_flight.values())
