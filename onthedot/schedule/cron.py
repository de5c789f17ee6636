"""Reading cron expressions, and stepping through the wall-clock times that they name.

The dialect is Debian's crontab(5): minute, hour, day of the month, month, day of the week; names,
lists, ranges and steps; ``@daily`` and the like. Beyond it: a field of seconds in front, ``L`` (the
last day of the month), ``MON#2`` (the second Monday), ``H`` (a value fixed by the task's id, as
Jenkins has it), ``5/15`` (from 5 on, every 15th) and ranges that wrap (``22-2``, ``FRI-MON``).

Fields are read here, so that what is wrong with one is said in our words; croniter is given nothing
but numbers, ``*``, ``L`` and ``#`` and steps through naive times.
"""

import copy
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from croniter import CroniterBadDateError, croniter

from onthedot.errors import FieldError, InvalidInput

#: No due time is looked for before or after these years.
FIRST_YEAR, LAST_YEAR = 1970, 2200

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class _Kind(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    hash_high: int | None = None  # H stays at or below it

    def number(self, text: str) -> int | None:
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.low
        number = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else -1
        return number if self.low <= number <= self.high else None

    @property
    def title(self) -> str:
        return f"An {self.name}" if self.name == "hour" else f"A {self.name}"

    @property
    def range(self) -> str:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{names}"


_MONTHS = (
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SECOND = _Kind("second", 0, 59)
_MINUTE = _Kind("minute", 0, 59)
_HOUR = _Kind("hour", 0, 23)
_DAY = _Kind("day of the month", 1, 31, hash_high=28)
_MONTH = _Kind("month", 1, 12, _MONTHS)
_WEEKDAY = _Kind("day of the week", 0, 7, _WEEKDAYS, hash_high=6)
_KINDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)

_ITEM = re.compile(
    r"(?P<star>\*)(?:/(?P<star_step>[0-9]{1,4}))?"
    r"|(?P<hash>[Hh])(?:\((?P<hash_low>\w+)-(?P<hash_high>\w+)\))?(?:/(?P<hash_step>[0-9]{1,4}))?"
    r"|(?P<low>\w+)(?:-(?P<high>\w+))?(?:/(?P<step>[0-9]{1,4}))?",
    re.ASCII,
)
_NTH = re.compile(r"(?P<weekday>\w+)#(?P<nth>[1-5])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One field that has been read: ``values`` and, for days, what depends on the month."""

    text: str  # as it was written
    values: tuple[int, ...]  # in order; all that the field allows when it is open
    special: tuple[str, ...] = ()  # "l", or weekdays such as "1#2"
    is_open: bool = False  # a lone *
    starts_with_star: bool = False
    steps_through_all: bool = False  # *, */n, a/n or H/n: it follows elapsed time
    says_what_it_means: bool = True  # False where a number list is clearer than the text
    uses_hash: bool = False

    def for_croniter(self) -> str:
        return "*" if self.is_open else ",".join([*map(str, self.values), *self.special])

    def in_words(self) -> str:
        """What cron-descriptor is given, which takes ``*/50`` to be every 50 minutes."""
        return self.text if self.says_what_it_means else ",".join(map(str, self.values))

    def parts_in_words(self) -> list[str]:
        """The same for days: numbers, and each special by itself."""
        plain = [self.in_words()] if self.values and not self.is_open else []
        return plain + [one.upper() for one in self.special]


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
        return self.minute.steps_through_all or self.hour.steps_through_all

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
        """Expressions for croniter whose times together are those of this one.

        croniter neither takes weekdays and nth weekdays together, nor applies the either-day rule
        to nth weekdays.
        """
        day, weekday = self.day.for_croniter(), self.weekday
        parts = (
            [",".join(map(str, weekday.values))] if weekday.values and not weekday.is_open else []
        )
        parts += [",".join(weekday.special)] if weekday.special else []
        if self.either_day:
            return [self._expression(day, "*"), *(self._expression("*", part) for part in parts)]
        return [self._expression(day, part) for part in parts or ["*"]]

    def _expression(self, day: str, weekday: str) -> str:
        minute, hour, month = (one.for_croniter() for one in (self.minute, self.hour, self.month))
        seconds = f" {self.second.for_croniter()}" if self.second else ""
        return f"{minute} {hour} {day} {month} {weekday}{seconds}"


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
    kinds = _KINDS if len(texts) == 6 else _KINDS[1:]
    fields: list[Field] = []
    errors: list[FieldError] = []
    for kind, text in zip(kinds, texts, strict=True):
        try:
            fields.append(_field(kind, text, task_id))
        except WrongField as wrong:
            errors.append(FieldError("schedule.cron", expression, wrong.problem, wrong.remedy))
    InvalidInput.raise_if_any(errors)
    second = fields.pop(0) if len(fields) == 6 else None
    return Cron(second, *fields)


class WrongField(Exception):  # noqa: N818 - says what is wrong, as the tree of errors.py does
    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(problem, remedy)


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


def _field(kind: _Kind, text: str, task_id: str) -> Field:
    values: set[int] = set()
    special: set[str] = set()
    open_steps = False
    uses_hash = re.search(r"(^|,)h", text, re.IGNORECASE) is not None
    for number, item in enumerate(text.split(",")):
        if kind is _DAY and item.upper() == "L":
            special.add("l")
        elif kind is _WEEKDAY and (nth := _NTH.fullmatch(item)):
            special.add(f"{_number(kind, nth['weekday'], item) % 7}#{nth['nth']}")
        else:
            found, is_open_step = _item(kind, item, f"{task_id}/{kind.name}/{number}")
            values.update(found)
            open_steps = open_steps or is_open_step
    return Field(
        text=text,
        values=tuple(sorted({value % 7 for value in values} if kind is _WEEKDAY else values)),
        special=tuple(sorted(special)),
        is_open=text == "*",
        starts_with_star=text.startswith("*"),
        steps_through_all=text.startswith("*") or open_steps,
        says_what_it_means=not special and not uses_hash and _is_plain(kind, text),
        uses_hash=uses_hash,
    )


def _is_plain(kind: _Kind, text: str) -> bool:
    """Whether a step in ``text`` is evenly spaced also where the field starts again."""
    size = _last(kind) - kind.low + 1
    steps = [item.rpartition("/") for item in text.split(",") if "/" in item]
    if kind is _DAY or not steps:
        return True
    return (
        "," not in text
        and kind is not _WEEKDAY
        and all(
            size % int(step) == 0 and int(step) < size and (first == "*" or "-" in first)
            for first, _, step in steps
        )
    )


def _item(kind: _Kind, item: str, seed: str) -> tuple[Iterable[int], bool]:
    """The values of one item of a list, and whether it steps through the whole field."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _unreadable(kind, item)
    if match["star"]:
        return range(kind.low, _last(kind) + 1, _read_step(kind, match["star_step"], item)), True
    if match["hash"]:
        low, high = kind.low, kind.hash_high or kind.high
        if match["hash_low"]:
            low, high = (_number(kind, match[one], item) for one in ("hash_low", "hash_high"))
            if low > high:
                raise WrongField(
                    f"in the {kind.name} {item}, {low} is after {high}", "Swap the two"
                )
        if match["hash_step"] is None:
            return (low + _hash(seed) % (high - low + 1),), False
        step = _read_step(kind, match["hash_step"], item)
        first = low + _hash(seed) % min(step, high - low + 1)
        return range(first, high + 1, step), match["hash_low"] is None
    return _numbers(kind, match, item)


def _numbers(kind: _Kind, match: re.Match[str], item: str) -> tuple[Iterable[int], bool]:
    low = _number(kind, match["low"], item)
    if match["high"] is None and match["step"] is None:
        return (low,), False
    step = _read_step(kind, match["step"], item)
    if match["high"] is None:
        return range(low, max(low, _last(kind)) + 1, step), True
    high = _number(kind, match["high"], item)
    if low > high:
        size = _last(kind) - kind.low + 1  # the range goes past the end and on from the start
        return (
            (one - kind.low) % size + kind.low for one in range(low, high + size + 1, step)
        ), False
    return range(low, high + 1, step), False


def _last(kind: _Kind) -> int:
    return 6 if kind is _WEEKDAY else kind.high  # 7 is Sunday again


def _number(kind: _Kind, text: str, item: str) -> int:
    number = kind.number(text)
    if number is None:
        inside = f" in {item}" if item != text else ""
        raise WrongField(
            f"the {kind.name} {text}{inside} does not exist", f"{kind.title} is {kind.range}"
        )
    return number


def _read_step(kind: _Kind, text: str | None, item: str) -> int:
    step = 1 if text is None else int(text)
    if step == 0:
        raise WrongField(f"the {kind.name} {item} has a step of zero", "Give a step of 1 or more")
    return step


def _unreadable(kind: _Kind, item: str) -> WrongField:
    if item == "?":
        return WrongField(
            f"the {kind.name} is ?, which is not read",
            "Write *; days of the week are 0-7, Sunday is 0 and 7",
        )
    extra = {_DAY: ", L for the last day", _WEEKDAY: ", MON#2 for the second Monday"}.get(kind, "")
    return WrongField(
        f"the {kind.name} {item or '(empty)'} cannot be read",
        f"{kind.title} is {kind.range}, *, a list (1,2), a range (1-5), a step (*/5 or 1-5/2){extra}",
    )


def _hash(seed: str) -> int:
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big")
