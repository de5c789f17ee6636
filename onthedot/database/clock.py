"""Postgres' clock beside ours."""

from datetime import UTC, datetime, timedelta

from onthedot.database.pool import Connection


async def ahead_by(conn: Connection) -> timedelta:
    """By how much Postgres' clock is ahead of this process'; negative where it is behind.

    It is as exact as half the time that the question took.
    """
    asked_at = datetime.now(UTC)
    row = await (await conn.execute("SELECT clock_timestamp() AS now")).fetchone()
    answered_at = datetime.now(UTC)
    assert row is not None
    there: datetime = row["now"]
    return there - (asked_at + (answered_at - asked_at) / 2)
