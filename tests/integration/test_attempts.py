"""An attempt as such: its instant, its claim, how it is stopped, and what the log shows of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from activities import attempt, instant, own_row, pulse
from activities import rush as rush_module
from activities.action import Ended, Running, now
from activities.messages import AfterSuccess, ExecuteAttempt, Outcome
from onthedot.errors import DatabaseUnavailable
from onthedot.run import Output, Run, RunStatus
from onthedot.task import CatchUp
from tests.attempts import SHUTDOWN, WORKER, Bench, bench, order
from tests.services import assert_eventually

started: list[str] = []


async def mark(name: str = "") -> None:
    started.append(name)


async def fail() -> None:
    raise ValueError("it went wrong")


async def go_on() -> None:
    started.append("go_on")
    await asyncio.sleep(60)


async def ignore_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if len(started) > 1:
                raise
            started.append("cancelled")


@pytest.fixture
async def executing() -> AsyncIterator[Bench]:
    started.clear()
    async with bench(handlers=(f"{__name__}:*",)) as made:
        yield made


def python(name: str, **given: Any) -> Any:
    return order("python", handler=f"{__name__}:{name}", **given)


async def is_waiting(executing: Bench, going: "asyncio.Task[Outcome]") -> None:
    """Return once the attempt has had its turn, and waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not going.done()


async def test_an_attempt_starts_at_its_instant_and_not_before(executing: Bench) -> None:
    wanted = python("mark", due_in=1.2)
    outcome = await executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.started_at is not None
    lag = (outcome.started_at - wanted.start_at).total_seconds()
    assert 0 <= lag < 5  # milliseconds where nothing else runs
    assert outcome.worker == WORKER


async def test_an_attempt_that_comes_late_starts_at_once(executing: Bench) -> None:
    outcome = await executing.execute(python("mark", due_in=-3600))
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.started_at is not None
    assert now() - outcome.started_at < timedelta(seconds=60)


async def test_a_thousand_attempts_wait_for_one_instant(executing: Bench) -> None:
    tasks_before = len(asyncio.all_tasks())
    cpu_before = time.process_time()
    wanted = python("mark", due_in=2)
    going = [executing.start(wanted) for _ in range(1000)]
    await asyncio.sleep(0.01)
    # the activity and its task in the test environment: none of ours beside two watchers
    assert len(asyncio.all_tasks()) - tasks_before <= 2002
    outcomes = await asyncio.gather(*going)

    assert {one.status for one in outcomes} == {RunStatus.SUCCEEDED}
    assert all(one.started_at and one.started_at >= wanted.start_at for one in outcomes)
    assert time.process_time() - cpu_before < 10


async def test_a_waiting_attempt_heartbeats_little(executing: Bench) -> None:
    """Where that is how it hears of a cancellation: the engine pays for each.

    One in the last 2.5 s before the instant, and every 4.5 s before.
    """
    wanted = python("mark", due_in=7.1)
    await executing.execute(wanted)

    before = [(wanted.start_at - one).total_seconds() for one in executing.heartbeats]
    assert len(before) == 2
    assert 0.9 < before[1] < 2.51
    assert before[0] - before[1] == pytest.approx(4.5, abs=0.1)


