"""The checker of the promises: right histories pass, and each kind of wrong one is caught."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from activities.own_row import HEARD_LATE
from activities.watch import MAY_HAVE_BEGUN
from onthedot.run import RunStatus, Trigger, requested_run_id, scheduled_run_id
from onthedot.task import TaskSpec, TaskState
from tests.faults.checker import check
from tests.faults.history import (
    Asked,
    Call,
    Change,
    History,
    Outage,
    Registered,
    Row,
    Sample,
    Stored,
)
from tests.faults.verdict import Broken
from tests.faults.windows import PROMISED, match

BEGAN = datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC)
TASK = "ticks"

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def task(every: float = 5, *, changes: tuple[Change, ...] = (), **policies: Any) -> Registered:
    spec = TaskSpec.model_validate(
        {
            "name": TASK,
            "schedule": {"kind": "interval", "every": f"{every}s", "anchor": BEGAN},
            "action": {"kind": "http", "url": "http://127.0.0.1/"},
            "policies": policies,
        }
    )
    return Registered(task_id=TASK, spec=spec, since=BEGAN, changes=changes)


def ran(due: float, lag: float = 0.0, lasts: float = 0.1, **other: Any) -> Row:
    return Row(
        run_id=scheduled_run_id(TASK, after(due)),
        task_id=TASK,
        due_at=after(due),
        started_at=after(due + lag),
        finished_at=after(due + lag + lasts),
        **{
            "trigger": Trigger.SCHEDULE,
            "status": RunStatus.SUCCEEDED,
            "attempt_count": 1,
            **other,
        },
    )


def not_run(due: float, status: RunStatus, reason: str) -> Row:
    return Row(
        run_id=scheduled_run_id(TASK, after(due)),
        task_id=TASK,
        trigger=Trigger.SCHEDULE,
        due_at=after(due),
        status=status,
        reason=reason,
        finished_at=after(due + 1),
    )


def caught_up(due: float, lag: float) -> Row:
    return ran(due, lag, trigger=Trigger.CATCH_UP)


def missed(due: float) -> Row:
    return not_run(due, RunStatus.MISSED, "outage; catch-up keeps latest")


def overlapped(due: float) -> Row:
    return not_run(due, RunStatus.SKIPPED, "overlap: the run before it went on")


def seen(rows: Sequence[Row]) -> list[Call]:
    return [Call(key=row.run_id, at=row.started_at) for row in rows if row.started_at]


def history(made: Registered, *rows: Row, until: float, **other: Any) -> History:
    """A history in which the log agrees with what was seen, up to ``until``."""
    state = made.changes[-1].state if made.changes else TaskState.ACTIVE
    kept = Stored(name=made.spec.name, spec=made.spec, in_step=True, state=state, has_workflow=True)
    stored = {made.task_id: kept}
    given_ = {"calls": seen(rows), "stored": stored, **other}
    return History(tasks=[made], rows=rows, until=after(until), **given_)


def kinds(judged: History) -> set[Broken]:
    return {one.kind for one in check(judged).violations}


def out(begun: float, ended: float, **other: Any) -> list[Outage]:
    return [Outage(begun_at=after(begun), ended_at=after(ended), **other)]


def paused(begun: float, ended: float) -> tuple[Change, ...]:
    return tuple(
        Change(state=state, asked_at=after(at), acknowledged_at=after(at + 0.5))
        for state, at in ((TaskState.PAUSED, begun), (TaskState.ACTIVE, ended))
    )


# What is right, at its edges.


def test_a_run_may_start_up_to_the_end_of_its_window_and_no_later() -> None:
    assert not kinds(history(task(), ran(5, 10), until=5))
    assert kinds(history(task(), ran(5, 10.001), until=5)) == {Broken.LATE}


def test_a_run_may_start_at_the_instant_and_no_sooner() -> None:
    assert not kinds(history(task(), ran(5, 0), until=5))
    assert Broken.EARLY in kinds(history(task(), ran(5, -0.2), until=5))


def test_what_is_due_after_the_end_is_not_judged() -> None:
    assert not kinds(history(task(), ran(5), until=9.999))
    assert kinds(history(task(), ran(5), until=10)) == {Broken.LOST}


def test_after_an_outage_a_run_has_ten_seconds_again() -> None:
    held_up = history(task(60, catch_up={"keep": "all"}), caught_up(60, 40), until=60)
    assert Broken.LATE in kinds(held_up)
    assert not kinds(replace(held_up, outages=out(50, 90)))
    assert Broken.LATE in kinds(replace(held_up, outages=out(50, 89)))


def test_after_an_outage_the_latest_run_alone_is_caught_up() -> None:
    made = task(catch_up={"keep": "latest"})
    rows = [ran(5), missed(10), missed(15), caught_up(20, 20), ran(25, 15.5), ran(30, 10.5)]
    right = history(made, *rows, until=30, outages=out(7, 40))
    assert not kinds(right)
    none = [missed(row.due_at.timestamp() - BEGAN.timestamp()) for row in rows[1:]]
    assert Broken.NOT_RUN in kinds(history(made, ran(5), *none, until=30, outages=out(7, 40)))
    two = [ran(5), missed(10), caught_up(15, 25), caught_up(20, 25.2), *rows[4:]]
    assert kinds(history(made, *two, until=30, outages=out(7, 40))) == {Broken.RAN}


def test_what_was_not_late_when_healing_began_may_be_caught_up_beside_the_latest() -> None:
    made = task(catch_up={"keep": "latest"})
    rows = [ran(5), missed(10), caught_up(15, 15), caught_up(20, 15)]
    assert kinds(history(made, *rows, until=20, outages=out(7, 35))) == {Broken.RAN}
    healing = out(7, 35, healing_from=after(29))
    assert not kinds(history(made, *rows, until=20, outages=healing))


def test_catch_up_of_all_runs_one_after_the_other() -> None:
    made = task(catch_up={"keep": "all"})
    rows = [
        ran(due, 60 + 9 * number - due, 9, trigger=Trigger.CATCH_UP)
        for number, due in enumerate(range(5, 45, 5))
    ]
    assert not kinds(history(made, *rows, until=40, outages=out(2, 60)))
    rows[3:4] = [missed(20)]
    assert Broken.NOT_RUN in kinds(history(made, *rows, until=40, outages=out(2, 60)))


def test_catch_up_of_none_runs_nothing_that_is_late() -> None:
    made = task(catch_up={"keep": "none"})
    assert not kinds(history(made, missed(5), missed(10), until=10, outages=out(2, 60)))
    rows = [missed(5), caught_up(10, 51)]
    assert kinds(history(made, *rows, until=10, outages=out(2, 60))) == {Broken.RAN}


def test_what_is_older_than_the_catch_up_window_may_be_missed() -> None:
    made = task(catch_up={"keep": "all", "within": "30s"})
    rows = [missed(5), caught_up(10, 51)]
    assert not kinds(history(made, *rows, until=10, outages=out(2, 60)))


def test_a_run_is_skipped_only_while_the_one_before_it_goes_on() -> None:
    assert not kinds(history(task(), ran(5, lasts=6), overlapped(10), until=10))
    assert kinds(history(task(), ran(5, lasts=1), overlapped(10), until=10)) == {Broken.NOT_RUN}
    lets = task(overlap="allow")
    assert kinds(history(lets, ran(5, lasts=6), overlapped(10), until=10)) == {Broken.NOT_RUN}


def test_a_run_in_a_queue_is_skipped_only_where_the_queue_is_full() -> None:
    full = not_run(15, RunStatus.SKIPPED, "overlap: the queue is full (1 of 1)")
    one = task(overlap="queue_one")
    assert not kinds(history(one, ran(5, lasts=12), ran(10, 7), full, until=15))
    first = not_run(10, RunStatus.SKIPPED, "overlap: the queue is full (1 of 1)")
    assert kinds(history(one, ran(5, lasts=6), first, until=10)) == {Broken.NOT_RUN}
    all_ = task(overlap="queue_all")
    assert kinds(history(all_, ran(5, lasts=12), ran(10, 7), full, until=15)) == {Broken.NOT_RUN}
    two = task(overlap="queue_all", overlap_limit=1)
    assert not kinds(history(two, ran(5, lasts=12), ran(10, 7), full, until=15))


def test_a_run_that_takes_the_place_of_others_is_skipped_for_a_later_one_alone() -> None:
    made = task(overlap="cancel_running")
    left = not_run(10, RunStatus.SKIPPED, "overlap: a later one took its place")
    assert not kinds(history(made, ran(5, lasts=11), left, ran(15, 1), until=15))
    assert kinds(history(made, ran(5, lasts=11), left, until=10)) == {Broken.NOT_RUN}


def test_what_was_due_well_before_an_outage_is_not_missed_for_it() -> None:
    made = task(catch_up={"keep": "none"})
    assert not kinds(history(made, missed(5), until=5, outages=out(6, 30)))
    assert kinds(history(made, missed(5), until=5, outages=out(7.1, 30))) == {Broken.NOT_RUN}


def test_a_run_that_started_before_an_outage_is_not_excused_by_it() -> None:
    late = history(task(), ran(5, 9), until=5, outages=out(14.5, 20))
    assert check(late).figures.worst_lag == 9
    after_it = history(task(), ran(5, 16), until=5, outages=out(14.5, 20))
    assert check(after_it).figures.worst_lag == 1


def test_whoever_looks_on_says_when_a_run_started() -> None:
    """The log has each run on time; they go on for long, and are seen at their end."""
    made = task(overlap="allow")
    rows = [ran(due, lasts=31) for due in range(5, 60, 5)]
    calls = [Call(key=row.run_id, at=row.due_at + timedelta(seconds=30)) for row in rows]
    assert Broken.LATE in kinds(history(made, *rows, until=59, calls=calls))
    assert check(history(made, *rows, until=59, calls=calls)).figures.worst_lag == 30


def test_a_run_that_timed_out_was_seen_too() -> None:
    made = replace(task(), ends=frozenset({RunStatus.TIMED_OUT}))
    row = ran(5, status=RunStatus.TIMED_OUT)
    assert not kinds(history(made, row, until=5))
    assert Broken.UNSEEN in kinds(history(made, row, until=5, calls=[]))


def test_clocks_that_differ_are_allowed_for() -> None:
    early = history(task(), ran(5, -3), until=5)
    assert Broken.EARLY in kinds(early)
    assert not kinds(replace(early, clocks_differ_by=timedelta(seconds=3)))
    seen_later = [Call(key=ran(5).run_id, at=after(8))]
    behind = history(task(), ran(5), until=5, calls=seen_later)
    assert Broken.UNSEEN in kinds(behind)
    assert not kinds(replace(behind, clocks_differ_by=timedelta(seconds=3)))


def test_a_task_hears_after_an_outage_that_its_run_ended_in_it() -> None:
    rows = [ran(5, lasts=1), overlapped(10)]
    assert not kinds(history(task(), *rows, until=10, outages=out(4, 9)))
    assert kinds(history(task(), *rows, until=10, outages=out(4, 7))) == {Broken.NOT_RUN}


def test_a_task_hears_late_that_its_run_ended_at_a_worker_that_was_lost() -> None:
    found = ran(5, lasts=1, reason=HEARD_LATE)
    assert not kinds(history(task(), found, overlapped(10), overlapped(15), until=15))
    assert kinds(history(task(), found, overlapped(20), until=20)) >= {Broken.NOT_RUN}
    # in an outage nobody can tell it: ten seconds from its end
    rows = [found, missed(10), caught_up(15, 6), overlapped(20)]
    assert not kinds(history(task(), *rows, until=20, outages=out(6.2, 20)))
    assert kinds(history(task(), *rows, until=20, outages=out(6.2, 9))) >= {Broken.NOT_RUN}


def test_a_run_whose_worker_was_lost_as_it_began_is_seen_though_the_log_cannot_know() -> None:
    says_so = not_run(5, RunStatus.MISSED, f"outage; catch-up keeps none; {MAY_HAVE_BEGUN}")
    made, call = task(catch_up={"keep": "none"}), Call(key=says_so.run_id, at=after(5.01))
    right = history(made, says_so, until=5, calls=[call], outages=out(5.1, 40))
    assert not kinds(right)
    silent = replace(says_so, reason="outage; catch-up keeps none")
    assert kinds(replace(right, rows=[silent])) == {Broken.UNLOGGED}
    long_before_the_outage = replace(right, outages=out(7.5, 40))
    assert Broken.UNLOGGED in kinds(long_before_the_outage)


def test_a_run_that_queues_has_ten_seconds_from_the_end_of_the_one_before() -> None:
    queues = task(overlap="queue_one")
    assert not kinds(history(queues, ran(5, lasts=30), ran(10, 34), until=10))
    assert Broken.LATE in kinds(history(queues, ran(5, lasts=30), ran(10, 36), until=10))
    assert Broken.LATE in kinds(history(task(), ran(5, lasts=30), ran(10, 34), until=10))


def test_an_attempt_is_repeated_only_after_one_that_was_lost() -> None:
    again = ran(5, 8)
    calls = [Call(key=again.run_id, at=after(5.01)), *seen([again])]
    repeated = history(task(), again, until=5, calls=calls)
    assert kinds(repeated) == {Broken.DOUBLED}
    lost = {again.run_id: 1}
    assert not kinds(replace(repeated, lost_attempts=lost))
    assert check(replace(repeated, lost_attempts=lost)).figures.lost_attempts == 1
    once = replace(repeated, tasks=[task(delivery="at_most_once")], lost_attempts=lost)
    assert Broken.DOUBLED in kinds(once)


def test_the_first_attempt_is_what_must_be_in_time() -> None:
    """The log has the start of the one that ended; who looks from outside saw the first."""
    again = ran(5, 25)
    calls = [Call(key=again.run_id, at=after(5.01)), *seen([again])]
    assert not kinds(history(task(), again, until=5, calls=calls, lost_attempts={again.run_id: 1}))


def test_a_paused_task_does_not_run_and_its_rows_say_so() -> None:
    made = task(changes=paused(7, 18))
    skip = [not_run(due, RunStatus.SKIPPED, "paused") for due in (10, 15)]
    assert not kinds(history(made, ran(5), *skip, ran(20), until=20))
    ran_once = [ran(5), skip[0], ran(15), ran(20)]
    assert kinds(history(made, *ran_once, until=20)) == {Broken.RAN}
    # the pause may have come too late for what was due so soon after it
    assert not kinds(history(made, ran(5), ran(10), skip[1], ran(20), until=20))
    assert kinds(history(task(), ran(5), *skip, until=15)) == {Broken.NOT_RUN}


def test_a_pause_that_comes_at_the_last_moment_may_be_too_late() -> None:
    made = task(changes=paused(9, 30))
    skip = not_run(10, RunStatus.SKIPPED, "paused")
    assert not kinds(history(made, ran(5), ran(10), until=10))
    assert not kinds(history(made, ran(5), skip, until=10))


def test_a_deleted_task_has_no_due_times_any_more() -> None:
    gone = Change(state=TaskState.DELETED, asked_at=after(7), acknowledged_at=after(8))
    made = task(changes=(gone,))
    assert not kinds(history(made, ran(5), until=30))
    assert kinds(history(made, ran(5), ran(15), until=30)) == {Broken.RAN}


def test_a_run_on_request_starts_in_time() -> None:
    run_id = requested_run_id(TASK, after(2), "key")
    asked = [Asked(run_id=run_id, task_id=TASK, due_at=after(2))]
    manual = replace(ran(2, 1), run_id=run_id, trigger=Trigger.MANUAL)
    assert not kinds(history(task(), manual, ran(5), until=5, asked=asked))
    assert kinds(history(task(), ran(5), until=5, asked=asked)) == {Broken.LOST}


def test_a_run_on_request_is_of_the_instant_at_which_it_was_asked_for() -> None:
    run_id = requested_run_id(TASK, after(2), "key")
    asked = [Asked(run_id=run_id, task_id=TASK, due_at=after(2))]
    moved = replace(ran(40, 1), run_id=run_id, trigger=Trigger.MANUAL)
    found = kinds(history(task(60), moved, until=50, asked=asked))
    assert found >= {Broken.UNCALLED_FOR, Broken.LATE}


def test_rows_move_forward_only() -> None:
    row = ran(5)
    right = history(task(), row, until=5)
    running = replace(row, status=RunStatus.RUNNING, finished_at=None)
    waiting = replace(row, status=RunStatus.WAITING, started_at=None, finished_at=None)

    def sampled(*rows: Row) -> History:
        samples = [
            Sample(at=after(6 + number), rows={one.run_id: one}) for number, one in enumerate(rows)
        ]
        return replace(right, samples=samples)

    assert not kinds(sampled(waiting, running, row))
    assert not kinds(replace(sampled(row), rows=[replace(row, reason=HEARD_LATE)]))
    assert kinds(replace(sampled(row), rows=[replace(row, reason="other")])) == {Broken.BACKWARDS}
    assert kinds(sampled(running, waiting)) == {Broken.BACKWARDS}
    assert kinds(sampled(row, running, row)) == {Broken.BACKWARDS}
    assert kinds(sampled(replace(row, status=RunStatus.FAILED))) == {Broken.BACKWARDS}
    assert Broken.BACKWARDS in kinds(replace(sampled(row), rows=[]))


def test_a_violation_says_what_was_promised() -> None:
    text = str(check(history(task(), ran(5, 12.5), until=5)))
    assert "late: ticks: due 00:59:35.000 started 00:59:47.500, 12.500 s late" in text
    assert "the deadline was 00:59:45.000" in text


# Drawn histories, right ones and such in which one thing is wrong.


@dataclass(frozen=True)
class Drawn:
    """A right history, and a choice for what is to be made wrong."""

    right: History = field(repr=False)
    pick: int

    def row(self, wanted: Callable[[Row], bool]) -> Row:
        found = [row for row in self.right.rows if wanted(row)]
        assume(found)
        return found[self.pick % len(found)]

    def with_row(self, old: Row, *new: Row) -> History:
        rows = [row for row in self.right.rows if row is not old]
        return replace(self.right, rows=[*rows, *new])


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Ticks with lags, repeats and overlaps, an outage with its catch-up, and a pause."""
    every = draw(st.sampled_from([2, 5]))
    keep = draw(st.sampled_from(["all", "latest", "none"]))
    begun = draw(st.sampled_from([24.3, 30.0]))
    outage = draw(st.sampled_from([None, (begun, begun + 3), (begun, begun + 25)]))
    pause = draw(st.sampled_from([None, (65.2, 80.2)]))
    chance = Random(draw(st.integers(0, 2**32)))
    rows: list[Row] = []
    calls: list[Call] = []
    lost: dict[str, int] = {}
    free = 0.0
    late = [due for due in range(every, 100, every) if outage and outage[0] <= due < outage[1] - 10]
    for due in range(every, 100, every):
        if pause and pause[0] < due <= pause[1]:
            rows.append(not_run(due, RunStatus.SKIPPED, "paused"))
        elif due in late and keep != "all" and (keep == "none" or due != late[-1]):
            rows.append(missed(due))
        elif due < free <= due + 8 and due not in late:
            rows.append(overlapped(due))
        else:
            held = outage[1] if outage and outage[0] <= due <= outage[1] else due
            start = max(held, free) + chance.choice([0, 0.002, 0.02])
            lasts = chance.choice([0.01, 0.1, every * 1.5])
            trigger = Trigger.CATCH_UP if due in late else Trigger.SCHEDULE
            row = ran(due, start - due, 0.01 if held > due else lasts, trigger=trigger)
            rows.append(row)
            calls += seen([row])
            if chance.random() < 0.1:
                lost[row.run_id] = 1
                calls.append(Call(key=row.run_id, at=row.started_at or BEGAN))
            free = (row.finished_at - BEGAN).total_seconds() if row.finished_at else free
    made = task(every, catch_up={"keep": keep}, changes=paused(*pause) if pause else ())
    right = history(
        made,
        *rows,
        until=99,
        calls=chance.sample(calls, len(calls)),
        outages=out(*outage) if outage else [],
        lost_attempts=lost,
    )
    return Drawn(right, draw(st.integers(0, 1000)))


