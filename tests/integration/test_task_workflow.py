"""A task's workflow over hours and days, in skipped time: what runs, and what the log gets."""

import asyncio
import gc
import itertools
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.messages import RunOrder
from onthedot import engine
from onthedot.run import RunStatus, Trigger, requested_run_id
from onthedot.schedule import times
from onthedot.task import CronSchedule, FollowUps, HttpAction, OnceSchedule, TaskState
from tests.running import BAD, GOOD, TASK, Play, Stage, every, lasting, sent_first
from tests.services import assert_eventually
from workflows import history as history_module
from workflows import log as log_module
from workflows.messages import KeepTask, ReviseTask
from workflows.runs import OVERLAP
from workflows.task import TaskWorkflow


async def test_a_one_time_task_runs_once_and_is_finished(on_stage: Stage) -> None:
    async with on_stage.worker():
        handle = await on_stage.start(OnceSchedule(at=on_stage.begins_after(90)))
        await on_stage.minutes(91)
        await handle.result()
    assert on_stage.seen() == [(90, "succeeded", None)]
    assert on_stage.log.rows()[0].lag_ms < 1000
    last = on_stage.log.progress[-1]
    assert (last.state, last.next_due_at) == (TaskState.FINISHED, None)


async def test_an_interval_fires_at_each_due_time_once(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(every("50m", on_stage.began))
        await on_stage.minutes(3 * 24 * 60 + 1)
        due = on_stage.expected_ids(on_stage.begins_after(3 * 24 * 60))
        await assert_eventually(lambda: len(on_stage.log.rows()) >= len(due), within=20)
    assert [run.run_id for run in on_stage.log.rows()] == due
    assert max(run.lag_ms or 0 for run in on_stage.log.rows()) < 1000
    assert {run.status for run in on_stage.log.rows()} == {RunStatus.SUCCEEDED}


async def test_a_cron_task_fires_at_each_due_time_once(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its 150 runs heartbeat here while they wait, which takes long with long leads.
    monkeypatch.setattr(times, "LONGEST_LEAD", timedelta(seconds=10))
    async with on_stage.worker():
        await on_stage.start(CronSchedule(cron="*/20 8-17 * * *", timezone="Europe/Berlin"))
        await on_stage.minutes(5 * 24 * 60)
    minutes = [on_stage.begins_after(minute) for minute in range(1, 5 * 24 * 60)]
    local = [minute.astimezone(ZoneInfo("Europe/Berlin")) for minute in minutes]
    due = [one for one in local if one.hour in range(8, 18) and one.minute % 20 == 0]
    done = [run for run in on_stage.log.rows() if run.due_at <= minutes[-1]]
    assert [run.due_at for run in done] == due
    assert {run.status for run in done} == {RunStatus.SUCCEEDED}


async def test_skip_leaves_out_what_is_due_while_a_run_goes_on(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(4.5)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "skipped", OVERLAP),
        (3, "skipped", OVERLAP),
        (4, "succeeded", None),
    ]


async def test_queue_one_runs_the_first_of_those_that_wait(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "queue_one"})
        await on_stage.minutes(3.9)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "succeeded", None),
        (3, "skipped", "overlap: the queue is full (1 of 1)"),
    ]
    assert on_stage.log.final[on_stage.run_id(2)].started_at > on_stage.begins_after(3.4)
    assert on_stage.most_at_once == 1


async def test_queue_all_runs_all_of_those_that_wait_one_by_one(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=200))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "queue_all"})
        await on_stage.minutes(5.5)
    assert [row[1:] for row in on_stage.seen()] == [("succeeded", None)] * 5
    started = [run.started_at for run in on_stage.log.rows() if run.started_at]
    assert started == sorted(started)
    assert on_stage.most_at_once == 1


async def test_cancel_running_ends_the_run_before(on_stage: Stage) -> None:
    on_stage.scripted(lasting(hours=1), lasting(hours=1))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "cancel_running"})
        await on_stage.minutes(3.5)
    reason = "overlap: the next one was due"
    assert on_stage.seen() == [
        (1, "cancelled", reason),
        (2, "cancelled", reason),
        (3, "succeeded", None),
    ]
    assert on_stage.most_at_once == 1
    assert on_stage.log.final[on_stage.run_id(3)].lag_ms < 10_000


