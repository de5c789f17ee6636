"""Reading cron expressions, and stepping through the wall-clock times that they name.

The dialect is Debian's crontab(5): minute, hour, day of the month, month, day of the week; names,
lists, ranges and steps; ``@daily`` and the like. Beyond it: a field of seconds in front, ``L`` (the
last day of the month), ``L-3``, ``LW``, ``15W``, ``MON#2`` (the second Monday), ``MON#L``, ``H`` (a
value fixed by the task's id, as Jenkins has it), ``5/15`` (from 5 on, every 15th) and ranges that
wrap (``22-2``, ``FRI-MON``).
"""

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from onthedot.errors import FieldError, InvalidInput
from onthedot.schedule.fields import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    Field,
    WrongField,
    read_field,
)
from onthedot.schedule.month import Month, days_of_month, days_of_week

#: No due time is looked for before or after these years.
FIRST_YEAR, LAST_YEAR = 1970, 2200

KINDS = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Cron:
    """A cron expression that has been read for one task."""

    second: Field | None
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    #: The days of months by their shape, without some weekdays.
    _days: dict[tuple[Month, frozenset[int]], list[int]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def follows_elapsed_time(self) -> bool:
        """Whether it is what cron(8) calls a wildcard job: its hour or minute begins with ``*``."""
        return bool(self.minute.steps or self.hour.steps)

    @property
    def either_day(self) -> bool:
        """Whether a day needs to match only one of the day fields (crontab(5)): none begins with ``*``."""
        return not (self.day.starts_with_star or self.weekday.starts_with_star)

    @property
    def both_days(self) -> bool:
        """Whether both day fields restrict the days, and a day needs to match both."""
        return not (self.either_day or self.day.is_open or self.weekday.is_open)

    @property
    def uses_hash(self) -> bool:
        """Whether its times depend on the task's id."""
        fields = (self.minute, self.hour, self.day, self.month, self.weekday, self.second)
        return any(field.uses_hash for field in fields if field)

    def walls(self, after: datetime, without: frozenset[int] = frozenset()) -> "Walls":
        """The naive wall-clock times that it names, from the first one after ``after``.

        Those of the weekdays ``without`` (0 is Sunday) are left out.
        """
        return Walls(self, after.replace(microsecond=0) + _SECOND, without)

    def walls_from(self, first: datetime, without: frozenset[int]) -> Iterator[datetime]:
        """The same from ``first`` on, which has no fraction of a second."""
        seconds = self.second.values if self.second else (0,)
        for date in self._dates(first, without):
            is_first = date == (first.year, first.month, first.day)
            for hour in self.hour.values:
                if is_first and hour < first.hour:
                    continue
                for minute in self.minute.values:
                    if is_first and (hour, minute) < (first.hour, first.minute):
                        continue
                    for second in seconds:
                        wall = datetime(*date, hour, minute, second)  # noqa: DTZ001 - naive on purpose
                        if wall >= first:
                            yield wall

    def _dates(self, first: datetime, without: frozenset[int]) -> Iterator[tuple[int, int, int]]:
        for year in range(first.year, LAST_YEAR + 1):
            for number in self.month.values:
                if (year, number) < (first.year, first.month):
                    continue
                for day in self._days_of(year, number, without):
                    if (year, number, day) >= (first.year, first.month, first.day):
                        yield year, number, day

    def _days_of(self, year: int, number: int, without: frozenset[int]) -> list[int]:
        """The days of a month. There are 28 shapes of months: each is worked out once."""
        monday_is_0, length = monthrange(year, number)
        shape = Month((monday_is_0 + 1) % 7, length), without
        if (found := self._days.get(shape)) is None:
            found = self._days[shape] = self._days_of_shape(*shape)
        return found

    def _days_of_shape(self, month: Month, without: frozenset[int]) -> list[int]:
        by_day, by_weekday = days_of_month(self.day, month), days_of_week(self.weekday, month)
        days = by_day | by_weekday if self.either_day else by_day & by_weekday
        return sorted(day for day in days if month.weekday(day) not in without)


class Walls:
    """Steps through naive wall-clock times, in order and none twice."""

    def __init__(self, expression: Cron, first: datetime, without: frozenset[int]) -> None:
        self._expression, self._without = expression, without
        self._next = datetime(FIRST_YEAR, 1, 1)  # noqa: DTZ001 - naive on purpose
        self.skip_to(first)

    def __iter__(self) -> "Walls":
        return self

    def __next__(self) -> datetime:
        wall = next(self._walls)
        self._next = wall + _SECOND
        return wall

    def skip_to(self, wall: datetime) -> None:
        """Leave out the times before ``wall``."""
        self._next = max(self._next, wall)
        self._walls = self._expression.walls_from(self._next, self._without)


@lru_cache(maxsize=4096)
def read(expression: str, task_id: str) -> Cron:
    """Read an expression; ``task_id`` decides what ``H`` stands for.

    Raises InvalidInput with one error for each field that is wrong, all named ``schedule.cron``.
    """
    texts = _split(expression)
    kinds = KINDS if len(texts) == 6 else KINDS[1:]
    fields: list[Field] = []
    errors: list[FieldError] = []
    for kind, text in zip(kinds, texts, strict=True):
        try:
            fields.append(read_field(kind, text, task_id))
        except WrongField as wrong:
            errors.append(FieldError("schedule.cron", expression, wrong.problem, wrong.remedy))
    InvalidInput.raise_if_any(errors)
    second = fields.pop(0) if len(fields) == 6 else None
    return Cron(second, *fields)


def _split(expression: str) -> list[str]:
    """The fields of an expression, nicknames written out."""
    text = expression.strip()
    if text.startswith("@"):
        text = _nickname(text)
    elif re.match(r"(CRON_)?TZ=", text):
        raise _refused(
            expression, "a zone in the expression is not read", "Name it in schedule.timezone"
        )
    fields = re.split(r"[ \t\r\n]+", text)
    if len(fields) not in (5, 6):
        raise _refused(
            expression,
            f"it has {len(fields)} field{'s' if len(fields) != 1 else ''}",
            "Give five (minute, hour, day of the month, month, day of the week), or six with"
            " seconds in front; a year cannot be given",
        )
    return fields


def _nickname(text: str) -> str:
    if text.lower() in NICKNAMES:
        return NICKNAMES[text.lower()]
    known = ", ".join(NICKNAMES)
    if text.lower() == "@reboot":
        raise _refused(text, "a task is not tied to the start of a machine", f"Give one of {known}")
    raise _refused(
        text, "no such nickname", f"Give one of {known}; for every so long, an interval schedule"
    )


def _refused(expression: str, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput(FieldError("schedule.cron", expression, problem, remedy))