def _in_peace(one: Row) -> bool:
    return one.status is RunStatus.SUCCEEDED and one.due_at < after(12)


def _moved(by: float) -> Callable[[Drawn], History]:
    def moved(given_: Drawn) -> History:
        row = given_.row(_in_peace)
        assert row.started_at is not None and row.finished_at is not None
        begun = row.due_at + timedelta(seconds=by)
        calls = [one for one in given_.right.calls if one.key != row.run_id]
        made = replace(row, started_at=begun, finished_at=begun + timedelta(seconds=1))
        return replace(given_.with_row(row, made), calls=[*calls, *seen([made])])

    return moved


def _said(**fields: Any) -> Callable[[Drawn], History]:
    def said(given_: Drawn) -> History:
        row = given_.row(_in_peace)
        return given_.with_row(row, replace(row, **fields))

    return said


def _lost(given_: Drawn) -> History:
    return given_.with_row(given_.row(lambda one: True))


def _twice(given_: Drawn) -> History:
    row = given_.row(lambda one: True)
    return given_.with_row(row, row, replace(row, run_id=f"{row.run_id}.again"))


def _uncalled_for(given_: Drawn) -> History:
    row = given_.row(lambda one: True)
    due_at = row.due_at - timedelta(milliseconds=300)
    run_id = scheduled_run_id(TASK, due_at)
    return given_.with_row(row, row, replace(row, run_id=run_id, due_at=due_at))