async def test_allow_runs_them_at_once(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=150), lasting(seconds=90))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "allow"})
        await on_stage.minutes(4.5)
    assert on_stage.seen() == [(minute, "succeeded", None) for minute in (1, 2, 3, 4)]
    assert on_stage.most_at_once == 3
    assert max(run.lag_ms or 0 for run in on_stage.log.rows()) < 1000


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ({"keep": "all"}, ["succeeded"] * 5),
        ({"keep": "latest"}, ["missed"] * 4 + ["succeeded"]),
        ({"keep": "none"}, ["missed"] * 5),
        ({"keep": "all", "within": "150s"}, ["missed"] * 3 + ["succeeded"] * 2),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
async def test_catch_up_says_what_becomes_of_an_outage(
    on_stage: Stage, catch_up: dict[str, str], expected: list[str]
) -> None:
    await on_stage.minutes(6.5)  # nobody worked since the stage began
    on_stage.scripted(then=lasting(seconds=1))
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": catch_up}, cursor=on_stage.begins_after(1.5))
        await on_stage.minutes(8.5)
    assert [row[:2] for row in on_stage.seen()] == [
        *[(minute, status) for minute, status in zip(range(2, 7), expected, strict=True)],
        (7, "succeeded"),
        (8, "succeeded"),
    ]
    triggers = {run.trigger for run in on_stage.log.rows()[:5] if run.status == "succeeded"}
    assert triggers <= {Trigger.CATCH_UP}
    assert all(run.reason for run in on_stage.log.rows() if run.status is RunStatus.MISSED)
    assert on_stage.most_at_once == 1


async def test_a_run_that_fails_is_tried_again_with_growing_pauses(on_stage: Stage) -> None:
    on_stage.scripted(BAD, BAD, GOOD)
    retry = {"attempts": 5, "backoff": "3s", "factor": 3}
    async with on_stage.worker():
        await on_stage.start(policies={"retry": retry})
        await on_stage.minutes(1.9)
    (run,) = on_stage.log.rows()
    assert (run.status, run.attempt_count) == (RunStatus.SUCCEEDED, 3)
    assert [one.status for one in run.attempts] == ["failed", "failed", "succeeded"]
    starts = [one.started_at for one in run.attempts]
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(starts)]
    assert pauses == pytest.approx([3, 9], abs=0.5)
    assert [one.run_id for one in on_stage.attempts] == [run.run_id] * 3
    assert [row.status for row in on_stage.log.shown] == ["running", "running"]


async def test_a_retry_waits_as_long_as_a_server_asks(on_stage: Stage) -> None:
    on_stage.scripted(Play(status=RunStatus.FAILED, retry_after=timedelta(seconds=40)))
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 2}})
        await on_stage.minutes(1.9)
    (run,) = on_stage.log.rows()
    pause = run.attempts[1].started_at - run.attempts[0].started_at
    assert pause.total_seconds() == pytest.approx(40, abs=0.5)


async def test_there_are_at_most_so_many_attempts(on_stage: Stage) -> None:
    on_stage.scripted(then=BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 3, "backoff": "0s"}})
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "failed", None), (2, "failed", None)]
    assert [run.attempt_count for run in on_stage.log.rows()] == [3, 3]
    assert {run.error for run in on_stage.log.rows()} == {"it went wrong"}


async def test_what_must_not_be_tried_again_is_not(on_stage: Stage) -> None:
    on_stage.scripted(Play(status=RunStatus.TIMED_OUT, may_retry=False))
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 3}})
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "timed_out", None)]
    assert len(on_stage.attempts) == 1


async def test_a_paused_task_does_not_run_and_its_occurrences_are_skipped(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1.5)
        assert await on_stage.revise(TaskState.PAUSED) == 2
        await on_stage.minutes(4.5)
        assert await on_stage.revise(TaskState.ACTIVE) == 3
        await on_stage.minutes(5.5)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "skipped", "paused"),
        (3, "skipped", "paused"),
        (4, "skipped", "paused"),
        (5, "succeeded", None),
    ]


