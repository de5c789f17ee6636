"""Tasks that are run after the runs of others, on a real engine."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from activities.follow_ups import StartFollowUps
from onthedot.errors import InvalidInput
from onthedot.follow_ups import FollowUpStarter
from onthedot.run import Run, RunStatus, Trigger
from onthedot.task import TaskRegistration
from tests.histories.record import short
from tests.histories.stage import HELLO, Stage, UnreachableLog, every, set_up, shell
from tests.services import assert_eventually

BY = "tester"
SUCCEEDED, FAILED, CANCELLED = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED
RARELY = every(365 * 86400)
TELL = shell('printf %s "$ONTHEDOT_OUTCOME"')


@pytest.fixture
async def stage(database_url: str, own_temporal: str) -> AsyncIterator[Stage]:
    async with set_up(database_url, own_temporal) as made:
        yield made


@pytest.fixture
def ids() -> list[str]:
    """The ids of three tasks."""
    unique = uuid4().hex
    return [f"{letter}-{unique}" for letter in "abc"]


async def register(
    stage: Stage,
    task_id: str,
    action: dict[str, Any] | None = None,
    *,
    when: dict[str, Any] | None = None,
    success: list[str] | None = None,
    failure: list[str] | None = None,
    **policies: Any,
) -> None:
    sent = {
        "id": task_id,
        "name": task_id,
        "schedule": when or RARELY,
        "action": action or HELLO,
        "follow_ups": {"on_success": success or [], "on_failure": failure or []},
        "policies": policies,
    }
    await stage.registration.register(TaskRegistration.model_validate(sent), by=BY)


async def revise(stage: Stage, task_id: str, **changes: Any) -> None:
    task = await stage.task(task_id)
    sent = {**task.spec.model_dump(), **changes}
    await stage.registration.revise(task_id, TaskRegistration.model_validate(sent).spec(), by=BY)


async def run(stage: Stage, task_id: str, status: RunStatus) -> Run:
    """Have the task run now; its row."""
    asked = await stage.registration.trigger(task_id, by=BY)
    found = await stage.wait_for(task_id, status)
    return next(row for row in found if row.run_id == asked.run_id)


async def test_a_run_that_succeeds_starts_one_task_and_one_that_fails_another(
    stage: Stage, ids: list[str]
) -> None:
    first, on_success, on_failure = ids
    await register(stage, on_success, TELL)
    await register(stage, on_failure, TELL)
    await register(stage, first, shell("echo 42 rows"), success=[on_success], failure=[on_failure])
    async with stage.worker():
        good = await run(stage, first, SUCCEEDED)
        (followed,) = await stage.wait_for(on_success, SUCCEEDED)
        assert await stage.rows(on_failure) == []
        await revise(stage, first, action=shell("echo broken; exit 3"))
        bad = await run(stage, first, FAILED)
        (failed,) = await stage.wait_for(on_failure, SUCCEEDED)
        await asyncio.sleep(0.5)
        assert len(await stage.rows(on_success)) == 1
    assert (followed.trigger, followed.reason) == (
        Trigger.FOLLOW_UP,
        f"after {good.run_id}: succeeded",
    )
    assert followed.due_at == good.finished_at
    told = json.loads(followed.output.text if followed.output else "")
    assert told["run_id"] == good.run_id
    assert (told["status"], told["output"], told["attempts"]) == ("succeeded", "42 rows\n", 1)
    told = json.loads(failed.output.text if failed.output else "")
    assert (told["run_id"], told["status"]) == (bad.run_id, "failed")
    assert (told["error"], told["result"]) == (bad.error, {"exit_code": 3})


async def test_attempts_that_are_tried_again_start_nothing(stage: Stage, ids: list[str]) -> None:
    first, on_success, on_failure = ids
    await register(stage, on_success)
    await register(stage, on_failure)
    await register(
        stage,
        first,
        shell('test "$ONTHEDOT_ATTEMPT" = 3'),
        success=[on_success],
        failure=[on_failure],
        retry={"attempts": 3, "backoff": "0s"},
    )
    async with stage.worker():
        await run(stage, first, SUCCEEDED)
        await stage.wait_for(on_success, SUCCEEDED)
        assert await stage.rows(on_failure) == []


async def test_a_run_that_is_cancelled_starts_nothing(stage: Stage, ids: list[str]) -> None:
    first, follower, _ = ids
    await register(stage, follower)
    await register(stage, first, shell("sleep 60"), success=[follower], failure=[follower])
    async with stage.worker():
        asked = await stage.registration.trigger(first, by=BY)
        await stage.wait_for(first, RunStatus.RUNNING)
        await stage.registration.cancel_run(asked.run_id, by=BY)
        await stage.wait_for(first, CANCELLED)
        await stage.delete(first)  # its workflow has ended: it has nothing left to start
    assert await stage.rows(follower) == []


async def test_a_paused_task_follows_as_it_would_be_triggered(stage: Stage, ids: list[str]) -> None:
    first, follower, _ = ids
    await register(stage, follower)
    await stage.registration.pause(follower, by=BY)
    await register(stage, first, success=[follower])
    async with stage.worker():
        await run(stage, first, SUCCEEDED)
        await stage.wait_for(follower, SUCCEEDED)


async def test_a_deleted_task_does_not_follow_and_the_row_of_the_first_says_so(
    stage: Stage, ids: list[str]
) -> None:
    first, gone, follower = ids
    await register(stage, gone)
    await register(stage, follower)
    await register(stage, first, success=[gone, follower])
    async with stage.worker():
        await stage.delete(gone)
        await run(stage, first, SUCCEEDED)
        await stage.wait_for(follower, SUCCEEDED)
        (row,) = await stage.rows(first)
    assert row.reason == f"the follow-up {gone} was not started: it is deleted"
    assert await stage.rows(gone) == []


async def test_what_a_run_leads_to_is_started_once_however_often_it_is_asked_for(
    stage: Stage, ids: list[str]
) -> None:
    first, follower, _ = ids
    await register(stage, follower)
    await register(stage, first)
    async with stage.worker():
        row = await run(stage, first, SUCCEEDED)
        starter = FollowUpStarter(stage.pool, stage.registration.send)
        after = StartFollowUps(run_id=row.run_id, task_ids=[follower])
        await asyncio.gather(*(starter.start(after) for _ in range(5)))
        await stage.wait_for(follower, SUCCEEDED)
        await starter.start(after)
        assert len(await stage.rows(follower)) == 1


async def test_a_chain_goes_on_once_the_log_can_be_written_again(
    stage: Stage, ids: list[str]
) -> None:
    first, follower, last = ids
    await register(stage, last)
    await register(stage, follower, TELL, success=[last])
    await register(stage, first, shell("echo kept"), success=[follower])
    async with stage.worker(UnreachableLog(stage.pool)):
        asked = await stage.registration.trigger(first, by=BY)
        handle = stage.engine.client.get_workflow_handle(f"task/{first}")

        async def has_run() -> bool:
            events = (await handle.fetch_history()).events
            return any(one.HasField("activity_task_completed_event_attributes") for one in events)

        await assert_eventually(has_run, within=20)
        assert await stage.rows(follower) == []
    async with stage.worker():
        (followed,) = await stage.wait_for(follower, SUCCEEDED)
        await stage.wait_for(last, SUCCEEDED)
    told = json.loads(followed.output.text if followed.output else "")
    assert (told["run_id"], told["output"]) == (asked.run_id, "kept\n")


async def test_each_run_leads_on_once_while_its_task_is_revised_paused_and_continues_as_new(
    stage: Stage, ids: list[str]
) -> None:
    first, follower, other = ids
    await register(stage, follower, overlap="allow")
    await register(stage, other, overlap="allow")
    await register(stage, first, when=every(1), success=[follower])
    handle = stage.engine.client.get_workflow_handle(f"task/{first}")
    with short():
        async with stage.worker():
            begun = (await handle.describe()).run_id
            await stage.wait_for(first, SUCCEEDED, count=4)
            await revise(stage, first, follow_ups={"on_success": [follower, other]})
            await stage.registration.pause(first, by=BY)
            await stage.registration.resume(first, by=BY)
            await stage.wait_for(first, SUCCEEDED, count=10)
            assert (await handle.describe()).run_id != begun
            await stage.delete(first)
            ended = [row for row in await stage.rows(first) if row.status is SUCCEEDED]
            await stage.wait_for(follower, SUCCEEDED, count=len(ended))
            led = [row for row in ended if row.task_version > 1]
            await stage.wait_for(other, SUCCEEDED, count=len(led))
    followed = Counter(row.reason for row in await stage.rows(follower))
    assert followed == Counter(f"after {row.run_id}: succeeded" for row in ended)
    followed = Counter(row.reason for row in await stage.rows(other))
    assert followed == Counter(f"after {row.run_id}: succeeded" for row in led)


async def refused(registering: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidInput) as caught:
        await registering
    return [(one.field, one.value, one.problem) for one in caught.value.fields]


async def test_a_task_cannot_be_followed_by_one_that_is_not_there_or_by_itself(
    stage: Stage, ids: list[str]
) -> None:
    first, gone, _ = ids
    await register(stage, gone)
    await stage.registration.delete(gone, by=BY)
    wrong = await refused(register(stage, first, success=[gone, "nobody"], failure=[first]))
    assert wrong == [
        ("follow_ups.on_success.0", gone, "there is no such task"),
        ("follow_ups.on_success.1", "nobody", "there is no such task"),
        ("follow_ups.on_failure.0", first, "a task cannot follow itself"),
    ]
    await register(stage, first)  # nothing was stored before


async def test_a_cycle_is_refused_and_named(stage: Stage, ids: list[str]) -> None:
    first, second, third = ids
    await register(stage, third)
    await register(stage, second, failure=[third])
    await register(stage, first, success=[second])
    wrong = await refused(revise(stage, third, follow_ups={"on_success": [first]}))
    cycle = f"makes a cycle: {third} -> {first} -> {second} -> {third}"
    assert wrong == [("follow_ups.on_success.0", first, cycle)]
    assert (await stage.task(third)).version == 1


async def test_two_registrations_at_the_same_time_cannot_make_a_cycle(
    stage: Stage, ids: list[str]
) -> None:
    for _ in range(5):
        unique = uuid4().hex
        first, second = f"a-{unique}", f"b-{unique}"
        await register(stage, first)
        await register(stage, second)
        answers = await asyncio.gather(
            revise(stage, first, follow_ups={"on_success": [second]}),
            revise(stage, second, follow_ups={"on_success": [first]}),
            return_exceptions=True,
        )
        assert [type(one) for one in answers if one] == [InvalidInput]


async def test_a_task_can_be_paused_although_its_follow_up_was_deleted(
    stage: Stage, ids: list[str]
) -> None:
    first, gone, _ = ids
    await register(stage, gone)
    await register(stage, first, success=[gone])
    await stage.registration.delete(gone, by=BY)
    await stage.registration.pause(first, by=BY)
    assert (await stage.task(first)).state == "paused"
