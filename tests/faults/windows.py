"""When a run must start: a window for each due time, and which start belongs to which window."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from onthedot import schedule
from onthedot.task import TaskState
from tests.faults.history import History, Outage, Registered

#: How late a run may start.
PROMISED = timedelta(seconds=10)
#: A change that comes this soon before a due time may be too late for it.
_TOO_LATE_TO_RECALL = timedelta(seconds=3.5)


@dataclass(frozen=True, kw_only=True)
class Window:
    """An occurrence starts within 10 s of the moment from which it could."""

    due_at: datetime
    outages: tuple[Outage, ...]  # those that may have held it up
    states: frozenset[TaskState]  # what its task may have been when it was due

    @property
    def could_start_at(self) -> datetime:
        """The earliest instant at which something could run it."""
        return self.held_up_until(datetime.max.replace(tzinfo=UTC))

    def held_up_until(self, started_at: datetime) -> datetime:
        """The same for a run that started then: an outage that came afterwards is no excuse."""
        ends = (one.ended_at for one in self.outages if one.begun_at <= started_at)
        return max([self.due_at, *ends])


def windows(task: Registered, history: History) -> Iterator[Window]:
    """One for each due time of ``task`` that is judged, in order.

    Due times are the product's own (``onthedot.schedule``), which other tests hold against a model.
    """
    for due_at in schedule.due_times(task.spec.schedule, task.task_id, task.since):
        if due_at > history.until:
            return
        outages = tuple(one for one in history.outages if _holds_up(one, task, due_at))
        yield Window(due_at=due_at, outages=outages, states=_states(task, due_at))


def match(
    opened: Sequence[tuple[datetime, datetime]], starts: Sequence[datetime]
) -> tuple[list[int], list[int]]:
    """Give each start a window (from, to) of its own, earliest deadline first.

    Returns the indexes of the windows and of the starts that are left. No other choice leaves
    fewer: a start takes, of the windows that are open, the one that would close first.
    """
    by_opening = sorted(range(len(opened)), key=lambda index: opened[index][0])
    waiting: list[tuple[datetime, int]] = []
    unmatched, too_many, next_ = [], [], 0
    for number in sorted(range(len(starts)), key=lambda index: starts[index]):
        while next_ < len(by_opening) and opened[by_opening[next_]][0] <= starts[number]:
            heapq.heappush(waiting, (opened[by_opening[next_]][1], by_opening[next_]))
            next_ += 1
        while waiting and waiting[0][0] < starts[number]:
            unmatched.append(heapq.heappop(waiting)[1])
        if waiting:
            heapq.heappop(waiting)
        else:
            too_many.append(number)
    unmatched += [index for _, index in waiting] + by_opening[next_:]
    return unmatched, too_many


def _holds_up(outage: Outage, task: Registered, due_at: datetime) -> bool:
    if outage.only_at_most_once and task.spec.policies.delivery != "at_most_once":
        return False
    return outage.begun_at <= due_at + PROMISED and due_at <= outage.ended_at


def _states(task: Registered, due_at: datetime) -> frozenset[TaskState]:
    possible = {TaskState.ACTIVE}
    for change in task.changes:
        if due_at > change.acknowledged_at + _TOO_LATE_TO_RECALL:
            possible = {change.state}
        elif due_at >= change.asked_at:
            possible |= {change.state}
    return frozenset(possible)
