"""One activity does the rounds of a while, and ends when its worker is to stop."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.upkeep import UpkeepActivities
from onthedot import metrics
from onthedot.errors import DatabaseUnavailable
from tests import promql, services
from tests.histories.stage import FailingKeeper


class Rounds(FailingKeeper):
    """A keeper that sends one change in each round, and cannot do those from ``until`` on."""

    def __init__(self, until: int = 1000) -> None:
        self.done, self._until = 0, until

    async def reconcile(self, alive: Callable[[], None]) -> int:
        if self.done == self._until:
            return await super().reconcile(alive)
        self.done += 1
        return 1


@pytest.fixture(autouse=True)
def short_time_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.upkeep.BETWEEN_ROUNDS", timedelta(milliseconds=20))


def counted(outcome: str) -> float:
    text = metrics.render().decode()
    return promql.samples(text, "onthedot_upkeep_rounds_total", chore="reconcile", outcome=outcome)


@pytest.fixture
def worker() -> ActivityEnvironment:
    return ActivityEnvironment()


async def test_without_a_time_it_is_one_round(worker: ActivityEnvironment) -> None:
    rounds = Rounds()
    assert await worker.run(UpkeepActivities(rounds).reconcile) == rounds.done == 1


async def test_it_does_rounds_for_a_while_and_says_after_each_that_it_is_alive(
    worker: ActivityEnvironment,
) -> None:
    rounds, heard = Rounds(), 0

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1

    worker.on_heartbeat = hear
    before = counted("done")
    assert await worker.run(UpkeepActivities(rounds).reconcile, 1) == rounds.done > 1
    assert heard == counted("done") - before == rounds.done


async def test_it_ends_at_once_when_its_worker_is_to_stop(worker: ActivityEnvironment) -> None:
    rounds = Rounds()
    running = asyncio.create_task(worker.run(UpkeepActivities(rounds).reconcile, 3600))
    await services.assert_eventually(lambda: rounds.done > 1)
    worker.worker_shutdown()
    assert await asyncio.wait_for(running, 5) == rounds.done


async def test_a_round_that_fails_ends_it(worker: ActivityEnvironment) -> None:
    before = counted("done"), counted("failed")
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        await worker.run(UpkeepActivities(Rounds(until=2)).reconcile, 3600)
    assert (counted("done"), counted("failed")) == (before[0] + 2, before[1] + 1)
