"""What is said of a schedule: what is wrong with it, what may surprise, what it means."""

import warnings as python_warnings
from datetime import UTC, datetime, timedelta

import pytest

from onthedot.errors import FieldError
from onthedot.schedule import check, describe, warnings
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def only_error(schedule: Schedule) -> FieldError:
    (error,) = check(schedule, NOW)
    return error


@pytest.mark.parametrize(
    "schedule",
    [
        OnceSchedule(at=NOW + timedelta(milliseconds=1)),
        OnceSchedule(in_=timedelta(seconds=5)),
        IntervalSchedule(every=timedelta(seconds=1)),
        IntervalSchedule(every=timedelta(days=1), anchor=NOW - timedelta(days=9)),
        CronSchedule(cron="*/5 * * * *", timezone="Europe/Berlin"),
        CronSchedule(cron="0 0 29 2 *"),
        CronSchedule(cron="H H(1-4) L * MON#2"),
    ],
)
def test_a_fine_schedule_has_no_errors(schedule: Schedule) -> None:
    assert check(schedule, NOW) == []


@pytest.mark.parametrize(
    ("cron", "problem", "remedy"),
    [
        ("61 * * * *", "the minute 61 does not exist", "A minute is 0-59"),
        ("0 24 * * *", "the hour 24 does not exist", "An hour is 0-23"),
        ("0 0 0 * *", "the day of the month 0 does not exist", "is 1-31"),
        ("0 0 * 13 *", "the month 13 does not exist", "A month is 1-12 or JAN-DEC"),
        ("0 0 * * 8", "the day of the week 8 does not exist", "is 0-7 or SUN-SAT"),
        ("60 * * * * *", "the second 60 does not exist", "A second is 0-59"),
        ("0 9-25 * * *", "the hour 25 in 9-25 does not exist", "An hour is 0-23"),
        ("0 0 * * MONDAY", "the day of the week MONDAY does not exist", "SUN-SAT"),
        ("*/0 * * * *", "the minute */0 has a step of zero", "1 or more"),
        ("5,,6 * * * *", "the minute (empty) cannot be read", "a list (1,2)"),
        ("-5 * * * *", "the minute -5 cannot be read", "A minute is 0-59"),
        ("٣ * * * *", "the minute ٣ cannot be read", "A minute is 0-59"),
        ("0 0 ? * *", "the day of the month is ?", "Write *"),
        ("0 0 32W * *", "the day of the month 32 in 32W does not exist", "is 1-31"),
        ("0 0 1-15W * *", "the day of the month 15W in 1-15W does not exist", "is 1-31"),
        ("0 0 L-31 * *", "the day of the month L-31 does not exist", "L-30"),
        ("0 0 W * *", "the day of the month W does not exist", "is 1-31"),
        ("0 0 * * L", "the day of the week L does not exist", "SUN-SAT"),
        ("0 0 * * FOOL", "the day of the week FOO in FOOL does not exist", "SUN-SAT"),
        ("0 0 31W 2,4 *", "it never fires", "days that the months have"),
        ("0 0 * * MON#6", "the day of the week MON#6 cannot be read", "MON#2"),
        ("H(9-5) * * * *", "the minute H(9-5) runs backwards", "Swap"),
        ("H(0-99) * * * *", "the minute 99 in H(0-99) does not exist", "A minute is 0-59"),
        ("R * * * *", "the minute R does not exist", "A minute is 0-59"),
        ("* * * *", "it has 4 fields", "five"),
        ("x", "it has 1 field", "five"),
        ("0 0 0 1 1 * 2030", "it has 7 fields", "a year cannot be given"),
        ("@reboot", "not tied to the start of a machine", "@daily"),
        ("@every 5m", "no such nickname", "interval"),
        ("TZ=Asia/Tokyo 0 2 * * *", "a zone in the expression", "schedule.timezone"),
        ("0 0 30 2 *", "it never fires", "L is the last day"),
        ("0 0 31 4 *", "it never fires", "days that the months have"),
    ],
)
def test_a_wrong_expression_is_named_with_its_field_and_a_remedy(
    cron: str, problem: str, remedy: str
) -> None:
    error = only_error(CronSchedule(cron=cron))
    assert (error.field, error.value) == ("schedule.cron", cron)
    assert problem in error.problem
    assert remedy in error.remedy


def test_every_wrong_field_is_told_at_once() -> None:
    errors = check(CronSchedule(cron="61 25 * * FOO", timezone="Europe/Berln"), NOW)
    assert [error.field for error in errors] == ["schedule.cron"] * 3 + ["schedule.timezone"]


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("../../etc/passwd", "IANA name"),
    ],
)
def test_an_unknown_zone_is_answered_with_the_ones_near_it(zone: str, meant: str) -> None:
    error = only_error(CronSchedule(cron="0 2 * * *", timezone=zone))
    assert (error.field, error.value) == ("schedule.timezone", zone)
    assert meant in error.remedy


def test_an_instant_in_the_past_is_refused_with_how_long_ago_it_was() -> None:
    error = only_error(OnceSchedule(at=NOW - timedelta(days=2, hours=3, seconds=4)))
    assert error.field == "schedule.at"
    assert error.problem == "this instant is 2d 3h in the past"
    assert "2026-03-01 12:00:00 UTC" in error.remedy
    assert "1s in the past" in only_error(OnceSchedule(at=NOW)).problem


def test_an_instant_beyond_2200_is_refused() -> None:
    far = datetime(2201, 1, 1, tzinfo=UTC)
    assert only_error(OnceSchedule(at=far)).field == "schedule.at"
    anchored = IntervalSchedule(every=timedelta(days=1), anchor=far)
    assert only_error(anchored).field == "schedule.anchor"


