"""Due times: the instants at which occurrences of a schedule should start. All are aware UTC."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, islice, pairwise, takewhile

from onthedot.schedule import cron
from onthedot.schedule.exclusion import excluded_days
from onthedot.schedule.nominal import HORIZON, nominal_times
from onthedot.task import CronSchedule, IntervalSchedule, OnceSchedule, Schedule

__all__ = ["HORIZON", "adopt", "due_times", "lead", "next_due", "occurrences", "resolve"]

#: The longest time before its due time that a run is sent to a worker.
LONGEST_LEAD = timedelta(seconds=90)
_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_INSTANT = timedelta(microseconds=1)
_EARLIEST = datetime(cron.FIRST_YEAR, 1, 1, tzinfo=UTC) - _INSTANT


def due_times(schedule: Schedule, task_id: str, after: datetime) -> Iterator[datetime]:
    """The due times strictly after ``after``, in order, none twice, from 1970 to 2200.

    They depend on nothing but the arguments. The schedule has been through ``resolve``; raises
    InvalidInput for a cron expression or a zone that ``check`` would have refused.
    """
    after = after.astimezone(UTC)
    if isinstance(schedule, OnceSchedule):
        at = _resolved(schedule.at)
        return iter([at] if at > after else [])
    after = max(after, _EARLIEST)
    if schedule.jitter is not None:
        return _moved(schedule, schedule.jitter, task_id, after)
    return occurrences(schedule, task_id, after)


def next_due(schedule: Schedule, task_id: str, after: datetime) -> datetime | None:
    """The first due time strictly after ``after``, or None when none is left."""
    return next(due_times(schedule, task_id, after), None)


def occurrences(
    schedule: CronSchedule | IntervalSchedule, task_id: str, after: datetime
) -> Iterator[datetime]:
    """The due times before jitter: of those that the schedule names, the ones that it wants.

    They lie in its window, on days that are not excluded, and are among its first ``max_runs``.
    """
    if schedule.starts_at is not None:
        after = max(after, _just_before(schedule.starts_at))
    times = nominal_times(schedule, task_id, after, excluded_days(schedule.exclude))
    end = schedule.ends_at
    if schedule.max_runs is not None and (last := _last_counted(schedule, task_id)) is not None:
        end = min(end or HORIZON, last + _INSTANT)
    return times if end is None else takewhile(lambda moment: moment < end, times)


@lru_cache(maxsize=4096)
def _last_counted(schedule: CronSchedule | IntervalSchedule, task_id: str) -> datetime | None:
    """The last of the first ``max_runs`` due times, or None where there are fewer."""
    assert schedule.max_runs is not None
    start = _just_before(_resolved(schedule.starts_at))
    uncounted = schedule.model_copy(update={"max_runs": None})
    last_place = schedule.max_runs - 1
    return next(islice(occurrences(uncounted, task_id, start), last_place, None), None)


def _moved(
    schedule: CronSchedule | IntervalSchedule, jitter: timedelta, task_id: str, after: datetime
) -> Iterator[datetime]:
    """The due times, each moved later: by less than ``jitter``, and to before the next one."""
    last = _last_counted(schedule, task_id) if schedule.max_runs is not None else None
    uncounted = schedule.model_copy(update={"max_runs": None})  # the last has one after it, too
    start = _before_last(uncounted, task_id, after, jitter)
    times = occurrences(uncounted, task_id, start)
    for moment, following in pairwise(chain(times, [None])):
        assert moment is not None
        if last is not None and moment > last:
            return
        ends = [one - moment for one in (following, schedule.ends_at) if one is not None]
        moved = moment + _share(task_id, moment, min([jitter, *ends]))
        if moved > after:
            yield moved


def _before_last(
    schedule: CronSchedule | IntervalSchedule, task_id: str, after: datetime, jitter: timedelta
) -> datetime:
    """An instant before the last due time that may have been moved past ``after``, if there is one.

    It halves the time in which that lies, as there may be a due time every second of it.
    """
    start, none_after = after - jitter, after
    while none_after - start > _SECOND:
        middle = start + (none_after - start) / 2
        moment = next(occurrences(schedule, task_id, middle), None)
        if moment is not None and moment <= after:
            start = _just_before(moment)
        else:
            none_after = middle
    return start


def _share(task_id: str, moment: datetime, limit: timedelta) -> timedelta:
    """From nothing to less than ``limit``, in whole milliseconds: the same at each call."""
    digest = hashlib.blake2b(f"{task_id}/{moment.isoformat()}".encode(), digest_size=8).digest()
    share = limit // _INSTANT * int.from_bytes(digest, "big") >> 64
    return share * _INSTANT // _MILLISECOND * _MILLISECOND


def resolve(schedule: Schedule, now: datetime) -> Schedule:
    """The schedule with what depends on the moment of registration written into it."""
    now = now.astimezone(UTC)
    if isinstance(schedule, OnceSchedule):
        return schedule if schedule.in_ is None else OnceSchedule(at=now + schedule.in_)
    written: dict[str, datetime] = {}
    if isinstance(schedule, IntervalSchedule) and schedule.anchor is None:
        written["anchor"] = schedule.starts_at or now
    if schedule.max_runs is not None and schedule.starts_at is None:
        written["starts_at"] = now + _INSTANT  # what is due at ``now`` is past
    return schedule.model_copy(update=written) if written else schedule


def adopt(sent: Schedule, stored: Schedule) -> Schedule:
    """``stored`` where ``sent`` says the same but leaves out what registration wrote into it.

    So a definition that is sent again changes nothing: an interval keeps its anchor, ``max_runs``
    goes on counting. Otherwise ``sent``.
    """
    if isinstance(sent, OnceSchedule) or isinstance(stored, OnceSchedule):
        return sent
    kept: dict[str, object] = {}
    if sent.max_runs is not None and sent.starts_at is None:
        kept["starts_at"] = stored.starts_at
    if isinstance(sent, IntervalSchedule) and isinstance(stored, IntervalSchedule):
        kept["anchor"] = sent.anchor or stored.anchor
    if sent.exclude and stored.exclude:
        days = {"calendar_days": stored.exclude.calendar_days}
        kept["exclude"] = sent.exclude.model_copy(update=days)
    return stored if sent.model_copy(update=kept) == stored else sent


def lead(
    schedule: Schedule, task_id: str, due_at: datetime, previous: datetime | None
) -> timedelta:
    """How long before ``due_at`` a run is sent to a worker: the same for a task at each call.

    Tasks are spread by the hash of their id up to 90 s, or half of the time since the ``previous``
    due time (to the next one where there is none), where that is less. They are sent in bursts,
    which share some of the engine's work: 15.5, 25.5, ... 85.5 s before, or, where they have less
    time, a ninth of it apart in whole seconds. None is sent at a whole second, as most are due then.
    """
    longest = LONGEST_LEAD
    if previous is not None:
        longest = min(longest, (due_at - previous) / 2)
    elif (following := next_due(schedule, task_id, due_at)) is not None:
        longest = min(longest, (following - due_at) / 2)
    share = int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=4).digest(), "big") / 2**32
    step = max(longest / 9 // _SECOND, 1) * _SECOND
    burst = (step + (longest - step) * share) // step * step
    return min(burst + step / 2 // _SECOND * _SECOND + _SECOND / 2, longest)


def _just_before(moment: datetime) -> datetime:
    return max(moment, _EARLIEST + _INSTANT) - _INSTANT


def _resolved(moment: datetime | None) -> datetime:
    if moment is None:
        raise ValueError("the schedule has not been resolved: its instant is not known")
    return moment.astimezone(UTC)
