"""Due times and leads, by example."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from onthedot.errors import InvalidInput
from onthedot.schedule import due_times, lead, next_due, resolve, zones
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def first(schedule: Schedule, count: int, after: datetime = NOW, task: str = "t") -> list[datetime]:
    return list(islice(due_times(schedule, task, after), count))


def walls(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The due times as the clocks of the zone show them."""
    where = zones.zone(zone)
    found = first(CronSchedule(cron=cron, timezone=zone), count, at(after))
    return [due.astimezone(where).isoformat() for due in found]


def test_once_is_due_once_and_never_after() -> None:
    schedule = OnceSchedule(at=at("2026-12-01T09:00:00+01:00"))
    assert first(schedule, 5) == [at("2026-12-01T08:00Z")]
    assert first(schedule, 5, at("2026-12-01T08:00Z")) == []
    assert next_due(schedule, "t", at("2026-12-01T08:00Z")) is None


def test_once_in_a_while_is_an_instant_after_it_was_resolved() -> None:
    resolved = resolve(OnceSchedule(in_=timedelta(minutes=10)), NOW)
    assert resolved == OnceSchedule(at=NOW + timedelta(minutes=10))
    assert resolve(resolved, NOW + timedelta(days=1)) == resolved


def test_a_schedule_that_was_not_resolved_has_no_due_times() -> None:
    for schedule in (
        OnceSchedule(in_=timedelta(minutes=1)),
        IntervalSchedule(every=timedelta(minutes=1)),
    ):
        with pytest.raises(ValueError, match="resolved"):
            due_times(schedule, "t", NOW)


def test_an_interval_is_counted_from_its_anchor() -> None:
    resolved = resolve(IntervalSchedule(every=timedelta(seconds=90)), NOW)
    assert first(resolved, 2) == [NOW + timedelta(seconds=90), NOW + timedelta(seconds=180)]
    later = NOW + timedelta(days=400, seconds=1)
    assert next_due(resolved, "t", later) == NOW + timedelta(days=400, seconds=90)


def test_an_anchor_in_the_future_is_the_first_due_time() -> None:
    anchor = NOW + timedelta(days=2)
    schedule = IntervalSchedule(every=timedelta(hours=1), anchor=anchor)
    assert first(schedule, 2) == [anchor, anchor + timedelta(hours=1)]


def test_an_interval_goes_on_through_a_change_of_the_clocks() -> None:
    anchor = at("2026-03-28T23:30:00Z")
    schedule = IntervalSchedule(every=timedelta(hours=1), anchor=anchor)
    assert first(schedule, 3, anchor) == [anchor + timedelta(hours=one) for one in (1, 2, 3)]


def test_cron_is_read_in_its_zone() -> None:
    schedule = CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin")
    assert first(schedule, 2) == [at("2026-03-02T01:00Z"), at("2026-03-03T01:00Z")]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("@hourly", "2026-03-01T13:00"),
        ("@DAILY", "2026-03-02T00:00"),
        ("@midnight", "2026-03-02T00:00"),
        ("@weekly", "2026-03-08T00:00"),
        ("@monthly", "2026-04-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("@annually", "2027-01-01T00:00"),
        ("0 0 * * 0", "2026-03-08T00:00"),
        ("0 0 * * 7", "2026-03-08T00:00"),
        ("0 0 * * sun", "2026-03-08T00:00"),
        ("0 0 * JUN tue", "2026-06-02T00:00"),
        ("0 0 13 * 5", "2026-03-06T00:00"),  # either day
        ("0 0 */13 * 5", "2026-03-27T00:00"),  # both: 1, 14 or 27, and a Friday
        ("0 0 1-31 * MON", "2026-03-02T00:00"),  # restricted by its look, so either
        ("0 0 L * *", "2026-03-31T00:00"),
        ("0 0 30,L * *", "2026-03-30T00:00"),
        ("0 0 * * MON#2", "2026-03-09T00:00"),
        ("0 0 1 * MON#2", "2026-03-09T00:00"),  # either day
        ("0 0 * * MON#2,FRI", "2026-03-06T00:00"),
        ("0 22-2/2 * * *", "2026-03-01T22:00"),
        ("5-5 * * * *", "2026-03-01T12:05"),
        ("5/50 * * * *", "2026-03-01T12:05"),
        ("0 0 * * FRI-MON", "2026-03-02T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("30 0 12 * * *", "2026-03-01T12:00:30"),
        ("*/20 * * * * *", "2026-03-01T12:00:20"),
        ("0 0  \t* * *", "2026-03-02T00:00"),
    ],
)
def test_the_next_time_of_an_expression(cron: str, expected: str) -> None:
    assert next_due(CronSchedule(cron=cron), "t", NOW) == at(f"{expected}Z")


def test_wrapped_ranges_go_on_after_the_end_of_the_field() -> None:
    hours = [due.hour for due in first(CronSchedule(cron="0 22-6/5 * * *"), 4)]
    assert hours == [22, 3, 22, 3]


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_an_expression_that_never_fires_has_no_due_times(cron: str) -> None:
    assert next_due(CronSchedule(cron=cron), "t", NOW) is None


def test_hash_is_stable_spread_and_in_its_range() -> None:
    def slot(task: str, cron: str = "H H(0-5) * * *") -> tuple[int, int]:
        due = first(CronSchedule(cron=cron), 1, task=task)[0]
        return due.hour, due.minute

    assert slot("nightly-report") == (2, 36)  # the same for ever: tasks rely on it
    slots = {slot(f"task-{number}") for number in range(300)}
    assert len(slots) > 180  # of 360
    assert {hour for hour, _ in slots} == set(range(6))


