"""What people may not expect of a schedule that is otherwise fine."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from onthedot.errors import InvalidInput
from onthedot.schedule import cron, zones
from onthedot.task import CronSchedule, Schedule

_AHEAD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class ScheduleWarning:
    """``code`` is stable and for programs, ``message`` for people."""

    code: str  # dst_skipped, dst_doubled, either_day, both_days, uneven_step
    message: str


def warnings(schedule: Schedule, task_id: str, now: datetime) -> list[ScheduleWarning]:
    """What to know of a schedule, with the year after ``now`` (aware) in view.

    Empty also for a schedule that ``check`` refuses.
    """
    if not isinstance(schedule, CronSchedule) or schedule.timezone not in zones.names():
        return []
    try:
        fields = cron.read(schedule.cron, task_id)
    except InvalidInput:
        return []
    return [
        *_of_days(fields),
        *_of_steps(fields),
        *_of_daylight_saving(fields, schedule.timezone, now.astimezone(UTC)),
    ]


def _of_days(fields: cron.Cron) -> Iterator[ScheduleWarning]:
    day, weekday = fields.day.text, fields.weekday.text
    if fields.either_day:
        yield ScheduleWarning(
            "either_day",
            f"Both day fields are restricted: it runs on days that match {day} or {weekday}, not only"
            " on those that match both. Start one of the fields with * to ask for both.",
        )
    elif fields.both_days:
        yield ScheduleWarning(
            "both_days",
            f"A day field starts with *: it runs only on days that match {day} as well as {weekday}.",
        )


def _of_steps(fields: cron.Cron) -> Iterator[ScheduleWarning]:
    for field in (fields.second, fields.minute, fields.hour):
        if field is not None and field.is_uneven:
            values = ", ".join(map(str, field.values))
            yield ScheduleWarning(
                "uneven_step",
                f"The {field.kind.name} {field.text} is {values}, and then from the start again."
                " For every so long, use an interval.",
            )


def _of_daylight_saving(
    fields: cron.Cron, timezone: str, now: datetime
) -> Iterator[ScheduleWarning]:
    """The next time in a year that is left out, and the next that comes twice."""
    if len(fields.hour.values) == 24:
        return  # it runs all day long: a change of the clocks is nothing special
    told: set[str] = set()
    for change in _changes_from(now.replace(hour=0, minute=0, second=0, microsecond=0), timezone):
        if change.at <= now:
            continue
        code = "dst_skipped" if change.is_gap else "dst_doubled"
        start, end = change.walls
        wall = next(fields.walls(start - timedelta(seconds=1)), None)
        if code not in told and wall is not None and wall < end:
            told.add(code)
            yield ScheduleWarning(code, _say_change(fields, change, wall, timezone))


@lru_cache(maxsize=1024)
def _changes_from(day: datetime, timezone: str) -> tuple[zones.Change, ...]:
    return tuple(zones.changes(day, day + _AHEAD, zones.zone(timezone)))


def _say_change(fields: cron.Cron, change: zones.Change, wall: datetime, timezone: str) -> str:
    shown = f"{wall:%H:%M}" if not wall.second else f"{wall:%H:%M:%S}"
    on = f"on {wall:%Y-%m-%d} in {timezone}"
    start, end = (f"{one:%H:%M}" for one in change.walls)
    is_fixed = not fields.follows_elapsed_time and change.size < zones.CORRECTION
    if change.is_gap:
        does = f"it runs at {end} instead" if is_fixed else "it does not run then"
        return f"There is no {shown} {on}, where clocks go from {start} to {end}: {does}."
    does = "it runs at the first" if is_fixed else "it runs at both"
    return f"{shown} comes twice {on}, where clocks go back from {end} to {start}: {does}."
