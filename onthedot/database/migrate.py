"""Bringing a database up to date: ``migrations/*.sql`` in the order of their names, each once."""

import asyncio
from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg

from onthedot.errors import DatabaseUnavailable

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('onthedot migrate'))"
_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name text PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


async def migrate(url: str, *, patience: float = 30) -> list[str]:
    """Apply the migrations that are missing and return their names.

    Several processes may ask at once: one does it. All of them are applied or none is. Raises
    DatabaseUnavailable when Postgres does not answer within ``patience`` seconds.
    """
    async with await _connect(url, patience) as connection:
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        missing = await _missing(connection)
        for migration in missing:
            await connection.execute(migration.read_bytes())
            await connection.execute(
                "INSERT INTO schema_migrations (name) VALUES (%s)", [migration.name]
            )
    return [migration.name for migration in missing]


async def pending(url: str, *, patience: float = 2) -> list[str]:
    """The names of the migrations that ``migrate`` would apply; nothing is changed."""
    async with await _connect(url, patience) as connection:
        found = await connection.execute("SELECT to_regclass('schema_migrations')")
        row = await found.fetchone()
        if row is None or row[0] is None:
            return [migration.name for migration in _all()]
        return [migration.name for migration in await _missing(connection)]


def _all() -> list[Traversable]:
    folder = files("onthedot.database") / "migrations"
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(found, key=lambda file: file.name)


async def _missing(connection: psycopg.AsyncConnection) -> list[Traversable]:
    found = await connection.execute("SELECT name FROM schema_migrations")
    applied = {row[0] for row in await found.fetchall()}
    return [migration for migration in _all() if migration.name not in applied]


async def _connect(url: str, patience: float) -> psycopg.AsyncConnection:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            return await psycopg.AsyncConnection.connect(url, connect_timeout=5)
        except psycopg.OperationalError as error:
            if loop.time() >= deadline:
                raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error
            await asyncio.sleep(0.2)