def test_an_interval_under_a_second_is_refused() -> None:
    error = only_error(IntervalSchedule(every=timedelta(milliseconds=999)))
    assert (error.field, error.value) == ("schedule.every", "999ms")
    assert "1s" in error.remedy


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 2 * * *", "At 02:00"),
        ("@daily", "At 00:00"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("*/50 * * * *", "At 0 and 50 minutes past the hour"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
        ("0 9 * * FRI/2", "At 09:00, only on Friday"),
        ("0 0 13 * 5", "At 00:00, on day 13 of the month, or on Friday"),
        ("0 0 13 * 1-5", "At 00:00, on day 13 of the month, or Monday through Friday"),
        ("0 0 */2 * 1", "At 00:00, every 2 days, and only on Monday"),
        ("0 0 L * *", "At 00:00, on the last day of the month"),
        ("0 0 L-3 * *", "At 00:00, 3 days before the last day of the month"),
        ("0 0 LW * *", "At 00:00, on the last weekday of the month"),
        ("0 0 15W * *", "At 00:00, on the weekday nearest day 15 of the month"),
        ("0 0 * * FRI#L", "At 00:00, on the last Friday of the month"),
        ("0 0 * * 5L", "At 00:00, on the last Friday of the month"),
        (
            "0 0 15,L 3 *",
            "At 00:00, on day 15 of the month and on the last day of the month, only in March",
        ),
        (
            "0 0 1 * MON#2",
            "At 00:00, on day 1 of the month, or on the second Monday of the month",
        ),
        (
            "0 0 * * MON#2,FRI",
            "At 00:00, only on Friday and on the second Monday of the month",
        ),
        ("H H * * *", "H H * * *, where H is a value fixed by the task's id"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_expression_is_described_in_words(cron: str, words: str) -> None:
    assert describe(CronSchedule(cron=cron)) == f"{words}, UTC"


def test_a_description_names_the_zone_and_what_the_hash_stands_for() -> None:
    schedule = CronSchedule(cron="H(36-36) 2 * * *", timezone="Europe/Berlin")
    assert describe(schedule, "nightly") == "At 02:36, Europe/Berlin time"


def test_describing_warns_of_no_missing_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getlocale", lambda *_: (None, None))
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("error")
        assert describe(CronSchedule(cron="15 14 * * *")) == "At 14:15, UTC"


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (timedelta(seconds=90), "every 90 s"),
        (timedelta(minutes=10), "every 10 min"),
        (timedelta(hours=36), "every 36 h"),
        (timedelta(days=1), "every 1 d"),
        (timedelta(seconds=400), "every 6 min 40 s"),
        (timedelta(seconds=1.5), "every 1 s 500 ms"),
    ],
)
def test_an_interval_is_described_in_few_words(every: timedelta, words: str) -> None:
    assert describe(IntervalSchedule(every=every)) == words


def test_once_is_described_by_its_instant() -> None:
    at = datetime.fromisoformat("2026-12-01T10:00:00+01:00")
    assert describe(OnceSchedule(at=at)) == "once at 2026-12-01 09:00:00 UTC"
    assert describe(OnceSchedule(in_=timedelta(minutes=10))) == "once in 10 min"


def codes(cron: str, zone: str = "UTC") -> list[str]:
    return [one.code for one in warnings(CronSchedule(cron=cron, timezone=zone), "task", NOW)]


def test_combined_day_fields_are_warned_of() -> None:
    assert codes("0 0 13 * 5") == ["either_day"]
    assert codes("0 0 */2 * 5") == ["both_days"]
    assert codes("0 0 13 * *") == codes("0 0 * * 5") == []


def test_a_step_that_starts_again_before_it_is_over_is_warned_of() -> None:
    assert (
        codes("*/50 * * * *") == codes("0 */7 * * *") == codes("*/7 * * * * *") == ["uneven_step"]
    )
    assert codes("*/15 * * * *") == codes("*/60 * * * *") == codes("0 */24 * * *") == []


def test_a_time_that_the_clocks_leave_out_or_double_is_warned_of_with_its_day() -> None:
    skipped, doubled = warnings(
        CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin"), "task", NOW
    )
    assert (skipped.code, doubled.code) == ("dst_skipped", "dst_doubled")
    assert skipped.message == (
        "There is no 02:30 on 2026-03-29 in Europe/Berlin, where clocks go from 02:00 to 03:00:"
        " it runs at 03:00 instead."
    )
    assert doubled.message == (
        "02:30 comes twice on 2026-10-25 in Europe/Berlin, where clocks go back from 03:00 to"
        " 02:00: it runs at the first."
    )


def test_a_step_within_such_an_hour_is_warned_of_too() -> None:
    messages = [
        one.message
        for one in warnings(CronSchedule(cron="*/10 2 * * *", timezone="Europe/Berlin"), "t", NOW)
    ]
    assert messages[0].endswith("it does not run then.")
    assert messages[1].endswith("it runs at both.")


def test_what_runs_all_day_or_at_another_hour_or_day_is_not_warned_of() -> None:
    assert codes("*/5 * * * *", "Europe/Berlin") == []
    assert codes("30 4 * * *", "Europe/Berlin") == []
    assert codes("30 2 1 * *", "Europe/Berlin") == []
    assert codes("30 2 * * *", "Asia/Tokyo") == []


def test_a_schedule_that_is_refused_has_no_warnings() -> None:
    assert codes("0 25 13 * 5") == codes("30 2 * * *", "Mars/Olympus") == []
    assert warnings(IntervalSchedule(every=timedelta(minutes=1)), "t", NOW) == []
