"""A schedule in words."""

import re
from calendar import day_name
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache

from cron_descriptor import (  # type: ignore[import-untyped]  # it has no py.typed
    DescriptionTypeEnum,
    ExpressionDescriptor,
    Options,
)

from onthedot import duration
from onthedot.errors import InvalidInput
from onthedot.schedule import cron
from onthedot.schedule.checks import instant
from onthedot.task import (
    CronSchedule,
    Exclusion,
    IntervalSchedule,
    OnceSchedule,
    Recurring,
    Schedule,
)

_FROM_MONDAY = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_DATES_SHOWN = 3
_OPTIONS = Options(locale_code="en_US", use_24hour_time_format=True)


def describe(schedule: Schedule, task_id: str | None = None) -> str:
    """A schedule in English, such as ``At 02:00, Europe/Berlin time``.

    Without a ``task_id`` the times that ``H`` stands for are not known and not told. An expression
    that cannot be read comes back as it is.
    """
    match schedule:
        case OnceSchedule(at=None, in_=timedelta() as delay):
            return f"once in {_spaced(delay)}"
        case OnceSchedule():
            return f"once at {instant(schedule.at)}" if schedule.at else "once"
        case IntervalSchedule():
            return "; ".join([f"every {_spaced(schedule.every)}", *_conditions(schedule)])
        case CronSchedule():
            return "; ".join([_in_zone(schedule, task_id), *_conditions(schedule)])


def _in_zone(schedule: CronSchedule, task_id: str | None) -> str:
    zone = "UTC" if schedule.timezone == "UTC" else f"{schedule.timezone} time"
    first, *others = [_describe_cron(one, task_id) for one in schedule.expressions]
    if not others:
        return f"{first}, {zone}"
    others = [f"{one[0].lower()}{one[1:]}" for one in others]
    return f"{'; '.join([first, *others])} ({zone})"


def _conditions(schedule: Recurring) -> Iterator[str]:
    """What a schedule has besides its times: a window, a count, exclusions, jitter."""
    if schedule.starts_at is not None:
        yield f"from {instant(schedule.starts_at)}"
    if schedule.ends_at is not None:
        yield f"before {instant(schedule.ends_at)}"
    if schedule.max_runs is not None:
        yield f"at most {schedule.max_runs} time{'s' if schedule.max_runs > 1 else ''}"
    if schedule.exclude is not None and (days := list(_excluded(schedule.exclude))):
        *most, last = days
        zone = "" if schedule.kind == "cron" else f" ({schedule.timezone})"
        yield f"not on {', '.join(most)}{' or ' if most else ''}{last}{zone}"
    if schedule.jitter is not None:
        yield f"each up to {_spaced(schedule.jitter)} later"


def _excluded(exclude: Exclusion) -> Iterator[str]:
    for weekday in sorted(set(exclude.weekdays), key=_FROM_MONDAY.index):
        yield f"{day_name[_FROM_MONDAY.index(weekday)]}s"
    shown, rest = exclude.dates[:_DATES_SHOWN], len(exclude.dates[_DATES_SHOWN:])
    for span in shown:
        yield span.replace("/", " to ")
    if rest:
        yield f"{rest} more date{'s' if rest > 1 else ''}"
    for name in exclude.calendars:
        yield f"the days of {name}"


def _spaced(span: timedelta) -> str:
    """``90 s``, ``36 h``, ``1 d 30 min``: in one unit where a short number will do."""
    milliseconds = span // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if milliseconds % size == 0 and (milliseconds // size < 120 or unit == "d"):
            return f"{milliseconds // size} {unit}"
    return re.sub(r"(\d+)([a-z]+)", r"\1 \2 ", duration.write(span)).replace(" m ", " min ").strip()


def _describe_cron(expression: str, task_id: str | None) -> str:
    try:
        fields = cron.read(expression, task_id or "")
    except InvalidInput:
        return expression
    if task_id is None and fields.uses_hash:
        return f"{expression}, where H is a value fixed by the task's id"
    seconds = f"{fields.second.in_words()} " if fields.second else ""
    time = _say(f"{seconds}{fields.minute.in_words()} {fields.hour.in_words()} * * *")
    month = _say(f"0 0 * {fields.month.in_words()} *", DescriptionTypeEnum.MONTH)
    return f"{time}{_days(fields)}{month}"


def _days(fields: cron.Cron) -> str:
    """The days in words: cron-descriptor has only a part of the either-day rule."""
    day = _list(
        _say(f"0 0 {part} * *", DescriptionTypeEnum.DAYOFMONTH)
        for part in fields.day.parts_in_words()
    )
    weekday = _list(
        _say(f"0 0 * * {part}", DescriptionTypeEnum.DAYOFWEEK)
        for part in fields.weekday.parts_in_words()
    )
    if not day or not weekday:
        return f", {day or weekday}" if day or weekday else ""
    weekday = weekday.removeprefix("only ")
    return f", {day}, or {weekday}" if fields.either_day else f", {day}, and only {weekday}"


def _list(phrases: Iterable[str]) -> str:
    first, *others = [phrase.removeprefix(", ") for phrase in phrases] or [""]
    return " and ".join([first, *(phrase.removeprefix("only ") for phrase in others)])


@lru_cache(maxsize=4096)
def _say(expression: str, part: DescriptionTypeEnum = DescriptionTypeEnum.FULL) -> str:
    return str(ExpressionDescriptor(expression, _OPTIONS).get_description(part))
