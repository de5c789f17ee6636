"""Time zones: the pinned ``tzdata`` package's, whatever the machine has of its own.

``zoneinfo`` asks the system's database first, so two workers could disagree about a due time. Here
every zone is read from the package, which is the same on all machines of an installation.
"""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

#: cron(8): a clock that moves by this much or more is a correction, not daylight saving.
CORRECTION = timedelta(hours=3)

_PROBE = timedelta(hours=6)  # no two changes of any zone are closer together
_SECOND = timedelta(seconds=1)


class Change(NamedTuple):
    """A zone's clock moves at ``at`` (aware UTC) from one offset to another."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def size(self) -> timedelta:
        return abs(self.after - self.before)

    @property
    def is_gap(self) -> bool:
        """Whether wall-clock times are left out; otherwise they come twice."""
        return self.after > self.before

    @property
    def walls(self) -> tuple[datetime, datetime]:
        """The naive wall-clock times [from, to) that are left out or come twice."""
        moment = self.at.replace(tzinfo=None)
        return moment + min(self.before, self.after), moment + max(self.before, self.after)


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """The names of all zones, as IANA spells them."""
    return frozenset(files("tzdata").joinpath("zones").read_text("utf-8").split())


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of that name; raise KeyError when there is none."""
    if name not in names():
        raise KeyError(name)
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as source:
        return ZoneInfo.from_file(source, key=name)


def like(name: str, count: int = 3) -> list[str]:
    """Names of zones that somebody who wrote ``name`` may have meant, the nearest first."""
    folded = {known.lower(): known for known in names()}
    wanted = name.strip().lower().replace(" ", "_")
    cities = [known for low, known in folded.items() if low.rsplit("/", 1)[-1] == wanted]
    near = [folded[low] for low in difflib.get_close_matches(wanted, folded, n=count)]
    return list(dict.fromkeys(sorted(cities) + near))[:count]


def offset_at(moment: datetime, where: ZoneInfo) -> timedelta:
    """The offset from UTC at an instant."""
    offset = moment.astimezone(where).utcoffset()
    assert offset is not None
    return offset


def offsets_of(wall: datetime, where: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The offsets before and after the change that a naive wall-clock time falls into (PEP 495).

    They are the same for a time that comes once, grow where the time is left out, and shrink
    where it comes twice.
    """
    aware = wall.replace(tzinfo=where)
    first, second = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert first is not None and second is not None
    return first, second


def earliest_wall(after: datetime, where: ZoneInfo) -> datetime:
    """A naive wall-clock time at or before all those of instants later than ``after``."""
    soon = (timedelta(0), timedelta(hours=3), timedelta(hours=25))
    return after.replace(tzinfo=None) + min(offset_at(after + ahead, where) for ahead in soon)


def change_between(start: datetime, end: datetime, where: ZoneInfo) -> Change:
    """The change in (start, end], aware UTC in whole seconds, between which the offset differs."""
    before, after = offset_at(start, where), offset_at(end, where)
    while end - start > _SECOND:
        middle = start + (end - start) // 2 // _SECOND * _SECOND
        if offset_at(middle, where) == before:
            start = middle
        else:
            end = middle
    return Change(end, before, after)


def changes(start: datetime, end: datetime, where: ZoneInfo) -> Iterator[Change]:
    """The changes of a zone's clock in (start, end], aware UTC, in order."""
    start = start.replace(microsecond=0)
    while start < end:
        following = min(start + _PROBE, end.replace(microsecond=0) + _SECOND)
        if offset_at(start, where) != offset_at(following, where):
            change = change_between(start, following, where)
            if change.at <= end:
                yield change
        start = following


def utc(wall: datetime, offset: timedelta) -> datetime:
    """The instant at which a naive wall clock with that offset shows ``wall``."""
    return (wall - offset).replace(tzinfo=UTC)