def test_hash_with_a_step_starts_in_the_first_step() -> None:
    for number in range(50):
        minutes = [
            due.minute for due in first(CronSchedule(cron="H/15 * * * *"), 4, task=f"t{number}")
        ]
        assert sorted(minutes) == [min(minutes) + 15 * one for one in range(4)]


def test_a_hashed_day_is_in_every_month() -> None:
    for number in range(60):
        dues = first(CronSchedule(cron="0 0 H * *"), 12, task=f"t{number}")
        assert len({due.month for due in dues}) == 12


def test_a_fixed_time_that_is_left_out_runs_right_after_the_jump() -> None:
    assert walls("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_several_left_out_times_run_once_together() -> None:
    assert walls("*/5 0 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]
    assert walls("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_a_fixed_time_that_comes_twice_runs_at_the_first() -> None:
    assert walls("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    assert walls("30 2 * * *", "Europe/Berlin", "2026-10-25T00:31Z", 1) == [
        "2026-10-26T02:30:00+01:00"
    ]


def test_every_half_hour_stays_every_half_hour_when_the_clocks_change() -> None:
    for after in ("2026-03-28T23:00Z", "2026-10-24T23:00Z"):
        found = first(CronSchedule(cron="*/30 * * * *", timezone="Europe/Berlin"), 12, at(after))
        assert found == [at(after) + timedelta(minutes=30 * one) for one in range(1, 13)]


def test_a_step_in_one_hour_runs_in_both_and_not_in_one_that_is_left_out() -> None:
    assert walls("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 4) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
    ]
    assert walls("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 1) == [
        "2026-03-30T02:00:00+02:00"
    ]


def test_midnight_that_is_left_out_runs_at_one() -> None:
    assert walls("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00Z", 1) == [
        "2026-04-24T01:00:00+03:00"
    ]


def test_a_day_that_a_zone_left_out_is_not_made_up_for() -> None:
    assert walls("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00Z", 2) == [
        "2011-12-29T09:00:00-10:00",
        "2011-12-31T09:00:00+14:00",
    ]


def test_due_times_end_with_the_year_2200() -> None:
    every_year = first(CronSchedule(cron="0 0 1 1 *"), 1000)
    assert every_year[-1].year == 2200
    assert next_due(CronSchedule(cron="* * * * *"), "t", datetime.max.replace(tzinfo=UTC)) is None
    assert len(first(IntervalSchedule(every=timedelta(days=36_500), anchor=NOW), 9)) == 1


def test_due_times_do_not_begin_before_1970() -> None:
    schedule = CronSchedule(cron="0 0 * * *")
    assert next_due(schedule, "t", datetime.min.replace(tzinfo=UTC)) == at("1970-01-01T00:00Z")


def test_after_may_have_any_offset() -> None:
    schedule = CronSchedule(cron="0 2 * * *")
    assert next_due(schedule, "t", NOW.astimezone(ZoneInfo("Asia/Tokyo"))) == next_due(
        schedule, "t", NOW
    )


def test_a_stored_schedule_that_is_wrong_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"schedule\.timezone"):
        next_due(CronSchedule(cron="0 2 * * *", timezone="Mars/Olympus"), "t", NOW)
    with pytest.raises(InvalidInput, match=r"schedule\.cron"):
        next_due(CronSchedule(cron="0 25 * * *"), "t", NOW)


def test_zones_are_those_of_the_package_whatever_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    for name in sorted(zones.names()):
        assert zones.zone(name).key == name


@pytest.mark.parametrize("name", ["", "../UTC", "/etc/localtime", "europe/berlin", "Europe"])
def test_a_name_that_is_no_zone_opens_no_file(name: str) -> None:
    with pytest.raises(KeyError):
        zones.zone(name)


def test_changes_are_found_to_the_second() -> None:
    found = list(zones.changes(NOW, NOW + timedelta(days=365), zones.zone("Europe/Berlin")))
    assert [change.at for change in found] == [at("2026-03-29T01:00Z"), at("2026-10-25T01:00Z")]
    assert [change.is_gap for change in found] == [True, False]


DAILY = CronSchedule(cron="0 0 * * *")


def test_leads_are_spread_over_eight_bursts() -> None:
    due, previous = NOW, NOW - timedelta(days=1)
    leads = [lead(DAILY, f"task-{number}", due, previous).total_seconds() for number in range(1000)]
    bursts = Counter(leads)
    assert sorted(bursts) == [15.5, 25.5, 35.5, 45.5, 55.5, 65.5, 75.5, 85.5]
    assert 90 < min(bursts.values()) < max(bursts.values()) < 160  # about 125 each


def test_a_lead_is_the_same_for_a_task_at_each_call() -> None:
    assert lead(DAILY, "nightly", NOW, None) == lead(DAILY, "nightly", NOW, None)
    assert lead(DAILY, "nightly-report", NOW, None) == timedelta(seconds=75.5)


def test_a_lead_is_never_more_than_half_of_the_interval() -> None:
    every = timedelta(seconds=3)
    schedule = IntervalSchedule(every=every, anchor=NOW)
    for number in range(100):
        for previous in (None, NOW):
            assert lead(schedule, f"t{number}", NOW + every, previous) <= every / 2


def test_short_leads_are_spread_as_well() -> None:
    schedule = IntervalSchedule(every=timedelta(seconds=10), anchor=NOW)
    due = NOW + timedelta(seconds=10)
    leads = {lead(schedule, f"t{number}", due, NOW) for number in range(100)}
    assert leads == {timedelta(seconds=number + 0.5) for number in range(1, 5)}


def test_a_lead_of_a_task_that_runs_once_is_not_shortened() -> None:
    once = OnceSchedule(at=NOW)
    assert lead(once, "nightly-report", NOW, None) == lead(DAILY, "nightly-report", NOW, None)
