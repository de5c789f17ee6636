"""What programs of steps (test_task_programs.py) have found, each as short as it could be made."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.plan import Occurrence
from onthedot.run import Trigger
from onthedot.task import CatchUp, OnceSchedule, TaskState
from tests.running import BAD, Play, Stage, every, lasting, stage
from workflows.runs import OVERLAP


@pytest.fixture
async def on_stage(time_skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    async with stage(time_skipping) as made:
        yield made


async def test_what_is_queued_runs_although_the_task_is_changed(on_stage: Stage) -> None:
    on_stage.scripted(Play(lasts=timedelta(seconds=150)))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "queue_one"})
        await on_stage.minutes(2.5)
        await on_stage.revise(TaskState.ACTIVE, name="Another name")
        await on_stage.minutes(3.9)
    assert on_stage.seen()[:2] == [(1, "succeeded", None), (2, "succeeded", None)]
    assert on_stage.log.final[on_stage.run_id(2)].task_version == 2


async def test_what_is_due_while_an_outage_is_caught_up_meets_the_overlap_policy(
    on_stage: Stage,
) -> None:
    await on_stage.minutes(3.5)  # nobody worked since the stage began
    on_stage.scripted(then=Play(lasts=timedelta(seconds=50)))
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": {"keep": "all"}})
        await on_stage.minutes(7.9)
    assert on_stage.seen() == [
        *[(minute, "succeeded", None) for minute in (1, 2, 3)],
        *[(minute, "skipped", OVERLAP) for minute in (4, 5)],
        *[(minute, "succeeded", None) for minute in (6, 7)],
    ]
    triggers = [run.trigger for run in on_stage.log.rows() if run.started_at]
    assert triggers == [Trigger.CATCH_UP] * 3 + [Trigger.SCHEDULE] * 2
    by_attempts = [order.trigger for order in on_stage.attempts if order.after_success]
    assert by_attempts == triggers


async def test_a_waiting_run_that_was_cancelled_stays_so_when_its_task_is_changed(
    on_stage: Stage,
) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.revise(TaskState.ACTIVE, name="Another name")
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "cancelled", "cancelled on request")]


async def test_a_run_that_is_called_back_can_be_cancelled(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)
        run_id = await on_stage.trigger()  # which calls it back
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.minutes(1.5)
    assert on_stage.log.final[on_stage.run_id(1)].status == "cancelled"
    assert on_stage.log.final[run_id].status == "succeeded"


async def test_a_change_that_arrives_late_gives_no_occurrence_a_second_turn(
    on_stage: Stage,
) -> None:
    """What the new schedule adds since the change was made is seen to; what ran is left alone."""
    sooner = every("30s", on_stage.began)
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": {"keep": "all"}})
        await on_stage.minutes(3.4)
        await on_stage.revise(
            TaskState.ACTIVE, schedule=sooner, changed_at=on_stage.begins_after(1.9)
        )
        await on_stage.minutes(4.2)
    minutes = (1, 2, 2.5, 3, 3.5, 4)
    assert on_stage.seen() == [(minute, "succeeded", None) for minute in minutes]
    assert len(on_stage.attempts) == len(minutes)


async def test_what_ran_is_not_said_to_be_missed_by_a_change_that_arrives_late(
    on_stage: Stage,
) -> None:
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": {"keep": "none"}})
        await on_stage.minutes(3.4)
        await on_stage.revise(
            TaskState.ACTIVE,
            schedule=every("20s", on_stage.began),
            changed_at=on_stage.begins_after(1.9),
        )
        await on_stage.minutes(4.2)
    seen = {round(minute * 3): status for minute, status, _ in on_stage.seen()}
    missed = dict.fromkeys((7, 8), "missed")
    ran = dict.fromkeys((3, 6, 9, 10, 11, 12), "succeeded")  # the tenth 4 s late
    assert seen == ran | missed


async def test_what_was_missed_is_not_run_by_a_change_that_arrives_late(on_stage: Stage) -> None:
    await on_stage.minutes(3.5)  # nobody worked since the stage began
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": {"keep": "none"}})
        await on_stage.minutes(3.6)
        await on_stage.revise(
            TaskState.ACTIVE,
            schedule=every("30s", on_stage.began),
            policies=on_stage.spec.policies.model_copy(update={"catch_up": CatchUp(keep="all")}),
            changed_at=on_stage.begins_after(0.9),
        )
        await on_stage.minutes(4.2)
    seen = {round(minute * 2): status for minute, status, _ in on_stage.seen()}
    missed = dict.fromkeys((2, 4, 6), "missed")
    ran = dict.fromkeys((3, 5, 7, 8), "succeeded")
    assert seen == ran | missed
    assert sorted(
        round((one.due_at - on_stage.began).total_seconds() / 30) for one in on_stage.attempts
    ) == [*ran]


async def test_a_task_that_was_deleted_begins_anew_with_all_its_occurrences(
    on_stage: Stage,
) -> None:
    on_stage.scripted(Play(lasts=timedelta(seconds=50)))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1.1)
        await on_stage.revise(TaskState.DELETED, let_finish=True)
        await on_stage.revise(TaskState.ACTIVE, changed_at=on_stage.begins_after(1.15))
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "succeeded", None), (2, "succeeded", None)]


def once(on_stage: Stage, minutes: float) -> dict[str, Any]:
    """A new one-time task, as it is registered: it comes with its only occurrence."""
    due_at = on_stage.begins_after(minutes)
    return {
        "schedule": OnceSchedule(at=due_at),
        "only": Occurrence(due_at=due_at, lead=timedelta(seconds=20)),
    }


async def planned(on_stage: Stage) -> int:
    events = (await on_stage.handle.fetch_history()).to_json_dict()["events"]
    return [one["eventType"] for one in events].count("EVENT_TYPE_MARKER_RECORDED")


async def test_a_new_one_time_task_needs_no_plan(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(**once(on_stage, 3))
        await on_stage.minutes(4)
        assert await planned(on_stage) == 0
    assert on_stage.seen() == [(3, "succeeded", None)]
    assert on_stage.attempts[0].start_at == on_stage.begins_after(3)
    assert on_stage.log.progress[-1].state is TaskState.FINISHED


async def test_a_new_one_time_task_that_nobody_worked_for_is_caught_up(on_stage: Stage) -> None:
    await on_stage.minutes(5)
    async with on_stage.worker():
        await on_stage.start(**once(on_stage, 3))
        await on_stage.minutes(6)
    (run,) = on_stage.log.rows()
    assert (run.status, run.trigger) == ("succeeded", Trigger.CATCH_UP)


async def test_a_new_one_time_task_can_be_changed(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(**once(on_stage, 3))
        await on_stage.revise(TaskState.ACTIVE, schedule=OnceSchedule(at=on_stage.begins_after(2)))
        await on_stage.minutes(4)
    assert on_stage.seen() == [(2, "succeeded", None)]


async def test_a_task_that_comes_back_before_its_run_has_heard_of_the_deletion_runs(
    on_stage: Stage,
) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)  # the run waits for its instant
        await on_stage.revise(TaskState.DELETED)
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(1.5)
    assert [one.run_id for one in on_stage.attempts] == [on_stage.run_id(1)]
    assert on_stage.attempts[0].task_version == 3


async def test_a_run_that_ends_well_leaves_a_task_paused_that_another_has_paused(
    on_stage: Stage,
) -> None:
    """It was sent off as the last one, after which its task would be finished."""
    on_stage.plays = lambda one: BAD if one.trigger is Trigger.MANUAL else lasting(seconds=60)
    async with on_stage.worker():
        task = once(on_stage, 1)
        await on_stage.start(policies={"overlap": "allow", "pause_on_failure": 1}, **task)
        await on_stage.minutes(1.5)
        await on_stage.trigger()
        await on_stage.minutes(3)
    assert on_stage.log.final[on_stage.run_id(1)].status == "succeeded"
    assert on_stage.log.progress[-1].state is TaskState.PAUSED