async def test_a_run_that_goes_on_heartbeats(
    executing: Bench, monkeypatch: pytest.MonkeyPatch, assert_eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(pulse, "_FIRST", (0.1, 0.1))
    monkeypatch.setattr(pulse, "_BETWEEN", 0.6)
    going = executing.start(python("go_on"))
    await assert_eventually(lambda: len(executing.heartbeats) >= 3)
    executing.environment.cancel()
    await going
    beats = len(executing.heartbeats)
    await asyncio.sleep(0.7)
    assert len(executing.heartbeats) == beats


async def first_heartbeat(executing: Bench) -> timedelta:
    """How long after its start a run that goes on heartbeats."""
    going = executing.start(python("go_on"))
    await assert_eventually(lambda: executing.heartbeats)
    executing.environment.cancel()
    outcome = await going
    assert outcome.started_at is not None
    return executing.heartbeats[0] - outcome.started_at


async def test_a_run_that_starts_late_heartbeats_before_it_would_be_called_lost(
    executing: Bench,
) -> None:
    """Most heartbeat 1 to 2 s after their start; this one has 0.4 s left until 2 s before that."""
    executing.environment.info = replace(
        executing.environment.info, heartbeat_timeout=timedelta(seconds=2.4)
    )
    assert await first_heartbeat(executing) < timedelta(seconds=1)


async def test_a_run_that_was_long_on_its_way_heartbeats_in_time(executing: Bench) -> None:
    """The engine waits for a heartbeat since it has sent it: 2.1 s of 4 are over as it arrives."""
    executing.environment.info = replace(
        executing.environment.info,
        started_time=now() - timedelta(seconds=2.1),
        heartbeat_timeout=timedelta(seconds=4),
    )
    assert await first_heartbeat(executing) < timedelta(seconds=0.9)


async def test_a_clock_that_is_set_forward_makes_no_waiting_attempt_late(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = executing.start(python("mark", due_in=60))
    await is_waiting(executing, going)
    for module in (instant, attempt):
        monkeypatch.setattr(module, "now", lambda: now() + timedelta(seconds=60))
    async with asyncio.timeout(20):
        assert (await going).status is RunStatus.SUCCEEDED


async def test_an_attempt_that_is_cancelled_while_it_waits_does_not_start(executing: Bench) -> None:
    going = executing.start(python("mark", due_in=60))
    await is_waiting(executing, going)
    executing.environment.cancel()
    outcome = await going

    assert outcome.status is RunStatus.CANCELLED
    assert outcome.started_at is None
    assert started == []


async def test_a_worker_that_shuts_down_hands_waiting_attempts_back(executing: Bench) -> None:
    going = [executing.start(python("mark", due_in=60)) for _ in range(100)]
    await is_waiting(executing, going[0])
    executing.environment.worker_shutdown()

    errors = await asyncio.gather(*going, return_exceptions=True)
    assert {error.type for error in errors if isinstance(error, ApplicationError)} == {"HandedBack"}
    assert len([one for one in errors if isinstance(one, ApplicationError)]) == 100
    assert started == []


async def test_what_arrives_at_a_worker_that_shuts_down_is_handed_back(executing: Bench) -> None:
    executing.environment.worker_shutdown()
    with pytest.raises(ApplicationError) as raised:
        await executing.execute(python("mark"))
    assert raised.value.type == "HandedBack"
    assert raised.value.next_retry_delay == timedelta(milliseconds=10)
    assert started == []


async def test_a_run_that_goes_on_may_end_while_its_worker_shuts_down(
    executing: Bench, assert_eventually: Callable[..., Any]
) -> None:
    going = executing.start(python("go_on", timeout=0.5))
    await assert_eventually(lambda: started)
    executing.environment.worker_shutdown()
    assert (await going).status is RunStatus.TIMED_OUT


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_what_outlives_the_grace_of_its_worker_runs_again_unless_it_may_not(
    executing: Bench, delivery: str, assert_eventually: Callable[..., Any]
) -> None:
    said: list[Any] = []
    executing.environment.on_heartbeat = lambda *details: said.append(details)
    going = executing.start(python("go_on", delivery=delivery))
    await assert_eventually(lambda: started)
    executing.environment.cancel(SHUTDOWN)

    if delivery == "at_least_once":
        with pytest.raises(ApplicationError) as raised:
            await going
        assert raised.value.type == "WorkerStopped"
        assert said[-1] == ("cut off", 1)
        assert not raised.value.non_retryable
    else:
        outcome = await going
        assert outcome.status is RunStatus.FAILED
        assert outcome.error == "worker stopped"
        assert not outcome.may_retry


async def test_a_pause_of_the_activity_is_the_engines_to_answer(
    executing: Bench, assert_eventually: Callable[..., Any]
) -> None:
    going = executing.start(python("go_on"))
    await assert_eventually(lambda: started)
    executing.environment.cancel(ActivityCancellationDetails(paused=True))
    with pytest.raises(asyncio.CancelledError):
        await going


async def test_an_action_that_does_not_stop_is_left_to_itself(
    executing: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_CLEAN_UP", 0.2)
    outcome = await executing.execute(python("ignore_cancellation", timeout=0.1))

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is not None
    assert "left to itself" in outcome.error
    started.append("let it end")
    for task in asyncio.all_tasks():
        if "Executor._guard" in repr(task):
            task.cancel()
            await asyncio.wait({task})


async def test_an_error_of_our_own_ends_the_run_and_is_not_tried_for_ever(
    executing: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def perform(self, running: Running) -> Ended:
            raise ZeroDivisionError("a bug")

    monkeypatch.setitem(executing.executor._kinds, "python", Broken())  # type: ignore[arg-type]
    outcome = await executing.execute(python("mark"))

    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "an error in Onthedot: ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text


def and_then(seconds: float | None = 60) -> AfterSuccess:
    """What the workflow says of a task that is due again in so many seconds, or finished."""
    due_at = None if seconds is None else now() + timedelta(seconds=seconds)
    return AfterSuccess(next_due_at=due_at)


@pytest.mark.parametrize(
    "seconds", [60, -0.2, None], ids=["due again", "due again already", "finished"]
)
async def test_a_success_is_written_by_its_attempt(executing: Bench, seconds: float | None) -> None:
    after = and_then(seconds)
    wanted = python("mark", after_success=after)
    outcome = await executing.execute(wanted)
    assert outcome.is_recorded
    ((row, next_due_at),) = executing.log.recorded
    assert (row.run_id, row.status, next_due_at) == (
        wanted.run_id,
        RunStatus.SUCCEEDED,
        after.next_due_at,
    )
    assert (row.started_at, row.finished_at) == (outcome.started_at, outcome.finished_at)


async def test_the_row_of_a_failure_is_left_to_the_workflow(executing: Bench) -> None:
    outcome = await executing.execute(python("fail", after_success=and_then()))
    assert not outcome.is_recorded
    assert not executing.log.recorded


async def test_a_row_is_left_to_a_workflow_that_does_not_say_how_the_task_stands_then(
    executing: Bench,
) -> None:
    assert not (await executing.execute(python("mark"))).is_recorded
    assert not executing.log.recorded


async def test_a_row_that_the_log_does_not_take_is_left_to_the_workflow(executing: Bench) -> None:
    executing.log.troubles = [DatabaseUnavailable("Postgres does not answer")]
    for _ in range(2):  # the next one does not even try
        outcome = await executing.execute(python("mark", after_success=and_then()))
        assert (outcome.status, outcome.is_recorded) == (RunStatus.SUCCEEDED, False)
    assert not executing.log.recorded


@pytest.mark.parametrize(("seconds", "tries_the_next"), [(-0.2, True), (60, False)])
async def test_whether_the_next_row_is_tried_after_one_that_the_log_was_slow_to_take(
    executing: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float, tries_the_next: bool
) -> None:
    """One whose task is due again does not wait for long: that the log is away is not certain."""

    async def slow(_: Run, __: datetime | None) -> None:
        await asyncio.sleep(60)

    with monkeypatch.context() as patched:
        patched.setattr(own_row, "_LEAST", 0.05)
        patched.setattr(own_row, "_PATIENCE", 1.0)
        patched.setattr(executing.log, "record_success", slow)
        first = await executing.execute(python("mark", after_success=and_then(seconds)))
    second = await executing.execute(python("mark", after_success=and_then()))
    assert (first.is_recorded, second.is_recorded) == (False, tries_the_next)


async def test_a_cancellation_while_the_row_is_written_undoes_no_success(
    executing: Bench, monkeypatch: pytest.MonkeyPatch, assert_eventually: Callable[..., Any]
) -> None:
    writing: list[Run] = []

    async def never(run: Run, _: datetime | None) -> None:
        writing.append(run)
        await asyncio.sleep(60)

    monkeypatch.setattr(executing.log, "record_success", never)
    going = executing.start(python("mark", after_success=and_then()))
    await assert_eventually(lambda: writing)
    executing.environment.cancel()
    outcome = await going
    assert (outcome.status, outcome.is_recorded) == (RunStatus.SUCCEEDED, False)


async def test_what_a_lost_worker_has_written_is_not_run_again(executing: Bench) -> None:
    wanted = python("mark", after_success=and_then())
    first = await executing.execute(wanted)
    executing.environment.info = replace(executing.environment.info, attempt=2)
    second = await executing.execute(wanted)
    assert started == [""]
    assert second == first
    assert executing.log.remarks == [(wanted.run_id, own_row.HEARD_LATE)]


async def test_a_worker_that_was_lost_after_another_has_handed_the_run_back_is_told_from_it(
    executing: Bench,
) -> None:
    wanted = python("mark", after_success=and_then())
    first = await executing.execute(wanted)
    handed_back = replace(executing.environment.info, heartbeat_details=["handed back", 1])
    executing.environment.info = replace(handed_back, attempt=3)
    assert await executing.execute(wanted) == first
    executing.environment.info = replace(handed_back, attempt=2)
    assert await executing.execute(wanted) != first
    assert started == ["", ""]


async def test_what_a_lost_worker_has_not_written_is_run_again_and_says_so(
    executing: Bench,
) -> None:
    executing.environment.info = replace(executing.environment.info, attempt=2)
    outcome = await executing.execute(python("mark", after_success=and_then()))
    assert started == [""]
    ((row, _),) = executing.log.recorded
    assert outcome.is_recorded
    assert row.reason == "its worker was lost, and it was started again"


@pytest.fixture
def rush(executing: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes was with another worker before, which was lost, and more may come for long."""
    executing.environment.info = replace(
        executing.environment.info, attempt=2, heartbeat_timeout=timedelta(seconds=60)
    )
    monkeypatch.setattr(rush_module, "_OVER_AFTER", 60)


@pytest.mark.usefixtures("rush")
@pytest.mark.parametrize("seconds", [60, None], ids=["due again", "finished"])
async def test_a_run_of_a_lost_worker_is_not_reported_while_more_of_them_come(
    executing: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    monkeypatch.setattr(rush_module, "_OVER_AFTER", 2)
    first = executing.start(python("mark", after_success=and_then(seconds)))
    await asyncio.sleep(1)
    second_came = time.monotonic()
    second = executing.start(python("mark", after_success=and_then(seconds)))
    assert (await first).is_recorded
    assert 1.9 < time.monotonic() - second_came < 4
    assert (await second).is_recorded


@pytest.mark.usefixtures("rush")
@pytest.mark.parametrize(
    "after",
    [lambda: and_then(20), lambda: None],
    ids=["due again soon", "its row is the workflow's"],
)
async def test_a_run_whose_end_is_waited_for_is_reported_at_once(
    executing: Bench, after: Callable[[], AfterSuccess | None]
) -> None:
    async with asyncio.timeout(4):
        outcome = await executing.execute(python("mark", after_success=after()))
    assert outcome.status is RunStatus.SUCCEEDED


@pytest.mark.usefixtures("rush")
async def test_a_run_that_was_not_sent_again_is_reported_at_once(executing: Bench) -> None:
    going = executing.start(python("mark", after_success=and_then()))
    await assert_eventually(lambda: executing.log.recorded)
    executing.environment.info = replace(executing.environment.info, attempt=1)
    async with asyncio.timeout(4):
        await executing.execute(python("mark", after_success=and_then()))
    assert not going.done()
    executing.environment.cancel()
    assert (await going).status is RunStatus.SUCCEEDED  # its row says so


@pytest.mark.usefixtures("rush")
async def test_a_run_is_reported_before_its_worker_would_be_called_lost(executing: Bench) -> None:
    executing.environment.info = replace(
        executing.environment.info, heartbeat_timeout=timedelta(seconds=4)
    )
    begun = now()
    await executing.execute(python("mark", after_success=and_then()))
    assert timedelta(seconds=1) < now() - begun < timedelta(seconds=4)


async def test_what_a_stopped_worker_cut_off_is_run_again_and_says_so(executing: Bench) -> None:
    cut_off = replace(executing.environment.info, heartbeat_details=["cut off", 1], attempt=2)
    executing.environment.info = cut_off
    outcome = await executing.execute(python("mark"))
    assert started == [""]
    assert outcome.remark == "its worker stopped, and it was started again"
    executing.environment.info = replace(cut_off, heartbeat_details=["handed back", 1])
    assert (await executing.execute(python("mark"))).remark is None


@pytest.mark.parametrize(
    ("policy", "late", "said", "why"),
    [
        (CatchUp(keep="none"), 11, [], "outage; catch-up keeps none"),
        (CatchUp(keep="none"), 9, [], None),
        (CatchUp(keep="latest"), 3600, [], None),
        (
            CatchUp(keep="all", within=timedelta(minutes=1)),
            61,
            [],
            "outage longer than the catch-up window of 1m",
        ),
        (CatchUp(keep="none"), 11, ["handed back", 1], "outage; catch-up keeps none"),
        (CatchUp(keep="none"), 11, ["began", 1], None),  # at least once: it is to be repeated
        (CatchUp(keep="none"), 11, ["cut off", 1], None),
    ],
)
async def test_what_comes_too_late_for_its_catch_up_policy_does_not_start(
    executing: Bench, policy: CatchUp, late: float, said: list[Any], why: str | None
) -> None:
    executing.environment.info = replace(
        executing.environment.info, heartbeat_details=said, attempt=2 if said else 1
    )
    outcome = await executing.execute(python("mark", due_in=-late, catch_up=policy))
    if why is None:
        assert (outcome.status, started) == (RunStatus.SUCCEEDED, [""])
    else:
        assert (outcome.status, outcome.remark, started) == (RunStatus.MISSED, why, [])
        assert outcome.started_at is None


async def test_what_comes_too_late_after_a_lost_worker_says_that_it_may_have_begun(
    executing: Bench,
) -> None:
    """An action that takes a moment has not said so by a heartbeat."""
    executing.environment.info = replace(executing.environment.info, attempt=2)
    outcome = await executing.execute(python("mark", due_in=-11, catch_up=CatchUp(keep="none")))
    assert (outcome.status, started) == (RunStatus.MISSED, [])
    why = "outage; catch-up keeps none; its worker was lost, and may have begun it"
    assert outcome.remark == why


async def test_at_most_once_claims_the_run_before_it_starts(executing: Bench) -> None:
    wanted = python("mark", delivery="at_most_once")
    outcome = await executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED
    _, row = executing.log.claimed[wanted.run_id, 1]
    assert row.status is RunStatus.RUNNING
    assert row.worker == WORKER
    assert row.started_at is not None
    assert outcome.started_at is not None
    assert row.started_at <= outcome.started_at


async def test_at_most_once_does_not_run_again_what_a_lost_worker_had_claimed(
    executing: Bench,
) -> None:
    wanted = python("mark", delivery="at_most_once")
    await executing.execute(wanted)
    again = await executing.execute(wanted)

    assert started == [""]
    assert again.status is RunStatus.FAILED
    assert again.error == "worker lost"
    assert again.started_at is None
    assert not again.may_retry


@pytest.fixture
async def unheard_of(executing: Bench) -> tuple[ExecuteAttempt, Outcome]:
    """A run whose worker was lost as its row was written; at first the log is not seen to have it."""
    wanted = python("mark", delivery="at_most_once", after_success=and_then())
    outcome = await executing.execute(wanted)
    executing.environment.info = replace(executing.environment.info, attempt=2)
    executing.log.troubles = [DatabaseUnavailable()]
    return wanted, outcome


async def test_at_most_once_has_succeeded_where_a_lost_worker_had_written_that(
    executing: Bench, unheard_of: tuple[ExecuteAttempt, Outcome]
) -> None:
    wanted, outcome = unheard_of
    assert await executing.execute(wanted) == outcome
    assert started == [""]
    assert len(executing.log.recorded) == 1
    assert executing.log.remarks == [(wanted.run_id, own_row.HEARD_LATE)]


async def test_at_most_once_has_not_failed_while_the_log_does_not_say_how_it_ended(
    executing: Bench,
    unheard_of: tuple[ExecuteAttempt, Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted, outcome = unheard_of

    async def away(_: str) -> Run | None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(executing.log, "find_ended", away)
        executing.log.troubles.clear()
        with pytest.raises(ApplicationError) as raised:
            await executing.execute(wanted)
    assert raised.value.type == "NotClaimed"
    executing.environment.info = replace(executing.environment.info, attempt=3)
    assert await executing.execute(wanted) == outcome
    assert started == [""]


async def test_at_most_once_does_not_start_what_it_cannot_claim(executing: Bench) -> None:
    executing.log.troubles = [DatabaseUnavailable() for _ in range(3)]
    with pytest.raises(ApplicationError) as raised:
        await executing.execute(python("mark", delivery="at_most_once"))
    assert raised.value.type == "NotClaimed"
    assert started == []


async def given_back(executing: Bench, wanted: ExecuteAttempt) -> None:
    """Have the attempt claimed, but not begun, and given back; the next of them hears of that."""
    said: list[tuple[Any, ...]] = []
    executing.environment.on_heartbeat = lambda *details: said.append(details)
    executing.log.claims_unanswered = 3
    with pytest.raises(ApplicationError) as raised:
        await executing.execute(wanted)
    assert raised.value.type == "NotClaimed"
    info = executing.environment.info
    executing.environment.info = replace(info, attempt=info.attempt + 1, heartbeat_details=said[-1])


@pytest.mark.parametrize("times", [1, 2])
async def test_at_most_once_runs_where_a_claim_was_given_back_before_it_began(
    executing: Bench, times: int
) -> None:
    wanted = python("mark", delivery="at_most_once")
    for _ in range(times):
        await given_back(executing, wanted)
    assert started == []

    outcome = await executing.execute(wanted)
    assert (outcome.status, outcome.remark, started) == (RunStatus.SUCCEEDED, None, [""])


async def test_at_most_once_does_not_take_the_claim_of_a_worker_before_the_last(
    executing: Bench,
) -> None:
    """The second has begun, by the first's claim, and was lost: it had said nothing yet."""
    wanted = python("mark", delivery="at_most_once")
    await given_back(executing, wanted)
    await executing.execute(wanted)
    executing.environment.info = replace(executing.environment.info, attempt=3)

    outcome = await executing.execute(wanted)
    assert (outcome.error, started) == ("worker lost", [""])


async def test_at_most_once_does_not_pass_on_the_claim_of_one_that_was_lost(
    executing: Bench,
) -> None:
    wanted = python("mark", delivery="at_most_once")
    await executing.execute(wanted)
    executing.environment.info = replace(executing.environment.info, attempt=2)
    await given_back(executing, wanted)

    outcome = await executing.execute(wanted)
    assert (outcome.error, started) == ("worker lost", [""])


async def test_at_most_once_outlives_a_moment_without_the_log(executing: Bench) -> None:
    executing.log.troubles = [DatabaseUnavailable()]
    outcome = await executing.execute(python("mark", delivery="at_most_once"))
    assert outcome.status is RunStatus.SUCCEEDED


async def test_at_least_once_does_not_ask_the_log(executing: Bench) -> None:
    executing.log.troubles = [DatabaseUnavailable()]
    outcome = await executing.execute(python("mark"))
    assert outcome.status is RunStatus.SUCCEEDED
    assert len(executing.log.troubles) == 1


async def test_a_short_run_is_not_shown_as_running(executing: Bench) -> None:
    await executing.execute(python("mark"))
    await asyncio.sleep(1.1)
    assert executing.log.shown == []
    assert executing.log.chunks == []


async def test_a_log_that_is_away_does_not_hurt_a_run() -> None:
    async with bench(shell=True) as executing:
        executing.log.troubles = [DatabaseUnavailable() for _ in range(100)]
        outcome = await executing.execute(order("shell", script="echo one; sleep 1.3; echo two"))
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.output == Output(text="one\ntwo\n", size=8)


async def test_all_of_a_long_output_is_in_the_log_when_the_run_was_short() -> None:
    async with bench(shell=True) as executing:
        wanted = order("shell", script="seq 1 20000")
        outcome = await executing.execute(wanted)
    whole = "".join(text for _, text in executing.log.chunks)
    assert whole == "".join(f"{number}\n" for number in range(1, 20001))
    assert outcome.output.size == len(whole)
