"""The fields of a cron expression: what each one names.

They are read here, so that what is wrong with one is said in our words, and because libraries read
some of them in ways of their own: croniter takes ``5-5`` for the whole field, and is one off after
midnight in ``22-6/5``.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """What one of the fields may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    last: int | None = None  # of the cycle, where ``high`` is another name for ``low``
    hash_last: int | None = None  # H stays at or below it, so that each month has the day

    @property
    def size(self) -> int:
        return (self.last or self.high) - self.low + 1

    @property
    def whole(self) -> range:
        return range(self.low, self.low + self.size)

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

SECOND = Kind("second", 0, 59)
MINUTE = Kind("minute", 0, 59)
HOUR = Kind("hour", 0, 23)
DAY = Kind("day of the month", 1, 31, hash_last=28)
MONTH = Kind("month", 1, 12, _MONTHS)
WEEKDAY = Kind("day of the week", 0, 7, _WEEKDAYS, last=6)


@dataclass(frozen=True, slots=True)
class Field:
    """One field that has been read."""

    kind: Kind
    text: str  # as it was written
    values: tuple[int, ...]  # in order; Sunday is 0
    #: Days that depend on the month: "L", "L-3", "LW", "15W", or weekdays such as "1#2" and "1#L".
    special: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()  # of the items that go through the whole field: *, */n, a/n, H/n

    @property
    def is_open(self) -> bool:
        return self.text == "*"

    @property
    def starts_with_star(self) -> bool:
        return self.text.startswith("*")

    @property
    def is_uneven(self) -> bool:
        """Whether it starts again before a step is over: ``*/50`` minutes are 0, 50, 0, 50."""
        return any(self.kind.size % step for step in self.steps)

    @property
    def uses_hash(self) -> bool:
        return re.search(r"(^|,)h", self.text, re.IGNORECASE) is not None

    def in_words(self) -> str:
        """What cron-descriptor is given: the text where it takes that right, otherwise numbers."""
        has_step = "/" in self.text
        is_clear = self.kind is DAY or not has_step or (self.kind is not WEEKDAY and self._is_clear)
        if self.special or self.uses_hash or not is_clear:
            return ",".join(map(str, self.values))
        return self.text

    @property
    def _is_clear(self) -> bool:
        """Whether it is one step through a range, or one that divides the whole field."""
        if re.fullmatch(r"\w+-\w+/\d+", self.text):
            return True
        is_star_step = re.fullmatch(r"\*/\d+", self.text) is not None
        return is_star_step and not self.is_uneven and self.steps[0] < self.kind.size

    def parts_in_words(self) -> list[str]:
        """The same for days: the numbers, then each special by itself."""
        plain = [self.in_words()] if self.values and not self.is_open else []
        return plain + [re.sub(r"^(\d)#L$", r"\1L", one) for one in self.special]


class WrongField(Exception):  # noqa: N818 - named as the tree in errors.py is
    """A field cannot be read."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(problem, remedy)


def read_field(kind: Kind, text: str, task_id: str) -> Field:
    """Read one field; ``task_id`` decides what ``H`` stands for. Raises WrongField."""
    values: set[int] = set()
    special: set[str] = set()
    steps: list[int] = []
    for place, item in enumerate(text.split(",")):
        if (of_month := _read_special(kind, item)) is not None:
            special.add(of_month)
        else:
            found, step = _read_item(kind, item, f"{task_id}/{kind.name}/{place}")
            values.update((value - kind.low) % kind.size + kind.low for value in found)
            steps += [step] if step else []
    return Field(kind, text, tuple(sorted(values)), tuple(sorted(special)), tuple(steps))


_ITEM = re.compile(
    r"(?:(?P<star>\*)|(?P<hash>[Hh])(?:\((?P<from>\w+)-(?P<to>\w+)\))?|(?P<low>\w+)(?:-(?P<high>\w+))?)"
    r"(?:/(?P<step>[0-9]{1,4}))?",
    re.ASCII,
)
_NTH = re.compile(r"(?P<weekday>\w+)#(?P<nth>[1-5L])|(?P<last>[0-7]|[A-Z]{3})L", re.ASCII)
_OF_MONTH = re.compile(r"L|LW|L-(?P<before>[0-9]{1,2})|(?P<near>[0-9]{1,2})W", re.ASCII)


def _read_special(kind: Kind, item: str) -> str | None:
    """An item that names days by the shape of the month, in its one spelling; None for others."""
    text = item.upper()
    if kind is DAY and (match := _OF_MONTH.fullmatch(text)):
        if match["near"]:
            return f"{_number(kind, match['near'], item)}W"
        if match["before"] and not 1 <= int(match["before"]) <= 30:
            raise WrongField(f"the {kind.name} {item} does not exist", "Give L-1 to L-30")
        return f"L-{int(match['before'])}" if match["before"] else text
    if kind is WEEKDAY and (match := _NTH.fullmatch(text)):
        weekday = _number(kind, match["weekday"] or match["last"], item) % 7
        return f"{weekday}#{match['nth'] or 'L'}"
    return None


def _read_item(kind: Kind, item: str, seed: str) -> tuple[Iterable[int], int | None]:
    """The values of one item of a list, and its step if it goes through the whole field."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _unreadable(kind, item)
    step = int(match["step"] or 1)
    if step == 0:
        raise WrongField(f"the {kind.name} {item} has a step of zero", "Give a step of 1 or more")
    if match["star"]:
        return kind.whole[::step], step
    if match["hash"]:
        return _hashed(kind, match, seed), step if match["step"] and not match["from"] else None
    low = _number(kind, match["low"], item)
    if match["high"]:
        high = _number(kind, match["high"], item)
        return range(low, (high if low <= high else high + kind.size) + 1, step), None
    if match["step"]:
        return range(low, max(low + 1, kind.whole.stop), step), step
    return (low,), None


def _hashed(kind: Kind, match: re.Match[str], seed: str) -> Iterable[int]:
    """``H``: one value, or with a step the first of them, chosen by a hash of ``seed``."""
    low, high = kind.low, kind.hash_last or kind.whole[-1]
    if match["from"]:
        low, high = (_number(kind, match[end], match[0]) for end in ("from", "to"))
        if low > high:
            raise WrongField(f"the {kind.name} {match[0]} runs backwards", "Swap its two ends")
    size = high - low + 1
    digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
    chosen = int.from_bytes(digest, "big")
    if match["step"] is None:
        return (low + chosen % size,)
    step = int(match["step"])
    return range(low + chosen % min(step, size), high + 1, step)


def _number(kind: Kind, text: str, item: str) -> int:
    if text.upper() in kind.names:
        return kind.names.index(text.upper()) + kind.low
    if re.fullmatch(r"[0-9]{1,4}", text) and kind.low <= int(text) <= kind.high:
        return int(text)
    inside = f" in {item}" if item != text else ""
    raise WrongField(
        f"the {kind.name} {text}{inside} does not exist", f"{kind.title} is {kind.range}"
    )


def _unreadable(kind: Kind, item: str) -> WrongField:
    if item == "?":
        remedy = "Write *; days of the week are 0-7, where 0 and 7 are Sunday"
        return WrongField(f"the {kind.name} is ?, which is not read", remedy)
    extra = {
        DAY: ", L (the last day), LW, 15W (the weekday nearest to it)",
        WEEKDAY: ", MON#2 (the second Monday), MON#L (the last one)",
    }.get(kind, "")
    return WrongField(
        f"the {kind.name} {item or '(empty)'} cannot be read",
        f"{kind.title} is {kind.range}, *, a list (1,2), a range (1-5), a step (*/5 or 1-5/2){extra}",
    )
