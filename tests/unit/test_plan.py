"""What is due next, and what becomes of occurrences whose time has passed."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from activities.plan import (
    GRACE,
    MOST_ROWS,
    PassOver,
    Plan,
    PlanOccurrences,
    pass_over,
    plan,
)
from onthedot.run import RunStatus, Trigger
from onthedot.task import CatchUp, CronSchedule, IntervalSchedule, OnceSchedule, Schedule

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def every(span: timedelta) -> Schedule:
    return IntervalSchedule(every=span, anchor=NOW - 1000 * DAY)


async def planned(
    schedule: Schedule, away: timedelta = timedelta(), count: int = 10, **catch_up: object
) -> Plan:
    """The plan after nothing has run for ``away``."""
    return await plan(
        PlanOccurrences(
            task_id="task-1",
            schedule=schedule,
            catch_up=CatchUp.model_validate(catch_up),
            cursor=NOW - away,
            now=NOW,
            count=count,
        )
    )


def accounted(made: Plan) -> list[datetime]:
    """The due times of all rows and runs that come of a plan."""
    rows = [due for not_run in made.not_run for due in not_run.due_at]
    return sorted(rows + [one.due_at for one in made.occurrences])


async def test_the_next_occurrences_are_planned_with_their_leads() -> None:
    made = await planned(every(MINUTE), count=3)
    assert [one.due_at for one in made.occurrences] == [NOW + n * MINUTE for n in (1, 2, 3)]
    assert all(timedelta() < one.lead <= MINUTE / 2 for one in made.occurrences)
    assert len({one.lead for one in made.occurrences}) == 1
    assert (made.not_run, made.ends) == ([], False)


async def test_a_day_is_planned_ahead_and_one_occurrence_beyond() -> None:
    """What is planned is not planned anew when the rules of a zone change."""
    made = await planned(every(8 * 60 * MINUTE))
    assert [one.due_at - NOW for one in made.occurrences] == [n * DAY / 3 for n in (1, 2, 3, 4)]
    assert not made.ends
    monthly = await planned(every(30 * DAY))
    assert (len(monthly.occurrences), monthly.ends) == (1, False)
    once = await planned(OnceSchedule(at=NOW + 30 * DAY))
    assert (len(once.occurrences), once.ends) == (1, True)


async def test_plans_that_follow_each_other_have_each_moved_due_time_once() -> None:
    schedule = IntervalSchedule(
        every=MINUTE, anchor=NOW, jitter=DAY, starts_at=NOW, max_runs=20, timezone="Asia/Tokyo"
    )
    found: list[datetime] = []
    cursor, ends = NOW - SECOND, False
    while not ends:
        order = PlanOccurrences(
            task_id="task-1",
            schedule=schedule,
            catch_up=CatchUp(),
            cursor=cursor,
            now=NOW - SECOND,
            count=3,
        )
        made = await plan(order)
        found += [one.due_at for one in made.occurrences]
        cursor, ends = found[-1], made.ends
    assert [(due - NOW) // MINUTE for due in found] == list(range(20))
    assert len({(due - NOW) % MINUTE for due in found}) > 10


async def test_a_plan_says_when_nothing_is_due_after_it() -> None:
    made = await planned(OnceSchedule(at=NOW + DAY))
    assert [one.due_at for one in made.occurrences] == [NOW + DAY]
    assert made.ends
    assert (await planned(OnceSchedule(at=NOW - DAY))).ends
    assert not (await planned(OnceSchedule(at=NOW + DAY), count=1)).ends


async def test_what_is_a_little_late_simply_runs() -> None:
    at = NOW - GRACE
    made = await planned(OnceSchedule(at=at), away=MINUTE, keep="none")
    assert [(one.due_at, one.trigger) for one in made.occurrences] == [(at, Trigger.SCHEDULE)]
    just_over = OnceSchedule(at=at - timedelta(microseconds=1))
    made = await planned(just_over, away=MINUTE, keep="none")
    assert made.occurrences == []
    assert [one.status for one in made.not_run] == [RunStatus.MISSED]


@pytest.mark.parametrize(("keep", "caught_up"), [("all", 4), ("latest", 1), ("none", 0)])
async def test_each_occurrence_of_an_outage_runs_or_has_a_row(keep: str, caught_up: int) -> None:
    made = await planned(every(MINUTE), away=4.5 * MINUTE, count=2, keep=keep)
    late = [one for one in made.occurrences if one.trigger is Trigger.CATCH_UP]
    due = [NOW - n * MINUTE for n in (4, 3, 2, 1)]  # what is due now is not late
    assert [one.due_at for one in late] == due[len(due) - caught_up :]
    assert all(one.lead == timedelta() for one in late)
    assert accounted(made) == [*due, NOW, NOW + MINUTE]
    assert all(keep in one.reason for one in made.not_run)


async def test_what_is_older_than_the_window_is_missed() -> None:
    made = await planned(every(MINUTE), away=5.5 * MINUTE, count=1, keep="all", within="2m")
    late = [one.due_at for one in made.occurrences if one.trigger is Trigger.CATCH_UP]
    assert late == [NOW - 2 * MINUTE, NOW - MINUTE]
    (missed,) = made.not_run
    assert missed.due_at == [NOW - n * MINUTE for n in (5, 4, 3)]
    assert "2m" in missed.reason


async def test_a_plan_that_is_cut_off_goes_on_where_it_ended() -> None:
    away = timedelta(seconds=MOST_ROWS + 500)
    made = await planned(every(SECOND), away=away, keep="all")
    assert len(made.occurrences) == MOST_ROWS
    assert not made.ends
    assert accounted(made) == [NOW - away + n * SECOND for n in range(1, MOST_ROWS + 1)]


async def test_beyond_a_thousand_rows_the_last_one_counts_the_rest() -> None:
    made = await planned(every(SECOND), away=timedelta(hours=1), keep="latest")
    (missed,) = made.not_run
    late = 3600 - 10 - 1  # but for those that are hardly late, and the latest
    assert len(missed.due_at) + missed.uncounted == late - 1
    assert len(missed.due_at) == MOST_ROWS
    assert missed.until == NOW - GRACE - 2 * SECOND


@pytest.mark.parametrize("keep", ["all", "latest", "none"])
@pytest.mark.parametrize("within", ["1m", "1d", "366d"])
async def test_a_year_away_is_planned_at_once(keep: str, within: str) -> None:
    began = time.process_time()
    made = await planned(every(SECOND), away=366 * DAY, keep=keep, within=within)
    assert time.process_time() - began < 2  # a workflow task waits for it, and all others with it
    late = [one.due_at for one in made.occurrences if one.trigger is Trigger.CATCH_UP]
    if keep == "latest":
        assert late == [NOW - GRACE - SECOND]
    elif keep == "none":
        assert made.not_run[-1].until == NOW - GRACE - SECOND
        assert made.occurrences[0].due_at == NOW - GRACE
    due = accounted(made)
    assert len(due) == len(set(due))


async def test_the_latest_of_a_long_outage_may_be_long_ago() -> None:
    on_fridays = CronSchedule(cron="* * 9-16 * * FRI", timezone="UTC")
    made = await planned(on_fridays, away=100 * DAY, keep="latest", within="366d")
    friday = datetime(2026, 11, 20, 16, 59, 59, tzinfo=UTC)
    late = [one for one in made.occurrences if one.trigger is Trigger.CATCH_UP]
    assert [one.due_at for one in late] == [friday]


async def test_what_is_passed_over_has_a_row_each_with_the_reason() -> None:
    order = PassOver(
        task_id="task-1",
        schedule=every(MINUTE),
        cursor=NOW,
        until=NOW + 3 * MINUTE,
        status=RunStatus.SKIPPED,
        reason="paused",
    )
    found = await pass_over(order)
    assert found.due_at == [NOW + n * MINUTE for n in (1, 2, 3)]
    assert (found.status, found.reason, found.uncounted) == (RunStatus.SKIPPED, "paused", 0)
