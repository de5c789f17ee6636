"""A worker's signs of life: every 30 s it compares its clock, and says of itself that it is here."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import psycopg

from onthedot import clocks
from onthedot.database import workers
from onthedot.database.pool import Pool, connection
from onthedot.database.workers import Worker
from onthedot.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)


class Presence:
    """Use it as an async context manager, while the worker works."""

    def __init__(
        self,
        pool: Pool,
        identity: str,
        role: str,
        queues: Sequence[str],
        metrics_port: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` is the one that tasks start by, in seconds since the epoch."""
        self._pool, self._clock = pool, clock
        self._worker = Worker(
            identity=identity,
            role=role,
            queues=() if role == "scheduler" else queues,
            version=version("onthedot"),
            started_at=datetime.now(UTC),
            clock_skew_ms=0,
            metrics_port=metrics_port,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Presence":
        self._task = asyncio.create_task(self._give_signs(), name="presence")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(DatabaseUnavailable, psycopg.Error):
            async with connection(self._pool, within=2) as conn:
                await workers.forget(conn, self._worker.identity)

    async def sign(self) -> None:
        """Compare the clocks and tell; raise DatabaseUnavailable."""
        async with connection(self._pool) as conn:
            skew = await clocks.skew_to_postgres(conn, self._clock)
            clocks.judge(skew, "postgres")
            await workers.keep(conn, replace(self._worker, clock_skew_ms=skew * 1000))

    async def _give_signs(self) -> None:
        while True:
            if (to_engine := clocks.ENGINE.take()) is not None:
                clocks.judge(to_engine, "temporal")
            else:
                clocks.tell_nothing("temporal")
            try:
                await self.sign()
            except DatabaseUnavailable as error:
                logger.debug("no sign of life: %s", error)
            except psycopg.Error as error:  # such as a table that is not there yet
                logger.warning("no sign of life: %s", error)
            await asyncio.sleep(workers.EVERY)
