"""A calendar's days as people write them: one a line, ``2026-12-25 Christmas``; and as they read them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from pydantic import ValidationError

from onthedot.holidays import CalendarDay
from onthedot.task import read_span
from web.shape_errors import field_errors

_TOLD = 5  # so many lines that are wrong are told one by one
_LONGEST = 40  # characters of such a line that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One entry of a calendar."""

    first: date
    last: date
    title: str


def read_days(text: str) -> tuple[CalendarDay, ...]:
    """The days in ``text``, empty lines left out; raise ValueError that tells which lines are wrong."""
    found, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        day, _, title = line.strip().partition(" ")
        try:
            found.append(CalendarDay(date=day, title=title))
        except ValidationError as error:
            problem = next(field_errors(error.errors(include_url=False)))
            what = "its title " if problem.field == "title" else ""
            wrong.append(
                f'Line {number}, "{_short(line)}": {what}{problem.problem}. {problem.remedy}'
            )
    if wrong:
        rest = len(wrong) - _TOLD
        more = [f"And {rest} more {'line' if rest == 1 else 'lines'}."] if rest > 0 else []
        raise ValueError("\n".join([*wrong[:_TOLD], *more]))
    return tuple(found)


def write_days(days: Iterable[CalendarDay]) -> str:
    """The text that ``read_days`` reads these days from."""
    return "\n".join(f"{day.date} {' '.join(day.title.splitlines())}".rstrip() for day in days)


def passed_and_ahead(days: Sequence[CalendarDay], today: date) -> tuple[list[Day], list[Day]]:
    """The entries that are over, the latest first, and those that go on or come, the next first."""
    found = []
    for day in days:
        first, last = read_span(day.date)
        found.append(Day(first=first, last=last, title=day.title))
    found.sort(key=lambda day: (day.first, day.last))
    passed = [day for day in reversed(found) if day.last < today]
    return passed, [day for day in found if day.last >= today]


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
