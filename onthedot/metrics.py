"""What the processes count and measure, for Prometheus.

No label holds a task, a run, an output or a message: its values are those of an enumeration, the
routes of the web app, or queues. So the number of series does not grow with the number of tasks.
docs/operations.md lists the metrics; deploy/alerts.yml is what they are for.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onthedot.run import Run, RunStatus

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

# They double the number of series, and nothing here needs them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_REGISTRY = CollectorRegistry()
prometheus_client.ProcessCollector(registry=_REGISTRY)

#: From a millisecond, which is on the dot, to ten seconds, which is what is promised, and beyond.
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
_ROW_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

# fmt: off
BUILD = Gauge("onthedot_build_info", "The version that runs; always 1.", ["version"], registry=_REGISTRY)
START_LAG = Histogram("onthedot_start_lag_seconds", "How long after its due time a scheduled run started; counted as it starts.", ["queue"], buckets=LAG_BUCKETS, registry=_REGISTRY)
RUN_LAG = Histogram("onthedot_run_lag_seconds", "The same, by how its first attempt ended; counted as that ends.", ["queue", "status"], buckets=LAG_BUCKETS, registry=_REGISTRY)
FIRINGS = Counter("onthedot_firings", "Runs whose first attempt started.", ["queue", "trigger"], registry=_REGISTRY)
ATTEMPTS = Counter("onthedot_attempts", "Attempts by how they ended; handed_back and worker_stopped go to another worker.", ["action", "outcome"], registry=_REGISTRY)
REDELIVERED = Counter("onthedot_attempts_redelivered", "Attempts that another worker had before: it was lost (no heartbeat), or handed them back.", ["reason"], registry=_REGISTRY)
HELD = Gauge("onthedot_runs_held", "Runs that this worker has: waiting for their instant, or going on.", ["state"], registry=_REGISTRY)
CLAIMS = Counter("onthedot_claims", "Claims of at-most-once runs: taken, refused (another worker had it), or failed (the log was away).", ["outcome"], registry=_REGISTRY)
RECORDED = Counter("onthedot_runs_recorded", "Final rows that the log has taken.", ["trigger", "status"], registry=_REGISTRY)
NOT_RUN = Counter("onthedot_occurrences_not_run", "Rows of occurrences that did not run, by the class of their reason.", ["status", "reason"], registry=_REGISTRY)
BACKLOG = Gauge("onthedot_log_backlog_rows", "Rows that the log has not taken: at the flusher, or (at least so many) held by workflows while Postgres is away.", ["place"], registry=_REGISTRY)
FLUSH_ROWS = Histogram("onthedot_log_flush_rows", "Rows in one flush of the log.", buckets=_ROW_BUCKETS, registry=_REGISTRY)
FLUSH_SECONDS = Histogram("onthedot_log_flush_seconds", "How long a flush of the log took: committed, away (Postgres did not answer), busy (others held a lock), or refused.", ["outcome"], buckets=_FLUSH_BUCKETS, registry=_REGISTRY)
CLOCK_SKEW = Gauge("onthedot_clock_skew_seconds", "By how much this worker's clock is ahead of another's: postgres, or temporal (at most; a few ms of travel are in it).", ["against"], registry=_REGISTRY)
UPKEEP_ROUNDS = Counter("onthedot_upkeep_rounds", "Rounds of upkeep that this worker did.", ["chore", "outcome"], registry=_REGISTRY)
UPKEEP_SENT = Counter("onthedot_upkeep_sent", "What upkeep sent to the engine again.", ["chore"], registry=_REGISTRY)
REGISTRATION = Histogram("onthedot_registration_seconds", "Changes and requests: done, pending (the engine does not have it yet), refused, unavailable, or error.", ["request", "outcome"], buckets=_CALL_BUCKETS, registry=_REGISTRY)
HTTP_REQUESTS = Counter("onthedot_http_requests", "Requests to the web app.", ["method", "route", "status"], registry=_REGISTRY)
HTTP_SECONDS = Histogram("onthedot_http_request_seconds", "How long a request waited for the start of its answer.", ["method", "route"], buckets=_CALL_BUCKETS, registry=_REGISTRY)
# fmt: on

BUILD.labels(version("onthedot")).set(1)
WAITING, GOING_ON = HELD.labels("waiting"), HELD.labels("going_on")

#: The reasons of rows that did not run begin with one of these words; anything else is ``other``.
_REASONS = {
    "overlap": "overlap",
    "paused": "paused",
    "outage": "outage",
    "the task was changed": "changed",
    "the task was deleted": "deleted",
}

# Prometheus sees a first event only where it has seen the zero before it.
for _reason in ("lost", "handed_back"):
    REDELIVERED.labels(_reason)
for _status in (RunStatus.SKIPPED, RunStatus.MISSED):
    for _reason in (*_REASONS.values(), "other"):
        NOT_RUN.labels(_status.value, _reason)
for _outcome in ("committed", "away", "busy", "refused"):
    FLUSH_SECONDS.labels(_outcome)
for _place in ("flusher", "workflows"):
    BACKLOG.labels(_place)
UPKEEP_ROUNDS.labels("reconcile", "done")


def render(*more: Collector) -> bytes:
    """All metrics of this process, and those of ``more``, in Prometheus's text format."""
    return prometheus_client.generate_latest(_Several(_REGISTRY, *more))


class _Several(CollectorRegistry):
    """Collectors that are asked one after the other, registered nowhere."""

    def __init__(self, *collectors: Collector) -> None:
        super().__init__()
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for one in self._collectors:
            yield from one.collect()


class PoolCollector(Collector):
    """How the connections of a pool are used, as ``psycopg_pool`` counts them."""

    def __init__(self, stats: Callable[[], dict[str, int]]) -> None:
        """``stats`` is a pool's ``get_stats``."""
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        idle = stats["pool_available"]
        connections = GaugeMetricFamily(
            "onthedot_database_pool_connections",
            "Connections to Postgres, by whether they are in use.",
            labels=["state"],
        )
        connections.add_metric(["idle"], idle)
        connections.add_metric(["used"], max(stats["pool_size"] - idle, 0))
        yield connections
        yield GaugeMetricFamily(
            "onthedot_database_pool_max",
            "The most connections that this process may hold (ONTHEDOT_DATABASE_POOL).",
            stats["pool_max"],
        )
        yield GaugeMetricFamily(
            "onthedot_database_pool_waiting",
            "Who waits for a connection just now.",
            stats.get("requests_waiting", 0),
        )
        yield CounterMetricFamily(
            "onthedot_database_pool_errors",
            "Waits for a connection that were in vain.",
            stats.get("requests_errors", 0),
        )


def count_recorded(runs: Iterable[Run]) -> None:
    """Count the final rows among ``runs``, which the log has just taken."""
    final = [run for run in runs if run.status.is_final]
    for (trigger, status), rows in Tally((run.trigger, run.status) for run in final).items():
        RECORDED.labels(trigger.value, status.value).inc(rows)
    not_run = [run for run in final if run.status in (RunStatus.SKIPPED, RunStatus.MISSED)]
    classes = Tally((run.status, reason_class(run.reason)) for run in not_run)
    for (status, reason), rows in classes.items():
        NOT_RUN.labels(status.value, reason).inc(rows)


def reason_class(reason: str | None) -> str:
    """One of a few words for why an occurrence did not run."""
    said = reason or ""
    return next((word for start, word in _REASONS.items() if said.startswith(start)), "other")
