"""Celery with Redis: tasks with an ``eta`` once, those of ``beat_schedule`` again and again.

Without a result backend, as its documentation advises where nobody asks for results. Beat counts
an interval from the last time that it sent the task, here from before the first due time.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.schedules import schedule

from bench.calls import perform
from bench.peers import clerk

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="perform")
def called(name: str) -> None:
    perform(name)


def register(work: dict[str, Any]) -> None:
    for name, start in work["starts"]:
        called.apply_async([name], eta=datetime.fromtimestamp(start, UTC))


def _entry(name: str, start: int, every: int) -> dict[str, Any]:
    return {
        "task": "perform",
        "schedule": schedule(timedelta(seconds=every)),
        "args": [name],
        "last_run_at": datetime.fromtimestamp(start - every, UTC),
    }


if work_file := os.environ.get("BENCH_WORK"):
    work = json.loads(Path(work_file).read_text(encoding="utf-8"))
    app.conf.beat_schedule = {
        name: _entry(name, start, work["every"]) for name, start in work["starts"]
    }

if __name__ == "__main__":
    clerk(register)
