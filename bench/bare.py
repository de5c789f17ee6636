"""What the control runs: the least that fires on time, a timer and an activity."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow


@dataclass(frozen=True)
class Firings:
    """``times`` firings of ``name``, the first at ``first`` (Unix), then ``every`` so many s."""

    name: str
    first: float
    every: float
    times: int


@workflow.defn
class Bare:
    """The least that fires on time: a timer and an activity. It goes on as a recurring task does."""

    @workflow.run
    async def run(self, firings: Firings) -> None:
        due_at = firings.first
        for number in range(firings.times):
            if number or due_at > workflow.time():
                await workflow.sleep(max(0.0, due_at - workflow.time()))
            await _perform(firings.name)
            due_at += firings.every
        if firings.times > 1:
            await workflow.sleep(max(0.0, due_at - workflow.time()))


@workflow.defn
class Once:
    """What a schedule or a start delay starts: an activity."""

    @workflow.run
    async def run(self, name: str) -> None:
        await _perform(name)


async def _perform(name: str) -> None:
    await workflow.execute_activity("perform", name, start_to_close_timeout=timedelta(minutes=1))
