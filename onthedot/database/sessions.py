"""Who may come in: API keys, single-use sign-in links, sessions. Secrets are known by their hash."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from onthedot.database.queries import load

SQL = load(Path(__file__).with_suffix(".sql"))

#: How long a session lasts after it was last used (counted in days: see ``keep_session``).
LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who came in. ``role`` is ``admin`` for all as yet."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class _Session:
    name: str
    role: str
    expires_at: datetime


async def find_key(conn: AsyncConnection[Any], hashed: bytes) -> Principal | None:
    """Whose API key this is."""
    async with conn.cursor(row_factory=class_row(Principal)) as cursor:
        await cursor.execute(SQL["find_key"], {"hash": hashed})
        return await cursor.fetchone()


async def use_link(conn: AsyncConnection[Any], hashed: bytes) -> Principal | None:
    """Whom this link signs in; None when it is not known, used before or expired."""
    async with conn.cursor(row_factory=class_row(Principal)) as cursor:
        await cursor.execute(SQL["use_link"], {"hash": hashed})
        return await cursor.fetchone()


async def start_session(conn: AsyncConnection[Any], hashed: bytes, whose: Principal) -> None:
    await conn.execute(SQL["drop_expired"])
    await conn.execute(
        SQL["start_session"],
        {"hash": hashed, "name": whose.name, "role": whose.role, "lifetime": LIFETIME},
    )


async def keep_session(conn: AsyncConnection[Any], hashed: bytes) -> Principal | None:
    """Whose session this is; one that is used lives on (written once a day at most)."""
    async with conn.cursor(row_factory=class_row(_Session)) as cursor:
        await cursor.execute(SQL["find_session"], {"hash": hashed})
        found = await cursor.fetchone()
    if found is None:
        return None
    if found.expires_at - datetime.now(UTC) < LIFETIME - timedelta(days=1):
        await conn.execute(SQL["extend_session"], {"hash": hashed, "lifetime": LIFETIME})
    return Principal(found.name, found.role)


async def end_session(conn: AsyncConnection[Any], hashed: bytes) -> None:
    await conn.execute(SQL["end_session"], {"hash": hashed})
