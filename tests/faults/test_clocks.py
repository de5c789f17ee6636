"""A worker whose clock is wrong: a real one, which is told another time."""

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from onthedot import doctor
from tests.faults.cluster import Cluster, Part
from tests.faults.conftest import Scenario
from tests.faults.watch import now, until, watching

_FAKETIME = importlib.util.find_spec("libfaketime")


@asynccontextmanager
async def clock_off(worker: Part, seconds: float) -> AsyncIterator[Callable[[float], None]]:
    """A worker that is started anew with a clock which is so far ahead, until the block is left.

    What it yields sets that clock anew, which the worker sees within a second.
    """
    if _FAKETIME is None or _FAKETIME.origin is None:
        pytest.skip("libfaketime has no wheel for this machine")
    library = Path(_FAKETIME.origin).with_name("vendor") / "libfaketime/src/libfaketime.so.1"
    offset = worker.log.with_suffix(".clock")
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",  # seconds
        "DONT_FAKE_MONOTONIC": "1",
    }

    def set_clock(ahead: float) -> None:
        offset.with_suffix(".new").write_text(f"{ahead:+}s", encoding="ascii")
        offset.with_suffix(".new").replace(offset)

    set_clock(seconds)
    right = worker.environment
    assert right is not None
    try:
        worker.environment = {**right, **faked}
        await worker.restart()
        yield set_clock
    finally:
        worker.environment = right
        await worker.restart()


@pytest.mark.parametrize(
    ("off", "side", "starts"),
    [
        pytest.param(-3, "behind", "late", marks=pytest.mark.fast),
        pytest.param(3, "ahead of", "early", marks=pytest.mark.long),
    ],
)
async def test_a_worker_whose_clock_is_off_is_off_by_no_more_and_seen_everywhere(
    cluster: Cluster, scenario: Scenario, off: int, side: str, starts: str
) -> None:
    """It runs what it is sent by its own clock; that of the other is right."""
    wrong = cluster.workers[1]
    async with (
        clock_off(wrong, off),
        scenario(
            f"the clock of one of two workers 3 s {side.removesuffix(' of')}",
            load="the mix; 20 tasks due at once, each for 8 s",
            promise=f"it starts what it runs {starts} by that and no more; seen, warned of, shown",
            clocks_differ_by=timedelta(seconds=3.1),
        ) as watch,
    ):
        await watch.mix()
        due_at = now() + timedelta(seconds=8)
        # they go on for longer than the engine takes it to be lost
        await watch.herd(20, due_at, "/after/8")
        herd = {task for task in watch.tasks if "herd" in task}
        await watch.settled(due_at, within=30)
        calls = [one for one in await watch.calls() if one.key.partition(".")[0] in herd]
        told = await watch.call("GET", f"/tasks/{next(iter(herd))}/explain")
        examined = {one.part: one for one in await doctor.examine(cluster.settings)}
        warned = wrong.log.read_text(encoding="utf-8")
    lags = sorted((call.at - due_at).total_seconds() for call in calls)
    assert len(lags) == 20, lags
    right, off_by = (lags[-1], lags[0]) if off > 0 else (lags[0], lags[-1])
    assert -0.05 < right < 1, lags
    assert 2.9 < abs(off_by) < 4, lags
    (reason,) = [one for one in told["reasons"] if one["code"] == "clock_skew"]
    assert f"is 3.0 s {side} Postgres': what it runs starts {starts}" in reason["message"]
    assert f"by {off:+.1f} s" in examined["Workers' clocks"].says
    assert f"this worker's clock is 3.0 s {side} that of postgres" in warned


@pytest.mark.long
async def test_a_clock_that_is_set_forward_makes_no_run_late_that_waits(cluster: Cluster) -> None:
    async with watching(cluster) as watch, clock_off(cluster.workers[1], -1.5) as set_clock:
        due_at = now() + timedelta(seconds=25)
        await watch.herd(20, due_at)
        await until(due_at - timedelta(seconds=8))
        set_clock(0)
        await watch.settled(due_at, within=20)
        lags = sorted((call.at - due_at).total_seconds() for call in await watch.calls())
    assert len(lags) == 20, lags
    assert lags[0] > -0.05, lags
    assert lags[-1] < 1, lags
