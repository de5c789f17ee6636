"""How often, how soon and how long a run is tried, in skipped time; docs/policies.md."""

from datetime import timedelta
from typing import Any

import pytest

from onthedot.run import Run, RunStatus
from onthedot.task import HttpAction, TaskState
from tests.running import BAD, GOOD, Play, Stage, every, lasting


def starts(on_stage: Stage, run: Run) -> list[float]:
    """How many seconds after the run was due each of its attempts started."""
    found = [(one.started_at - run.due_at).total_seconds() for one in run.attempts]
    return [round(seconds) for seconds in found]


def ended_with(**result: int) -> Play:
    return Play(status=RunStatus.FAILED, result=result)


async def test_pauses_grow_up_to_the_longest(on_stage: Stage) -> None:
    on_stage.scripted(then=BAD)
    retry = {"attempts": 6, "backoff": "2s", "factor": 2, "max_backoff": "10s"}
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), policies={"retry": retry})
        await on_stage.minutes(61)
    (run,) = on_stage.log.rows()
    assert starts(on_stage, run) == [0, 2, 6, 14, 24, 34]


async def test_no_attempt_starts_later_than_within(on_stage: Stage) -> None:
    on_stage.scripted(then=Play(status=RunStatus.FAILED, lasts=timedelta(seconds=4)))
    retry = {"attempts": 10, "backoff": "6s", "factor": 1, "within": "25s"}
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), policies={"retry": retry})
        await on_stage.minutes(61)
    (run,) = on_stage.log.rows()
    assert starts(on_stage, run) == [0, 10, 20]
    assert run.error == "it went wrong; not tried again: it would be later than retry.within, 25s"
    assert run.status is RunStatus.FAILED


async def test_a_server_that_asks_for_too_long_a_pause_is_not_asked_again(on_stage: Stage) -> None:
    on_stage.scripted(Play(status=RunStatus.FAILED, retry_after=timedelta(minutes=5)))
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 3, "within": "1m"}})
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "failed", None)]
    assert len(on_stage.attempts) == 1


@pytest.mark.parametrize(
    ("not_on", "play", "attempts"),
    [
        (["404"], ended_with(status=404), 1),
        (["4xx"], ended_with(status=404), 1),
        (["404"], ended_with(status=503), 3),
        (["2"], ended_with(exit_code=2), 1),
        (["2"], ended_with(exit_code=1), 3),
        (["2xx"], ended_with(exit_code=255), 3),
        (["404"], Play(status=RunStatus.TIMED_OUT, result={"status": 404}), 3),
        ([], ended_with(status=404), 3),
    ],
)
async def test_an_attempt_that_ended_so_is_not_tried_again(
    on_stage: Stage, not_on: list[str], play: Play, attempts: int
) -> None:
    on_stage.scripted(then=play)
    retry = {"attempts": 3, "backoff": "1s", "not_on": not_on}
    async with on_stage.worker():
        await on_stage.start(policies={"retry": retry})
        await on_stage.minutes(1.5)
    (run,) = on_stage.log.rows()
    assert run.attempt_count == attempts
    why = f"; not tried again: retry.not_on has {''.join(not_on)}" if attempts == 1 else ""
    assert run.error == f"it went wrong{why}"


async def test_a_run_ends_when_all_of_its_time_is_used_in_an_attempt(on_stage: Stage) -> None:
    """An attempt may take as long as is left of the run; the executor holds it to that."""

    def obeys(order: Any) -> Play:
        return Play(status=RunStatus.TIMED_OUT, lasts=min(order.timeout, timedelta(hours=1)))

    on_stage.plays = obeys
    policies = {"run_timeout": "90s", "timeout": "60s", "retry": {"attempts": 5, "backoff": "10s"}}
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), policies=policies)
        await on_stage.minutes(63)
    (run,) = on_stage.log.rows()
    assert starts(on_stage, run) == [0, 70]
    assert on_stage.attempts[0].timeout == timedelta(seconds=60)
    assert on_stage.attempts[1].timeout <= timedelta(seconds=20)
    assert run.status is RunStatus.TIMED_OUT
    assert run.finished_at - run.due_at == pytest.approx(
        timedelta(seconds=90), abs=timedelta(seconds=1)
    )
    assert run.error == (
        "the run took longer than its run_timeout of 1m30s; its last attempt: it went wrong"
    )


