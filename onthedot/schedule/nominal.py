"""The times that cron expressions and intervals name: due times before windows, counts and jitter."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from heapq import merge
from zoneinfo import ZoneInfo

from onthedot.errors import FieldError, InvalidInput
from onthedot.schedule import cron, zones
from onthedot.schedule.exclusion import ExcludedDays
from onthedot.task import CronSchedule, IntervalSchedule

#: No occurrence is due later.
HORIZON = datetime(cron.LAST_YEAR, 12, 31, tzinfo=UTC)


def nominal_times(
    schedule: CronSchedule | IntervalSchedule,
    task_id: str,
    after: datetime,
    excluded: ExcludedDays,
) -> Iterator[datetime]:
    """The aware UTC instants strictly after ``after`` (aware UTC), in order, none twice.

    Those on excluded days are left out. Of a cron expression the day is that of the wall-clock
    time that it names, of an interval that of the instant in its zone.
    """
    if isinstance(schedule, CronSchedule):
        return _cron_times(schedule, task_id, after, excluded)
    if schedule.anchor is None:
        raise ValueError("the schedule has not been resolved: its anchor is not known")
    return _interval_times(schedule, schedule.anchor, after, excluded)


def _interval_times(
    schedule: IntervalSchedule, anchor: datetime, after: datetime, excluded: ExcludedDays
) -> Iterator[datetime]:
    """The anchor and every so long after it."""
    every, where = schedule.every, zone(schedule.timezone)
    anchor = anchor.astimezone(UTC)
    number = max(0, (after - anchor) // every + 1)
    while True:
        try:
            moment = anchor + number * every
        except OverflowError:
            return
        if moment > HORIZON:
            return
        if excluded and (day := moment.astimezone(where).date()) in excluded:
            open_day = excluded.next_open(day)
            if open_day is None or open_day.year > cron.LAST_YEAR:
                return
            midnight = datetime.combine(open_day, time(), where).astimezone(UTC)
            number = max(number + 1, -((anchor - midnight) // every))
        else:
            yield moment
            number += 1


def _cron_times(
    schedule: CronSchedule, task_id: str, after: datetime, excluded: ExcludedDays
) -> Iterator[datetime]:
    after = max(after, datetime(cron.FIRST_YEAR, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    if after > HORIZON:
        return
    where = zone(schedule.timezone)
    expressions = [cron.read(one, task_id) for one in schedule.expressions]
    found = [_instants(one, where, schedule.dst, after, excluded) for one in expressions]
    last = after
    for moment in merge(*found) if len(found) > 1 else found[0]:
        if moment > last:
            yield moment
            last = moment


@dataclass(frozen=True, slots=True)
class ClockChanges:
    """What an expression does with times that a change of the clocks leaves out or doubles.

    ``cron`` is the rule of Debian's cron(8) for a clock that moves by less than three hours. Jobs
    that run at a fixed time, which means that neither their minute nor their hour begins with ``*``
    (here also ``H/15`` and ``5/15``): "If the time has moved forwards, those jobs which would have
    run in the time that was skipped will be run soon after the change. Conversely, if the time has
    moved backwards, those jobs that fall into the repeated time will not be re-run." All others
    "are run based on the new time immediately", and so are all jobs where the clock moves further.
    ``skip`` makes up for nothing and repeats nothing, ``both`` repeats all.
    """

    dst: str
    follows_elapsed_time: bool

    def makes_up(self, moved: timedelta) -> bool:
        """Whether times that are left out are run right after the change, as one."""
        return self.dst != "skip" and self._is_fixed(moved)

    def repeats(self, moved: timedelta) -> bool:
        """Whether a time that comes twice runs twice."""
        return self.dst == "both" or (self.dst == "cron" and not self._is_fixed(moved))

    def _is_fixed(self, moved: timedelta) -> bool:
        return not self.follows_elapsed_time and moved < zones.CORRECTION


def _instants(
    expression: cron.Cron, where: ZoneInfo, dst: str, after: datetime, excluded: ExcludedDays
) -> Iterator[datetime]:
    """The instants of an expression's wall-clock times, from before ``after`` on.

    They are in order, some of them twice.
    """
    rule = ClockChanges(dst, expression.follows_elapsed_time)
    walls = expression.walls(zones.earliest_wall(after, where), excluded.weekdays)
    repeats: deque[datetime] = deque()  # of times that come twice: the second, not yet its turn
    for wall in walls:
        if excluded.spans and (day := wall.date()) in excluded:
            if (open_day := excluded.next_open(day)) is None:
                break
            walls.skip_to(datetime.combine(open_day, time()))
            continue
        before, behind = zones.offsets_of(wall, where)
        moment: datetime | None = zones.utc(wall, before)
        if behind > before:
            change = zones.change_between(zones.utc(wall, behind), zones.utc(wall, before), where)
            moment = change.at if rule.makes_up(change.size) else None
            walls.skip_to(change.walls[1])
        elif behind < before and rule.repeats(before - behind):
            repeats.append(zones.utc(wall, behind))
        while repeats and moment is not None and repeats[0] < moment:
            yield repeats.popleft()
        if moment is not None:
            yield moment
    yield from repeats


def zone(name: str) -> ZoneInfo:
    """The zone of that name; raise InvalidInput with those that may have been meant."""
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
