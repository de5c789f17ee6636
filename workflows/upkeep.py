"""Keeps the installation in order, for ever: one workflow for all of it."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.upkeep import BETWEEN_ROUNDS, UpkeepActivities
from workflows import patches

#: One activity does the rounds of a minute: each would be eleven events as one of its own.
_STRETCH = timedelta(minutes=1)
#: An hour of them: then it continues as new, and the hourly chores come again.
_STRETCHES = 60
_ROUNDS = 720  # of those that are an activity each, in histories begun before there were stretches
_ONE_TRY = RetryPolicy(maximum_attempts=1)


@workflow.defn(name="Upkeep")
class UpkeepWorkflow:
    @workflow.run
    async def run(self) -> None:
        # beside the rounds: what was lost on its way must not wait for the chores of an hour
        chores = asyncio.create_task(self._hourly())
        in_stretches = workflow.patched(patches.IN_STRETCHES)
        stretch = _STRETCH if in_stretches else timedelta()
        for _ in range(_STRETCHES if in_stretches else _ROUNDS):
            # A round that fails is no matter: the next one does its work.
            try:
                await workflow.execute_activity_method(
                    UpkeepActivities.reconcile,
                    stretch.total_seconds(),
                    start_to_close_timeout=timedelta(minutes=10),
                    heartbeat_timeout=timedelta(seconds=10),
                    retry_policy=_ONE_TRY,
                    summary="send what the engine does not know yet",
                )
            except ActivityError as error:
                workflow.logger.warning("reconciling: %s", error.cause)
            await workflow.sleep(BETWEEN_ROUNDS, summary="until the next round")
        await chores
        workflow.continue_as_new()

    async def _hourly(self) -> None:
        for chore in (UpkeepActivities.apply_retention, UpkeepActivities.compare):
            try:
                await workflow.execute_activity_method(
                    chore,
                    start_to_close_timeout=timedelta(minutes=30),
                    heartbeat_timeout=timedelta(minutes=2),
                    retry_policy=RetryPolicy(maximum_attempts=3),
                )
            except ActivityError as error:
                workflow.logger.warning("hourly upkeep: %s", error.cause)
