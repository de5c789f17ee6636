"""Windows, counts, jitter, excluded days and changes of schedules, by example."""

import time
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from onthedot.errors import FieldError
from onthedot.schedule import (
    adopt,
    check,
    describe,
    difference,
    due_times,
    next_due,
    resolve,
    warnings,
)
from onthedot.task import (
    CronSchedule,
    Exclusion,
    IntervalSchedule,
    OnceSchedule,
    Schedule,
    as_json,
    as_stored,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)  # a Sunday
DAY = timedelta(days=1)
ALL_DAYS: Any = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def cron(text: Any = "0 6 * * *", **more: Any) -> CronSchedule:
    return CronSchedule(cron=text, **more)


def first(schedule: Schedule, count: int, after: datetime = NOW) -> list[str]:
    found = islice(due_times(resolve(schedule, NOW), "task", after), count)
    return [f"{due:%m-%d %H:%M}" for due in found]


def only_error(schedule: Schedule) -> FieldError:
    (error,) = check(schedule, NOW)
    return error


def test_several_expressions_are_due_at_each_time_once() -> None:
    schedule = cron(("0 */6 * * *", "0 6 * * *", "30 6 2 3 *"))
    assert first(schedule, 4) == ["03-01 18:00", "03-02 00:00", "03-02 06:00", "03-02 06:30"]


def test_one_expression_stays_a_text_and_a_list_a_list() -> None:
    for written in ("0 6 * * *", ["0 6 * * *"], ["0 6 * * *", "@daily"]):
        schedule = TypeAdapter(Schedule).validate_python({"kind": "cron", "cron": written})
        assert as_json(schedule)["cron"] == written


def test_at_most_twenty_expressions_are_taken() -> None:
    cron(("@daily",) * 20)
    for count in (0, 21):
        with pytest.raises(ValidationError):
            cron(("@daily",) * count)


def test_a_wrong_expression_of_several_is_named_by_its_place() -> None:
    errors = check(cron(("0 6 * * *", "61 * * * *", "0 0 30 2 *")), NOW)
    assert [(one.field, one.value) for one in errors] == [
        ("schedule.cron.1", "61 * * * *"),
        ("schedule.cron.2", "0 0 30 2 *"),
    ]


def test_a_window_begins_with_its_start_and_ends_before_its_end() -> None:
    schedule = cron(starts_at=NOW + 18 * DAY / 24, ends_at=NOW + 66 * DAY / 24)
    assert first(schedule, 9) == ["03-02 06:00", "03-03 06:00"]


def test_max_runs_counts_from_starts_at_whatever_is_asked_after() -> None:
    schedule = cron(starts_at=NOW - 2 * DAY, max_runs=4)
    assert first(schedule, 9) == ["03-02 06:00", "03-03 06:00"]
    assert first(schedule, 9, NOW + DAY) == ["03-03 06:00"]
    assert first(schedule, 9, NOW - 9 * DAY)[0] == "02-28 06:00"


def test_max_runs_counts_from_the_registration_without_starts_at() -> None:
    at_six = NOW.replace(hour=6)
    resolved = resolve(cron(max_runs=1), at_six)
    assert next_due(resolved, "task", at_six) == at_six + DAY
    assert resolve(resolved, NOW) == resolved
    every = resolve(IntervalSchedule(every=DAY, max_runs=2), NOW)
    assert list(due_times(every, "task", NOW)) == [NOW + DAY, NOW + 2 * DAY]


def test_an_interval_counts_from_its_start() -> None:
    schedule = IntervalSchedule(every=DAY, starts_at=NOW + DAY / 2)
    assert first(schedule, 2) == ["03-02 00:00", "03-03 00:00"]


def test_days_that_are_excluded_do_not_count_as_runs() -> None:
    exclude = Exclusion(weekdays=("MON",), dates=("2026-03-04/2026-03-05",))
    assert first(cron(max_runs=2, exclude=exclude), 9) == ["03-03 06:00", "03-06 06:00"]


