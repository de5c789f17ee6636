"""One short life of a task for each branch of its workflow. A function's name is its history's."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from onthedot.registration import Registration
from onthedot.run import RunStatus, Trigger
from onthedot.task import CatchUp, OverlapPolicy, TaskRegistration, TaskState
from tests.histories.stage import Stage, every, once_in, shell
from workflows.messages import ReviseTask, StartRuns

BY = "recorder"
SUCCEEDED, FAILED, CANCELLED = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED
SKIPPED, RUNNING, MISSED = RunStatus.SKIPPED, RunStatus.RUNNING, RunStatus.MISSED
WAITING, TIMED_OUT = RunStatus.WAITING, RunStatus.TIMED_OUT
CATCH_UP = Trigger.CATCH_UP

Scenario = Callable[[Stage], Awaitable[None]]


def scenario(play: Scenario) -> Scenario:
    play.is_scenario = True  # type: ignore[attr-defined] # the recorder looks for it
    return play


async def _revise(registration: Registration, task_id: str, **changes: object) -> None:
    task = await registration._task(task_id)
    sent = {**task.spec.model_dump(), **changes}
    await registration.revise(task_id, TaskRegistration.model_validate(sent).spec(), by=BY)


async def _runs_once(stage: Stage, name: str) -> None:
    task_id = await stage.register(name, once_in(2))
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


async def _fires(stage: Stage, name: str, count: int) -> None:
    task_id = await stage.register(name, every(1))
    await stage.wait_for(task_id, SUCCEEDED, count=count)
    await stage.delete(task_id)


@scenario
async def once(stage: Stage) -> None:
    await _runs_once(stage, "once")


@scenario
async def interval(stage: Stage) -> None:
    task_id = await stage.register("interval", every(2))
    await stage.wait_for(task_id, SUCCEEDED, count=3)
    await stage.delete(task_id)


@scenario
async def recorded_by_attempts(stage: Stage) -> None:
    """As before, and all rows but that of the last planned occurrence are written by attempts."""
    await _fires(stage, "recorded_by_attempts", 12)


@scenario
async def finished_by_its_attempt(stage: Stage) -> None:
    await _runs_once(stage, "finished_by_its_attempt")


@scenario
async def planned_again(stage: Stage) -> None:
    """A plan holds ten occurrences; the next one is made while the log is written."""
    await _fires(stage, "planned_again", 12)


@scenario
async def cron(stage: Stage) -> None:
    task_id = await stage.register("cron", {"kind": "cron", "cron": "*/2 * * * * *"})
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def http(stage: Stage) -> None:
    """Nothing listens on port 9 (discard)."""
    action = {"kind": "http", "url": "http://127.0.0.1:9/"}
    task_id = await stage.register("http", once_in(2), action)
    await stage.wait_for(task_id, FAILED)
    await stage.ended(task_id)


@scenario
async def workflow(stage: Stage) -> None:
    """No worker knows the queue: the run lasts as long as it may."""
    action = {"kind": "workflow", "type": "Unknown", "queue": "nobodys"}
    task_id = await stage.register("workflow", once_in(2), action, timeout="2s")
    await stage.wait_for(task_id, TIMED_OUT)
    await stage.ended(task_id)


@scenario
async def retried(stage: Stage) -> None:
    action = shell('test "$ONTHEDOT_ATTEMPT" = 2')
    retry = {"attempts": 3, "backoff": "500ms"}
    task_id = await stage.register("retried", once_in(2), action, retry=retry)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def out_of_attempts(stage: Stage) -> None:
    retry = {"attempts": 2, "backoff": "0s"}
    task_id = await stage.register("out_of_attempts", once_in(2), shell("exit 3"), retry=retry)
    await stage.wait_for(task_id, FAILED)
    await stage.ended(task_id)


@scenario
async def not_tried_again(stage: Stage) -> None:
    retry = {"attempts": 3, "not_on": ["3"]}
    task_id = await stage.register("not_tried_again", once_in(2), shell("exit 3"), retry=retry)
    await stage.wait_for(task_id, FAILED)
    await stage.ended(task_id)


@scenario
async def too_late_to_try_again(stage: Stage) -> None:
    retry = {"attempts": 3, "backoff": "1s", "factor": 3, "within": "3s"}
    task_id = await stage.register(
        "too_late_to_try_again", once_in(2), shell("exit 3"), retry=retry
    )
    await stage.wait_for(task_id, FAILED)
    await stage.ended(task_id)


@scenario
async def out_of_time_in_an_attempt(stage: Stage) -> None:
    task_id = await stage.register(
        "out_of_time_in_an_attempt", once_in(2), shell("sleep 30"), run_timeout="2s"
    )
    await stage.wait_for(task_id, TIMED_OUT)
    await stage.ended(task_id)


@scenario
async def out_of_time_between_attempts(stage: Stage) -> None:
    retry = {"attempts": 2, "backoff": "1m"}
    task_id = await stage.register(
        "out_of_time_between_attempts", once_in(2), shell("exit 1"), retry=retry, run_timeout="2s"
    )
    await stage.wait_for(task_id, TIMED_OUT)
    await stage.ended(task_id)


@scenario
async def urgent(stage: Stage) -> None:
    task_id = await stage.register("urgent", once_in(2), priority=1, fairness_key="customer-7")
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def overlap_skip(stage: Stage) -> None:
    task_id = await stage.register("overlap_skip", every(2), shell("sleep 3"), overlap="skip")
    await stage.wait_for(task_id, SKIPPED)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def overlap_queue_one(stage: Stage) -> None:
    action = shell("sleep 7")
    task_id = await stage.register("overlap_queue_one", every(2), action, overlap="queue_one")
    await stage.wait_for(task_id, SKIPPED)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def overlap_queue_all(stage: Stage) -> None:
    action = shell("sleep 5")
    task_id = await stage.register("overlap_queue_all", every(3), action, overlap="queue_all")
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def deleted_with_a_queue(stage: Stage) -> None:
    """What still waits for its turn does not run."""
    action = shell("sleep 4")
    task_id = await stage.register("deleted_with_a_queue", every(3600), action, overlap="queue_all")
    for _ in range(3):
        await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, RUNNING)
    await stage.delete(task_id)
    rows = await stage.rows(task_id)
    assert [run.status for run in rows] == [CANCELLED] * 3, rows


@scenario
async def overlap_queue_full(stage: Stage) -> None:
    task_id = await stage.register(
        "overlap_queue_full", every(2), shell("sleep 5"), overlap="queue_all", overlap_limit=1
    )
    await stage.wait_for(task_id, SKIPPED)
    await stage.delete(task_id)


@scenario
async def overlap_allow_full(stage: Stage) -> None:
    task_id = await stage.register(
        "overlap_allow_full", every(2), shell("sleep 5"), overlap="allow", overlap_limit=2
    )
    await stage.wait_for(task_id, SKIPPED)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def triggered_beside(stage: Stage) -> None:
    """A request may bring an overlap policy of its own."""
    task_id = await stage.register("triggered_beside", every(3600), shell("sleep 2"))
    stage.send_instead(task_id, StartRuns, _beside)
    await stage.registration.trigger(task_id, by=BY)
    await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


def _beside(asked: StartRuns) -> StartRuns:
    return replace(
        asked, orders=[replace(one, overlap=OverlapPolicy.ALLOW) for one in asked.orders]
    )


@scenario
async def overlap_cancel_running(stage: Stage) -> None:
    task_id = await stage.register(
        "overlap_cancel_running", every(5), shell("sleep 7"), overlap="cancel_running"
    )
    await stage.wait_for(task_id, CANCELLED)
    await stage.delete(task_id)


@scenario
async def overlap_allow(stage: Stage) -> None:
    task_id = await stage.register("overlap_allow", every(2), shell("sleep 3"), overlap="allow")
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def paused(stage: Stage) -> None:
    task_id = await stage.register("paused", every(2))
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.registration.pause(task_id, by=BY)
    await asyncio.sleep(4.5)
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, SKIPPED)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def paused_until(stage: Stage) -> None:
    """It resumes by itself."""
    task_id = await stage.register("paused_until", every(2))
    await stage.wait_for(task_id, SUCCEEDED)
    until = datetime.now(UTC) + timedelta(seconds=5)
    stage.send_instead(task_id, ReviseTask, lambda desired: replace(desired, paused_until=until))
    await stage.registration.pause(task_id, by=BY)
    await stage.wait_for_state(task_id, TaskState.ACTIVE)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.wait_for(task_id, SKIPPED)
    await stage.delete(task_id)


async def _resumes_with_catch_up(stage: Stage, name: str) -> None:
    task_id = await stage.register(name, every(2))
    await stage.registration.pause(task_id, by=BY)
    await asyncio.sleep(6.5)
    catch_up = CatchUp(keep="latest")
    stage.send_instead(task_id, ReviseTask, lambda desired: replace(desired, catch_up=catch_up))
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, SKIPPED, count=2)
    rows = await stage.wait_for(task_id, SUCCEEDED, count=2)
    assert rows[0].trigger is CATCH_UP, rows
    await stage.delete(task_id)


@scenario
async def resumed_with_catch_up(stage: Stage) -> None:
    await _resumes_with_catch_up(stage, "resumed_with_catch_up")


@scenario
async def caught_up_once(stage: Stage) -> None:
    """As before, by a worker that asks whether what is caught up has had its turn."""
    await _resumes_with_catch_up(stage, "caught_up_once")


@scenario
async def paused_in_the_lead(stage: Stage) -> None:
    """The run comes back, and is left out once its task is active again."""
    task_id = await stage.register_with_long_lead("paused_in_the_lead", 9)
    await stage.wait_until_sent(task_id)
    await stage.registration.pause(task_id, by=BY)
    await asyncio.sleep(9)  # its instant passes
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, SKIPPED)
    await stage.ended(task_id)


@scenario
async def paused_and_resumed_in_the_lead(stage: Stage) -> None:
    """The run comes back before its instant, and is sent again."""
    task_id = await stage.register_with_long_lead("paused_and_resumed_in_the_lead", 15)
    await stage.wait_until_sent(task_id)
    await stage.registration.pause(task_id, by=BY)
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def revised_in_the_lead(stage: Stage) -> None:
    """The run comes back from its worker, and is sent again as it now shall be."""
    task_id = await stage.register_with_long_lead("revised_in_the_lead", 9)
    await stage.wait_until_sent(task_id)
    await _revise(stage.registration, task_id, name="revised", action=shell("echo revised"))
    rows = await stage.wait_for(task_id, SUCCEEDED)
    assert rows[0].task_version == 2, rows
    await stage.ended(task_id)


@scenario
async def called_back(stage: Stage) -> None:
    """As above, by a workflow that gives workers up which do not answer."""
    task_id = await stage.register_with_long_lead("called_back", 9)
    await stage.wait_until_sent(task_id)
    await _revise(stage.registration, task_id, name="revised")
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def called_back_from_a_lost_worker(stage: Stage) -> None:
    task_id = await stage.register_with_long_lead(
        "called_back_from_a_lost_worker", 20, queue="lost"
    )
    await stage.take_and_forget("lost")
    await _revise(stage.registration, task_id, queue="default")
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def revised_late(stage: Stage) -> None:
    """The change arrives long after it was made: what ran since then is left alone."""
    task_id = await stage.register("revised_late", every(2))
    await stage.wait_for(task_id, SUCCEEDED, count=3)
    before = timedelta(seconds=5)
    stage.send_instead(
        task_id,
        ReviseTask,
        lambda desired: replace(desired, changed_at=desired.changed_at - before),
    )
    first = (await stage.rows(task_id))[0].due_at
    await _revise(stage.registration, task_id, schedule={**every(1), "anchor": first})
    await stage.wait_for(task_id, SUCCEEDED, count=8)
    await stage.delete(task_id)


@scenario
async def revised_after_a_loss(stage: Stage) -> None:
    """The change has the number of the one before, which Postgres has lost."""
    task_id = await stage.register("revised_after_a_loss", every(2))
    await stage.wait_for(task_id, SUCCEEDED)
    await _revise(stage.registration, task_id, name="lost")
    stage.send_instead(
        task_id, ReviseTask, lambda desired: replace(desired, version=desired.version - 1)
    )
    await _revise(stage.registration, task_id, name="kept")
    count = len(await stage.rows(task_id))
    rows = await stage.wait_for(task_id, SUCCEEDED, count=count + 2)
    assert {run.task_version for run in rows[-2:]} == {2}, rows
    await stage.delete(task_id)


@scenario
async def triggered_in_the_lead(stage: Stage) -> None:
    task_id = await stage.register_with_long_lead("triggered_in_the_lead", 9)
    await stage.wait_until_sent(task_id)
    await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.ended(task_id)


@scenario
async def revised_schedule(stage: Stage) -> None:
    task_id = await stage.register("revised_schedule", once_in(3600))
    await _revise(stage.registration, task_id, schedule=every(2))
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await _revise(stage.registration, task_id, schedule=once_in(3))
    await stage.ended(task_id)


@scenario
async def deleted_while_waiting(stage: Stage) -> None:
    task_id = await stage.register("deleted_while_waiting", once_in(3600))
    await stage.delete(task_id)


@scenario
async def deleted_while_running(stage: Stage) -> None:
    action = shell("sleep 4")
    task_id = await stage.register("deleted_while_running", once_in(2), action)
    await stage.wait_for(task_id, RUNNING)
    await stage.delete(task_id)
    await stage.wait_for(task_id, CANCELLED)


@scenario
async def deleted_and_let_finish(stage: Stage) -> None:
    """The run that goes on comes to its end, with its attempts."""
    action = shell('sleep 3; test "$ONTHEDOT_ATTEMPT" = 2')
    task_id = await stage.register(
        "deleted_and_let_finish", once_in(2), action, retry={"attempts": 2}
    )
    await stage.wait_for(task_id, RUNNING)
    stage.send_instead(task_id, ReviseTask, lambda desired: replace(desired, let_finish=True))
    await stage.delete(task_id)
    await stage.wait_for(task_id, SUCCEEDED)


@scenario
async def let_finish_without_a_worker(stage: Stage) -> None:
    """It is let go once a worker that had it would have ended: after a minute and its timeout."""
    task_id = await stage.register(
        "let_finish_without_a_worker", every(3600), queue="nobodys", timeout="1s"
    )
    await stage.registration.trigger(task_id, by=BY)
    stage.send_instead(task_id, ReviseTask, lambda desired: replace(desired, let_finish=True))
    await stage.registration.delete(task_id, by=BY)
    await stage.wait_for(task_id, CANCELLED, within=90)
    await stage.ended(task_id)


@scenario
async def triggered(stage: Stage) -> None:
    task_id = await stage.register("triggered", once_in(3600))
    await stage.registration.trigger(task_id, by=BY, arguments={"name": "you"})
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.delete(task_id)


@scenario
async def triggered_while_paused(stage: Stage) -> None:
    task_id = await stage.register("triggered_while_paused", every(3600))
    await stage.registration.pause(task_id, by=BY)
    await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.delete(task_id)


@scenario
async def triggered_when_finished(stage: Stage) -> None:
    """The workflow has ended: another one makes the run."""
    task_id = await stage.register("triggered_when_finished", once_in(1))
    await stage.ended(task_id)
    await stage.wait_for_state(task_id, TaskState.FINISHED)
    await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.ended(task_id)


@scenario
async def backfilled(stage: Stage) -> None:
    task_id = await stage.register("backfilled", {"kind": "cron", "cron": "0 * * * *"})
    now = datetime.now(UTC)
    await stage.registration.backfill(task_id, now - timedelta(hours=3), now, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=3)
    await stage.delete(task_id)


@scenario
async def backfilled_at_once(stage: Stage) -> None:
    task_id = await stage.register("backfilled_at_once", {"kind": "cron", "cron": "0 * * * *"})
    stage.send_instead(task_id, StartRuns, lambda asked: replace(asked, at_once=3))
    now = datetime.now(UTC)
    await stage.registration.backfill(task_id, now - timedelta(hours=4), now, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=4)
    await stage.delete(task_id)


@scenario
async def backfilled_in_batches(stage: Stage) -> None:
    """More at once than are sent off with one workflow task."""
    task_id = await stage.register("backfilled_in_batches", {"kind": "cron", "cron": "0 * * * *"})
    now = datetime.now(UTC)
    await stage.registration.backfill(task_id, now - timedelta(hours=20), now, by=BY, at_once=20)
    await stage.wait_for(task_id, SUCCEEDED, count=20)
    await stage.delete(task_id)


@scenario
async def cancelled(stage: Stage) -> None:
    """One that goes on, and one that waits for it."""
    task_id = await stage.register("cancelled", every(3600), shell("sleep 30"), overlap="queue_all")
    first = await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, RUNNING)
    second = await stage.registration.trigger(task_id, by=BY)
    await stage.registration.cancel_run(second.run_id, by=BY)
    await stage.registration.cancel_run(first.run_id, by=BY)
    await stage.wait_for(task_id, CANCELLED, count=2)
    await stage.delete(task_id)


@scenario
async def cancelled_between_attempts(stage: Stage) -> None:
    retry = {"attempts": 2, "backoff": "1m"}
    task_id = await stage.register(
        "cancelled_between_attempts", every(3600), shell("exit 1"), retry=retry
    )
    run = await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, RUNNING)
    await stage.registration.cancel_run(run.run_id, by=BY)
    await stage.wait_for(task_id, CANCELLED)
    await stage.delete(task_id)


@scenario
async def cancelled_without_a_worker(stage: Stage) -> None:
    """Nobody executes its queue: the next run shows that it waits, then it is cancelled."""
    task_id = await stage.register("cancelled_without_a_worker", every(2), queue="nobodys")
    waiting = await stage.wait_for(task_id, WAITING)
    await stage.registration.pause(task_id, by=BY)
    await stage.registration.cancel_run(waiting[0].run_id, by=BY)
    await stage.wait_for(task_id, CANCELLED)
    await stage.delete(task_id)


@scenario
async def paused_after_failure(stage: Stage) -> None:
    task_id = await stage.register(
        "paused_after_failure", every(2), shell("exit 1"), pause_on_failure=True
    )
    await stage.wait_for(task_id, FAILED)
    await stage.wait_for_state(task_id, TaskState.PAUSED)
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, FAILED, count=2)
    await stage.delete(task_id)


@scenario
async def limited(stage: Stage) -> None:
    """The limit is free."""
    task_id = await stage.register("limited", every(4), limits={"free": 1})
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def limited_by_two(stage: Stage) -> None:
    """It waits for the second one while it has the first."""
    limits = {"limit_second": 1, "limit_first": 1}
    await stage.register(
        "holds_the_second", once_in(2), shell("sleep 4"), limits={"limit_second": 1}
    )
    task_id = await stage.register("limited_by_two", once_in(4), limits=limits)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def limited_and_cancelled(stage: Stage) -> None:
    """One that holds the limit, one that waits and is cancelled, and one that comes after it."""
    policies = {"overlap": "allow", "limits": {"limit_cancelled": 1}}
    task_id = await stage.register(
        "limited_and_cancelled", every(3600), shell("sleep 4"), **policies
    )
    asked = [await stage.registration.trigger(task_id, by=BY) for _ in range(3)]
    await stage.wait_for(task_id, RUNNING)
    await stage.registration.cancel_run(asked[1].run_id, by=BY)
    await stage.wait_for(task_id, CANCELLED)
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def limited_and_paused(stage: Stage) -> None:
    """Its run leaves the line; it asks again after the pause."""
    holder = await stage.register(
        "holds_it_long", every(3600), shell("sleep 9"), limits={"limit_paused": 1}
    )
    await stage.registration.trigger(holder, by=BY)
    await stage.wait_for(holder, RUNNING)
    task_id = await stage.register("limited_and_paused", every(3), limits={"limit_paused": 1})
    await stage.wait_for(task_id, WAITING)
    await stage.registration.pause(task_id, by=BY)
    await stage.wait_for(task_id, SKIPPED)
    await stage.registration.resume(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.delete(task_id)


@scenario
async def limit_busy(stage: Stage) -> None:
    """The history of a limit that some wait for."""
    policies = {"overlap": "allow", "limits": {"limit_busy": 2}}
    task_id = await stage.register("asks_much", every(3600), shell("sleep 1"), **policies)
    for _ in range(5):
        await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, SUCCEEDED, count=5)
    await stage.delete(task_id)


@scenario
async def limit_left(stage: Stage) -> None:
    """The history of a limit whose holder is gone, as is one that waits for it."""
    limits = {"limit_left": 1}
    for name, script in (("gone_holder", "sleep 60"), ("gone_from_line", "true")):
        await stage.register(name, every(3600), shell(script), limits=limits)
        await stage.registration.trigger(name, by=BY)
        await stage.wait_for(name, RUNNING if name == "gone_holder" else WAITING)
    task_id = await stage.register("last_in_line", every(3600), limits=limits)
    await stage.registration.trigger(task_id, by=BY)
    await stage.wait_for(task_id, WAITING)
    for name in ("gone_from_line", "gone_holder"):
        await stage.engine.client.get_workflow_handle(f"task/{name}").terminate("an accident")
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.delete(task_id)


@scenario
async def followed(stage: Stage) -> None:
    follower = await stage.register("follows_success", every(3600))
    task_id = await stage.register("followed", every(2), follow_ups={"on_success": [follower]})
    await stage.wait_for(follower, SUCCEEDED, count=2)
    await stage.delete(task_id)


@scenario
async def followed_after_failure(stage: Stage) -> None:
    """It ends once it has started what follows."""
    follower = await stage.register("follows_failure", every(3600))
    follow_ups = {"on_failure": [follower]}
    task_id = await stage.register(
        "followed_after_failure", once_in(2), shell("exit 3"), follow_ups=follow_ups
    )
    await stage.wait_for(follower, SUCCEEDED)
    await stage.ended(task_id)


@scenario
async def following(stage: Stage) -> None:
    """The history of a task that follows another, with the outcome that it is told."""
    task_id = await stage.register("following", every(3600))
    follow_ups = {"on_success": [task_id]}
    await stage.register("is_followed", once_in(2), follow_ups=follow_ups)
    await stage.wait_for(task_id, SUCCEEDED)
    await stage.delete(task_id)


@scenario
async def paused_after_failures(stage: Stage) -> None:
    task_id = await stage.register(
        "paused_after_failures", every(2), shell("exit 1"), pause_on_failure=2
    )
    await stage.wait_for(task_id, FAILED, count=2)
    await stage.wait_for_state(task_id, TaskState.PAUSED)
    await stage.delete(task_id)


async def go_on(stage: Stage, name: str, script: str, **policies: object) -> None:
    """Fire until the workflow has continued as new, and then some more."""
    handle = stage.engine.client.get_workflow_handle(f"task/{name}")
    task_id = await stage.register(name, every(1), shell(script), **policies)
    first = (await handle.describe()).run_id
    for _ in range(600):
        if (await handle.describe()).run_id != first:
            break
        await asyncio.sleep(0.1)
    before = len(await stage.rows(task_id))
    await stage.wait_for(task_id, SUCCEEDED, count=2)
    for _ in range(100):
        if len(await stage.rows(task_id)) > before + 1:
            break
        await asyncio.sleep(0.1)
    assert (await handle.describe()).run_id != first
    await stage.delete(task_id)


async def _run_apart(stage: Stage, name: str, **policies: object) -> str:
    """A run that a workflow of its own makes, beside those that made the history long; its id."""
    task_id = await stage.register(name, every(3600), shell("sleep 4"), overlap="allow", **policies)
    for _ in range(20):
        run = await stage.registration.trigger(task_id, by=BY)
        if await stage.apart(task_id):
            return run.run_id
    raise AssertionError(f"no run of {name} is made apart")


async def stopped_apart(stage: Stage, name: str) -> None:
    run_id = await _run_apart(stage, name)
    await stage.wait_for(name, RUNNING)
    await stage.registration.cancel_run(run_id, by=BY)
    await stage.wait_for(name, CANCELLED)
    await stage.delete(name)


async def limited_apart(stage: Stage, name: str) -> None:
    """The run waits for a place."""
    run_id = await _run_apart(stage, name, limits={name: 1})
    await stage.wait_for(name, SUCCEEDED)
    await stage.registration.cancel_run(run_id, by=BY)
    await stage.wait_for(name, CANCELLED)
    await stage.delete(name)


async def left_alone_apart(stage: Stage, name: str) -> None:
    """Somebody terminates the workflow of its task."""
    run_id = await _run_apart(stage, name)
    await stage.engine.client.get_workflow_handle(f"task/{name}").terminate()
    for _ in range(200):
        rows = {row.run_id: row.status for row in await stage.rows(name)}
        if rows[run_id] is SUCCEEDED:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{run_id} is {rows[run_id]}")
