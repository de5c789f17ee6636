"""Keeps the installation in order, for ever: one workflow for all of it."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.upkeep import Upkeep

EVERY = timedelta(seconds=5)
#: So many rounds are an hour; each hour has its own chores, and its own history.
_ROUNDS = 720
_ONE_TRY = RetryPolicy(maximum_attempts=1)


@workflow.defn(name="Upkeep")
class UpkeepWorkflow:
    @workflow.run
    async def run(self) -> None:
        # beside the rounds: what was lost on its way must not wait for the chores of an hour
        chores = asyncio.create_task(self._hourly())
        for _ in range(_ROUNDS):
            # A round that fails is no matter: the next one does its work.
            try:
                await workflow.execute_activity_method(
                    Upkeep.reconcile,
                    start_to_close_timeout=timedelta(minutes=10),
                    heartbeat_timeout=timedelta(seconds=15),
                    retry_policy=_ONE_TRY,
                    summary="send what the engine does not know yet",
                )
            except ActivityError as error:
                workflow.logger.warning("reconciling: %s", error.cause)
            await workflow.sleep(EVERY, summary="until the next round")
        await chores
        workflow.continue_as_new()

    async def _hourly(self) -> None:
        for chore in (Upkeep.mind_months, Upkeep.compare):
            try:
                await workflow.execute_activity_method(
                    chore,
                    start_to_close_timeout=timedelta(minutes=30),
                    heartbeat_timeout=timedelta(minutes=2),
                    retry_policy=RetryPolicy(maximum_attempts=3),
                )
            except ActivityError as error:
                workflow.logger.warning("hourly upkeep: %s", error.cause)
