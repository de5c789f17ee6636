"""What programs of steps (test_task_programs.py) have found, each as short as it could be made."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from onthedot.run import Trigger
from onthedot.task import TaskState
from tests.running import Play, Stage, every, stage
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
