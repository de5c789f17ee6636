"""Waiting runs that were asked to end, and whose workers do not answer: these may be lost."""

import contextlib
from collections.abc import Mapping
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from activities.recall import Recalls
from workflows import patches
from workflows.beside import Minder, Spawn
from workflows.in_flight import RunInFlight

_ANSWERS_WITHIN = timedelta(seconds=2)
_ONE_TRY = RetryPolicy(maximum_attempts=1)


class SilentRuns:
    """Those among the runs in flight of one task."""

    def __init__(self, in_flight: Mapping[str, RunInFlight], spawn: Spawn) -> None:
        self._in_flight = in_flight
        self._minder = Minder(
            spawn,
            self._are_any,
            self._give_up,
            every=_ANSWERS_WITHIN,
            summary="then its worker is given up",
        )

    def give_up(self) -> None:
        """See to it that they end soon, if need be without an answer."""
        if self._are_any() and workflow.patched(patches.GIVE_UP_SILENT):
            self._minder.mind()

    async def _give_up(self) -> None:
        with contextlib.suppress(FailureError):  # it is asked again
            await workflow.execute_local_activity_method(
                Recalls.give_silent_up,
                start_to_close_timeout=timedelta(seconds=5),
                retry_policy=_ONE_TRY,
                summary="workers that do not answer are given up",
            )

    def _are_any(self) -> bool:
        return any(run.may_be_silent for run in self._in_flight.values())
