"""Connections to Postgres. Here psycopg's errors become ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from onthedot.errors import DatabaseBusy, DatabaseUnavailable
from onthedot.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

#: The channel on which writers tell the web processes what has changed.
CHANNEL = "onthedot"

_WAIT_SECONDS = 3.0
#: Postgres answers: it is this statement alone that could not be carried out now.
_BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.QueryCanceled,
)
_UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
    TimeoutError,
)


async def open_pool(settings: Settings) -> Pool:
    """A pool that opens by itself as soon as Postgres answers; it need not answer now."""
    if settings.database_url is None:
        raise DatabaseUnavailable("ONTHEDOT_DATABASE_URL is not set")
    pool = AsyncConnectionPool(
        settings.database_url,
        connection_class=psycopg.AsyncConnection[DictRow],
        kwargs={"row_factory": dict_row, "autocommit": True, **_KEEPALIVE},
        min_size=1,
        max_size=settings.database_pool,
        timeout=_WAIT_SECONDS,
        reconnect_timeout=10,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    await pool.open(wait=False)
    return pool


_KEEPALIVE: dict[str, Any] = {
    "application_name": "onthedot",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c timezone=UTC",
}


@asynccontextmanager
async def connection(pool: Pool, *, within: float = _WAIT_SECONDS * 3) -> AsyncIterator[Connection]:
    """A connection in autocommit, for at most ``within`` seconds.

    Raise DatabaseBusy, or another DatabaseUnavailable.
    """
    try:
        async with asyncio.timeout(within), pool.connection() as conn:
            yield conn
    except _BUSY as error:
        raise DatabaseBusy(f"Postgres is busy: {error}") from error
    except _UNREACHABLE as error:
        raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error


@asynccontextmanager
async def transaction(
    pool: Pool, *, within: float = _WAIT_SECONDS * 3
) -> AsyncIterator[Connection]:
    """The same, in one transaction that is committed at the end and rolled back by an error."""
    async with connection(pool, within=within) as conn, conn.transaction():
        yield conn
