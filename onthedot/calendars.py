"""The calendars' service: a change of a calendar is a change of every task that names it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from onthedot import schedule
from onthedot.database import calendars
from onthedot.database.pool import Pool, connection, transaction
from onthedot.errors import Conflict, FieldError, VersionMismatch
from onthedot.holidays import Calendar, CalendarDay, CalendarDefinition, CalendarRegistration
from onthedot.registration import Registration
from onthedot.schedule import Difference
from onthedot.task import Task, TaskState

_AT_ONCE = 16  # so many tasks are handed over at a time
_PATIENCE_SECONDS = 5.0  # what is not handed over by then is upkeep's
_LONGEST_SECONDS = 60.0  # a calendar may be named by tens of thousands of tasks
_NAMED = 5  # so many of the tasks that use a calendar are named in an error

Days = tuple[CalendarDay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarChange:
    """A calendar that was changed, the tasks that changed with it, and how many have it already."""

    calendar: Calendar
    tasks: list[Task]
    handed_over: int


class Calendars:
    """Registers, changes and deletes calendars. Stateless: any number may run."""

    def __init__(self, pool: Pool, registration: Registration) -> None:
        self._pool, self._registration = pool, registration

    async def register(self, sent: CalendarRegistration, *, by: str) -> Calendar:
        """Store a new calendar; raise Conflict when the name is taken."""
        async with connection(self._pool) as conn:
            calendar = await calendars.insert_calendar(
                conn, sent.name, sent.definition(), by=by, now=datetime.now(UTC)
            )
        if calendar is None:
            remedy = "Choose another, or change that calendar by PUT"
            taken = FieldError("name", sent.name, "is taken", remedy)
            raise Conflict(f"a calendar with the name {sent.name!r} exists already", taken)
        return calendar

    async def change(
        self, name: str, sent: CalendarDefinition, *, by: str, if_version: int | None = None
    ) -> CalendarChange:
        """Give a calendar other days, and with it, in one commit, every task that names it.

        Raise NotFound, VersionMismatch, or InvalidInput when a task would have too many days.
        """
        now = datetime.now(UTC)
        async with transaction(self._pool, within=_LONGEST_SECONDS) as conn:
            before = await calendars.get_calendar(conn, name, lock=True)
            _check_version(before, if_version)
            if (before.title, before.days) == (sent.title, sent.days):
                return CalendarChange(calendar=before, tasks=[], handed_over=0)
            calendar = await calendars.change_calendar(conn, name, sent, by=by, now=now)
            users = await calendars.tasks_with_calendar(conn, name, lock=True)
            days = await calendars.days_of(conn, _named_by_any(users))
            changed = await asyncio.to_thread(_with_days, users, days, now)
            reason = f"the calendar {name} was changed"
            tasks = await calendars.change_tasks(conn, changed, by=by, now=now, reason=reason)
        return CalendarChange(
            calendar=calendar, tasks=tasks, handed_over=await self._hand_over(tasks)
        )

    async def delete(self, name: str, *, if_version: int | None = None) -> Calendar:
        """Delete a calendar; raise NotFound, VersionMismatch, or Conflict while tasks name it."""
        async with transaction(self._pool) as conn:
            calendar = await calendars.get_calendar(conn, name, lock=True)
            _check_version(calendar, if_version)
            if users := await calendars.tasks_with_calendar(conn, name):
                ids = [task.id for task in users]
                rest = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
                raise Conflict(
                    f"the calendar {name!r} is in use by {', '.join(ids[:_NAMED])}{rest}:"
                    " take it out of their schedule.exclude.calendars first"
                )
            await calendars.delete_calendar(conn, name)
        return calendar

    async def preview(self, name: str, days: Days, *, count: int) -> list[tuple[Task, Difference]]:
        """What these days would do to the next ``count`` due times of each task that is active.

        Raise NotFound, or InvalidInput as ``change``.
        """
        now = datetime.now(UTC)
        async with connection(self._pool, within=_LONGEST_SECONDS) as conn:
            await calendars.get_calendar(conn, name)
            users = await calendars.tasks_with_calendar(conn, name)
            found = await calendars.days_of(conn, _named_by_any(users))
        return await asyncio.to_thread(_differences, users, found | {name: days}, now, count)

    async def _hand_over(self, tasks: Sequence[Task]) -> int:
        """Tell the tasks' workflows, as far as they answer in time; how many have been told."""
        loop, handed_over = asyncio.get_running_loop(), 0
        deadline = loop.time() + _PATIENCE_SECONDS
        for start in range(0, len(tasks), _AT_ONCE):
            some = tasks[start : start + _AT_ONCE]
            taken = await asyncio.gather(*map(self._registration.apply_again, some))
            handed_over += sum(taken)
            if not all(taken) or loop.time() > deadline:
                break
        return handed_over


def _check_version(calendar: Calendar, if_version: int | None) -> None:
    if if_version is not None and calendar.version != if_version:
        raise VersionMismatch(
            f"the calendar {calendar.name!r} is at version {calendar.version}, not {if_version}"
        )


def _named_by_any(tasks: Sequence[Task]) -> set[str]:
    return {name for task in tasks for name in calendars.named_by(task.spec.schedule)}


def _with_days(tasks: Sequence[Task], days: Mapping[str, Days], now: datetime) -> list[Task]:
    """The tasks that change with the days of their calendars, as they are to be stored.

    One that was finished is active again when something is due.
    """
    changed = []
    for task in tasks:
        new = calendars.with_days_of(task.spec.schedule, days)
        if new == task.spec.schedule:
            continue
        due = schedule.next_due(new, task.id, now) if task.state != TaskState.PAUSED else None
        state = TaskState.ACTIVE if due and task.state == TaskState.FINISHED else task.state
        spec = task.spec.model_copy(update={"schedule": new})
        changed.append(replace(task, spec=spec, state=state, next_due_at=due))
    return changed


def _differences(
    tasks: Sequence[Task], days: Mapping[str, Days], now: datetime, count: int
) -> list[tuple[Task, Difference]]:
    found = []
    for task in tasks:
        if task.state is TaskState.PAUSED:
            continue
        old, new = task.spec.schedule, calendars.with_days_of(task.spec.schedule, days)
        found.append((task, schedule.difference(old, new, task.id, now, count)))
    return found
