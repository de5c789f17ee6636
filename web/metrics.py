"""``GET /metrics``: what this process counts, and how the whole stands by the database.

It needs no key, as Prometheus and its kind expect: it has figures, and names of queues, routes and
versions; no task, no output, no caller. A proxy that faces others should not pass it on.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from fastapi import APIRouter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from onthedot import metrics
from onthedot.database.pool import Pool, connection
from onthedot.database.standing import Standing, standing
from onthedot.errors import DatabaseUnavailable
from onthedot.metrics import PoolCollector
from web.services import Given, Services

router = APIRouter()

_READ_EVERY = 15.0  # seconds for which figures of the database count
_WITHIN = 5.0  # seconds for them to be read
_MOST_QUEUES = 50
_OTHERS = "(others)"  # no queue can be named so


@router.get("/metrics", include_in_schema=False)
async def show_metrics(services: Given) -> Response:
    whole = await services.figures.read()
    own = _Own(services)
    body = await run_in_threadpool(
        metrics.render, PoolCollector(services.pool.get_stats), own, whole
    )
    return Response(body, media_type=metrics.MEDIA_TYPE)


class _Own(Collector):
    def __init__(self, services: Services) -> None:
        self._events = services.events

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "onthedot_live_streams", "Pages that listen for changes.", self._events.open_streams
        )


class Figures:
    """How the whole stands, by the database; read again after some seconds, once for all who ask."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._whole: Whole = Whole(None)

    async def read(self) -> "Whole":
        async with self._lock:
            if time.monotonic() - self._read_at > _READ_EVERY:
                self._whole = Whole(await self._ask())
                self._read_at = time.monotonic()
            return self._whole

    async def _ask(self) -> Standing | None:
        try:
            async with connection(self._pool, within=_WITHIN) as conn:
                return await standing(conn)
        except (DatabaseUnavailable, psycopg.Error):
            return None


class Whole(Collector):
    """Every instance of the web app shows the same: take the maximum, not the sum."""

    def __init__(self, rows: Standing | None) -> None:
        """``rows`` is None while Postgres does not answer: the figures are then missing."""
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        yield _gauge("onthedot_database_up", "1 when Postgres answers.", int(bool(self._rows)))
        if (rows := self._rows) is None:
            return
        yield _by("onthedot_tasks", "Tasks.", "state", rows.states)
        yield _gauge(
            "onthedot_tasks_overdue",
            "Active tasks that were due 15 s ago or earlier, of whose run the log has no trace.",
            rows.overdue,
        )
        yield _gauge(
            "onthedot_oldest_change_pending_seconds",
            "For how long the oldest change waits that the engine has not taken.",
            rows.oldest_change,
        )
        yield _gauge(
            "onthedot_oldest_request_pending_seconds",
            "For how long the oldest trigger, backfill or cancel waits for the engine.",
            rows.oldest_request,
        )
        yield from self._queues(rows)

    def _queues(self, rows: Standing) -> Iterator[Metric]:
        """Queues by name, those with the most tasks: people make them up as they register."""
        named = list(rows.queues)[:_MOST_QUEUES]
        tasks = Counter({queue: rows.queues[queue] for queue in named})
        if rest := sum(rows.queues.values()) - tasks.total():
            tasks[_OTHERS] = rest
        executors = Counter(queue for worker in rows.workers for queue in worker.queues)
        of_queue = {queue: executors[queue] for queue in named or ["default"]}
        yield _by("onthedot_queue_tasks", "Active tasks.", "queue", tasks)
        yield _by("onthedot_queue_workers", "Workers that execute.", "queue", of_queue)
        schedulers = sum(worker.role != "executor" for worker in rows.workers)
        roles = {"scheduler": schedulers, "executor": sum(bool(one.queues) for one in rows.workers)}
        yield _by("onthedot_workers", "Workers that gave a sign of life lately.", "role", roles)
        skews = [abs(worker.clock_skew_ms) / 1000 for worker in rows.workers]
        yield _gauge(
            "onthedot_workers_clock_skew_max_seconds",
            "The most that a worker's clock is apart from Postgres's.",
            max(skews, default=0.0),
        )


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value)


def _by(name: str, meaning: str, label: str, values: Mapping[Any, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family