async def test_a_run_is_recalled_when_its_task_is_paused(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)  # its run is at a worker already
        await on_stage.revise(TaskState.PAUSED)
        await on_stage.minutes(1.5)
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "skipped", "paused"), (2, "succeeded", None)]


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_a_run_that_a_recall_cut_off_is_made_again_unless_it_may_not(
    on_stage: Stage, delivery: str
) -> None:
    on_stage.waits_deaf = True
    on_stage.scripted(lasting(seconds=20))
    async with on_stage.worker():
        await on_stage.start(policies={"delivery": delivery})
        await on_stage.minutes(1 - 5 / 60)
        await on_stage.revise(TaskState.ACTIVE, name="Another name")
        await on_stage.minutes(1.5)
    (row,) = on_stage.log.rows()
    if delivery == "at_least_once":
        assert (row.status, row.attempt_count) == (RunStatus.SUCCEEDED, 2)
        assert row.reason == "a change of its task came as it began, and it was started again"
        assert [one.status for one in row.attempts] == [RunStatus.CANCELLED, RunStatus.SUCCEEDED]
    else:
        assert (row.status, row.attempt_count) == (RunStatus.CANCELLED, 1)


async def test_a_run_recalled_by_a_change_still_runs_on_time(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)
        await on_stage.revise(TaskState.ACTIVE, name="Another name")
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "succeeded", None)]
    (run,) = on_stage.log.rows()
    assert run.task_version == 2
    assert run.lag_ms < 1000


async def test_a_run_that_is_due_right_after_a_pause_and_a_resume_runs(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 7 / 60)
        await on_stage.revise(TaskState.PAUSED)
        await on_stage.minutes(1 - 2 / 60)
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "succeeded", None)]


async def test_a_task_takes_another_schedule(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(2.5)
        await on_stage.revise(TaskState.ACTIVE, schedule=every("10m", on_stage.began))
        await on_stage.minutes(25)
        await on_stage.revise(TaskState.ACTIVE, schedule=OnceSchedule(at=on_stage.begins_after(26)))
        await on_stage.minutes(27)
        await on_stage.handle.result()
    assert on_stage.seen() == [(minute, "succeeded", None) for minute in (1, 2, 10, 20, 26)]
    assert [run.task_version for run in on_stage.log.rows()] == [1, 1, 2, 2, 3]


async def test_a_version_that_is_not_newer_changes_nothing(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(version=7)
        assert await on_stage.revise(TaskState.DELETED) == 7
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "succeeded", None)]


async def test_of_changes_at_once_the_latest_is_in_force_though_its_number_is_lower(
    on_stage: Stage,
) -> None:
    """Postgres has lost the versions up to 6 and given the number 4 again."""

    def revise(version: int, seconds: float, name: str) -> asyncio.Task[int]:
        desired = ReviseTask(
            version=version,
            spec=on_stage.spec.model_copy(update={"name": name}),
            state=TaskState.ACTIVE,
            changed_at=on_stage.began + timedelta(seconds=seconds),
        )
        return asyncio.create_task(on_stage.handle.execute_update(TaskWorkflow.revise, desired))

    await on_stage.start(version=5, changed_at=on_stage.began)
    lost = revise(6, 1, "lost")
    await asyncio.sleep(0.5)  # the engine has it, and keeps it for a worker
    kept = revise(4, 2, "kept")
    await asyncio.sleep(0.5)
    async with on_stage.worker():
        assert await asyncio.wait_for(asyncio.gather(lost, kept), 20) == [4, 4]
        assert await revise(3, 1.5, "older") == 4
        assert await (await on_stage.handle.describe()).memo_value("name") == "kept"
        assert await revise(5, 3, "next") == 5
        assert await (await on_stage.handle.describe()).memo_value("name") == "next"


async def test_a_deleted_task_ends(on_stage: Stage) -> None:
    async with on_stage.worker():
        handle = await on_stage.start()
        await on_stage.minutes(1.5)
        await on_stage.revise(TaskState.DELETED)
        await handle.result()
        await on_stage.minutes(3)
    assert on_stage.seen() == [(1, "succeeded", None)]


async def test_a_deleted_task_that_has_continued_as_new_ends_at_once(on_stage: Stage) -> None:
    async with on_stage.worker():
        handle = await on_stage.start(state=TaskState.DELETED)
        await handle.result()
    assert on_stage.seen() == []
    gc.collect()  # work that was not begun would be told of here