async def test_a_run_ends_when_its_time_is_used_up_before_the_next_attempt(
    on_stage: Stage,
) -> None:
    on_stage.scripted(then=BAD)
    policies = {"run_timeout": "30s", "retry": {"attempts": 5, "backoff": "20s", "factor": 1}}
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), policies=policies)
        await on_stage.minutes(63)
    (run,) = on_stage.log.rows()
    assert starts(on_stage, run) == [0, 20]
    assert run.status is RunStatus.TIMED_OUT
    assert run.finished_at - run.due_at == pytest.approx(
        timedelta(seconds=30), abs=timedelta(seconds=1)
    )
    assert run.error is not None
    assert run.error.startswith("the run took longer than its run_timeout of 30s")


async def test_a_run_that_ends_in_its_time_is_not_touched_by_it(on_stage: Stage) -> None:
    on_stage.scripted(BAD, lasting(seconds=5))
    policies = {"run_timeout": "30s", "retry": {"attempts": 5, "backoff": "20s"}}
    async with on_stage.worker():
        await on_stage.start(policies=policies)
        await on_stage.minutes(1.6)
    assert on_stage.seen() == [(1, "succeeded", None)]


async def test_an_attempt_that_takes_longer_than_its_own_timeout_is_tried_again(
    on_stage: Stage,
) -> None:
    on_stage.scripted(Play(status=RunStatus.TIMED_OUT, lasts=timedelta(seconds=5)), GOOD)
    policies = {"timeout": "5s", "run_timeout": "50s", "retry": {"attempts": 2}}
    async with on_stage.worker():
        await on_stage.start(policies=policies)
        await on_stage.minutes(1.5)
    assert on_stage.seen() == [(1, "succeeded", None)]
    assert len(on_stage.attempts) == 2


async def test_a_run_keeps_the_version_that_it_started_with(on_stage: Stage) -> None:
    """Its later attempts, too; what is queued takes the version of its own start."""
    on_stage.scripted(Play(status=RunStatus.FAILED, lasts=timedelta(seconds=20)))
    other = HttpAction(url="http://127.0.0.1/other")
    retry = {"attempts": 2, "backoff": "20s"}
    async with on_stage.worker():
        await on_stage.start(policies={"retry": retry, "overlap": "queue_all"})
        await on_stage.minutes(1.1)
        queued = await on_stage.trigger()
        await on_stage.revise(TaskState.ACTIVE, action=other)
        await on_stage.minutes(1.9)
    first, second = on_stage.log.final[on_stage.run_id(1)], on_stage.log.final[queued]
    assert (first.task_version, second.task_version) == (1, 2)
    sent = [(one.run_id, one.task_version, one.action == other) for one in on_stage.attempts]
    assert sent == [
        (first.run_id, 1, False),
        (first.run_id, 1, False),
        (queued, 2, True),
    ]


async def test_a_run_that_is_cancelled_between_its_attempts_ended_then(on_stage: Stage) -> None:
    on_stage.scripted(BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"retry": {"attempts": 2, "backoff": "50s"}})
        await on_stage.minutes(1.5)
        cancelled_at = await on_stage.now()
        await on_stage.cancel(on_stage.run_id(1))
        await on_stage.minutes(1.9)
    (run,) = on_stage.log.rows()
    assert run.status is RunStatus.CANCELLED
    assert run.finished_at - cancelled_at < timedelta(seconds=1)
    assert run.attempts[0].finished_at < on_stage.begins_after(1.1)