def test_the_days_of_calendars_are_excluded_as_dates_are() -> None:
    exclude = Exclusion(calendars=("a",), calendar_days=("2026-03-02", "2026-03-04"))
    assert first(cron(exclude=exclude), 2) == ["03-03 06:00", "03-05 06:00"]


def test_the_days_of_calendars_are_stored_but_not_shown() -> None:
    exclude = Exclusion(calendars=("a",), calendar_days=("2026-03-02",))
    schedule = cron(exclude=exclude)
    assert "calendar_days" not in str(as_json(schedule))
    assert "calendar_days" not in str(TypeAdapter(Schedule).json_schema())
    assert TypeAdapter(Schedule).validate_python(as_stored(schedule)) == schedule


def test_excluded_days_are_those_of_the_zone() -> None:
    exclude = Exclusion(weekdays=("MON",))
    late = cron("0 23 * * *", timezone="America/New_York", exclude=exclude)
    assert first(late, 2) == ["03-02 04:00", "03-04 04:00"]
    anchor = NOW.replace(hour=4)
    every = IntervalSchedule(every=DAY, anchor=anchor, timezone="America/New_York", exclude=exclude)
    assert first(every, 2) == ["03-02 04:00", "03-04 04:00"]


def test_jitter_is_the_same_for_a_task_for_ever() -> None:
    """A due time that moved with a new release would run twice, or not at all."""
    found = next_due(cron(jitter=timedelta(minutes=10)), "nightly-report", NOW)
    assert found == NOW.replace(day=2, hour=6) + timedelta(seconds=536.021)


def test_jitter_spreads_tasks_and_days_evenly() -> None:
    schedule = cron(jitter=timedelta(minutes=10))
    found = [next_due(schedule, f"t{number}", NOW) for number in range(1000)]
    minutes = [due.minute for due in found if due]
    assert all(60 < minutes.count(number) < 145 for number in range(10))  # about 100 each
    days = list(islice(due_times(schedule, "t", NOW), 200))
    assert all(5 < sum(due.minute == number for due in days) < 45 for number in range(10))


def test_a_due_time_that_jitter_moved_past_an_instant_is_due_after_it() -> None:
    schedule = cron(jitter=timedelta(hours=8))
    due = next_due(schedule, "task", NOW)
    assert due is not None
    assert due > NOW.replace(day=2, hour=6)
    between = due - timedelta(microseconds=1)
    assert next_due(schedule, "task", between) == due


@pytest.mark.parametrize(
    ("schedule", "field", "problem"),
    [
        (cron(ends_at=NOW), "schedule.ends_at", "in the past"),
        (cron(starts_at=NOW + DAY, ends_at=NOW + DAY), "schedule.ends_at", "not after starts_at"),
        (cron(ends_at=NOW + DAY / 4), "schedule.ends_at", "never fires"),
        (cron(starts_at=datetime(2201, 1, 1, tzinfo=UTC)), "schedule.starts_at", "too far"),
        (cron(starts_at=datetime(1, 1, 1, tzinfo=UTC)), "schedule.starts_at", "too long ago"),
        (cron(ends_at=datetime(9999, 12, 31, tzinfo=UTC)), "schedule.ends_at", "too far"),
        (cron(starts_at=NOW - 9 * DAY, max_runs=9), "schedule.max_runs", "have passed"),
        (cron(exclude=Exclusion(weekdays=ALL_DAYS)), "schedule.exclude", "never fires"),
        (
            cron("0 6 * * MON", exclude=Exclusion(weekdays=("MON",))),
            "schedule.exclude",
            "never fires",
        ),
        (
            IntervalSchedule(every=7 * DAY, exclude=Exclusion(weekdays=("SUN",))),
            "schedule.exclude",
            "never fires",
        ),
        (IntervalSchedule(every=DAY, timezone="Mars"), "schedule.timezone", "no such time zone"),
    ],
)
def test_a_schedule_that_comes_to_nothing_is_refused_by_the_field_at_fault(
    schedule: Schedule, field: str, problem: str
) -> None:
    error = only_error(schedule)
    assert error.field == field
    assert problem in error.problem
    assert error.remedy


