"""The workers that run, as each says of itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from onthedot.database import queries
from onthedot.database.pool import Connection

#: Seconds between two signs of life of a worker.
EVERY = 30.0
#: One that has given none for so long is not shown, and a while later forgotten.
_SEEN_WITHIN = timedelta(minutes=2)
_FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process. Instants are aware UTC."""

    identity: str  # host:pid, as the engine and the log name it
    role: str  # all, scheduler or executor
    queues: Sequence[str]  # whose runs it executes; none for a scheduler
    version: str
    started_at: datetime  # by its own clock
    seen_at: datetime | None = None  # by Postgres's clock; set by ``keep``
    clock_skew_ms: float  # its clock less Postgres's
    metrics_port: int | None = None


SQL = queries.load(Path(__file__).with_suffix(".sql"), worker=queries.columns_of(Worker))


async def keep(conn: Connection, worker: Worker) -> None:
    """Note that ``worker`` is alive."""
    await conn.execute(SQL["keep"], {**asdict(worker), "queues": list(worker.queues)})


async def seen(conn: Connection) -> list[Worker]:
    """Those that gave a sign of life in the last two minutes."""
    cursor = await conn.execute(SQL["seen"], {"within": _SEEN_WITHIN})
    return [Worker(**row) for row in await cursor.fetchall()]


async def forget(conn: Connection, identity: str) -> None:
    """Take note that a worker has stopped."""
    await conn.execute(SQL["forget"], {"identity": identity})


async def forget_old(conn: Connection) -> None:
    """Forget those that were lost."""
    await conn.execute(SQL["forget_old"], {"age": _FORGOTTEN_AFTER})
