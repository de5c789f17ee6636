"""DBOS on Postgres: a workflow enqueued with a delay once, a schedule again and again.

The queue is polled every second, which is the default. A schedule adds up to a tenth of the wait,
at most 10 s, to each firing by itself, so that many processes do not fire at the same moment.
"""

import os
import signal
import sys
import threading
import time
from datetime import datetime
from typing import Any

from dbos import DBOS, DBOSClient

from bench.calls import perform
from bench.peers import clerk, cron_fields

DATABASE = os.environ["BENCH_DATABASE"]


@DBOS.step()
def _step(name: str) -> None:
    perform(name)


@DBOS.workflow()
def once(name: str) -> None:
    _step(name)


@DBOS.workflow()
def scheduled(scheduled_at: datetime, name: Any) -> None:
    _step(name)


def register(client: DBOSClient, work: dict[str, Any]) -> None:
    for name, start in work["starts"]:
        every = work["every"]
        if every is None:
            delay = max(0.0, start - time.time())
            client.enqueue(
                {"workflow_name": "once", "queue_name": "bench", "delay_seconds": delay}, name
            )
        else:
            seconds, minutes = cron_fields(start, every)
            client.create_schedule(
                schedule_name=name,
                workflow_name="scheduled",
                schedule=f"{seconds} {minutes} * * * *",
                context=name,
            )


def _launch() -> None:
    config = {
        "name": "bench",
        "system_database_url": DATABASE,
        "log_level": "WARNING",
        "application_version": "1",
        "executor_id": str(os.getpid()),
        "scheduler_polling_interval_sec": 1.0,
    }
    DBOS(config=config)  # type: ignore[arg-type]
    DBOS.launch()
    DBOS.register_queue("bench")


def _work() -> None:
    _launch()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    os._exit(0)  # at once: there may be a thread for each schedule


if __name__ == "__main__":
    match sys.argv[1]:
        case "prepare":
            _launch()
            os._exit(0)
        case "worker":
            _work()
        case "clerk":
            client = DBOSClient(system_database_url=DATABASE)
            clerk(lambda work: register(client, work))
