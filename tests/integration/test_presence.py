"""Workers tell of themselves and of their clocks; whose clock is off is seen everywhere."""

import logging
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from onthedot import clocks, doctor, metrics
from onthedot.database import workers
from onthedot.database.pool import Pool, connection, open_pool
from onthedot.database.workers import Worker
from onthedot.presence import Presence
from onthedot.settings import Settings
from tests import promql, services
from tests.integration.web_client import Web


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    made = await open_pool(Settings(database_url=database_url))
    yield made
    await made.close()


def present(pool: Pool, ahead: float = 0, identity: str = "host:1") -> Presence:
    """A worker whose clock is ``ahead`` by so many seconds."""
    return Presence(
        pool, identity, "all", ["default", "reports"], 9464, lambda: time.time() + ahead
    )


async def seen(pool: Pool) -> list[Worker]:
    async with connection(pool) as conn:
        return await workers.seen(conn)


async def test_a_worker_is_seen_while_it_works_and_gone_when_it_has_stopped(pool: Pool) -> None:
    async with present(pool):
        (worker,) = await services.assert_eventually(lambda: seen(pool))
        assert (worker.identity, worker.role, worker.metrics_port) == ("host:1", "all", 9464)
        assert worker.queues == ["default", "reports"]
        assert abs(worker.clock_skew_ms) < 500
    assert not await seen(pool)


async def test_a_worker_that_was_lost_is_not_shown_after_two_minutes_and_then_forgotten(
    pool: Pool,
) -> None:
    await present(pool).sign()
    for age, shown, left in (("119 s", 1, 1), ("121 s", 0, 1), ("61 min", 0, 0)):
        async with connection(pool) as conn:
            await conn.execute(f"UPDATE workers SET seen_at = now() - interval '{age}'")
            await workers.forget_old(conn)
            found = await (await conn.execute("SELECT count(*) AS n FROM workers")).fetchone()
        assert found is not None
        assert (len(await seen(pool)), found["n"]) == (shown, left), age


@pytest.mark.parametrize(("ahead", "side"), [(5.0, "ahead of"), (-5.0, "behind")])
async def test_a_clock_that_is_off_is_warned_of_with_what_to_do(
    pool: Pool, ahead: float, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    await present(pool, ahead).sign()
    (worker,) = await seen(pool)
    assert worker.clock_skew_ms == pytest.approx(ahead * 1000, abs=500)
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert f"s {side} that of postgres" in warning.getMessage()
    assert "NTP" in warning.getMessage()
    text = metrics.render().decode()
    shown = promql.samples(text, "onthedot_clock_skew_seconds", against="postgres")
    assert shown == pytest.approx(ahead, abs=0.5)


async def test_a_clock_in_step_is_not_warned_of(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await present(pool).sign()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize(("seconds", "is_fine"), [(-1.5, False), (1.5, True), (-0.5, True)])
def test_a_run_that_travelled_long_does_not_make_a_clock_wrong(
    seconds: float, is_fine: bool
) -> None:
    assert clocks.judge(seconds, "temporal") is is_fine


def test_a_skew_that_nothing_tells_of_any_more_is_not_shown() -> None:
    def shown() -> float:
        text = metrics.render().decode()
        return promql.samples(text, "onthedot_clock_skew_seconds", against="temporal")

    clocks.judge(2.0, "temporal")
    assert shown() == 2.0
    clocks.tell_nothing("temporal")
    assert math.isnan(shown())


def test_the_skew_is_measured_from_the_middle_of_the_question() -> None:
    assert clocks.skew(before=100.0, theirs=97.5, after=101.0) == 3.0


def test_the_engines_clock_is_judged_by_the_quickest_arrival() -> None:
    clock = clocks.EngineClock()
    for late in (3.0, 2.0, 4.0):
        clock.arrived(datetime.now(UTC) - timedelta(seconds=late))
    assert clock.take() == pytest.approx(2.0, abs=0.5)
    assert clock.take() is None


async def test_a_skewed_worker_is_named_by_the_page_and_the_doctor(web: Web) -> None:
    pool = await open_pool(web.settings)
    await present(pool, ahead=5, identity="skewed:1").sign()
    await present(pool, identity="fine:1").sign()
    await pool.close()
    page = await web("GET", "/workers")
    assert "skewed:1" in page.text
    assert "s ahead</span>" in page.text
    assert "in step" in page.text
    assert "default, reports" in page.text
    found = {one.part: one for one in await doctor.examine(web.settings)}
    clock = found["Workers' clocks"]
    assert not clock.is_well
    assert "skewed:1 by +" in clock.says
    assert "fine:1" not in clock.says


async def test_a_worker_without_its_table_goes_on(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """An older schema, before ``onthedot migrate``: the worker says so, and works."""
    async with connection(pool) as conn:
        await conn.execute("DROP TABLE workers")
    async with present(pool):
        await services.assert_eventually(lambda: "no sign of life" in caplog.text)
