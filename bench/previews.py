"""How many schedules can be previewed a minute: ``python -m bench.previews``.

A preview is what the REST API and the form make of one: read and check the schedule, the next five
due times, the description, the warnings. One core, no server, no database.
"""

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any

from pydantic import TypeAdapter

from onthedot import schedule as schedules
from onthedot.errors import FieldError
from onthedot.schedule import ScheduleWarning
from onthedot.task import Schedule

_READ: TypeAdapter[Schedule] = TypeAdapter(Schedule)

#: Expressions that people write. ``{n}`` differs at each call, so that few are found in a cache.
COMMON = (
    "*/5 * * * *",
    "{n} * * * *",
    "{n} 2 * * *",
    "{n} 9 * * MON-FRI",
    "{n} 9,17 * * MON-FRI",
    "0 {h} * * SUN",
    "{n} {h} 1 * *",
    "{n} {h} L * *",
    "H H(1-5) * * *",
    "@daily",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
MORE: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"max_runs": 10},
    {"exclude": {"weekdays": ["WED"], "dates": ["2026-12-24/2026-12-26"]}},
    {"jitter": "5m"},
)


def requests(share_of_more: bool) -> Iterator[tuple[dict[str, Any], str]]:
    """Schedules as clients send them, and ids of tasks, without an end."""
    for number in count():
        expression = COMMON[number % len(COMMON)].format(n=number * 7 % 60, h=number // 60 % 24)
        more = MORE[number // 10 % len(MORE)] if share_of_more else {}
        zone = ZONES[number // 3 % len(ZONES)]
        yield {"kind": "cron", "cron": expression, "timezone": zone, **more}, f"task-{number}"


def preview(
    sent: dict[str, Any], task_id: str, now: datetime
) -> tuple[list[FieldError], list[datetime], str, list[ScheduleWarning]]:
    schedule = _READ.validate_python(sent)
    wrong = schedules.check(schedule, now, task_id)
    resolved = schedules.resolve(schedule, now)
    due = list(islice(schedules.due_times(resolved, task_id, now), 5))
    words = schedules.describe(resolved, task_id)
    return wrong, due, words, schedules.warnings(resolved, task_id, now)


def measure(seconds: float, share_of_more: bool) -> float:
    """Previews a minute."""
    now, started = datetime.now(UTC), time.process_time()
    for made, (sent, task_id) in enumerate(requests(share_of_more), start=1):
        preview(sent, task_id, now + timedelta(seconds=made % 3600))
        if made % 100 == 0 and (spent := time.process_time() - started) >= seconds:
            return made / spent * 60
    raise AssertionError("there is always one more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of CPU time, for each figure")
    seconds = parser.parse_args().seconds
    measure(0.5, True)  # the caches of a process that has run for a while
    print(f"plain expressions: {measure(seconds, False):,.0f} previews a minute on one core")
    print(f"half with windows, exclusions or jitter: {measure(seconds, True):,.0f}")


if __name__ == "__main__":
    main()