def _asked_by_nobody(given_: Drawn) -> History:
    row = given_.row(lambda one: one.ran)
    run_id = requested_run_id(TASK, row.due_at, "a key")
    return given_.with_row(row, row, replace(row, run_id=run_id, trigger=Trigger.MANUAL))


def _twice_by_one_id(given_: Drawn) -> History:
    row = given_.row(lambda one: True)
    return given_.with_row(row, row, replace(row, due_at=row.due_at + timedelta(minutes=5)))


def _doubled_by_the_logs_word(given_: Drawn) -> History:
    """The log counts two attempts; the task's policy is one."""
    row = given_.row(lambda one: one.ran and one.run_id not in given_.right.lost_attempts)
    calls = [*given_.right.calls, Call(key=row.run_id, at=row.started_at or BEGAN)]
    return replace(given_.with_row(row, replace(row, attempt_count=2)), calls=calls)


def _doubled(given_: Drawn) -> History:
    row = given_.row(lambda one: one.ran)
    more = [Call(key=row.run_id, at=row.started_at or BEGAN)] * 2
    return replace(given_.right, calls=[*given_.right.calls, *more])


def _unseen(given_: Drawn) -> History:
    row = given_.row(lambda one: one.ran)
    calls = [one for one in given_.right.calls if one.key != row.run_id]
    return replace(given_.right, calls=calls)


