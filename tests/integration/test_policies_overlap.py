"""What happens when a task is due while a run of it goes on, in skipped time; docs/policies.md."""

from dataclasses import replace
from datetime import timedelta

import pytest

from activities.messages import RunOrder
from onthedot.run import RunStatus, Trigger, requested_run_id
from onthedot.task import OverlapPolicy, TaskState
from tests.running import TASK, Stage, every, lasting
from workflows import history as history_module
from workflows import runs as runs_module
from workflows.waiting_orders import FULL, size_of

OVERLAP = "overlap: the run before it went on"


async def test_queue_all_takes_as_many_as_its_limit_says(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=200))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "queue_all", "overlap_limit": 2})
        await on_stage.minutes(4.9)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "succeeded", None),
        (3, "succeeded", None),
        (4, "skipped", "overlap: the queue is full (2 of 2)"),
    ]


async def test_allow_runs_as_many_at_once_as_its_limit_says(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=200), lasting(seconds=200))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "allow", "overlap_limit": 2})
        await on_stage.minutes(5.5)
    assert on_stage.seen() == [
        (1, "succeeded", None),
        (2, "succeeded", None),
        (3, "skipped", "overlap: 2 runs went on, which is its overlap_limit"),
        (4, "skipped", "overlap: 2 runs went on, which is its overlap_limit"),
        (5, "succeeded", None),
    ]
    assert on_stage.most_at_once == 2


async def test_allow_counts_at_the_due_time(on_stage: Stage) -> None:
    """The run before it ends in the lead: there is room when the next one is due."""
    on_stage.scripted(lasting(seconds=59))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": "allow", "overlap_limit": 1})
        await on_stage.minutes(2.5)
    assert on_stage.seen() == [(1, "succeeded", None), (2, "succeeded", None)]
    assert on_stage.log.final[on_stage.run_id(2)].lag_ms < 1000


async def test_an_occurrence_overlaps_with_a_run_that_was_asked_for(on_stage: Stage) -> None:
    on_stage.scripted(lasting(seconds=60))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(0.5)
        asked = await on_stage.trigger()
        await on_stage.minutes(2.5)
    assert on_stage.log.final[asked].status is RunStatus.SUCCEEDED
    assert on_stage.seen()[1:] == [(1, "skipped", OVERLAP), (2, "succeeded", None)]


@pytest.mark.parametrize(
    ("policy", "overlap", "expected", "reason", "at_once"),
    [
        ("skip", None, ["succeeded", "skipped"], OVERLAP, 1),
        ("skip", OverlapPolicy.ALLOW, ["succeeded", "succeeded"], None, 2),
        ("skip", OverlapPolicy.QUEUE_ALL, ["succeeded", "succeeded"], None, 1),
        ("skip", OverlapPolicy.CANCEL_RUNNING, ["cancelled", "succeeded"], None, 1),
        ("allow", None, ["succeeded", "succeeded"], None, 2),
        ("allow", OverlapPolicy.SKIP, ["succeeded", "skipped"], OVERLAP, 1),
        ("allow", OverlapPolicy.QUEUE_ONE, ["succeeded", "succeeded"], None, 1),
    ],
)
async def test_a_run_that_is_asked_for_obeys_the_policy_unless_it_brings_its_own(
    on_stage: Stage,
    policy: str,
    overlap: OverlapPolicy | None,
    expected: list[str],
    reason: str | None,
    at_once: int,
) -> None:
    on_stage.scripted(then=lasting(seconds=30))
    async with on_stage.worker():
        await on_stage.start(policies={"overlap": policy})
        await on_stage.minutes(1.2)
        asked = await on_stage.trigger(overlap=overlap)
        await on_stage.minutes(1.9)
        await on_stage.revise(TaskState.PAUSED)
        await on_stage.minutes(3)
    runs = [on_stage.log.final[on_stage.run_id(1)], on_stage.log.final[asked]]
    assert [run.status for run in runs] == expected
    assert runs[1].reason == reason
    assert on_stage.most_at_once == at_once


def past(on_stage: Stage, *minutes: int) -> list[RunOrder]:
    due = [on_stage.begins_after(minute) for minute in minutes]
    return [
        RunOrder(run_id=requested_run_id(TASK, one, "past"), trigger=Trigger.BACKFILL, due_at=one)
        for one in due
    ]


