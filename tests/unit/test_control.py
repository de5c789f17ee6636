"""What a backfill runs, what a resuming catches up with, how versions differ: pure functions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onthedot import catching_up
from onthedot.backfill import MOST_RUNS, DueTime, choose
from onthedot.errors import InvalidInput
from onthedot.run import RunStatus
from onthedot.task import CatchUp, IntervalSchedule, TaskSpec, TaskState
from onthedot.versions import Difference, TaskVersion, What, differences

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOURLY = IntervalSchedule(every=timedelta(hours=1), anchor=NOW - timedelta(days=4000))

S = RunStatus


@pytest.mark.parametrize(
    ("statuses", "exists", "chosen_by"),
    [
        (set(), None, {"all", "missing"}),
        ({S.SKIPPED}, S.SKIPPED, {"all", "missing"}),
        ({S.MISSED}, S.MISSED, {"all", "missing"}),
        ({S.FAILED}, S.FAILED, {"all", "failed"}),
        ({S.TIMED_OUT}, S.TIMED_OUT, {"all", "failed"}),
        ({S.FAILED, S.SUCCEEDED}, S.SUCCEEDED, {"all"}),
        ({S.FAILED, S.WAITING}, S.WAITING, {"all"}),
        ({S.MISSED, S.FAILED}, S.FAILED, {"all", "failed"}),
        ({S.CANCELLED}, S.CANCELLED, {"all"}),
        ({S.CANCELLED, S.SKIPPED}, S.CANCELLED, {"all"}),
        ({S.RUNNING}, S.RUNNING, {"all"}),
    ],
)
@pytest.mark.parametrize("which", ["all", "missing", "failed"])
def test_a_backfill_chooses_by_what_exists(
    statuses: set[RunStatus], exists: RunStatus | None, chosen_by: set[str], which: Any
) -> None:
    known = {NOW: statuses} if statuses else {}
    found = choose([NOW], known, which, NOW)
    assert found == ([DueTime(due_at=NOW, exists=exists)] if which in chosen_by else [])


def test_a_backfill_counts_the_runs_that_it_makes_not_the_due_times() -> None:
    due = [NOW + timedelta(seconds=number) for number in range(MOST_RUNS + 1)]
    with pytest.raises(InvalidInput, match="1001 runs are too many"):
        choose(due, {}, "all", due[-1])
    assert choose(due, {one: {S.SUCCEEDED} for one in due}, "missing", due[-1]) == []
    assert len(choose(due, {due[0]: {S.SUCCEEDED}}, "missing", due[-1])) == MOST_RUNS


@pytest.mark.parametrize(
    ("keep", "within", "runs"),
    [
        ("all", "1d", 5),
        ("all", "150m", 2),
        ("latest", "1d", 1),
        ("latest", "1m", 0),
        ("none", "1d", 0),
    ],
)
def test_a_resuming_catches_up_as_its_policy_says(keep: str, within: str, runs: int) -> None:
    policy = CatchUp.model_validate({"keep": keep, "within": within})
    since, now = NOW - timedelta(hours=5), NOW - timedelta(seconds=1)
    found = catching_up.count(HOURLY, "t", since - timedelta(seconds=1), now, policy)
    assert (found.runs, found.left_out) == (runs, 5 - runs)


def test_a_long_pause_is_counted_as_far_as_it_matters() -> None:
    found = catching_up.count(
        HOURLY, "t", NOW - timedelta(days=3650), NOW, CatchUp(keep="all", within=timedelta(days=1))
    )
    assert (found.runs, found.left_out) == (25, catching_up.MOST - 25)  # both ends are counted


def version(state: TaskState = TaskState.ACTIVE, **spec: Any) -> TaskVersion:
    given = {
        "name": "x",
        "schedule": {"kind": "interval", "every": "1h", "anchor": NOW},
        "action": {"kind": "http", "url": "http://127.0.0.1/"},
        **spec,
    }
    return TaskVersion(
        task_id="t",
        version=1,
        spec=TaskSpec.model_validate(given),
        state=state,
        what=What.REVISED,
        at=NOW,
        by="ann",
        reason=None,
    )


def test_versions_that_are_the_same_do_not_differ() -> None:
    assert differences(version(), version()) == []


def test_a_difference_is_told_by_its_json_pointer() -> None:
    headers = {"a/b~c": "1"}
    changed = version(
        TaskState.PAUSED,
        action={"kind": "http", "url": "http://127.0.0.1/", "headers": headers},
        policies={"retry": {"attempts": 3}},
        tags=["a"],
    )
    assert differences(version(), changed) == [
        Difference(pointer="/action/headers/a~1b~0c", old=None, new="1"),
        Difference(pointer="/policies/retry/attempts", old=1, new=3),
        Difference(pointer="/tags", old=[], new=["a"]),
        Difference(pointer="/state", old="active", new="paused"),
    ]


def test_true_and_one_differ() -> None:
    action = {"kind": "python", "handler": "a:b"}
    old = version(action={**action, "arguments": {"x": 1}})
    new = version(action={**action, "arguments": {"x": True}})
    assert differences(old, new) == [Difference(pointer="/action/arguments/x", old=1, new=True)]
