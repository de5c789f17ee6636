"""Pauses: what becomes of their occurrences, and when they end; docs/policies.md."""

import pytest

from onthedot.run import Trigger
from onthedot.task import CatchUp, CronSchedule, TaskState
from tests.running import BAD, CANCELLED, GOOD, Stage, every, lasting, sent_first
from workflows import history as history_module

PAUSED, ACTIVE = TaskState.PAUSED, TaskState.ACTIVE


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (None, [(minute, "skipped", "paused") for minute in (2, 3, 4, 5)]),
        ({"keep": "all"}, [(minute, "succeeded", None) for minute in (2, 3, 4, 5)]),
        (
            {"keep": "latest"},
            [
                (2, "skipped", "paused; catch-up keeps latest"),
                (3, "skipped", "paused; catch-up keeps latest"),
                (4, "skipped", "paused; catch-up keeps latest"),
                (5, "succeeded", None),
            ],
        ),
        (
            {"keep": "none"},
            [(minute, "skipped", "paused; catch-up keeps none") for minute in (2, 3, 4, 5)],
        ),
        (
            {"keep": "all", "within": "100s"},
            [
                (2, "skipped", "paused; older than the catch-up window of 1m40s"),
                (3, "skipped", "paused; older than the catch-up window of 1m40s"),
                (4, "succeeded", None),
                (5, "succeeded", None),
            ],
        ),
        (
            {"keep": "latest", "within": "100s"},
            [
                (2, "skipped", "paused; older than the catch-up window of 1m40s"),
                (3, "skipped", "paused; older than the catch-up window of 1m40s"),
                (4, "skipped", "paused; catch-up keeps latest"),
                (5, "succeeded", None),
            ],
        ),
    ],
    ids=["skips", "all", "latest", "none", "all-within", "latest-within"],
)
async def test_a_resume_says_what_becomes_of_the_occurrences_of_the_pause(
    on_stage: Stage,
    catch_up: dict[str, str] | None,
    expected: list[tuple[float, str, str | None]],
) -> None:
    on_stage.scripted(then=lasting(seconds=1))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1.5)
        await on_stage.revise(PAUSED)
        await on_stage.minutes(5.5)
        policy = CatchUp.model_validate(catch_up) if catch_up else None
        await on_stage.revise(ACTIVE, catch_up=policy)
        await on_stage.minutes(6.5)
    assert on_stage.seen() == [(1, "succeeded", None), *expected, (6, "succeeded", None)]
    caught_up = [run for run in on_stage.log.rows()[1:5] if run.started_at]
    assert all(run.trigger is Trigger.CATCH_UP for run in caught_up)
    assert on_stage.most_at_once == 1


async def test_a_resume_does_not_run_again_what_ran_before_the_pause_was_heard_of(
    on_stage: Stage,
) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(3.5)
        same = CronSchedule(cron="* * * * *")
        await on_stage.revise(PAUSED, changed_at=on_stage.begins_after(1.5), schedule=same)
        await on_stage.minutes(4.5)
        await on_stage.revise(ACTIVE, catch_up=CatchUp(keep="all"))
        await on_stage.minutes(5.5)
    assert [run.trigger for run in on_stage.log.rows()] == [
        *[Trigger.SCHEDULE] * 3,
        Trigger.CATCH_UP,
        Trigger.SCHEDULE,
    ]
    assert len(on_stage.attempts) == 5


async def test_caught_up_runs_are_let_go_by_the_next_pause(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=40))
    async with on_stage.worker():
        await on_stage.start(state=PAUSED)
        await on_stage.minutes(3.2)
        await on_stage.revise(ACTIVE, catch_up=CatchUp(keep="all"))
        await on_stage.minutes(3.5)
        await on_stage.revise(PAUSED)
        await on_stage.minutes(4.5)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "skipped", "paused"),
        (3, "skipped", "paused"),
    ]


async def test_what_passed_between_a_resume_and_its_arrival_is_an_outage(on_stage: Stage) -> None:
    """Nobody works from before the resume on: the task's own catch-up policy is for that."""
    await on_stage.minutes(4.5)
    async with on_stage.worker():
        await on_stage.start(state=PAUSED, policies={"catch_up": {"keep": "all"}})
        await on_stage.revise(ACTIVE, changed_at=on_stage.begins_after(2.5))
        await on_stage.minutes(5.5)
    assert on_stage.seen() == [
        (1, "skipped", "paused"),
        (2, "skipped", "paused"),
        (3, "succeeded", None),
        (4, "succeeded", None),
        (5, "succeeded", None),
    ]


async def test_a_pause_ends_by_itself_at_its_instant(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(1.5)
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(4.5))
        await on_stage.minutes(4.4)
        assert {one.version for one in on_stage.log.progress} == {1}  # nothing new to tell
        await on_stage.minutes(5.5)
        found = await on_stage.handle.describe()
        told = next(one for one in on_stage.log.progress if one.version == 2)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "skipped", "paused"),
        (3, "skipped", "paused"),
        (4, "skipped", "paused"),
        (5, "succeeded", None),
    ]
    assert (told.state, told.next_due_at) == (ACTIVE, on_stage.begins_after(5))
    assert found.search_attributes["OnthedotState"] == ["active"]