def _seen_though_not_run(given_: Drawn) -> History:
    row = given_.row(lambda one: not one.ran)
    return replace(given_.right, calls=[*given_.right.calls, Call(key=row.run_id, at=row.due_at)])


def _unlogged(given_: Drawn) -> History:
    return given_.with_row(given_.row(lambda one: one.ran))


def _was_another(given_: Drawn) -> History:
    row = given_.row(lambda one: one.status.is_final)
    before = replace(row, finished_at=row.due_at + timedelta(seconds=77))
    sample = Sample(at=after(98), rows={row.run_id: before})
    return replace(given_.right, samples=[sample])


def _vanished(given_: Drawn) -> History:
    gone = replace(ran(5), run_id=f"{TASK}.gone")
    return replace(given_.right, samples=[Sample(at=after(7), rows={gone.run_id: gone})])


def _stored(**fields: Any) -> Callable[[Drawn], History]:
    def stored(given_: Drawn) -> History:
        kept = replace(given_.right.stored[TASK], **fields)
        return replace(given_.right, stored={TASK: kept})

    return stored


def _ran_while_paused(given_: Drawn) -> History:
    row = given_.row(lambda one: one.reason == "paused" and after(68) < one.due_at)
    due = (row.due_at - BEGAN).total_seconds()
    return given_.with_row(row, ran(due))


