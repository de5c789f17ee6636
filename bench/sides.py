"""All sides, each with what it promises, and where its documentation says so."""

import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version

from bench import peer, product, temporal
from bench.side import Offer
from onthedot import temporal_server


@cache
def _temporal() -> str:
    """As the dev server calls itself: ``temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)``."""
    command = [temporal_server.find(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    server = said.split("Server ")[-1].split(",")[0]
    return f"server {server}, SDK {version('temporalio')}"


def _peer(name: str, title: str, program: peer.Program) -> Offer:
    return Offer(
        name=name,
        title=title,
        version=program.version,
        start=program.running,
        why_not=program.why_not,
    )


OFFERS: Mapping[str, Offer] = {
    offer.name: offer
    for offer in (
        Offer(
            name="onthedot",
            title="Onthedot",
            version=lambda: f"{version('onthedot')}; Temporal {_temporal()}",
            start=product.running,
        ),
        Offer(name="control", title="bare Temporal", version=_temporal, start=temporal.bare),
        Offer(
            name="schedules",
            title="Temporal Schedules",
            version=_temporal,
            start=temporal.schedules,
        ),
        _peer("apscheduler", "APScheduler", peer.APSCHEDULER),
        _peer("celery", "Celery", peer.CELERY),
        _peer("procrastinate", "Procrastinate", peer.PROCRASTINATE),
        _peer("dbos", "DBOS", peer.DBOS),
    )
}

#: Those that are measured at all sizes; the others at the first only, unless all are asked for.
AT_ALL_SIZES = ("onthedot", "control")

#: Not written, with the reason.
NOT_HERE = {
    "dkron": "its Go module (github.com/distribworks/dkron/v4) could not be fetched where these "
    "figures were taken (403), so that nothing could be tried",
}

#: side -> durable; each run logged; a killed worker's run; once; recurring, grain; source.
PROMISES: Mapping[str, Sequence[str]] = {
    "onthedot": (
        "yes, Postgres and Temporal",
        "each occurrence, also those that did not run",
        "starts again within 10 s",
        "`once`, to the microsecond",
        "cron with seconds, intervals; changed while it runs",
        "[decisions](decisions.md)",
    ),
    "control": (
        "yes, Temporal",
        "history, until its retention is over",
        "again after the activity's timeout",
        "a timer",
        "a loop with timers, written by hand",
        "[Temporal: timers](https://docs.temporal.io/develop/python/workflows/timers)",
    ),
    "schedules": (
        "yes, Temporal",
        "history, until its retention is over",
        "again after the activity's timeout",
        "start delay",
        "calendar and intervals; 'generally start within 1 second'",
        "[Temporal: Schedule](https://docs.temporal.io/schedule)",
    ),
    "apscheduler": (
        "the jobs, in Postgres",
        "no",
        "lost: the job is moved on before it runs",
        "`date`",
        "cron with seconds, intervals; one process for a job store",
        "[FAQ](https://apscheduler.readthedocs.io/en/3.x/faq.html)",
    ),
    "celery": (
        "as far as Redis is",
        "no (results where a backend is set)",
        "lost, unless `acks_late`; then after the visibility timeout of 1 h",
        "`eta`, held in a worker's memory",
        "in code or a file; a single beat; intervals drift by each delay",
        "[Redis](https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html), "
        "[beat](https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html)",
    ),
    "procrastinate": (
        "yes, Postgres",
        "a row a job, with its events",
        "stays `doing`, until a periodic task of one's own retries stalled jobs",
        "`schedule_at`, looked for every 5 s",
        "cron with seconds, in code; deferred 0.5 s after the instant",
        "[periodic tasks](https://procrastinate.readthedocs.io/en/stable/howto/advanced/cron.html), "
        "[stalled jobs](https://procrastinate.readthedocs.io/en/stable/howto/production/retry_stalled_jobs.html)",
    ),
    "dbos": (
        "yes, Postgres",
        "a row a workflow, with its steps",
        "when a process with its executor id starts again",
        "enqueued with a delay, polled every second",
        "cron with seconds; later by up to a tenth of the interval, at most 10 s, on purpose",
        "[schedules](https://docs.dbos.dev/python/tutorials/scheduled-workflows), "
        "[queues](https://docs.dbos.dev/python/tutorials/queue-tutorial)",
    ),
}
