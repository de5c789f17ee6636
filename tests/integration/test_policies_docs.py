"""docs/policies.md says what is true: each row of its tables is run, in skipped time."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from onthedot.run import Run, RunStatus
from onthedot.task import CatchUp, TaskState
from tests.running import Play, Stage, every, lasting

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text("utf-8")


def rows(first: str) -> list[tuple[str, list[str]]]:
    """The rows of the table whose first column has this header."""
    table = re.search(
        rf"^\| {re.escape(first)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    assert table, f"no table begins with {first}"
    found = [[cell.strip() for cell in row.strip("| ").split("|")] for row in table[1].splitlines()]
    return [(row[0].removesuffix(" (default)").strip("`"), row[1:]) for row in found]


def shown(on_stage: Stage, run: Run) -> str:
    """A run as the page shows it: where it started late, with the time, to ten seconds."""
    if run.lag_ms is None or run.lag_ms < 30_000 or run.trigger == "catch_up":
        return run.status
    seconds = round((run.started_at - on_stage.began).total_seconds(), -1)
    return f"{run.status} at {seconds // 60:.0f}:{seconds % 60:02.0f}"


@pytest.mark.parametrize(("overlap", "expected"), rows("`overlap`"))
async def test_overlap_is_as_the_page_says(
    on_stage: Stage, overlap: str, expected: list[str]
) -> None:
    on_stage.scripted(lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": overlap})
        await on_stage.minutes(5.5)
    assert [shown(on_stage, run) for run in on_stage.log.rows()] == expected


@pytest.mark.parametrize(("catch_up", "expected"), rows("`catch_up`"))
async def test_catch_up_is_as_the_page_says(
    on_stage: Stage, catch_up: str, expected: list[str]
) -> None:
    await on_stage.minutes(6.5)  # nobody worked since the stage began
    policies = {"catch_up": json.loads(catch_up)}
    async with on_stage.worker():
        await on_stage.start(policies=policies, cursor=on_stage.begins_after(1.5))
        await on_stage.minutes(7.5)
    assert [shown(on_stage, run) for run in on_stage.log.rows()] == expected


@pytest.mark.parametrize(("catch_up", "expected"), rows("resumed with"))
async def test_a_resume_is_as_the_page_says(
    on_stage: Stage, catch_up: str, expected: list[str]
) -> None:
    policy = None if catch_up == "nothing" else CatchUp.model_validate_json(catch_up)
    async with on_stage.worker():
        await on_stage.start(cursor=on_stage.begins_after(1), state=TaskState.PAUSED)
        await on_stage.minutes(5.5)
        await on_stage.revise(TaskState.ACTIVE, catch_up=policy)
        await on_stage.minutes(6.5)
    assert [shown(on_stage, run) for run in on_stage.log.rows()] == expected


@pytest.mark.parametrize(("policies", "expected"), rows("`policies`"))
async def test_retries_are_as_the_page_says(
    on_stage: Stage, policies: str, expected: list[str]
) -> None:
    on_stage.scripted(then=Play(status=RunStatus.FAILED, result={"status": 404}))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), policies=json.loads(policies))
        await on_stage.minutes(62)
    (run,) = on_stage.log.rows()
    starts = [one.started_at - run.due_at for one in run.attempts]
    assert ", ".join(map(in_seconds, starts)) == expected[0]
    assert f"{run.status} after {in_seconds(run.finished_at - run.due_at)}" == expected[1]


def in_seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