async def test_a_backfill_runs_as_many_at_once_as_it_says_in_its_order(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=20))
    orders = past(on_stage, *range(-7, 0))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began))
        await on_stage.ask("past", *orders, at_once=3)
        await on_stage.minutes(1.5)
    asked, started = [[one.run_id for one in found] for found in (orders, on_stage.attempts)]
    assert set(started[:3]) == set(asked[:3])
    assert set(started[3:6]) == set(asked[3:6])
    assert started[6:] == asked[6:]
    assert on_stage.most_at_once == 3
    runs = [on_stage.log.final[one.run_id] for one in orders]
    assert {run.status for run in runs} == {RunStatus.SUCCEEDED}
    spent = max(run.finished_at for run in runs) - min(run.started_at for run in runs)
    assert spent < timedelta(seconds=65)  # three rounds of 20 s


async def test_a_backfill_one_by_one_is_joined_by_no_other_backfill(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=20))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began))
        await on_stage.ask("one by one", *past(on_stage, -9, -8))
        await on_stage.ask("at once", *past(on_stage, -5, -4, -3), at_once=3)
        await on_stage.minutes(0.6)
        assert on_stage.most_at_once == 1
        await on_stage.minutes(1.5)
    assert on_stage.most_at_once == 3
    assert len(on_stage.log.rows()) == 5


async def test_of_a_backfill_only_what_there_is_room_for_waits(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = past(on_stage, *range(-5, 0))
    monkeypatch.setattr(runs_module, "MOST_WAITING", 3 * size_of(orders[0]))
    on_stage.scripted(then=lasting(seconds=20))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began))
        await on_stage.ask("past", *orders)
        at_once = await on_stage.trigger()
        await on_stage.minutes(1.5)
    runs = [on_stage.log.final[one.run_id] for one in orders]
    succeeded, skipped = (RunStatus.SUCCEEDED, None), (RunStatus.SKIPPED, FULL)
    assert [(run.status, run.reason) for run in runs] == [succeeded] * 3 + [skipped] * 2
    assert on_stage.log.final[at_once].status is RunStatus.SUCCEEDED  # it did not have to wait


async def test_a_run_for_whose_outcome_there_is_no_room_does_not_wait(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [replace(one, trigger=Trigger.MANUAL) for one in past(on_stage, *range(-4, 0))]
    asked[2] = replace(asked[2], outcome={"output": "x" * 500})
    monkeypatch.setattr(runs_module, "MOST_WAITING", 3 * size_of(asked[0]))
    on_stage.scripted(lasting(seconds=30))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began), {"overlap": "queue_all"})
        for order in asked:
            await on_stage.ask(order.run_id, order)
        await on_stage.minutes(1)
    runs = [on_stage.log.final[one.run_id] for one in asked]
    assert [run.reason for run in runs] == [None, None, FULL, None]


async def test_a_backfill_runs_beside_the_occurrences(on_stage: Stage) -> None:
    on_stage.scripted(then=lasting(seconds=30))
    async with on_stage.worker():
        await on_stage.start()
        await on_stage.minutes(0.8)
        await on_stage.ask("past", *past(on_stage, -3, -2, -1), at_once=2)
        await on_stage.minutes(2.9)
    assert on_stage.most_at_once == 3
    assert [row[1] for row in on_stage.seen()] == ["succeeded"] * 5
    assert on_stage.log.final[on_stage.run_id(1)].lag_ms < 1000


async def test_a_backfill_goes_on_as_it_was_asked_for_after_continuing_as_new(
    on_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LONG_HISTORY", 30)
    monkeypatch.setattr(history_module, "FULL_HISTORY", 40)
    monkeypatch.setattr(history_module, "TOO_LONG_HISTORY", 60)
    on_stage.scripted(then=lasting(seconds=20))
    orders = past(on_stage, *range(-40, 0))
    async with on_stage.worker():
        await on_stage.start(every("1h", on_stage.began))
        first = (await on_stage.handle.describe()).run_id
        await on_stage.ask("past", *orders, at_once=4)
        await on_stage.minutes(1.2)
        assert (await on_stage.handle.describe()).run_id != first
        seen = len(on_stage.attempts)
        assert 0 < seen < 30
        on_stage.most_at_once = 0
        await on_stage.minutes(10)
    assert on_stage.most_at_once == 4
    places = {one.run_id: place for place, one in enumerate(on_stage.attempts)}
    assert all(abs(places[one.run_id] - place) < 4 for place, one in enumerate(orders))
    assert len(on_stage.log.rows()) == 40
