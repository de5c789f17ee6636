"""docs/schedules.md says what is true: each row of its tables is run."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from onthedot.schedule import check, due_times, next_due, resolve, warnings, zones
from onthedot.task import CronSchedule, Schedule

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text("utf-8")
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def rows(*header: str) -> list[list[str]]:
    """The rows of all tables with that header."""
    line = re.escape("| " + " | ".join(header)).replace(r"\ ", " ")
    tables = re.findall(rf"^{line} \|\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    found = [row.strip().strip("|").split("|") for table in tables for row in table.splitlines()]
    assert found, f"no table with the header {header}"
    return [[cell.strip().strip("`") for cell in row] for row in found]


@pytest.mark.parametrize(("cron", "due", "_meaning"), rows("expression", "next due", "meaning"))
def test_the_next_due_time_is_the_one_in_the_docs(cron: str, due: str, _meaning: str) -> None:
    found = next_due(CronSchedule(cron=cron), "task", NOW)
    assert found == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"), rows("expression", "2026-03-29", "2026-10-25")
)
def test_the_changes_of_the_clocks_are_those_in_the_docs(
    cron: str, spring: str, autumn: str
) -> None:
    berlin = zones.zone("Europe/Berlin")
    schedule = CronSchedule(cron=cron, timezone="Europe/Berlin")
    for day, expected in (("2026-03-29", spring), ("2026-10-25", autumn)):
        start = datetime.fromisoformat(f"{day}T01:15").replace(tzinfo=berlin).astimezone(UTC)
        end = datetime.fromisoformat(f"{day}T03:45").replace(tzinfo=berlin)
        found = takewhile(lambda due, end=end: due < end, due_times(schedule, "task", start))
        shown = [due.astimezone(berlin).isoformat("T", "minutes")[11:] for due in found]
        assert shown == expected.split()


@pytest.mark.parametrize(("code", "cron", "_when"), rows("code", "example", "when"))
def test_the_warnings_are_those_in_the_docs(code: str, cron: str, _when: str) -> None:
    schedule = CronSchedule(cron=cron, timezone="Europe/Berlin")
    assert code in [one.code for one in warnings(schedule, "task", NOW)]


def test_the_examples_of_schedules_are_accepted() -> None:
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        schedule: Schedule = TypeAdapter(Schedule).validate_python(json.loads(line))
        assert check(schedule, NOW) == []
        assert next_due(resolve(schedule, NOW), "task", NOW + timedelta(seconds=1)) is not None