async def test_a_run_that_goes_on_is_cancelled_with_its_task(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=100))
    async with on_stage.worker():
        handle = await on_stage.start()
        await on_stage.minutes(1.5)
        await on_stage.revise(TaskState.DELETED)
        await handle.result()
    assert on_stage.seen() == [(1, "cancelled", "the task was deleted")]


async def test_a_deleted_task_lets_its_run_and_its_attempts_end_where_it_was_told_to(
    on_stage: Stage,
) -> None:
    on_stage.scripted(Play(status=RunStatus.FAILED, lasts=timedelta(seconds=40)))
    retry = {"attempts": 2, "backoff": "1m"}
    async with on_stage.worker():
        handle = await on_stage.start(policies={"retry": retry, "overlap": "queue_all"})
        await on_stage.minutes(1.2)
        queued = await on_stage.trigger()
        await on_stage.revise(TaskState.DELETED, let_finish=True)
        await on_stage.minutes(5)
        await handle.result()
    assert on_stage.log.final[on_stage.run_id(1)].status is RunStatus.SUCCEEDED
    assert len(on_stage.log.final[on_stage.run_id(1)].attempts) == 2
    assert on_stage.log.final[queued].reason == "the task was deleted"
    assert len(on_stage.log.rows()) == 2


async def test_what_an_outage_left_is_accounted_for_when_the_task_is_deleted(
    on_stage: Stage,
) -> None:
    await on_stage.minutes(3.5)  # nobody worked since the stage began
    handle = await on_stage.start(policies={"catch_up": {"keep": "latest"}})
    deleting = await sent_first(on_stage.revise(TaskState.DELETED))
    async with on_stage.worker():
        await deleting
        await handle.result()
    assert [row[0] for row in on_stage.seen()] == [1, 2, 3]
    assert [row[1] for row in on_stage.seen()][:2] == ["missed", "missed"]


async def test_a_deleted_task_that_comes_back_runs_from_then_on(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=200))
    async with on_stage.worker():
        await on_stage.start(policies={"catch_up": {"keep": "all"}})
        await on_stage.minutes(1.1)
        await on_stage.revise(TaskState.DELETED, let_finish=True)
        await on_stage.minutes(3.5)  # its run goes on
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(5.5)
    assert [row[0] for row in on_stage.seen()] == [1, 4, 5]


async def test_a_trigger_runs_at_once(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(0.5)
        run_id = await on_stage.trigger()
        await on_stage.minutes(1.5)
    run = on_stage.log.final[run_id]
    assert (run.status, run.trigger) == (RunStatus.SUCCEEDED, Trigger.MANUAL)
    assert run.lag_ms < 1000
    assert len(on_stage.log.rows()) == 2


async def test_a_trigger_in_the_lead_lets_the_overlap_policy_hold(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=20))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)
        run_id = await on_stage.trigger()
        await on_stage.minutes(1.5)
    assert on_stage.log.final[run_id].status is RunStatus.SUCCEEDED
    assert on_stage.log.final[on_stage.run_id(1)].status is RunStatus.SKIPPED
    assert on_stage.most_at_once == 1


async def test_a_trigger_in_the_last_second_does_not_overlap(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=20), lasting(seconds=20))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 1 / 60)
        await on_stage.trigger()
        await on_stage.minutes(1.9)
    assert len(on_stage.log.rows()) == 2
    assert on_stage.most_at_once == 1


async def test_a_trigger_while_a_run_goes_on_obeys_the_overlap_policy(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=40))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1.2)
        run_id = await on_stage.trigger()
        await on_stage.minutes(1.9)
    assert on_stage.log.final[run_id].status is RunStatus.SKIPPED
    assert on_stage.log.final[run_id].reason == OVERLAP


