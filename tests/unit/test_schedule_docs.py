"""docs/schedules.md says what is true: each row of its tables is run."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from pathlib import Path
from typing import Any

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


def changes_of_the_clocks() -> list[list[str]]:
    """The rows; an expression stands once for all of its values of ``dst``."""
    found = rows("expression", "dst", "2026-03-29", "2026-10-25")
    for earlier, row in pairwise(found):
        row[0] = row[0] or earlier[0]
    return found


@pytest.mark.parametrize(("cron", "dst", "spring", "autumn"), changes_of_the_clocks())
def test_the_changes_of_the_clocks_are_those_in_the_docs(
    cron: str, dst: Any, spring: str, autumn: str
) -> None:
    berlin = zones.zone("Europe/Berlin")
    schedule = CronSchedule(cron=cron, timezone="Europe/Berlin", dst=dst)
    for day, expected in (("2026-03-29", spring), ("2026-10-25", autumn)):
        start = datetime.fromisoformat(f"{day}T01:15").replace(tzinfo=berlin).astimezone(UTC)
        end = datetime.fromisoformat(f"{day}T03:45").replace(tzinfo=berlin)
        found = takewhile(lambda due, end=end: due < end, due_times(schedule, "task", start))
        shown = [due.astimezone(berlin).isoformat("T", "minutes")[11:] for due in found]
        assert shown == expected.split()


def read(text: str) -> Schedule:
    sent = json.loads(text)
    kind = {"kind": "cron" if "cron" in sent else "interval"}
    schedule: Schedule = TypeAdapter(Schedule).validate_python(kind | sent)
    assert check(schedule, NOW) == []
    return resolve(schedule, NOW)


@pytest.mark.parametrize(("text", "due"), rows("schedule", "due at"))
def test_the_due_times_are_those_in_the_docs(text: str, due: str) -> None:
    schedule, expected = read(text), due.split(", ")
    found = list(islice(due_times(schedule, "task", NOW), 10))
    assert [f"{one:%Y-%m-%d %H:%M}" for one in found][: len(expected)] == expected
    assert len(found) == (len(expected) if "max_runs" in text or "ends_at" in text else 10)


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
