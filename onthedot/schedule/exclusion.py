"""The days on which a schedule is not due."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache

from onthedot.task import WEEKDAYS, Exclusion, read_span

_DAY = timedelta(days=1)


class ExcludedDays:
    """Days that are left out: weekdays, and spans of days."""

    def __init__(self, weekdays: frozenset[int], spans: Iterable[tuple[date, date]]) -> None:
        self.weekdays = weekdays  # 0 is Sunday
        self.spans = merged(spans)
        self._firsts = [first for first, _ in self.spans]

    def __bool__(self) -> bool:
        return bool(self.weekdays or self.spans)

    def __contains__(self, day: date) -> bool:
        return day.isoweekday() % 7 in self.weekdays or self._span_of(day) is not None

    def next_open(self, day: date) -> date | None:
        """The first day from ``day`` on that is not left out; None when there is none."""
        if len(self.weekdays) == 7:
            return None
        try:
            while day in self:
                span = self._span_of(day)
                day = (span[1] if span else day) + _DAY
        except OverflowError:  # the year 9999 is over
            return None
        return day

    def _span_of(self, day: date) -> tuple[date, date] | None:
        place = bisect_right(self._firsts, day)
        if place and day <= self.spans[place - 1][1]:
            return self.spans[place - 1]
        return None


@lru_cache(maxsize=1024)
def excluded_days(exclude: Exclusion | None) -> ExcludedDays:
    """The days that an exclusion names, with those of its calendars as registration found them."""
    if exclude is None:
        return ExcludedDays(frozenset(), ())
    weekdays = frozenset(WEEKDAYS.index(one) for one in exclude.weekdays)
    return ExcludedDays(weekdays, map(read_span, (*exclude.dates, *(exclude.calendar_days or ()))))


def merged(spans: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Spans of days in order, those that touch as one."""
    found: list[tuple[date, date]] = []
    for first, last in sorted(spans):
        if found and first.toordinal() <= found[-1][1].toordinal() + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def write_spans(spans: Iterable[tuple[date, date]]) -> tuple[str, ...]:
    """Spans of days as ``read_span`` reads them, in order, those that touch as one."""
    return tuple(
        str(first) if first == last else f"{first}/{last}" for first, last in merged(spans)
    )
