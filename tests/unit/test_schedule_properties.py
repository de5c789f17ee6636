"""Due times against a model that walks through the minutes, and against another cron.

The expressions are drawn together with what they mean.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from typing import Any

import pytest
from croniter import CroniterBadDateError, croniter
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from onthedot.schedule import cron, due_times, zones
from onthedot.task import CronSchedule, Exclusion, IntervalSchedule
from tests.minutes import MINUTE, Meaning, model

YEARS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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


def is_last_workday(day: date) -> bool:
    """From Monday to Friday, with nothing but a weekend after it in its month."""
    following = (day + timedelta(days=number) for number in range(1, 4))
    rest = [one for one in following if one.month == day.month]
    return day.isoweekday() < 6 and len(rest) < 3 and all(one.isoweekday() > 5 for one in rest)


is_special = {"L": is_last, "LW": is_last_workday}


def is_nth(day: date, weekday: int, nth: int | str) -> bool:
    if cron_weekday(day) != weekday % 7:
        return False
    if nth == "L":
        return (day + timedelta(days=7)).month != day.month
    return (day.day - 1) // 7 == int(nth) - 1


@st.composite
def days(draw: st.DrawFn) -> tuple[str, str, str, Callable[[date], bool]]:
    """Day of the month, month and day of the week, and the days that they mean together."""
    day_text, day_values = draw(numbers(1, 31))
    specials = draw(st.sets(st.sampled_from(["L", "LW"]), max_size=2))
    specials = set() if day_text.startswith("*") else specials
    day_text = ",".join([day_text, *sorted(specials)])
    month_text, month_values = draw(numbers(1, 12) | st.just(("*", frozenset(range(1, 13)))))
    weekday_text, drawn = draw(lists(0, 7) | stars(0, 6))
    weekdays = {one % 7 for one in drawn}
    nth = draw(st.none() | st.tuples(st.integers(0, 7), st.sampled_from([1, 2, 3, 4, 5, "L"])))
    if nth and weekday_text.startswith("*"):
        nth = None
    if nth:
        weekday_text += f",{nth[0]}L" if nth[1] == "L" else f",{nth[0]}#{nth[1]}"

    def is_day(day: date) -> bool:
        by_day = day.day in day_values or any(is_special[one](day) for one in specials)
        by_weekday = cron_weekday(day) in weekdays or (nth is not None and is_nth(day, *nth))
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


DST = st.sampled_from(["cron", "skip", "both"])


def due_between(
    cron: str, zone: str, start: datetime, end: datetime, dst: Any = "cron"
) -> list[datetime]:
    schedule = CronSchedule(cron=cron, timezone=zone, dst=dst)
    return list(takewhile(lambda due: due <= end, due_times(schedule, "task", start)))


@given(meanings(every_day=True) | meanings(), zones_and_starts(), DST)
@thorough
def test_due_times_are_those_of_debians_cron_minute_by_minute(
    meaning: Meaning, where: tuple[str, datetime], dst: str
) -> None:
    zone, start = where
    end = start + timedelta(hours=40)
    expected = model([meaning], zones.zone(zone), start, end, dst)
    assert due_between(meaning.text, zone, start, end, dst) == expected


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


@given(meanings(), st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1)))  # noqa: DTZ001 - Hypothesis wants naive bounds
@thorough
def test_due_times_are_those_of_croniter_in_utc(meaning: Meaning, start: datetime) -> None:
    assume(not re.search(r"\b(\d+)-\1\b|[L#]", meaning.text))  # its 5-5 is the whole field
    after = start.replace(tzinfo=UTC)
    ours = due_times(CronSchedule(cron=meaning.text), "task", after)
    stepper = croniter(meaning.text, after, day_or=cron.read(meaning.text, "task").either_day)
    try:
        theirs = [stepper.get_next(datetime) for _ in range(4)]
    except CroniterBadDateError:  # nothing within fifty years
        assume(False)
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


@given(st.integers(1, 31), st.integers(2024, 2199), st.integers(1, 12))
@thorough
def test_the_nearest_workday_is_the_nearest_one_of_its_month(
    day: int, year: int, month: int
) -> None:
    after = datetime(year, month, 1, tzinfo=UTC) - MINUTE
    found = next(due_times(CronSchedule(cron=f"0 0 {day}W {month} *"), "task", after), None)
    if found is None or found.year > year:  # the month has no such day
        with pytest.raises(ValueError, match="day"):
            date(year, month, day)
        return
    wanted = date(year, month, day)
    around = [wanted + timedelta(days=number) for number in range(-2, 3)]
    workdays = [one for one in around if one.month == month and one.isoweekday() < 6]
    # never as far from another one: a weekend's days lie next to a Friday or a Monday
    assert found.date() == min(workdays, key=lambda one: abs(one - wanted))


@st.composite
def exclusions(draw: st.DrawFn, near: datetime) -> tuple[Exclusion | None, Callable[[date], bool]]:
    """Days that are left out, and which these are."""
    names = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
    weekdays = draw(st.sets(st.sampled_from(names), max_size=3))
    offsets = st.tuples(st.integers(-1, 3), st.integers(0, 1))
    spans = [
        (near.date() + timedelta(days=first), near.date() + timedelta(days=first + more))
        for first, more in draw(st.lists(offsets, max_size=2))
    ]
    texts = [str(first) if first == last else f"{first}/{last}" for first, last in spans]
    of_calendars = draw(st.integers(0, len(texts)))

    def is_excluded(day: date) -> bool:
        by_span = any(first <= day <= last for first, last in spans)
        return by_span or names[cron_weekday(day)] in weekdays

    exclude = Exclusion(
        dates=tuple(texts[of_calendars:]),
        weekdays=tuple(weekdays),  # type: ignore[arg-type] - they are those of the Literal
        calendar_days=tuple(texts[:of_calendars]),
    )
    return exclude, is_excluded


@given(
    st.data(),
    st.lists(meanings(every_day=True) | meanings(), min_size=1, max_size=3),
    zones_and_starts(),
    DST,
)
@thorough
def test_several_expressions_windows_counts_and_exclusions_are_those_of_the_model(
    data: st.DataObject, drawn: list[Meaning], where: tuple[str, datetime], dst: Any
) -> None:
    zone, start = where
    hours = st.integers(-30, 60).map(lambda number: start + number * timedelta(hours=1))
    exclude, is_excluded = data.draw(exclusions(start))
    starts_at, ends_at = data.draw(hours), data.draw(st.none() | hours)
    max_runs = data.draw(st.none() | st.integers(1, 50))
    schedule = CronSchedule(
        cron=tuple(one.text for one in drawn),
        timezone=zone,
        dst=dst,
        starts_at=starts_at,
        ends_at=ends_at,
        max_runs=max_runs,
        exclude=exclude,
    )
    end = start + timedelta(hours=60)
    open_days = [one.but_for(is_excluded) for one in drawn]
    in_time = model(open_days, zones.zone(zone), starts_at - MINUTE, end, dst)
    wanted = [one for one in in_time if ends_at is None or one < ends_at][:max_runs]
    found = takewhile(lambda due: due <= end, due_times(schedule, "task", start))
    assert list(found) == [one for one in wanted if one > start]


@given(st.integers(1, 200_000), st.data(), zones_and_starts())
@thorough
def test_an_interval_is_due_on_days_that_are_not_excluded(
    seconds: int, data: st.DataObject, where: tuple[str, datetime]
) -> None:
    zone, start = where
    exclude, is_excluded = data.draw(exclusions(start))
    every, anchor = timedelta(seconds=max(seconds, 60)), start - timedelta(days=1)
    schedule = IntervalSchedule(every=every, anchor=anchor, timezone=zone, exclude=exclude)
    count = timedelta(days=4) // every
    moments = [anchor + number * every for number in range(count)]
    there = zones.zone(zone)
    wanted = [
        one for one in moments if one > start and not is_excluded(one.astimezone(there).date())
    ]
    found = takewhile(lambda due: due < anchor + count * every, due_times(schedule, "task", start))
    assert list(found) == wanted


@given(
    st.data(),
    meanings(every_day=True),
    zones_and_starts(),
    st.sampled_from([1, 59, 600, 3600, 86_400, 604_800]),
)
@thorough
def test_jitter_moves_each_due_time_later_by_less_than_it_and_to_before_the_next(
    data: st.DataObject, meaning: Meaning, where: tuple[str, datetime], seconds: int
) -> None:
    zone, start = where
    plain = CronSchedule(cron=meaning.text, timezone=zone)
    ends_at = data.draw(st.none() | st.just(start + timedelta(days=5)))
    jitter = timedelta(seconds=seconds)
    moved = plain.model_copy(update={"jitter": jitter, "ends_at": ends_at})
    before = start - timedelta(microseconds=1)
    nominal = list(islice(due_times(plain, "task", before), 21))
    shown = [due for due in islice(due_times(moved, "task", before), 40) if due >= nominal[0]][:20]
    for (earlier, following), due in zip(pairwise(nominal), shown, strict=False):
        if ends_at is not None and earlier >= ends_at:
            break
        assert earlier <= due < min(earlier + jitter, following, ends_at or following)
    middle = data.draw(st.integers(0, len(shown) - 1)) if shown else 0
    for after in shown[middle : middle + 1]:
        rest = list(islice(due_times(moved, "task", after), 20 - middle - 1))
        assert rest[: len(shown) - middle - 1] == shown[middle + 1 :]
