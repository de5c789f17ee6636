"""What people may not expect of a schedule that is otherwise fine."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile

from onthedot.errors import InvalidInput
from onthedot.schedule import cron, zones
from onthedot.schedule.checks import instant
from onthedot.schedule.exclusion import excluded_days
from onthedot.schedule.nominal import ClockChanges
from onthedot.schedule.times import occurrences
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

_AHEAD = timedelta(days=366)
_DAYS_EXCLUDED = 10  # so many in a row are worth a warning


@dataclass(frozen=True, slots=True)
class ScheduleWarning:
    """``code`` is stable and for programs, ``message`` for people."""

    code: str  # dst_skipped, dst_doubled, either_day, both_days, uneven_step, excluded, herd
    message: str


def warnings(schedule: Schedule, task_id: str, now: datetime) -> list[ScheduleWarning]:
    """What to know of a schedule that was resolved, with the year after ``now`` (aware) in view.

    Empty also for a schedule that ``check`` refuses.
    """
    if isinstance(schedule, OnceSchedule) or schedule.timezone not in zones.names():
        return []
    now = now.astimezone(UTC)
    if isinstance(schedule, IntervalSchedule):
        return list(_of_exclusion(schedule, task_id, now))
    try:
        expressions = [cron.read(one, task_id) for one in schedule.expressions]
    except InvalidInput:
        return []
    found = [
        *(one for fields in expressions for one in _of_days(fields)),
        *(one for fields in expressions for one in _of_steps(fields)),
        *_of_daylight_saving(expressions, schedule, now),
        *_of_exclusion(schedule, task_id, now),
    ]
    return list(dict.fromkeys(found))


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
    expressions: list[cron.Cron], schedule: CronSchedule, now: datetime
) -> Iterator[ScheduleWarning]:
    """The next time in a year that is left out, and the next that comes twice."""
    # What runs all day long takes a change of the clocks as nothing special.
    fixed = [one for one in expressions if len(one.hour.values) < 24]
    if not fixed:
        return
    told: set[str] = set()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for change in _changes_from(today, schedule.timezone):
        code = "dst_skipped" if change.is_gap else "dst_doubled"
        if change.at <= now or code in told or not _is_in_window(change.at, schedule):
            continue
        for fields in fixed:
            if (wall := _first_within(fields, change, schedule)) is not None:
                told.add(code)
                yield ScheduleWarning(code, _say_change(fields, change, wall, schedule))
                break


def _is_in_window(moment: datetime, schedule: CronSchedule) -> bool:
    starts_at, ends_at = schedule.starts_at, schedule.ends_at
    return not (starts_at and moment < starts_at) and not (ends_at and moment >= ends_at)


def _first_within(
    fields: cron.Cron, change: zones.Change, schedule: CronSchedule
) -> datetime | None:
    """The first time of an expression that a change leaves out or doubles."""
    start, end = change.walls
    excluded = excluded_days(schedule.exclude)
    walls = fields.walls(start - timedelta(seconds=1), excluded.weekdays)
    affected = takewhile(lambda wall: wall < end, walls)
    return next((wall for wall in affected if wall.date() not in excluded), None)


def _of_exclusion(
    schedule: CronSchedule | IntervalSchedule, task_id: str, now: datetime
) -> Iterator[ScheduleWarning]:
    """Whether the next days on which it would be due are all excluded."""
    if not excluded_days(schedule.exclude):
        return
    following = next(occurrences(schedule, task_id, now), None)
    if following is None:
        return
    on_all_days = schedule.model_copy(update={"exclude": None, "max_runs": None})
    where, moment = zones.zone(schedule.timezone), now
    for _ in range(_DAYS_EXCLUDED):
        would_be = next(occurrences(on_all_days, task_id, moment), None)
        if would_be is None or would_be >= following:
            return
        day = would_be.astimezone(where).date()
        midnight = datetime.combine(day + timedelta(days=1), time(), where)
        moment = midnight.astimezone(UTC) - timedelta(microseconds=1)
    yield ScheduleWarning(
        "excluded",
        f"The next {_DAYS_EXCLUDED} days on which it would be due are excluded, up to {day}:"
        f" it is due again at {instant(following)}.",
    )


@lru_cache(maxsize=1024)
def _changes_from(day: datetime, timezone: str) -> tuple[zones.Change, ...]:
    return tuple(zones.changes(day, day + _AHEAD, zones.zone(timezone)))


def _say_change(
    fields: cron.Cron, change: zones.Change, wall: datetime, schedule: CronSchedule
) -> str:
    shown = f"{wall:%H:%M}" if not wall.second else f"{wall:%H:%M:%S}"
    on = f"on {wall:%Y-%m-%d} in {schedule.timezone}"
    start, end = (f"{one:%H:%M}" for one in change.walls)
    rule = ClockChanges(schedule.dst, fields.follows_elapsed_time)
    if change.is_gap:
        makes_up = rule.makes_up(change.size)
        does = f"it runs at {end} instead" if makes_up else "it does not run then"
        return f"There is no {shown} {on}, where clocks go from {start} to {end}: {does}."
    does = "it runs at both" if rule.repeats(change.size) else "it runs at the first"
    return f"{shown} comes twice {on}, where clocks go back from {end} to {start}: {does}."
