"""Herds: many tasks that are due in the same minute."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from onthedot.database import queries
from onthedot.database.pool import Connection
from onthedot.schedule import ScheduleWarning

_SQL = queries.load(Path(__file__).with_suffix(".sql"))

#: So many other tasks in a minute are worth a warning.
HERD = 100
_MOST_COUNTED = 10_000


async def herd_warning(
    conn: Connection, due_at: datetime, where: ZoneInfo, task_id: str
) -> ScheduleWarning | None:
    """Whether many tasks other than ``task_id`` are next due in the minute of ``due_at`` (UTC).

    The message has the clock of ``where``, and the first minute of the hour after it that is free.
    """
    minute = due_at.replace(second=0, microsecond=0)
    values = {"id": task_id, "minute": minute}
    row = await (await conn.execute(_SQL["count_minute"], values)).fetchone()
    if row is None or row["due"] <= HERD:
        return None
    rows = await (await conn.execute(_SQL["busy_minutes"], values)).fetchall()
    busy = {row["minute"] for row in rows}
    minutes = (minute + timedelta(minutes=number) for number in range(60))
    free = next((one for one in minutes if one not in busy), None)
    count = f"{row['due']}{' or more' if row['due'] == _MOST_COUNTED else ''}"
    advice = f"; {free.astimezone(where):%H:%M} is free" if free else ", and others all the hour"
    return ScheduleWarning(
        "herd", f"{count} tasks are due at {minute.astimezone(where):%Y-%m-%d %H:%M}{advice}."
    )
