"""Limits in skipped time: how many runs hold one at once, who comes first, who leaves the line."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.limits import KeepLimit
from onthedot import engine
from onthedot.run import RunStatus
from onthedot.task import OnceSchedule, Policies, TaskState
from tests.running import BAD, GOOD, TASK, Play, Stage, stage
from tests.services import assert_eventually
from workflows.limit import LOOK, SELDOM, LimitWorkflow
from workflows.messages import KeepTask
from workflows.task import TaskWorkflow

OTHER = "task-2"


@pytest.fixture
async def on_stage(time_skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    async with stage(time_skipping) as made:
        yield made


def lasting(**span: float) -> Play:
    return Play(lasts=timedelta(**span))


def limited(size: int = 1, **policies: Any) -> dict[str, Any]:
    return {"overlap": "allow", "limits": {"crm": size}, **policies}


async def start_other(
    at: Stage, minutes: float, limits: dict[str, int], **policies: Any
) -> WorkflowHandle[TaskWorkflow, None]:
    """Another task, that is due once, so many minutes after the stage began."""
    once = OnceSchedule(at=at.begins_after(minutes))
    policies = Policies.model_validate({"timeout": "1d", "limits": limits, **policies})
    spec = at.spec.model_copy(update={"schedule": once, "policies": policies})
    return await at.client.start_workflow(
        TaskWorkflow.run,
        KeepTask(task_id=OTHER, version=1, spec=spec, state=TaskState.ACTIVE, cursor=at.began),
        id=engine.workflow_id(OTHER),
        task_queue=engine.TASK_QUEUE,
    )


def limit_of(at: Stage, name: str = "crm") -> WorkflowHandle[LimitWorkflow, None]:
    return at.client.get_workflow_handle_for(LimitWorkflow.run, engine.limit_workflow_id(name))


async def standing(at: Stage, name: str = "crm") -> tuple[list[str], list[str]]:
    """The runs that hold a place, and those that wait for one."""
    found: KeepLimit = await limit_of(at, name).query(LimitWorkflow.standing)
    return [one.ask.run_id for one in found.held], [one.run_id for one in found.line]


async def test_a_run_starts_at_its_instant_where_its_limit_is_free(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(policies=limited())
        await on_stage.minutes(3.5)
        assert await standing(on_stage) == ([], [])
    assert on_stage.seen() == [(minute, "succeeded", None) for minute in (1, 2, 3)]
    assert max(run.lag_ms or 0 for run in on_stage.log.rows()) < 1000
    assert on_stage.log.shown == []


async def test_no_more_runs_than_the_limit_go_on_and_the_first_to_come_are_the_first(
    on_stage: Stage,
) -> None:
    on_stage.scripted(then=lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start(policies=limited(2))
        await on_stage.minutes(4.2)
        assert await standing(on_stage) == (
            [on_stage.run_id(2), on_stage.run_id(3)],
            [on_stage.run_id(4)],
        )
        await on_stage.minutes(12.5)
    assert on_stage.most_at_once == 2
    due = [order.due_at for order in on_stage.attempts]
    assert due == [on_stage.begins_after(number) for number in range(1, len(due) + 1)]
    assert len(due) > 6


async def test_a_run_that_waits_shows_why_and_its_row_tells_that_it_waited(
    on_stage: Stage,
) -> None:
    on_stage.scripted(lasting(seconds=150))
    async with on_stage.worker():
        await on_stage.start(policies=limited(1))
        await on_stage.minutes(3.2)
        shown = [(run.run_id, run.status, run.reason) for run in on_stage.log.shown]
        assert shown == [
            (on_stage.run_id(2), RunStatus.WAITING, "limit crm: 1 of 1 held"),
            (on_stage.run_id(3), RunStatus.WAITING, "limit crm: 1 of 1 held, 1 wait before it"),
        ]
        await on_stage.minutes(3.9)
    first, second, third = on_stage.seen()
    assert first == (1, "succeeded", None)
    assert second[1] == third[1] == "succeeded"
    assert str(second[2]).startswith("waited 90.")
    assert str(third[2]).startswith("waited 30.")
    assert str(third[2]).endswith(" s for limit crm")


async def test_a_run_holds_its_place_through_its_retries(on_stage: Stage) -> None:
    on_stage.scripted(BAD, BAD, GOOD)
    retry = {"attempts": 3, "backoff": "40s", "factor": 1}
    async with on_stage.worker():
        await on_stage.start(policies=limited(retry=retry))
        await on_stage.minutes(2.9)
    assert [order.due_at for order in on_stage.attempts] == [
        on_stage.begins_after(number) for number in (1, 1, 1, 2)
    ]


async def test_a_run_that_waits_for_a_limit_overlaps_with_the_next_one(on_stage: Stage) -> None:
    async with on_stage.worker():
        on_stage.scripted(lasting(seconds=200))
        await start_other(on_stage, 0.5, {"crm": 1})
        await on_stage.minutes(0.7)
        await on_stage.start(policies=limited(overlap="skip"))
        await on_stage.minutes(4.5)
    mine = [run for run in on_stage.log.rows() if run.task_id == TASK]
    assert [run.status for run in mine] == ["succeeded", "skipped", "skipped", "succeeded"]
    assert on_stage.most_at_once == 1


async def test_a_run_with_two_limits_waits_until_it_has_both(on_stage: Stage) -> None:
    on_stage.scripted(lasting(minutes=3), then=GOOD)
    async with on_stage.worker():
        await start_other(on_stage, 0.5, {"b": 1})
        await on_stage.start(policies=limited(limits={"b": 1, "a": 1}, overlap="skip"))
        await on_stage.minutes(1.5)
        assert await standing(on_stage, "a") == ([on_stage.run_id(1)], [])
        assert (await standing(on_stage, "b"))[1] == [on_stage.run_id(1)]
        assert len(on_stage.attempts) == 1
        await on_stage.minutes(3.9)
        assert await standing(on_stage, "a") == ([], [])
        assert await standing(on_stage, "b") == ([], [])
    mine = [run for run in on_stage.log.rows() if run.task_id == TASK]
    assert mine[0].status == "succeeded"
    assert (mine[0].reason or "").endswith("s for limit b")


async def test_runs_that_want_the_same_two_limits_do_not_lock_each_other(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=50))
    async with on_stage.worker():
        await start_other(on_stage, 1, {"b": 1, "a": 1})
        await on_stage.start(policies=limited(limits={"a": 1, "b": 1}))
        await on_stage.minutes(8)
    assert on_stage.most_at_once == 1
    assert len([run for run in on_stage.log.rows() if run.status == "succeeded"]) >= 6


async def test_a_run_that_is_cancelled_leaves_the_line(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=200))
    async with on_stage.worker():
        await on_stage.start(policies=limited())
        await on_stage.minutes(3.2)
        await on_stage.cancel(on_stage.run_id(2))
        await on_stage.minutes(3.3)
        assert await standing(on_stage) == ([on_stage.run_id(1)], [on_stage.run_id(3)])
        await on_stage.minutes(4.9)
    assert [row[:2] for row in on_stage.seen()] == [
        (1, "succeeded"),
        (2, "cancelled"),
        (3, "succeeded"),
        (4, "succeeded"),
    ]
    assert on_stage.seen()[1][2] == "cancelled on request"
    assert on_stage.log.final[on_stage.run_id(2)].started_at is None


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        (TaskState.PAUSED, "skipped", "paused"),
        (TaskState.DELETED, "cancelled", "the task was deleted"),
    ],
)
async def test_pausing_or_deleting_a_task_takes_its_runs_out_of_the_line(
    on_stage: Stage, state: TaskState, status: str, reason: str
) -> None:
    on_stage.scripted(lasting(seconds=200))
    async with on_stage.worker():
        await start_other(on_stage, 0.5, {"crm": 1})
        await on_stage.start(policies=limited())
        await on_stage.minutes(2.2)
        await on_stage.revise(state)
        await on_stage.minutes(2.4)

        async def is_out() -> bool:
            mine = [run for run in on_stage.log.rows() if run.task_id == TASK]
            assert [(run.status, run.reason) for run in mine][:2] == [(status, reason)] * 2
            return (await standing(on_stage))[1] == []

        await assert_eventually(is_out)


async def test_a_pause_leaves_a_run_that_was_asked_for_in_the_line(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=100))
    async with on_stage.worker():
        await start_other(on_stage, 0.5, {"crm": 1})
        await on_stage.minutes(0.6)
        await on_stage.start(policies=limited())
        run_id = await on_stage.trigger()
        await on_stage.revise(TaskState.PAUSED)
        await on_stage.minutes(4)
    assert on_stage.log.final[run_id].status is RunStatus.SUCCEEDED


async def test_a_paused_run_does_not_ask_in_its_last_moment(on_stage: Stage) -> None:
    """No worker has it yet: it comes back however near its instant is."""
    async with on_stage.worker():
        await on_stage.start(policies=limited())
        await on_stage.until(on_stage.begins_after(1) - timedelta(seconds=0.8))
        await on_stage.revise(TaskState.PAUSED)
        await on_stage.minutes(1.5)
        await on_stage.revise(TaskState.ACTIVE)
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "skipped", "paused"), (2, "succeeded", None)]


async def test_the_place_of_a_holder_that_is_gone_is_freed_in_time(on_stage: Stage) -> None:
    """It fails, and would be tried again in ten hours: its place is its own meanwhile."""
    on_stage.scripted(BAD)
    retry = {"attempts": 2, "backoff": "10h", "max_backoff": "10h"}
    async with on_stage.worker():
        other = await start_other(on_stage, 0.5, {"crm": 1}, retry=retry)
        await on_stage.minutes(0.7)
        await on_stage.start(policies=limited())
        await on_stage.minutes(1.2)
        assert (await standing(on_stage))[1] == [on_stage.run_id(1)]
        await other.terminate("an operator's mistake")
        freed_by = await on_stage.now() + 2 * LOOK
        await on_stage.minutes(3.5)
    started_at = on_stage.log.final[on_stage.run_id(1)].started_at
    assert started_at is not None
    assert started_at < freed_by + timedelta(seconds=5)


async def lose_the_second(at: Stage, size: int) -> tuple[list[str], list[str]]:
    """A run is due at 1, one of another task at 1.5, the next one at 2; the other task's
    workflow is terminated at 2.2. Who held a place, and who waited for one, until then.
    """
    await at.start(policies=limited(size))
    await at.minutes(1.2)
    other = await start_other(at, 1.5, {"crm": size})
    await at.minutes(2.2)
    before = await standing(at)
    await other.terminate("an operator's mistake")
    return before


async def test_where_many_hold_a_limit_each_of_them_is_looked_at(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.limit._SENT_AT_ONCE", 1)
    on_stage.scripted(then=lasting(hours=1))
    async with on_stage.worker():
        _, waited = await lose_the_second(on_stage, size=2)
        assert waited == [on_stage.run_id(2)]
        await on_stage.minutes(3.5)
        assert (await standing(on_stage))[0] == [on_stage.run_id(1), on_stage.run_id(2)]


async def test_one_that_waits_and_is_gone_lets_the_next_one_in(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=90), then=GOOD)
    async with on_stage.worker():
        _, waited = await lose_the_second(on_stage, size=1)
        assert len(waited) == 2
        await on_stage.minutes(2.8)
    second = on_stage.log.final[on_stage.run_id(2)].started_at
    assert second is not None
    assert second < on_stage.begins_after(2.6)


async def test_a_limit_that_continues_as_new_keeps_who_holds_it_and_who_waits(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.limit.LONG_HISTORY", 40)
    on_stage.scripted(then=lasting(seconds=75))
    async with on_stage.worker():
        await on_stage.start(policies=limited(2))
        await on_stage.minutes(1.1)
        first = (await limit_of(on_stage).describe()).run_id
        await on_stage.minutes(20.5)
        assert (await limit_of(on_stage).describe()).run_id != first
    assert on_stage.most_at_once == 2
    ran = [run.run_id for run in on_stage.log.rows() if run.status == "succeeded"]
    assert ran == on_stage.expected_ids(on_stage.begins_after(len(ran)))
    assert len(ran) >= 18


async def test_an_idle_limit_ends_and_the_next_run_starts_it_again(on_stage: Stage) -> None:
    async with on_stage.worker():
        await start_other(on_stage, 1, {"crm": 1})
        await on_stage.minutes(1.5)
        idle = await limit_of(on_stage).describe()
        assert idle.status is WorkflowExecutionStatus.RUNNING
        await on_stage.until(on_stage.begins_after(1) + 2 * SELDOM)
        assert (await limit_of(on_stage).describe()).status is WorkflowExecutionStatus.COMPLETED
        await on_stage.start(policies=limited(), cursor=await on_stage.now())
        await on_stage.minutes(23.5)
        assert (await limit_of(on_stage).describe()).run_id != idle.run_id
    mine = [run for run in on_stage.log.rows() if run.task_id == TASK]
    assert {run.status for run in mine} == {RunStatus.SUCCEEDED}


async def test_one_that_may_start_does_not_overtake_the_first_in_the_line(on_stage: Stage) -> None:
    """It wants a place of three, the first one of two: it does not take it away from it."""
    on_stage.scripted(lasting(seconds=170), lasting(seconds=170), then=lasting(seconds=10))
    async with on_stage.worker():
        await on_stage.start(policies=limited(2))
        await on_stage.minutes(3.1)  # two hold it, the third waits
        await start_other(on_stage, 3.2, {"crm": 3})
        await on_stage.minutes(3.5)
        held, line = await standing(on_stage)
        assert (len(held), len(line)) == (2, 2)
        await on_stage.minutes(6)
    other = next(run for run in on_stage.log.rows() if run.task_id == OTHER)
    assert other.started_at is not None
    assert other.started_at > on_stage.begins_after(3.8)
