"""What a resume catches up with, against a plain model of it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.catch_up import MOST_CAUGHT_UP, CatchUpPause, CaughtUp, catch_up, catch_up_count
from onthedot import schedule
from onthedot.run import RunStatus
from onthedot.task import CatchUp, CronSchedule, IntervalSchedule, Schedule

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTELY: Schedule = CronSchedule(cron="* * * * *")
SECONDLY: Schedule = IntervalSchedule(every=timedelta(seconds=1), anchor=NOON - timedelta(days=999))


def after_pause(policy: CatchUp, paused_at: datetime, when: Schedule = MINUTELY) -> CaughtUp:
    order = CatchUpPause(
        task_id="task", schedule=when, cursor=paused_at, until=NOON, catch_up=policy
    )
    return asyncio.run(catch_up(order))


def count(policy: CatchUp, paused_at: datetime, when: Schedule = MINUTELY) -> int:
    return catch_up_count(when, "task", paused_at, NOON, policy)


@settings(deadline=None)
@given(
    paused_for=st.integers(0, 3600 * 3),
    within=st.integers(1, 3600 * 4),
    keep=st.sampled_from(["all", "latest", "none"]),
)
def test_each_occurrence_of_a_pause_is_kept_or_has_its_row(
    paused_for: int, within: int, keep: Literal["all", "latest", "none"]
) -> None:
    policy = CatchUp(keep=keep, within=timedelta(seconds=within))
    paused_at = NOON - timedelta(seconds=paused_for)
    due_times = takewhile(lambda due: due <= NOON, schedule.due_times(MINUTELY, "task", paused_at))
    due = list(due_times)
    recent = [one for one in due if NOON - one <= policy.within]
    kept = {"all": recent, "latest": recent[-1:], "none": []}[keep]

    found = after_pause(policy, paused_at)
    assert found.kept == kept
    assert count(policy, paused_at) == len(kept)
    rows = {one: (part.status, part.reason) for part in found.not_run for one in part.due_at}
    assert sorted([*found.kept, *rows]) == due
    for one, (status, reason) in rows.items():
        assert status is RunStatus.SKIPPED
        assert ("older than" in reason) == (one not in recent)


def test_a_resume_catches_up_with_no_more_than_a_thousand() -> None:
    paused_at = NOON - timedelta(hours=2)
    policy = CatchUp(keep="all")
    found = after_pause(policy, paused_at, SECONDLY)
    assert len(found.kept) == count(policy, paused_at, SECONDLY) == MOST_CAUGHT_UP
    (rest,) = found.not_run
    assert rest.reason == "paused; catch-up runs no more than 1000"
    assert len(rest.due_at) + rest.uncounted == 7200 - MOST_CAUGHT_UP
    assert rest.until == NOON


@pytest.mark.parametrize("keep", ["all", "latest", "none"])
def test_a_long_pause_of_a_frequent_task_is_worked_out_soon(
    keep: Literal["all", "latest", "none"],
) -> None:
    """Nearly three years of seconds: 86 million occurrences."""
    paused_at = NOON - timedelta(days=998)
    policy = CatchUp(keep=keep, within=timedelta(days=600))
    began = time.process_time()
    found = after_pause(policy, paused_at, SECONDLY)
    assert time.process_time() - began < 20
    assert len(found.kept) == count(policy, paused_at, SECONDLY)
    too_old, not_kept = found.not_run
    assert too_old.until == NOON - policy.within - timedelta(microseconds=1)
    assert not_kept.until == NOON
    if keep == "latest":
        assert found.kept == [NOON]