async def test_a_pause_may_be_made_longer_and_shorter(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(0.5)
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(2.5))
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(4.5))
        await on_stage.minutes(3.5)
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(3.7))
        await on_stage.minutes(4.5)
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(60))
        await on_stage.minutes(5.5)
        await on_stage.revise(ACTIVE)
        await on_stage.minutes(6.5)
    assert [row[:2] for row in on_stage.seen()] == [
        (1, "skipped"),
        (2, "skipped"),
        (3, "skipped"),
        (4, "succeeded"),
        (5, "skipped"),
        (6, "succeeded"),
    ]


async def test_a_pause_whose_end_nobody_saw_ended_at_its_instant(on_stage: Stage) -> None:
    await on_stage.minutes(4.5)
    until, policies = on_stage.begins_after(2.5), {"catch_up": {"keep": "all"}}
    await on_stage.start(state=PAUSED, paused_until=until, policies=policies)
    resuming = await sent_first(on_stage.revise(ACTIVE))  # with the end of the pause
    async with on_stage.worker():
        await resuming
        await on_stage.minutes(5.5)
    assert [row[:2] for row in on_stage.seen()] == [
        (1, "skipped"),
        (2, "skipped"),
        (3, "succeeded"),
        (4, "succeeded"),
        (5, "succeeded"),
    ]


@pytest.fixture
def short_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task continues as new after a few firings."""
    monkeypatch.setattr(history_module, "LONG_HISTORY", 30)
    monkeypatch.setattr(history_module, "FULL_HISTORY", 100)
    monkeypatch.setattr(history_module, "TOO_LONG_HISTORY", 150)


async def paused_in_another_history(on_stage: Stage) -> None:
    """Runs that are asked for make the history of a paused task long."""
    first = (await on_stage.handle.describe()).run_id
    for number in range(8):
        await on_stage.trigger(f"asked {number}")
        await on_stage.until(on_stage.begins_after(2 + (number + 1) / 10))
    assert (await on_stage.handle.describe()).run_id != first


@pytest.mark.usefixtures("short_histories")
async def test_a_pause_ends_by_itself_after_continuing_as_new(on_stage: Stage) -> None:
    async with on_stage.worker():
        await on_stage.start(every("1m", on_stage.began))
        await on_stage.minutes(1.5)
        await on_stage.revise(PAUSED, paused_until=on_stage.begins_after(4.5))
        await on_stage.minutes(2)
        await paused_in_another_history(on_stage)
        await on_stage.minutes(5.5)
    scheduled = [run for run in on_stage.log.rows() if run.trigger is Trigger.SCHEDULE]
    assert [run.status for run in scheduled] == [
        "succeeded", "skipped", "skipped", "skipped", "succeeded",
    ]  # fmt: skip


async def test_a_task_is_paused_after_so_many_failures_in_a_row(on_stage: Stage) -> None:
    on_stage.scripted(BAD, BAD, GOOD, BAD, BAD, BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"pause_on_failure": 3})
        await on_stage.minutes(8.5)
        assert on_stage.log.progress[-1].state is PAUSED
        await on_stage.revise(ACTIVE)
        on_stage.scripted(BAD, BAD)
        await on_stage.minutes(11.5)
        assert on_stage.log.progress[-1].state is ACTIVE
    assert [row[1] for row in on_stage.seen()] == [
        *("failed", "failed", "succeeded", "failed", "failed", "failed"),
        *("skipped", "skipped"),
        *("failed", "failed", "succeeded"),
    ]


async def test_runs_that_are_cancelled_or_skipped_do_not_count_as_failures(
    on_stage: Stage,
) -> None:
    on_stage.scripted(BAD, CANCELLED, lasting(seconds=70), BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"pause_on_failure": 2})
        await on_stage.minutes(3.5)
        await on_stage.cancel(on_stage.run_id(3))
        await on_stage.minutes(5.5)
    assert [row[1] for row in on_stage.seen()] == ["failed", "cancelled", "cancelled", "failed"]
    assert on_stage.log.progress[-1].state is PAUSED


@pytest.mark.usefixtures("short_histories")
async def test_failures_are_counted_on_after_continuing_as_new(on_stage: Stage) -> None:
    on_stage.scripted(then=BAD)
    async with on_stage.worker():
        await on_stage.start(policies={"pause_on_failure": 12})
        first = (await on_stage.handle.describe()).run_id
        await on_stage.minutes(10.5)
        assert (await on_stage.handle.describe()).run_id != first
        assert on_stage.log.progress[-1].state is ACTIVE
        await on_stage.minutes(13.5)
        assert on_stage.log.progress[-1].state is PAUSED
        await on_stage.revise(ACTIVE)
        await on_stage.minutes(13.9)
    statuses = [row[1] for row in on_stage.seen()]
    assert statuses == ["failed"] * 12 + ["skipped"]
