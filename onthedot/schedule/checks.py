"""What is wrong with a schedule at the moment it is registered."""

from datetime import UTC, datetime, timedelta

from onthedot import duration
from onthedot.errors import FieldError, InvalidInput
from onthedot.schedule import cron, times, zones
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

_SHORTEST_INTERVAL = timedelta(seconds=1)


def check(schedule: Schedule, now: datetime, task_id: str = "") -> list[FieldError]:
    """All that is wrong with a schedule that is registered at ``now`` (aware); empty when it is fine.

    ``task_id`` decides what ``H`` stands for.
    """
    match schedule:
        case OnceSchedule():
            return _check_once(schedule, now)
        case IntervalSchedule():
            return _check_interval(schedule)
        case CronSchedule():
            return _check_cron(schedule, now, task_id)


def _check_once(schedule: OnceSchedule, now: datetime) -> list[FieldError]:
    at = schedule.at
    if at is None:
        return []
    if at > times.HORIZON:
        return [_too_far("schedule.at", at)]
    if at <= now:
        ago = _rough(now - at)
        remedy = f"Give an instant after {instant(now)}, or 'in' with a duration such as 10m"
        return [
            FieldError("schedule.at", instant(at), f"this instant is {ago} in the past", remedy)
        ]
    return []


def _check_interval(schedule: IntervalSchedule) -> list[FieldError]:
    errors = []
    if schedule.every < _SHORTEST_INTERVAL:
        errors.append(
            FieldError(
                "schedule.every", duration.write(schedule.every), "too short", "Give 1s or more"
            )
        )
    if schedule.anchor is not None and schedule.anchor > times.HORIZON:
        errors.append(_too_far("schedule.anchor", schedule.anchor))
    return errors


def _check_cron(schedule: CronSchedule, now: datetime, task_id: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if schedule.timezone not in zones.names():
        errors.append(times.unknown_zone(schedule.timezone))
    try:
        walls = cron.read(schedule.cron, task_id).walls(now.astimezone(UTC).replace(tzinfo=None))
    except InvalidInput as invalid:
        return [*invalid.fields, *errors]
    if next(walls, None) is None:
        remedy = "Give days that the months have; L is the last day of any month"
        errors.append(FieldError("schedule.cron", schedule.cron, "it never fires", remedy))
    return errors


def _too_far(field: str, moment: datetime) -> FieldError:
    remedy = f"Give an instant up to the year {cron.LAST_YEAR}"
    return FieldError(field, instant(moment), "too far in the future", remedy)


def instant(moment: datetime) -> str:
    """An instant as people are shown it, in UTC and to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _rough(span: timedelta) -> str:
    """About how long, in at most two units: ``2d 3h``."""
    seconds = max(1, round(span.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number or parts:
            parts.append(f"{number}{unit}" if number else "")
    return " ".join(part for part in parts[:2] if part)
