"""Whether a definition can be accepted, asked once, when it is registered or changed."""

import asyncio
from datetime import datetime
from typing import Any

from activities.checks import check_action, takes_time
from onthedot import schedule
from onthedot.database import calendars
from onthedot.database.pool import Pool, connection
from onthedot.errors import FieldError, InvalidInput
from onthedot.settings import Settings
from onthedot.task import MAX_DEFINITION_BYTES, PythonAction, Schedule, Task, TaskSpec


class Acceptance:
    """Says all that is wrong with a definition at once."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings, self._pool = settings, pool

    async def accept(
        self, task_id: str, spec: TaskSpec, now: datetime, *, check_schedule: bool = True
    ) -> TaskSpec:
        """The definition as it is stored; raise InvalidInput with all that is wrong with it."""
        _check_size("task", spec)
        when = await self.with_calendar_days(spec.schedule)
        wrong = schedule.check(when, now, task_id) if check_schedule else []
        wrong += await self._check_action(spec)
        InvalidInput.raise_if_any(wrong)
        return spec.model_copy(update={"schedule": schedule.resolve(when, now)})

    async def with_calendar_days(self, when: Schedule) -> Schedule:
        """The schedule as it is stored, with the days that its calendars have now.

        Raise InvalidInput for a calendar that there is not.
        """
        if not calendars.named_by(when):
            return calendars.with_days_of(when, {})
        async with connection(self._pool) as conn:
            return await calendars.with_days(conn, when)

    async def check_arguments(self, task: Task, arguments: dict[str, Any]) -> None:
        """Raise InvalidInput unless the task's action takes ``arguments`` over its own."""
        action = task.spec.action
        if not isinstance(action, PythonAction):
            remedy = "only a task with a python action takes arguments; leave them out"
            raise InvalidInput(FieldError("arguments", arguments, "not taken", remedy))
        merged = action.model_copy(update={"arguments": {**action.arguments, **arguments}})
        spec = task.spec.model_copy(update={"action": merged})
        _check_size("arguments", spec)
        InvalidInput.raise_if_any(await self._check_action(spec))

    async def _check_action(self, spec: TaskSpec) -> list[FieldError]:
        if takes_time(spec.action, self._settings):
            return await asyncio.to_thread(check_action, spec.action, self._settings, spec.queue)
        return check_action(spec.action, self._settings, spec.queue)


def _check_size(field: str, spec: TaskSpec) -> None:
    size = len(spec.model_dump_json().encode())
    if size > MAX_DEFINITION_BYTES:
        remedy = f"a definition may have {MAX_DEFINITION_BYTES} bytes in all"
        raise InvalidInput(FieldError(field, f"{size} bytes", "too large", remedy))