def _skipped_in_peace(reason: str) -> Callable[[Drawn], History]:
    def skipped(given_: Drawn) -> History:
        first = given_.row(lambda one: one.due_at == min(row.due_at for row in given_.right.rows))
        due = (first.due_at - BEGAN).total_seconds()
        return given_.with_row(first, not_run(due, RunStatus.SKIPPED, reason))

    return skipped


WRONG: dict[str, tuple[Callable[[Drawn], History], Broken]] = {
    "a row is missing": (_lost, Broken.LOST),
    "a run has no end": (_said(status=RunStatus.RUNNING), Broken.UNFINISHED),
    "a run is late": (_moved(10.2), Broken.LATE),
    "a run is early": (_moved(-0.2), Broken.EARLY),
    "a run was skipped for an overlap that was none": (
        _skipped_in_peace("overlap: the run before it went on"),
        Broken.NOT_RUN,
    ),
    "a run was skipped for a pause that was none": (_skipped_in_peace("paused"), Broken.NOT_RUN),
    "a run was missed while all was well": (
        _said(status=RunStatus.MISSED, started_at=None, reason="outage"),
        Broken.NOT_RUN,
    ),
    "no reason is given": (
        _said(status=RunStatus.SKIPPED, started_at=None, reason=None),
        Broken.NOT_RUN,
    ),
    "a run failed": (_said(status=RunStatus.FAILED), Broken.ENDED_BADLY),
    "a run was made in a pause": (_ran_while_paused, Broken.RAN),
    "an occurrence has two rows": (_twice, Broken.TWO_ROWS),
    "a row is of no due time": (_uncalled_for, Broken.UNCALLED_FOR),
    "a run on request is there that nobody asked for": (_asked_by_nobody, Broken.UNCALLED_FOR),
    "a run has two rows": (_twice_by_one_id, Broken.TWO_ROWS),
    "a run was made twice": (_doubled, Broken.DOUBLED),
    "a run was made twice, and the log says so": (_doubled_by_the_logs_word, Broken.DOUBLED),
    "a run was not made": (_unseen, Broken.UNSEEN),
    "a run was made of which the log says that it was not": (_seen_though_not_run, Broken.UNLOGGED),
    "a run was made of which the log knows nothing": (_unlogged, Broken.UNLOGGED),
    "a final row changed": (_was_another, Broken.BACKWARDS),
    "a row vanished": (_vanished, Broken.BACKWARDS),
    "a registration is gone": (lambda one: replace(one.right, stored={}), Broken.FORGOTTEN),
    "a registration never reached the engine": (_stored(in_step=False), Broken.FORGOTTEN),
    "a task has no workflow": (_stored(has_workflow=False), Broken.FORGOTTEN),
    "a change of state is gone": (_stored(state=TaskState.PAUSED), Broken.FORGOTTEN),
    "another task was stored": (_stored(spec=task(7).spec), Broken.FORGOTTEN),
    "a registration was made twice": (
        lambda one: replace(
            one.right, stored={**one.right.stored, "again": one.right.stored[TASK]}
        ),
        Broken.REGISTERED_TWICE,
    ),
}


