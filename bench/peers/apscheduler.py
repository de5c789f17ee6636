"""APScheduler 3 with its jobs in Postgres: one process, in which jobs are added and run.

Its FAQ says that a job store cannot be shared by processes. The pool of 20 threads is the one of
its user guide. The grace is raised from 1 s, after which it leaves a late run out.
"""

import os
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from bench.calls import perform
from bench.peers import clerk

DATABASE = os.environ["BENCH_DATABASE"].replace("postgresql:", "postgresql+psycopg:")

scheduler = BackgroundScheduler(
    jobstores={"default": SQLAlchemyJobStore(url=DATABASE)},
    executors={"default": ThreadPoolExecutor(20)},
    job_defaults={"coalesce": False, "max_instances": 3, "misfire_grace_time": 3600},
    timezone=UTC,
)


def register(work: dict[str, Any]) -> None:
    for name, start in work["starts"]:
        first = datetime.fromtimestamp(start, UTC)
        if work["every"] is None:
            scheduler.add_job(perform, "date", run_date=first, args=[name], id=name)
        else:
            every = {"seconds": work["every"], "start_date": first}
            scheduler.add_job(perform, "interval", args=[name], id=name, **every)


if __name__ == "__main__":
    scheduler.start()
    clerk(register)
    scheduler.shutdown(wait=False)
