"""Reading cron expressions, and stepping through the wall-clock times that they name.

The dialect is Debian's crontab(5): minute, hour, day of the month, month, day of the week; names,
lists, ranges and steps; ``@daily`` and the like. Beyond it: a field of seconds in front, ``L`` (the
last day of the month), ``MON#2`` (the second Monday), ``H`` (a value fixed by the task's id, as
Jenkins has it), ``5/15`` (from 5 on, every 15th) and ranges that wrap (``22-2``, ``FRI-MON``).

croniter is given nothing but numbers, ``*``, ``L`` and ``#``, and steps through naive times.
"""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain, product

from croniter import CroniterBadDateError, croniter

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


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that has been read for one task."""

    second: Field | None
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

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

    def walls(self, after: datetime) -> "Walls":
        """The naive wall-clock times that it names, from the first one after ``after``."""
        return Walls(map(_croniter, self._expressions()), after)

    def _expressions(self) -> list[str]:
        """Expressions for croniter whose times together are those of this one."""
        days, weekdays = self.day.for_croniter(), self.weekday.for_croniter()
        pairs: Iterable[tuple[str, str]] = product(days, weekdays)
        if self.either_day:  # croniter has the rule, but not for nth weekdays
            pairs = chain(product(days, "*"), product("*", weekdays))
        (minute,), (hour,), (month,) = map(Field.for_croniter, (self.minute, self.hour, self.month))
        seconds = f" {self.second.for_croniter()[0]}" if self.second else ""
        return [f"{minute} {hour} {day} {month} {weekday}{seconds}" for day, weekday in pairs]


class Walls:
    """Steps through naive wall-clock times, in order and none twice."""

    def __init__(self, croniters: Iterable[croniter], after: datetime) -> None:
        after = max(after, datetime(FIRST_YEAR, 1, 1) - timedelta(seconds=1))  # noqa: DTZ001 - naive on purpose
        self._heads = [(head, one) for one in croniters if (head := _step(one, after))]

    def __iter__(self) -> "Walls":
        return self

    def __next__(self) -> datetime:
        if not self._heads:
            raise StopIteration
        wall = min(head for head, _ in self._heads)
        self._pass([one for one in self._heads if one[0] == wall], wall)
        return wall

    def skip_to(self, wall: datetime) -> None:
        """Leave out the times before ``wall``."""
        # croniter looks for the next minute or second after a whole second: see _step.
        self._pass([one for one in self._heads if one[0] < wall], wall - timedelta(seconds=1))

    def _pass(self, heads: list[tuple[datetime, croniter]], after: datetime) -> None:
        for head in heads:
            self._heads.remove(head)
            if (following := _step(head[1], after)) is not None:
                self._heads.append((following, head[1]))


def _step(stepper: croniter, after: datetime) -> datetime | None:
    """The next time strictly after ``after``, or None when there is none up to LAST_YEAR."""
    if after.year > LAST_YEAR:
        return None
    try:
        # Whole seconds: croniter keeps the time as a float.
        found = stepper.get_next(datetime, start_time=after.replace(microsecond=0))
    except CroniterBadDateError:
        return None
    return found if found.year <= LAST_YEAR else None


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> croniter:
    return croniter(expression, 0, day_or=False)


def _croniter(expression: str) -> croniter:
    return copy.copy(_parsed(expression))  # a stepper has a position, so each caller gets its own


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