async def test_a_paused_task_can_be_triggered(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(state=TaskState.PAUSED)
        await on_stage.minutes(1.5)
        run_id = await on_stage.trigger()
        await on_stage.minutes(2.5)
    assert on_stage.log.final[run_id].status is RunStatus.SUCCEEDED
    assert len(on_stage.log.rows()) == 1


async def test_a_finished_task_runs_what_was_asked_for_and_ends(on_stage: Stage) -> None:
    run_id = requested_run_id(TASK, on_stage.began, "asked")
    order = RunOrder(run_id=run_id, trigger=Trigger.MANUAL, due_at=on_stage.began)
    async with on_stage.worker():
        handle = await on_stage.start(state=TaskState.FINISHED, queue=[order], taken=["asked"])
        await on_stage.minutes(1)
        await handle.result()
    assert on_stage.log.final[run_id].status is RunStatus.SUCCEEDED
    assert on_stage.log.progress[-1].state is TaskState.FINISHED


def backfill(on_stage: Stage, *minutes: int) -> list[RunOrder]:
    due = [on_stage.begins_after(minute) for minute in minutes]
    return [
        RunOrder(run_id=requested_run_id(TASK, one, "past"), trigger=Trigger.BACKFILL, due_at=one)
        for one in due
    ]


async def test_a_backfill_runs_in_order_beside_the_others(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=30))
    async with on_stage.worker():
        await on_stage.start()
        orders = backfill(on_stage, -30, -20, -10)
        await on_stage.ask("past", *orders)
        await on_stage.minutes(2.8)
    runs = [on_stage.log.final[order.run_id] for order in orders]
    assert [run.status for run in runs] == [RunStatus.SUCCEEDED] * 3
    for before, after in itertools.pairwise(runs):
        assert before.finished_at <= after.started_at
    assert on_stage.log.final[on_stage.run_id(1)].lag_ms < 1000


async def test_a_request_is_taken_once(on_stage: Stage) -> None:
    orders = backfill(on_stage, -30, -20)
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.ask("past", *orders)
        await on_stage.ask("past", *orders)
        await on_stage.minutes(0.5)
    assert [one.run_id for one in on_stage.attempts] == [one.run_id for one in orders]


async def test_a_waiting_run_can_be_cancelled(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 5 / 60)
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "cancelled", "cancelled on request"), (2, "succeeded", None)]
    assert on_stage.log.final[on_stage.run_id(1)].started_at is None


async def test_a_run_that_is_called_back_can_be_cancelled(on_stage: Stage) -> None:
    """It is not planned again."""
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1 - 7 / 60)
        pausing = asyncio.create_task(on_stage.revise(TaskState.PAUSED))
        await on_stage.cancel(on_stage.run_id(1))
        await pausing
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "cancelled", "cancelled on request"), (2, "succeeded", None)]


async def test_a_run_that_goes_on_can_be_cancelled(on_stage: Stage) -> None:
    on_stage.scripted(lasting(hours=1))
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 5}})
        await on_stage.minutes(1.2)
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "cancelled", "cancelled on request"), (2, "succeeded", None)]
    assert on_stage.log.final[on_stage.run_id(1)].started_at is not None


async def test_a_run_that_waits_for_its_next_attempt_can_be_cancelled(on_stage: Stage) -> None:
    on_stage.scripted(BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 5, "backoff": "40s"}})
        await on_stage.minutes(1.2)
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.minutes(1.9)
    assert on_stage.seen() == [(1, "cancelled", "cancelled on request")]
    assert len(on_stage.attempts) == 1


async def test_a_queued_run_can_be_cancelled(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "queue_all"})
        await on_stage.minutes(2.5)
        await on_stage.cancel(on_stage.run_id(2))
        await on_stage.minutes(3.9)
    assert on_stage.seen()[1] == (2, "cancelled", "cancelled on request")
    assert [row[1] for row in on_stage.seen()] == ["succeeded", "cancelled", "succeeded"]


async def test_a_run_can_be_cancelled_as_it_is_sent_off(on_stage: Stage) -> None:
    run_id = requested_run_id(TASK, on_stage.began, "asked")
    order = RunOrder(run_id=run_id, trigger=Trigger.MANUAL, due_at=on_stage.began)
    on_stage.scripted(lasting(hours=1))
    await on_stage.start(state=TaskState.PAUSED, queue=[order])
    cancelling = await sent_first(on_stage.cancel(run_id))  # it comes with the first task
    async with on_stage.worker():
        await cancelling
        await on_stage.minutes(1)
    assert on_stage.log.final[run_id].status is RunStatus.CANCELLED


