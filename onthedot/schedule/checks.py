"""What is wrong with a schedule at the moment it is registered."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from onthedot import duration
from onthedot.errors import FieldError, InvalidInput
from onthedot.schedule import cron, times, zones
from onthedot.schedule.nominal import unknown_zone
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule, as_json

_SHORTEST_INTERVAL = timedelta(seconds=1)


def check(schedule: Schedule, now: datetime, task_id: str = "") -> list[FieldError]:
    """All that is wrong with a schedule that is registered at ``now`` (aware); empty when it is fine.

    ``task_id`` decides what ``H`` stands for.
    """
    if isinstance(schedule, OnceSchedule):
        return _check_once(schedule, now)
    errors = [
        *(_check_interval(schedule) if isinstance(schedule, IntervalSchedule) else ()),
        *(_check_cron(schedule, now, task_id) if isinstance(schedule, CronSchedule) else ()),
        *_check_window(schedule, now),
    ]
    if schedule.timezone not in zones.names():
        errors.append(unknown_zone(schedule.timezone))
    return errors or list(_check_fires(schedule, now, task_id))


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


def _check_interval(schedule: IntervalSchedule) -> Iterator[FieldError]:
    if schedule.every < _SHORTEST_INTERVAL:
        every = duration.write(schedule.every)
        yield FieldError("schedule.every", every, "too short", "Give 1s or more")
    if schedule.anchor is not None and schedule.anchor > times.HORIZON:
        yield _too_far("schedule.anchor", schedule.anchor)


def _check_cron(schedule: CronSchedule, now: datetime, task_id: str) -> Iterator[FieldError]:
    now_utc = now.astimezone(UTC).replace(tzinfo=None)
    for place, text in enumerate(schedule.expressions):
        field = "schedule.cron" if isinstance(schedule.cron, str) else f"schedule.cron.{place}"
        try:
            walls = cron.read(text, task_id).walls(now_utc)
        except InvalidInput as invalid:
            for wrong in invalid.fields:
                yield FieldError(field, text, wrong.problem, wrong.remedy)
            continue
        if next(walls, None) is None:
            remedy = "Give days that the months have; L is the last day of any month"
            yield FieldError(field, text, "it never fires", remedy)


def _check_window(schedule: CronSchedule | IntervalSchedule, now: datetime) -> Iterator[FieldError]:
    starts_at, ends_at = schedule.starts_at, schedule.ends_at
    if starts_at is not None and starts_at > times.HORIZON:
        yield _too_far("schedule.starts_at", starts_at)
    if starts_at is not None and starts_at.year < cron.FIRST_YEAR:
        remedy = f"Give an instant from the year {cron.FIRST_YEAR} on, or leave it out"
        yield FieldError("schedule.starts_at", instant(starts_at), "too long ago", remedy)
    if ends_at is None:
        return
    if ends_at > times.HORIZON:
        yield _too_far("schedule.ends_at", ends_at)
    elif starts_at is not None and ends_at <= starts_at:
        problem, remedy = (
            "this is not after starts_at",
            f"Give an instant after {instant(starts_at)}",
        )
        yield FieldError("schedule.ends_at", instant(ends_at), problem, remedy)
    elif ends_at <= now:
        problem = f"this instant is {_rough(now - ends_at)} in the past"
        remedy = f"Give an instant after {instant(now)}, or leave it out"
        yield FieldError("schedule.ends_at", instant(ends_at), problem, remedy)


def _check_fires(
    schedule: CronSchedule | IntervalSchedule, now: datetime, task_id: str
) -> Iterator[FieldError]:
    """Whether anything is due, and if not, which field is to be changed."""
    resolved = times.resolve(schedule, now)
    assert not isinstance(resolved, OnceSchedule)
    if times.next_due(resolved, task_id, now) is not None:
        return
    without_count = resolved.model_copy(update={"max_runs": None})
    if times.next_due(without_count, task_id, now) is not None:
        yield FieldError(
            "schedule.max_runs",
            schedule.max_runs,
            f"so many due times have passed since {instant(resolved.starts_at or now)}",
            "Give more, or a later starts_at",
        )
        return
    on_all_days = without_count.model_copy(update={"exclude": None})
    if schedule.exclude and times.next_due(on_all_days, task_id, now) is not None:
        shown = schedule.exclude.model_dump(mode="json", exclude={"calendar_days"})
        remedy = "Leave a day on which it would run"
        yield FieldError("schedule.exclude", shown, "it never fires: no day is left", remedy)
        return
    if schedule.ends_at is not None:
        problem = "it never fires: nothing is due before this"
        remedy = "Give a later instant, or leave it out"
        yield FieldError("schedule.ends_at", instant(schedule.ends_at), problem, remedy)
        return
    field = "every" if isinstance(schedule, IntervalSchedule) else "cron"
    shown = as_json(schedule)[field]
    yield FieldError(f"schedule.{field}", shown, "it never fires", "Give one that is due by 2200")


def _too_far(field: str, moment: datetime) -> FieldError:
    remedy = f"Give an instant up to the year {cron.LAST_YEAR}"
    return FieldError(field, instant(moment), "too far in the future", remedy)


def instant(moment: datetime) -> str:
    """An instant as people are shown it, in UTC and to the second."""
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:  # at the ends of the calendar UTC may have no such time
        return moment.isoformat()


def _rough(span: timedelta) -> str:
    """About how long, in at most two units: ``2d 3h``."""
    seconds = max(1, round(span.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number or parts:
            parts.append(f"{number}{unit}" if number else "")
    return " ".join(part for part in parts[:2] if part)
