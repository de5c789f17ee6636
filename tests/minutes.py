"""A pure model of schedules that walks through the minutes: the rules taken literally.

It knows no parser: an expression comes with what it means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
CORRECTION = timedelta(hours=3)


@dataclass(frozen=True)
class Meaning:
    """An expression of five fields and what it means."""

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

    def but_for(self, excluded: Callable[[date], bool]) -> "Meaning":
        """The same on the days that are not excluded."""
        is_day = self.is_day
        return Meaning(
            self.text, self.minutes, self.hours, lambda day: is_day(day) and not excluded(day)
        )


Clock = Sequence[tuple[datetime, datetime]]


def clock(zone: ZoneInfo, start: datetime, end: datetime) -> Clock:
    """Each minute (UTC) in (start, end], and what the clock on the wall shows then."""
    count = (end - start) // MINUTE
    moments = (start + number * MINUTE for number in range(1, count + 1))
    return [(one, one.astimezone(zone).replace(tzinfo=None, fold=0)) for one in moments]


def fired(meaning: Meaning, minutes: Clock, dst: str) -> list[datetime]:
    """When a cron that looks at the clock each minute runs the job.

    The clock is right, and not being moved, in the minute before the first.
    """
    reached = minutes[0][1] - MINUTE  # the wall-clock time that cron has come to
    found = []
    for moment, wall in minutes:
        moved = wall - reached - MINUTE
        if dst == "skip":
            fires, reached = moved >= timedelta(0) and meaning.matches(wall), max(reached, wall)
        elif meaning.is_wildcard or abs(moved) >= CORRECTION or not moved:
            fires, reached = meaning.matches(wall), wall
        elif moved > timedelta(0):
            skipped = (reached + number * MINUTE for number in range(1, moved // MINUTE + 2))
            fires, reached = any(map(meaning.matches, skipped)), wall
        elif dst == "both":
            fires, reached = meaning.matches(wall), wall
        else:
            fires = False  # until the wall clock has caught up
        if fires:
            found.append(moment)
    return found


def model(
    meanings: Sequence[Meaning], zone: ZoneInfo, start: datetime, end: datetime, dst: str = "cron"
) -> list[datetime]:
    """The minutes in (start, end] at which one of the expressions is due."""
    minutes = clock(zone, start - timedelta(hours=30), end)  # it may be moved just before
    found = {moment for meaning in meanings for moment in fired(meaning, minutes, dst)}
    return sorted(moment for moment in found if moment > start)
