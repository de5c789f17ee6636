"""What keeps a task from running, from the facts: each reason alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onthedot.database.workers import Worker as Present
from onthedot.engine import EngineHealth, Worker
from onthedot.run import Run, RunStatus, Trigger
from onthedot.suspension import Suspension
from onthedot.task import Pause, Task, TaskSpec, TaskState
from web.api.reasons import Facts, Reason, reasons

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WORKER = Worker(identity="w", last_seen_at=NOW, schedules=True, executes=True)
WELL = EngineHealth(reachable=True, detail="Temporal answers", workers=(WORKER,))


def task(state: TaskState = TaskState.ACTIVE, **changes: Any) -> Task:
    policies = {"overlap": changes.pop("overlap", "skip"), "limits": changes.pop("limits", {})}
    spec = {
        "name": "x",
        "schedule": {"kind": "interval", "every": "1h", "anchor": NOW},
        "action": {"kind": "http", "url": "http://127.0.0.1/"},
        "policies": policies,
    }
    return Task(
        **{
            "id": "t",
            "spec": TaskSpec.model_validate(spec),
            "state": state,
            "version": 2,
            "engine_version": 2,
            "created_at": NOW,
            "created_by": "ann",
            "updated_at": NOW,
            "updated_by": "bob",
            "next_due_at": NOW,
            "last_run_at": None,
            "last_status": None,
            "run_count": 0,
            "failure_count": 0,
            **changes,
        }
    )


def run(status: RunStatus, ago: int = 0, **changes: Any) -> Run:
    due_at = NOW - timedelta(minutes=ago)
    started_at = None if status is RunStatus.WAITING else due_at
    given: dict[str, Any] = {"started_at": started_at, "trigger": Trigger.SCHEDULE, **changes}
    return Run(
        run_id=f"t.{ago}", task_id="t", task_version=2, due_at=due_at, status=status, **given
    )


WELL_KNOWN = Facts(
    task=task(),
    now=NOW,
    due=[NOW + timedelta(hours=1)],
    going_on=[],
    latest=[run(RunStatus.SUCCEEDED, 60)],
    health=WELL,
    clock_ahead=timedelta(milliseconds=200),
)


def found(**changes: Any) -> list[Reason]:
    return reasons(replace(WELL_KNOWN, **changes))


def test_nothing_keeps_a_task_from_running_that_is_well() -> None:
    assert found() == []


def test_a_pause_is_told_with_who_why_and_until_when() -> None:
    pause = Pause(reason="it is late", until=NOW + timedelta(hours=2), since=NOW, by="ann")
    [reason] = found(task=task(TaskState.PAUSED, pause=pause), due=[])
    assert (reason.code, reason.since) == ("paused", NOW)
    assert reason.message == (
        "It is paused by ann: it is late. Its occurrences are skipped until 2026-05-01 14:00:00 UTC."
    )
    [unknown] = found(task=task(TaskState.PAUSED, pause=Pause()), due=[])
    assert unknown.message == "It is paused. Its occurrences are skipped until it is resumed."


@pytest.mark.parametrize(
    ("health", "code"),
    [
        (EngineHealth(reachable=False, detail="Temporal does not answer"), "engine_unreachable"),
        (replace(WELL, workers=()), "no_scheduler"),
        (replace(WELL, workers=(replace(WORKER, executes=False),)), "no_worker"),
    ],
)
def test_a_part_that_is_away_is_told_with_what_helps(health: EngineHealth, code: str) -> None:
    [reason] = found(health=health)
    assert reason.code == code
    assert reason.remedy


def test_a_task_that_is_over_tells_nothing_of_workers() -> None:
    away = replace(WELL, workers=())
    [finished] = found(task=task(TaskState.FINISHED, last_run_at=NOW), due=[], health=away)
    assert (finished.code, finished.since) == ("finished", NOW)
    [deleted] = found(task=task(TaskState.DELETED), due=[], health=away)
    assert (deleted.code, deleted.message) == ("deleted", "It was deleted by bob.")
    assert deleted.remedy == "POST /api/v1/tasks/t/versions/1/restore"


def test_a_change_that_the_engine_does_not_have_is_told() -> None:
    [reason] = found(task=task(engine_version=1))
    assert (reason.code, reason.since) == ("change_pending", NOW)


def test_a_schedule_without_due_times_is_told() -> None:
    assert [one.code for one in found(due=[])] == ["never_due"]


def scheduled(**changes: Any) -> Task:
    """A task that is due each day at noon."""
    schedule = {"kind": "cron", "cron": "0 12 * * *", **changes}
    spec = task().spec.model_dump(mode="json") | {"schedule": schedule}
    return task(spec=TaskSpec.model_validate(spec))


def test_a_schedule_whose_window_has_not_begun_is_told() -> None:
    starts_at = NOW + timedelta(days=3)
    [reason] = found(task=scheduled(starts_at=starts_at.isoformat()), due=[starts_at])
    assert (reason.code, reason.message) == (
        "before_window",
        "Its schedule starts at 2026-05-04 12:00:00 UTC.",
    )
    assert found(task=scheduled(starts_at=NOW.isoformat())) == []


def test_a_day_that_is_left_out_before_the_next_due_time_is_told() -> None:
    without_tomorrow = scheduled(exclude={"dates": ["2026-05-02"]})
    [reason] = found(task=without_tomorrow, due=[NOW + timedelta(days=2)])
    assert reason.code == "excluded"
    assert "2026-05-02 12:00:00 UTC" in reason.message
    assert (
        found(task=scheduled(exclude={"dates": ["2026-05-09"]}), due=[NOW + timedelta(days=1)])
        == []
    )


def test_a_task_whose_workers_have_the_wrong_code_is_told() -> None:
    [reason] = found(suspension=Suspension(since=NOW, tries=4))
    assert (reason.code, reason.since) == ("suspended", NOW)
    assert reason.remedy and "onthedot replay" in reason.remedy


def test_a_last_run_that_goes_on_is_no_want_of_due_times() -> None:
    assert [one.code for one in found(due=[])] == ["never_due"]
    last = run(RunStatus.RUNNING, 1)
    assert [one.code for one in found(due=[], going_on=[last])] == ["overlap"]


def test_a_run_that_goes_on_is_told_unless_runs_may_overlap() -> None:
    running = run(RunStatus.RUNNING, 5)
    [reason] = found(going_on=[running])
    assert (reason.code, reason.since) == ("overlap", running.started_at)
    assert "skipped" in reason.message
    assert found(going_on=[running], task=task(overlap="allow")) == []
    backfill = replace(running, trigger=Trigger.BACKFILL)
    assert found(going_on=[backfill]) == []


def test_a_run_that_waits_for_a_limit_is_told_apart_from_one_that_waits_its_turn() -> None:
    limited = run(RunStatus.WAITING, 5, reason="limit database: 2 of 2 held")
    asked = {"reason": "raise limit for support", "trigger": Trigger.MANUAL}
    queued = run(RunStatus.WAITING, 3, **asked)
    limit, turn = found(task=task(limits={"database": 2}), going_on=[limited, queued])
    assert (limit.code, limit.since) == ("limit", limited.due_at)
    assert "limit database: 2 of 2 held" in limit.message
    assert (turn.code, turn.since) == ("queued", queued.due_at)


def test_failures_in_a_row_are_counted_up_to_the_last_success() -> None:
    latest = [
        run(RunStatus.SKIPPED, 1, started_at=None),
        run(RunStatus.FAILED, 2, error="exit code 1"),
        run(RunStatus.TIMED_OUT, 3),
        run(RunStatus.SUCCEEDED, 4),
        run(RunStatus.FAILED, 5),
    ]
    [reason] = found(latest=latest)
    assert (reason.code, reason.since) == ("failing", NOW - timedelta(minutes=3))
    assert reason.message == "Its last 2 runs failed; the newest: exit code 1"
    assert found(latest=latest[3:]) == []


@pytest.mark.parametrize(("seconds", "side"), [(1.5, "ahead of"), (-3, "behind")])
def test_clocks_that_differ_by_over_a_second_are_told(seconds: float, side: str) -> None:
    [reason] = found(clock_ahead=timedelta(seconds=seconds))
    assert reason.code == "clock_skew"
    assert f"{abs(seconds):.1f} s {side}" in reason.message


@pytest.mark.parametrize(
    ("ahead_ms", "queue", "says"),
    [
        (1500, "default", "1.5 s ahead of Postgres': what it runs starts early."),
        (-3000, "default", "3.0 s behind Postgres': what it runs starts late."),
        (-3000, "reports", None),
        (900, "default", None),
    ],
)
def test_a_worker_whose_clock_is_off_is_told_to_those_it_runs(
    ahead_ms: float, queue: str, says: str | None
) -> None:
    worker = Present(
        identity="w",
        role="all",
        queues=[queue],
        version="1",
        started_at=NOW,
        clock_skew_ms=ahead_ms,
    )
    told = [one.message for one in found(workers=[worker])]
    assert told == ([f"The clock of worker w is {says}"] if says else [])
