"""Due times: the instants at which occurrences of a schedule should start. All are aware UTC."""

import hashlib
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from onthedot.errors import FieldError, InvalidInput
from onthedot.schedule import cron, zones
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

#: No occurrence is due later.
HORIZON = datetime(cron.LAST_YEAR, 12, 31, tzinfo=UTC)

#: The longest time before its due time that a run is sent to a worker.
LONGEST_LEAD = timedelta(seconds=20)
_SHORTEST_LEAD = timedelta(seconds=1)


def due_times(schedule: Schedule, task_id: str, after: datetime) -> Iterator[datetime]:
    """The due times strictly after ``after``, in order, none twice, up to the year 2200.

    They depend on nothing but the arguments. The schedule has been through ``resolve``; raises
    InvalidInput for a cron expression or a zone that ``check`` would have refused.
    """
    after = after.astimezone(UTC)
    match schedule:
        case OnceSchedule():
            at = _resolved(schedule.at)
            return iter([at] if at > after else [])
        case IntervalSchedule():
            return _interval_times(_resolved(schedule.anchor), schedule.every, after)
        case CronSchedule():
            return _cron_times(schedule, task_id, after)


def next_due(schedule: Schedule, task_id: str, after: datetime) -> datetime | None:
    """The first due time strictly after ``after``, or None when none is left."""
    return next(due_times(schedule, task_id, after), None)


def resolve(schedule: Schedule, now: datetime) -> Schedule:
    """The schedule with what depends on the moment of registration written into it."""
    match schedule:
        case OnceSchedule(in_=timedelta() as delay):
            return OnceSchedule(at=now + delay)
        case IntervalSchedule(anchor=None):
            return schedule.model_copy(update={"anchor": now.astimezone(UTC)})
        case _:
            return schedule


def lead(
    schedule: Schedule, task_id: str, due_at: datetime, previous: datetime | None
) -> timedelta:
    """How long before ``due_at`` a run is sent to a worker: the same for a task at each call.

    Tasks are spread by the hash of their id over [1 s, 20 s], or up to half of the time since the
    ``previous`` due time (to the next one where there is none), where that is less.
    """
    share = int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=4).digest(), "big") / 2**32
    longest = LONGEST_LEAD
    if previous is not None:
        longest = min(longest, (due_at - previous) / 2)
    elif (following := next_due(schedule, task_id, due_at)) is not None:
        longest = min(longest, (following - due_at) / 2)
    shortest = min(_SHORTEST_LEAD, longest)
    return shortest + (longest - shortest) * share


def _resolved(moment: datetime | None) -> datetime:
    if moment is None:
        raise ValueError("the schedule has not been resolved: its instant is not known")
    return moment.astimezone(UTC)


def _interval_times(anchor: datetime, every: timedelta, after: datetime) -> Iterator[datetime]:
    """``anchor`` and every so long after it."""
    for number in count(max(0, (after - anchor) // every + 1)):
        try:
            moment = anchor + number * every
        except OverflowError:
            return
        if moment > HORIZON:
            return
        yield moment


def _cron_times(schedule: CronSchedule, task_id: str, after: datetime) -> Iterator[datetime]:
    last = max(after, datetime(cron.FIRST_YEAR, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    if last > HORIZON:
        return
    for moment in _instants(cron.read(schedule.cron, task_id), schedule.timezone, last):
        if moment > last:
            yield moment
            last = moment


def _instants(expression: cron.Cron, timezone: str, after: datetime) -> Iterator[datetime]:
    """The instants of an expression's wall-clock times in order, some of them twice.

    This is the rule of Debian's cron(8) for a clock that moves by less than three hours. Jobs that
    run at a fixed time, which means that neither their minute nor their hour begins with ``*``
    (here also ``H/15`` and ``5/15``): "If the time has moved forwards, those jobs which would have
    run in the time that was skipped will be run soon after the change. Conversely, if the time has
    moved backwards, those jobs that fall into the repeated time will not be re-run." All others
    "are run based on the new time immediately", and so are all jobs where the clock moves further.
    """
    where = _zone(timezone)
    walls = expression.walls(zones.earliest_wall(after, where))
    repeats: deque[datetime] = deque()  # of times that come twice: the second, not yet its turn
    for wall in walls:
        before, behind = zones.offsets_of(wall, where)
        is_fixed = not expression.follows_elapsed_time and abs(behind - before) < zones.CORRECTION
        moment: datetime | None = zones.utc(wall, before)
        if behind > before:
            change = zones.change_between(zones.utc(wall, behind), zones.utc(wall, before), where)
            moment = change.at if is_fixed else None
            walls.skip_to(change.walls[1])
        elif behind < before and not is_fixed:
            repeats.append(zones.utc(wall, behind))
        while repeats and moment is not None and repeats[0] < moment:
            yield repeats.popleft()
        if moment is not None:
            yield moment
    yield from repeats


def _zone(name: str) -> ZoneInfo:
    try:
        return zones.zone(name)
    except KeyError:
        raise InvalidInput(unknown_zone(name)) from None


def unknown_zone(name: str) -> FieldError:
    near = zones.like(name)
    remedy = (
        f"Did you mean {' or '.join(near)}?" if near else "Give an IANA name such as Europe/Berlin"
    )
    return FieldError("schedule.timezone", name, "no such time zone", remedy)