@pytest.mark.parametrize(
    "exclude",
    [{"dates": ["2026-02-30"]}, {"dates": ["2026-12-31/2026-12-01"]}, {"weekdays": ["XX"]}],
)
def test_what_is_no_day_is_refused(exclude: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Exclusion(**exclude)


_EVERY_SECOND_DAY = tuple(str(date(2026, 3, 1) + number * 2 * DAY) for number in range(1000))
_SUNDAYS = tuple(str(date(2026, 3, 1) + number * 7 * DAY) for number in range(2500))


@pytest.mark.parametrize(
    "schedule",
    [
        cron("* * * * * *", exclude=Exclusion(weekdays=ALL_DAYS)),
        cron("* * * * * *", exclude=Exclusion(weekdays=ALL_DAYS[1:], calendar_days=_SUNDAYS)),
        cron("* * * * * *", exclude=Exclusion(dates=("0001-01-01/9999-12-31",))),
        cron(("0 0 * * SUN",) * 20, exclude=Exclusion(weekdays=("SUN",))),
        cron(("* * * * * *",) * 20, exclude=Exclusion(dates=_EVERY_SECOND_DAY), max_runs=10_000),
        cron("* * * * * *", starts_at=datetime(1, 1, 1, tzinfo=UTC), max_runs=10_000),
        cron("* * * * * *", jitter=7 * DAY),
        cron("0 0 29 2 *", jitter=7 * DAY, ends_at=NOW + 300 * DAY),
        IntervalSchedule(
            every=timedelta(seconds=1),
            anchor=datetime(1, 1, 1, tzinfo=UTC),
            timezone="America/New_York",
            exclude=Exclusion(dates=("0001-01-01/9999-12-31",)),
        ),
        IntervalSchedule(every=7 * DAY, exclude=Exclusion(weekdays=("SUN",))),
    ],
)
def test_no_schedule_takes_long_to_judge(schedule: Schedule) -> None:
    started = time.process_time()
    resolved = resolve(schedule, NOW)
    check(schedule, NOW, "task")
    for after in (datetime.min.replace(tzinfo=UTC), NOW, datetime.max.replace(tzinfo=UTC)):
        list(islice(due_times(resolved, "task", after), 10))
    warnings(resolved, "task", NOW)
    describe(resolved, "task")
    assert time.process_time() - started < 5  # it takes up to 0.2 s; a search without a bound hours


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (
            cron(("0 9 * * MON", "30 14 1 * *"), timezone="Europe/Berlin"),
            "At 09:00, only on Monday; at 14:30, on day 1 of the month (Europe/Berlin time)",
        ),
        (
            cron(starts_at=NOW, ends_at=NOW + DAY, max_runs=1, jitter=timedelta(minutes=5)),
            "At 06:00, UTC; from 2026-03-01 12:00:00 UTC; before 2026-03-02 12:00:00 UTC;"
            " at most 1 time; each up to 5 min later",
        ),
        (
            cron(
                exclude=Exclusion(
                    weekdays=("SUN", "SAT"),
                    dates=("2026-12-24", "2026-12-27/2026-12-31", "2027-01-01", "2027-01-06"),
                    calendars=("de-holidays",),
                )
            ),
            "At 06:00, UTC; not on Saturdays, Sundays, 2026-12-24, 2026-12-27 to 2026-12-31,"
            " 2027-01-01, 1 more date or the days of de-holidays",
        ),
        (
            IntervalSchedule(every=DAY, max_runs=3, exclude=Exclusion(weekdays=("MON",))),
            "every 1 d; at most 3 times; not on Mondays (UTC)",
        ),
        (cron(exclude=Exclusion()), "At 06:00, UTC"),
    ],
)
def test_all_that_a_schedule_has_is_described(schedule: Schedule, words: str) -> None:
    assert describe(schedule, "task") == words


def codes(schedule: Schedule) -> list[str]:
    return [one.code for one in warnings(resolve(schedule, NOW), "task", NOW)]


