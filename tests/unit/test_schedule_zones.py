"""Due times of every zone whose clock moves, around each of its changes, against the model."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any

import pytest

from onthedot.schedule import due_times, zones
from onthedot.task import CronSchedule
from tests.minutes import Clock, Meaning, clock, fired, model

YEARS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
#: A fixed time, one of every midnight, several, steps, and one that runs all the time.
EXPRESSIONS = (
    "30 2 * * *",
    "0 0 * * *",
    "15,45 0-3 * * *",
    "*/20 2 * * *",
    "0 */2 * * *",
    "*/10 * * * *",
)


def _meaning(cron: str) -> Meaning:
    minute, hour, *_ = cron.split()
    return Meaning(cron, _simple(minute, 60), _simple(hour, 24), lambda _: True)


def _simple(text: str, size: int) -> frozenset[int]:
    if text.startswith("*"):
        return frozenset(range(0, size, int(text[2:] or 1)))
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return frozenset(one for pair in ends for one in range(pair[0], pair[-1] + 1))


MEANINGS = [_meaning(cron) for cron in EXPRESSIONS]
Changes = tuple[zones.Change, ...]


def _moves(name: str) -> bool:
    """Whether the zone's offset is not the same all the time."""
    where, day = zones.zone(name), timedelta(days=1)
    days = (YEARS[0] + number * day for number in range((YEARS[1] - YEARS[0]) // day + 1))
    return len({one.astimezone(where).utcoffset() for one in days}) > 1


@lru_cache(maxsize=1)
def _zones_by_changes() -> dict[Changes, list[str]]:
    """The zones whose clocks move in those years; many have their changes in common."""
    found: dict[Changes, list[str]] = defaultdict(list)
    for name in sorted(filter(_moves, zones.names())):
        if changes := tuple(zones.changes(*YEARS, zones.zone(name))):
            found[changes].append(name)
    return found


@lru_cache(maxsize=1)
def _clocks(changes: Changes) -> list[Clock]:
    """The minutes around each change, the same for all zones that have these changes."""
    where = zones.zone(_zones_by_changes()[changes][0])
    hours = timedelta(hours=5)
    return [clock(where, change.at - hours, change.at + hours) for change in changes]


@pytest.mark.parametrize("dst", ["cron", "skip", "both"])
@pytest.mark.parametrize(
    "changes", _zones_by_changes(), ids=[names[0] for names in _zones_by_changes().values()]
)
def test_each_change_of_a_clock_is_met_as_the_model_meets_it(changes: Changes, dst: Any) -> None:
    for minutes in _clocks(changes):
        start, end = minutes[0][0] - timedelta(minutes=1), minutes[-1][0]
        for place, meaning in enumerate(MEANINGS):
            expected = fired(meaning, minutes, dst)
            first, *others = _zones_by_changes()[changes]
            for name in (first, *others[place :: len(MEANINGS)]):  # the others share the rest
                schedule = CronSchedule(cron=meaning.text, timezone=name, dst=dst)
                found = takewhile(lambda due: due <= end, due_times(schedule, "task", start))  # noqa: B023 - used at once
                assert list(found) == expected, (name, meaning.text)


def test_no_zone_whose_clock_moves_is_left_out() -> None:
    tested = {name for names in _zones_by_changes().values() for name in names}
    assert tested > {
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
    }
    assert tested == set(filter(_moves, zones.names()))


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
@pytest.mark.parametrize("dst", ["cron", "skip", "both"])
@pytest.mark.parametrize(
    "cron",
    ["30 2 * * *", "0 0 * * *", "15,45 0-3 * * *", "*/10 * * * *", "*/20 2 * * *", "0 */2 * * *"],
)
def test_odd_changes_are_those_of_debians_cron_too(
    zone: str, day: str, cron: str, dst: Any
) -> None:
    start = datetime.fromisoformat(f"{day}T00:00Z")
    end = start + timedelta(days=3)
    schedule = CronSchedule(cron=cron, timezone=zone, dst=dst)
    found = takewhile(lambda due: due <= end, due_times(schedule, "task", start))
    assert list(found) == model([_meaning(cron)], zones.zone(zone), start, end, dst)