@thorough
@given(drawn())
def test_a_right_history_passes(given_: Drawn) -> None:
    verdict = check(given_.right)
    assert not verdict.violations, str(verdict)
    assert verdict.figures.occurrences == len(given_.right.rows)
    assert verdict.figures.worst_lag < PROMISED.total_seconds()
    assert verdict.figures.lost_attempts == len(given_.right.lost_attempts)


@pytest.mark.parametrize("what", WRONG)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(given_=drawn())
def test_a_wrong_history_is_caught(what: str, given_: Drawn) -> None:
    spoil, kind = WRONG[what]
    wrong = spoil(given_)
    assert kind in kinds(wrong), str(check(wrong)) or what


@thorough
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=5),
    st.lists(st.integers(0, 15), max_size=5),
)
def test_no_other_matching_leaves_fewer(spans: list[tuple[int, int]], at: list[int]) -> None:
    opened = [(after(begin), after(begin + length)) for begin, length in spans]
    starts = [after(one) for one in at]
    left, too_many = match(opened, starts)
    matched = len(opened) - len(left)
    assert matched == len(starts) - len(too_many)
    places: list[int | None] = [*range(len(opened)), *[None] * len(starts)]
    best = (
        max(
            sum(
                place is not None and opened[place][0] <= start <= opened[place][1]
                for place, start in zip(order, starts, strict=False)
            )
            for order in set(permutations(places, len(starts)))
        )
        if len(starts) < 4
        else matched
    )
    assert matched == best
