"""Due times against a model that walks through the minutes, and against another cron.

The model is the rule of Debian's cron(8) taken literally: a clock that cron follows minute by
minute, and what cron does when it moves. The expressions are drawn together with what they mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from onthedot.schedule import due_times, zones
from onthedot.task import CronSchedule

MINUTE = timedelta(minutes=1)
CORRECTION = timedelta(hours=3)
YEARS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)

thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Meaning:
    """An expression of five fields and what it means, without a parser."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    is_day: Callable[[date], bool]

    @property
    def is_wildcard(self) -> bool:
        minute, hour, *_ = self.text.split()
        return minute.startswith("*") or hour.startswith("*")

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.is_day(wall.date())


def model(meaning: Meaning, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """The minutes in (start, end] at which Debian's cron runs the job."""
    moment = start - timedelta(hours=30)  # a clock that is being moved at the start
    reached = moment.astimezone(zone).replace(tzinfo=None)  # the wall-clock time cron has come to
    fired = []
    while moment < end:
        moment += MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        moved = wall - reached - MINUTE
        if meaning.is_wildcard or abs(moved) >= CORRECTION or not moved:
            fires, reached = meaning.matches(wall), wall
        elif moved > timedelta(0):
            skipped = (reached + number * MINUTE for number in range(1, moved // MINUTE + 2))
            fires, reached = any(map(meaning.matches, skipped)), wall
        else:
            fires = False  # until the wall clock has caught up
        if fires and moment > start:
            fired.append(moment)
    return fired


Drawn = tuple[str, frozenset[int]]


@st.composite
def items(draw: st.DrawFn, low: int, high: int) -> Drawn:
    """A number, a range or a range with a step: its text and its values."""
    first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    step = draw(st.none() | st.integers(1, high))
    if first == last:
        return draw(st.sampled_from([str(first), f"{first}-{first}"])), frozenset({first})
    text = f"{first}-{last}" + (f"/{step}" if step else "")
    return text, frozenset(range(first, last + 1, step or 1))


@st.composite
def lists(draw: st.DrawFn, low: int, high: int) -> Drawn:
    """A field that does not start with a star."""
    drawn = draw(st.lists(items(low, high), min_size=1, max_size=3))
    return ",".join(text for text, _ in drawn), frozenset().union(*(one for _, one in drawn))


@st.composite
def stars(draw: st.DrawFn, low: int, high: int) -> Drawn:
    step = draw(st.none() | st.integers(1, high))
    return f"*/{step}" if step else "*", frozenset(range(low, high + 1, step or 1))


def numbers(low: int, high: int) -> st.SearchStrategy[Drawn]:
    return lists(low, high) | stars(low, high)


def cron_weekday(day: date) -> int:
    return day.isoweekday() % 7


def is_last(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


@st.composite
def days(draw: st.DrawFn) -> tuple[str, str, str, Callable[[date], bool]]:
    """Day of the month, month and day of the week, and the days that they mean together."""
    day_text, day_values = draw(numbers(1, 31))
    with_last = draw(st.booleans()) and not day_text.startswith("*")
    day_text += ",L" if with_last else ""
    month_text, month_values = draw(numbers(1, 12) | st.just(("*", frozenset(range(1, 13)))))
    weekday_text, drawn = draw(lists(0, 7) | stars(0, 6))
    weekdays = {one % 7 for one in drawn}
    nth = draw(st.none() | st.tuples(st.integers(0, 7), st.integers(1, 5)))
    if nth and weekday_text.startswith("*"):
        nth = None
    weekday_text += f",{nth[0]}#{nth[1]}" if nth else ""

    def is_day(day: date) -> bool:
        by_day = day.day in day_values or (with_last and is_last(day))
        by_weekday = cron_weekday(day) in weekdays or (
            nth is not None and cron_weekday(day) == nth[0] % 7 and (day.day - 1) // 7 == nth[1] - 1
        )
        both = day_text.startswith("*") or weekday_text.startswith("*")
        by_days = by_day and by_weekday if both else by_day or by_weekday
        return day.month in month_values and by_days

    return day_text, month_text, weekday_text, is_day


@st.composite
def meanings(draw: st.DrawFn, every_day: bool = False) -> Meaning:
    minute, minutes = draw(numbers(0, 59))
    hour, hours = draw(numbers(0, 23) | lists(0, 3))
    if every_day:
        return Meaning(f"{minute} {hour} * * *", minutes, hours, lambda _: True)
    day, month, weekday, is_day = draw(days())
    return Meaning(f"{minute} {hour} {day} {month} {weekday}", minutes, hours, is_day)


@lru_cache
def changes_of(zone: str) -> tuple[datetime, ...]:
    """Near enough when the zone's clock moves in those years: a day before each."""
    where = zones.zone(zone)
    found = []
    day = YEARS[0]
    while day < YEARS[1]:
        following = day + timedelta(days=1)
        if day.astimezone(where).utcoffset() != following.astimezone(where).utcoffset():
            found.append(day)
        day = following
    return tuple(found)


@st.composite
def zones_and_starts(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and an instant, for most of the zones one in the two days before its clock moves."""
    zone = draw(st.sampled_from(sorted(zones.names())))
    minutes = st.integers(0, 30 * 60).map(lambda number: number * MINUTE)
    if moves := changes_of(zone):
        return zone, draw(st.sampled_from(moves)) - timedelta(hours=4) + draw(minutes)
    return zone, YEARS[0] + draw(st.integers(0, 1090)) * timedelta(days=1) + draw(minutes)


def due_between(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    schedule = CronSchedule(cron=cron, timezone=zone)
    return list(takewhile(lambda due: due <= end, due_times(schedule, "task", start)))


@given(meanings(every_day=True) | meanings(), zones_and_starts())
@thorough
def test_due_times_are_those_of_debians_cron_minute_by_minute(
    meaning: Meaning, where: tuple[str, datetime]
) -> None:
    zone, start = where
    end = start + timedelta(hours=40)
    assert due_between(meaning.text, zone, start, end) == model(
        meaning, zones.zone(zone), start, end
    )


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Australia/Lord_Howe", "2026-10-03"),  # half an hour
        ("Australia/Lord_Howe", "2026-04-04"),
        ("Antarctica/Troll", "2026-03-28"),  # two hours
        ("Antarctica/Troll", "2026-10-24"),
        ("Africa/Casablanca", "2026-02-14"),  # backwards for Ramadan
        ("Africa/Casablanca", "2026-03-21"),
        ("America/Sao_Paulo", "2018-11-03"),  # there was no midnight
        ("Asia/Beirut", "2026-03-28"),
        ("Africa/Cairo", "2026-04-23"),
        ("Africa/Cairo", "2026-10-29"),
        ("America/Santiago", "2026-04-04"),
        ("Europe/Dublin", "2026-03-28"),
        ("Pacific/Apia", "2011-12-29"),  # a day was left out
        ("Pacific/Kwajalein", "1993-08-20"),
        ("Antarctica/Casey", "2020-10-03"),  # three hours: a correction
        ("Antarctica/Casey", "2023-03-08"),
        ("Antarctica/Vostok", "2023-12-17"),
    ],
)
@pytest.mark.parametrize(
    "cron",
    ["30 2 * * *", "0 0 * * *", "15,45 0-3 * * *", "*/10 * * * *", "*/20 2 * * *", "0 */2 * * *"],
)
def test_odd_changes_are_those_of_debians_cron_too(zone: str, day: str, cron: str) -> None:
    minute, hour, *_ = cron.split()
    meaning = Meaning(cron, _simple(minute, 60), _simple(hour, 24), lambda _: True)
    start = datetime.fromisoformat(f"{day}T00:00Z")
    end = start + timedelta(days=3)
    assert due_between(cron, zone, start, end) == model(meaning, zones.zone(zone), start, end)


def _simple(text: str, size: int) -> frozenset[int]:
    if text.startswith("*"):
        return frozenset(range(0, size, int(text[2:] or 1)))
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return frozenset(one for pair in ends for one in range(pair[0], pair[-1] + 1))


@given(meanings(), st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1)))  # noqa: DTZ001 - Hypothesis wants naive bounds
@thorough
def test_due_times_are_those_of_cronsim_in_utc(meaning: Meaning, start: datetime) -> None:
    after = start.replace(tzinfo=UTC)
    ours = due_times(CronSchedule(cron=meaning.text), "task", after)
    try:
        theirs = list(islice(CronSim(meaning.text, after), 4))
    except CronSimError:
        theirs = []  # it refuses what never fires
    assert list(islice(ours, 4)) == theirs


@given(meanings(every_day=True), zones_and_starts(), st.integers(0, 20))
@example(
    Meaning("0 0 * * *", frozenset({0}), frozenset({0}), lambda _: True),
    ("UTC", YEARS[0]),
    0,
)
@thorough
def test_due_times_increase_and_never_depend_on_where_one_started(
    meaning: Meaning, where: tuple[str, datetime], skipped: int
) -> None:
    zone, start = where
    schedule = CronSchedule(cron=meaning.text, timezone=zone)
    found = list(islice(due_times(schedule, "task", start), 40))
    assert all(earlier < later for earlier, later in pairwise([start, *found]))
    assert (
        list(islice(due_times(schedule, "task", found[skipped]), 39 - skipped))
        == (found[skipped + 1 :])
    )
    just_before = found[skipped] - timedelta(microseconds=1)
    assert next(due_times(schedule, "task", just_before)) == found[skipped]


@given(meanings(), zones_and_starts())
@thorough
def test_second_zero_in_front_changes_nothing(
    meaning: Meaning, where: tuple[str, datetime]
) -> None:
    zone, start = where
    five = due_times(CronSchedule(cron=meaning.text, timezone=zone), "task", start)
    six = due_times(CronSchedule(cron=f"0 {meaning.text}", timezone=zone), "task", start)
    assert list(islice(six, 5)) == list(islice(five, 5))