def test_excluded_days_that_last_are_warned_of_with_when_it_is_due_again() -> None:
    exclude = Exclusion(dates=("2026-03-01/2026-03-11",))
    (found,) = warnings(cron(exclude=exclude), "task", NOW)
    assert found.code == "excluded"
    assert found.message == (
        "The next 10 days on which it would be due are excluded, up to 2026-03-11:"
        " it is due again at 2026-03-12 06:00:00 UTC."
    )
    assert codes(cron(exclude=Exclusion(dates=("2026-03-02/2026-03-10",)))) == []
    weekly = cron("0 6 * * MON", exclude=exclude)
    assert codes(weekly) == []
    assert codes(IntervalSchedule(every=DAY, exclude=exclude)) == ["excluded"]


def test_a_change_of_the_clocks_on_an_excluded_day_or_outside_the_window_is_not_warned_of() -> None:
    berlin = {"timezone": "Europe/Berlin"}
    both = ["dst_skipped", "dst_doubled"]
    assert codes(cron("30 2 * * *", **berlin)) == both
    assert codes(cron("30 2 * * *", **berlin, exclude=Exclusion(weekdays=("SUN",)))) == []
    assert codes(cron("30 2 * * *", **berlin, ends_at=NOW + 90 * DAY)) == both[:1]
    assert codes(cron("30 2 * * *", **berlin, starts_at=NOW + 90 * DAY)) == both[1:]
    assert codes(cron(("30 2 * * *", "45 2 * * *", "0 9 * * *"), **berlin)) == both


@pytest.mark.parametrize(
    ("dst", "gap", "fold"),
    [
        ("skip", "it does not run then.", "it runs at the first."),
        ("both", "it runs at 03:00 instead.", "it runs at both."),
    ],
)
def test_the_warnings_say_what_dst_does(dst: Any, gap: str, fold: str) -> None:
    schedule = cron("30 2 * * *", timezone="Europe/Berlin", dst=dst)
    skipped, doubled = warnings(schedule, "task", NOW)
    assert skipped.message.endswith(gap)
    assert doubled.message.endswith(fold)


def test_a_schedule_that_says_the_same_keeps_what_registration_wrote() -> None:
    for sent in (
        cron(max_runs=3),
        IntervalSchedule(every=DAY),
        IntervalSchedule(every=DAY, max_runs=3, starts_at=NOW + DAY),
        cron(exclude=Exclusion(calendars=("a",))),
    ):
        stored = resolve(sent, NOW)
        if not isinstance(stored, OnceSchedule) and stored.exclude:
            exclude = stored.exclude.model_copy(update={"calendar_days": ("2026-12-24",)})
            stored = stored.model_copy(update={"exclude": exclude})
        assert adopt(sent, stored) == stored


def test_a_schedule_that_says_something_else_is_taken_as_it_is() -> None:
    stored = resolve(cron(max_runs=3), NOW)
    for sent in (
        cron(max_runs=4),
        cron(),
        cron(max_runs=3, starts_at=NOW + DAY),
        IntervalSchedule(every=DAY, max_runs=3),
        OnceSchedule(in_=DAY),
    ):
        assert adopt(sent, stored) == sent
    from_then = cron(starts_at=NOW)
    assert adopt(cron(), from_then) == cron()


def test_two_schedules_are_compared_over_the_same_span() -> None:
    found = difference(cron(), cron("0 6,18 * * *"), "task", NOW, 4)
    assert (found.removed, found.until) == ([], NOW.replace(day=3, hour=6))
    assert [f"{due:%d %H}" for due in found.added] == ["01 18", "02 18"]
    back = difference(cron("0 6,18 * * *"), cron(), "task", NOW, 4)
    assert (back.removed, back.added) == (found.added, found.removed)


def test_schedules_that_end_are_compared_to_their_ends() -> None:
    shorter, longer = (resolve(cron(max_runs=count), NOW) for count in (2, 3))
    found = difference(shorter, longer, "task", NOW, 10)
    assert (found.removed, found.added, found.until) == ([], [NOW.replace(day=4, hour=6)], None)