async def test_a_task_that_fails_is_paused_where_it_says_so(on_stage: Stage) -> None:
    on_stage.scripted(GOOD, BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"pause_on_failure": True})
        await on_stage.minutes(4.5)
        assert on_stage.log.progress[-1].state is TaskState.PAUSED
        assert on_stage.log.progress[-1].next_due_at is None
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(5.5)
    assert [row[:2] for row in on_stage.seen()] == [
        (1, "succeeded"),
        (2, "failed"),
        (3, "skipped"),
        (4, "skipped"),
        (5, "succeeded"),
    ]


async def test_runs_are_on_time_and_no_row_is_lost_while_the_log_is_away(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(every("10s", on_stage.began))
        await on_stage.minutes(1 + 1 / 60)
        on_stage.log.is_away = True
        await on_stage.minutes(3)
        assert len(on_stage.log.rows()) == 6
        on_stage.log.is_away = False
        await on_stage.minutes(4.1)
    due = on_stage.expected_ids(on_stage.begins_after(4.09))
    assert [run.run_id for run in on_stage.log.rows()] == due
    assert max(run.lag_ms or 0 for run in on_stage.log.rows()) < 1000


async def test_a_task_ends_only_when_the_log_has_all(on_stage: Stage) -> None:
    on_stage.log.is_away = True
    async with on_stage.worker():
        handle = await on_stage.start(OnceSchedule(at=on_stage.begins_after(1)))
        await on_stage.minutes(5)
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        on_stage.log.is_away = False
        await on_stage.minutes(6)
        await handle.result()
    assert on_stage.seen() == [(1, "succeeded", None)]


@pytest.fixture
def short_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task continues as new after a few firings."""
    monkeypatch.setattr(history_module, "LONG_HISTORY", 60)
    monkeypatch.setattr(history_module, "FULL_HISTORY", 100)
    monkeypatch.setattr(history_module, "TOO_LONG_HISTORY", 150)


@pytest.fixture
def small_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same by their bytes."""
    monkeypatch.setattr(history_module, "LONG_IN_BYTES", 60_000)
    monkeypatch.setattr(history_module, "FULL_IN_BYTES", 100_000)
    monkeypatch.setattr(history_module, "TOO_LONG_IN_BYTES", 150_000)


@pytest.mark.parametrize("histories", ["short_histories", "small_histories"])
async def test_continuing_as_new_loses_nothing(
    on_stage: Stage, request: pytest.FixtureRequest, histories: str
) -> None:
    request.getfixturevalue(histories)
    on_stage.scripted(then=lasting(seconds=3))
    async with on_stage.worker():
        await on_stage.start(every("10s", on_stage.began))
        first = (await on_stage.handle.describe()).run_id
        await on_stage.ask("past", *backfill(on_stage, *range(-60, 0)))
        await on_stage.minutes(0.5)
        await on_stage.revise(TaskState.ACTIVE, name="Another name")
        await on_stage.minutes(10)
        found = await on_stage.handle.describe()
    assert found.run_id != first
    due = on_stage.expected_ids(on_stage.begins_after(9.99))
    scheduled = [run for run in on_stage.log.rows() if run.trigger is Trigger.SCHEDULE]
    assert [run.run_id for run in scheduled][: len(due)] == due
    assert {run.status for run in scheduled} == {RunStatus.SUCCEEDED}
    assert max(run.lag_ms or 0 for run in scheduled) < 1000
    filled = [run for run in on_stage.log.rows() if run.trigger is Trigger.BACKFILL]
    assert len(filled) == 60
    assert found.search_attributes["OnthedotState"] == ["active"]
    assert await found.memo_value("name") == "Another name"
    followed = await engine.followed(found)
    assert followed.version == 2
    assert followed.changed_at
    assert on_stage.begins_after(0.5) <= followed.changed_at < on_stage.begins_after(1)


@pytest.mark.usefixtures("short_histories")
async def test_rows_are_carried_along_while_the_log_is_away(on_stage: Stage) -> None:
    on_stage.log.is_away = True
    async with on_stage.worker():
        await on_stage.start(every("10s", on_stage.began))
        first = (await on_stage.handle.describe()).run_id
        await on_stage.minutes(5)
        assert (await on_stage.handle.describe()).run_id != first
        on_stage.log.is_away = False
        await on_stage.minutes(6)
    due = on_stage.expected_ids(on_stage.begins_after(5.99))
    assert [run.run_id for run in on_stage.log.rows()][: len(due)] == due


async def carried_along(on_stage: Stage) -> KeepTask:
    """The input of the task's latest history."""
    history = await on_stage.handle.fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (state,) = await engine.DATA_CONVERTER.decode(payloads, [KeepTask])
    assert isinstance(state, KeepTask)
    return state


@pytest.mark.usefixtures("short_histories")
async def test_rows_that_are_too_many_to_be_carried_along_are_kept_elsewhere(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_CARRIED", 5)
    monkeypatch.setattr(log_module, "_CARRIED_WHOLE", 2)
    on_stage.scripted(then=Play(status=RunStatus.FAILED, error="x" * 1000))
    on_stage.spec = on_stage.spec.model_copy(
        update={"follow_ups": FollowUps(on_failure=["follower"])}
    )
    on_stage.log.is_away = True
    async with on_stage.worker(), on_stage.upkeep():
        await on_stage.start(every("10s", on_stage.began))
        await on_stage.minutes(2.99)
        carried = (await carried_along(on_stage)).unrecorded
        on_stage.log.is_away = False
        await on_stage.minutes(4)
    assert 2 < len(carried) <= 5
    assert [len(str(run.error)) for run in carried] == [201] * (len(carried) - 2) + [1000] * 2
    due = on_stage.expected_ids(on_stage.begins_after(3.5))
    assert [run.run_id for run in on_stage.log.rows()][: len(due)] == due
    assert {one.run_id for one in on_stage.followed} >= set(due)
    assert len(on_stage.followed) == len({one.run_id for one in on_stage.followed})


@pytest.mark.usefixtures("short_histories")
async def test_rows_are_not_handed_over_while_they_are_written(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run that filled the history wakes those who do the one and the other."""
    monkeypatch.setattr(log_module, "_CARRIED", 5)
    monkeypatch.setattr(log_module, "_RECORDED_AT_ONCE", 5)
    on_stage.scripted(lasting(minutes=15))
    async with on_stage.worker(), on_stage.upkeep():
        await on_stage.start(every("10s", on_stage.began))
        await on_stage.minutes(17)
    due = on_stage.expected_ids(on_stage.begins_after(16.5))
    assert [run.run_id for run in on_stage.log.rows()][: len(due)] == due


async def test_many_large_runs_are_sent_off_in_batches(on_stage: Stage) -> None:
    """The engine refuses an answer of more than 4 MiB, and the task would be stuck for ever."""
    large = HttpAction(url="http://127.0.0.1/", method="POST", body="x" * 60_000)
    on_stage.spec = on_stage.spec.model_copy(update={"action": large})
    on_stage.scripted(then=lasting(seconds=30))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began))
        await on_stage.ask("past", *backfill(on_stage, *range(-100, 0)), at_once=100)
        await on_stage.minutes(2)
    assert on_stage.most_at_once == 100
    assert len(on_stage.log.rows()) == 100


async def test_what_is_due_after_a_long_outage_does_not_wait_for_what_it_left(
    on_stage: Stage,
) -> None:
    on_stage.scripted(then=lasting(seconds=70))
    await on_stage.start(policies={"catch_up": {"keep": "all"}})
    await on_stage.minutes(120.5)
    async with on_stage.worker():
        await on_stage.minutes(130.5)
    seen = {minutes: (status, reason) for minutes, status, reason in on_stage.seen()}
    assert [seen[minutes][0] for minutes in range(1, 8)] == ["succeeded"] * 7
    assert [seen[minutes] for minutes in range(122, 131)] == [("skipped", OVERLAP)] * 9


@pytest.mark.usefixtures("short_histories")
async def test_a_task_can_be_changed_while_a_long_run_keeps_a_long_history(
    on_stage: Stage,
) -> None:
    on_stage.scripted(lasting(hours=10))
    async with on_stage.worker():
        await on_stage.start(every("10s", on_stage.began))
        await on_stage.minutes(10)
        events = (await on_stage.handle.fetch_history()).events
        assert len(events) > 150
        assert await on_stage.revise(TaskState.PAUSED) == 2
        await on_stage.cancel(on_stage.run_id(1 / 6))
        await on_stage.minutes(11)
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(12)
    due = on_stage.expected_ids(on_stage.begins_after(11.99))
    assert [run.run_id for run in on_stage.log.rows()][: len(due)] == due
