"""Whole programs of steps against a model: the rows of the log are those that were foretold.

``make test`` plays the same programs each time. For a long search with fresh ones:

    PROGRAMS=5000 nice make test ARGS=tests/integration/test_task_programs.py

A program that fails is shown as short as Hypothesis can make it, with what was foretold.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, note, settings
from hypothesis import strategies as st
from temporalio import activity
from temporalio.api.testservice.v1 import LockTimeSkippingRequest, UnlockTimeSkippingRequest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.messages import ExecuteAttempt, Outcome, RunOrder
from onthedot import temporal_server as temporal
from onthedot.run import Run, RunStatus, Trigger, requested_run_id
from onthedot.schedule import times
from onthedot.task import CatchUp, OnceSchedule, OverlapPolicy, Policies, Schedule, TaskState
from tests import task_model as model
from tests.running import CANCELLED, Play, Stage, every, stage
from tests.task_model import Act, Every, Foretold, Once, Order, Program, Row, Try, foretell
from workflows import history as history_module

#: How much later than foretold a run may start or end.
TOLERANCE = 2.0
_BEAT = timedelta(seconds=2.5)
_LONG = 40  # events of a short history
_STOPS = (model.StopWorker, model.RestartWorker)

_MANY = int(os.environ.get("PROGRAMS", "0"))
searching = settings(
    max_examples=_MANY or 40,
    derandomize=not _MANY,
    database=None,
    deadline=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


@pytest.fixture(scope="module", autouse=True)
def _one_lead() -> Iterator[None]:
    """Whatever its schedule, the lead of the player's task is the same."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(times, "LONGEST_LEAD", timedelta(seconds=20))
        yield


class Player(Stage):
    """Plays what was foretold of a program, on a task whose lead is 13.5 s."""

    task_id = "task-4"

    def __init__(self, environment: WorkflowEnvironment, now: datetime, program: Program) -> None:
        super().__init__(environment, now)
        self.program = program
        self._works = True
        self._performing: list[asyncio.Task[Outcome]] = []
        self.at_once = {"backfill": 0, "other": 0}
        self.most = {"backfill": 0, "other": 0}

    async def play(self, foretold: Foretold) -> None:
        async with AsyncExitStack() as workers:
            await workers.enter_async_context(self._a_worker())
            await self.start(
                self._schedule(self.program.schedule, 0), _policies(self.program.policies)
            )
            for act in foretold.acts:
                await self._pass(self.at(act.at), is_alone=not self._works)
                async with asyncio.timeout(30):
                    await self._do(act, workers)
            await self.until(self.at(foretold.ended))
            async with asyncio.timeout(30):
                await self.handle.result()

    async def close(self) -> None:
        """Let attempts that were left alone come to their end."""
        await self._environment.sleep(_BEAT)
        await asyncio.wait([*self._performing, asyncio.create_task(asyncio.sleep(0))], timeout=10)

    async def _pass(self, moment: datetime, *, is_alone: bool) -> None:
        """Let time pass until ``moment``.

        The server holds its clock while anything waits for a worker. Where there is none, its
        locks are taken off until then.
        """
        if not is_alone:
            await self.until(moment)
            return
        service, taken_off = self._environment.client.test_service, 0
        passing = asyncio.create_task(self.until(moment))
        await asyncio.wait({passing}, timeout=0.3)
        while not passing.done():
            before = await self.now()
            await asyncio.wait({passing}, timeout=0.1)
            if not passing.done() and await self.now() - before < timedelta(seconds=1):
                await service.unlock_time_skipping(UnlockTimeSkippingRequest())
                taken_off += 1
        await passing
        for _ in range(taken_off):
            await service.lock_time_skipping(LockTimeSkippingRequest())

    def at(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    def id_of(self, order: Order) -> str:
        stamp = f"{self.at(order.due):%Y%m%dT%H%M%S%f}Z"
        if order.key is None:
            return f"{self.task_id}.{stamp}"
        return requested_run_id(self.task_id, self.at(order.due), order.key)

    async def _do(self, act: Act, workers: AsyncExitStack) -> None:
        match act.step:
            case model.Pause() | model.Resume() | model.Revise() | model.Delete():
                await self._revise(act)
            case model.Trigger() | model.Backfill():
                asked = map(self._run_order, act.orders)
                first = act.orders[0]
                await self.ask(first.key or "", *asked, at_once=first.at_once)
            case model.Cancel():
                await self.cancel(self.id_of(act.orders[0]))
            case model.StopWorker():
                await workers.aclose()
                self._works = False
            case model.StartWorker():
                self._works = True
                await workers.enter_async_context(self._a_worker())
            case model.RestartWorker():
                await workers.aclose()
                await workers.enter_async_context(self._a_worker())
            case model.LogAway():
                self.log.is_away = True
            case model.LogBack():
                self.log.is_away = False

    async def _revise(self, act: Act) -> None:
        policies = Policies.model_validate({"timeout": "1d", **_policies(act.policies)})
        schedule = self._schedule(act.schedule, act.anchor)
        more: dict[str, Any] = {}
        match act.step:
            case model.Resume(str(keep), within):
                more["catch_up"] = CatchUp(keep=keep, within=timedelta(seconds=within))
            case model.Delete(let_finish):
                more["let_finish"] = let_finish
        if act.paused_until is not None:
            more["paused_until"] = self.at(act.paused_until)
        version = await self.revise(
            TaskState(act.state), schedule=schedule, policies=policies, **more
        )
        assert version == act.version

    def _a_worker(self) -> Any:
        # The server does not let time pass over a task for a worker that had it in memory and left.
        stops = any(isinstance(one, _STOPS) for one in self.program.steps)
        forgets = stops or self.program.no_cache
        return self.worker(max_cached_workflows=0 if forgets else 100)

    def _schedule(self, schedule: Every | Once, anchor: float) -> Schedule:
        if isinstance(schedule, Once):
            return OnceSchedule(at=self.at(anchor) + timedelta(minutes=schedule.minutes))
        return every(f"{schedule.minutes}m", self.at(anchor))

    def _run_order(self, order: Order) -> RunOrder:
        return RunOrder(
            run_id=self.id_of(order),
            trigger=Trigger(order.trigger),
            due_at=self.at(order.due),
            overlap=OverlapPolicy(order.overlap) if order.overlap else None,
        )

    @activity.defn(name="attempt")
    async def _attempt(self, order: ExecuteAttempt) -> Outcome:
        # A call to the server that were cancelled would leave its clock stopped: it is left alone.
        left_alone = asyncio.Event()
        spent = _Spent()
        performing = asyncio.create_task(self._perform_try(order, left_alone, spent))
        self._performing.append(performing)
        try:
            return await asyncio.shield(performing)
        except asyncio.CancelledError:
            left_alone.set()
            details = activity.cancellation_details()
            if details and details.worker_shutdown and not details.cancel_requested:
                raise ApplicationError(
                    "the worker stopped", next_retry_delay=timedelta(milliseconds=10)
                ) from None
            return self._outcome(CANCELLED, spent.started_at, await self.now())
        finally:
            self.at_once[spent.lane] -= spent.started_at is not None

    async def _perform_try(
        self, order: ExecuteAttempt, left_alone: asyncio.Event, spent: "_Spent"
    ) -> Outcome:
        if not await self._heartbeats_until(order.start_at, left_alone):
            return self._outcome(CANCELLED, None, await self.now())
        started_at = await self.now()
        if left_alone.is_set():
            return self._outcome(CANCELLED, None, started_at)
        spent.started_at = started_at
        spent.lane = "backfill" if order.trigger is Trigger.BACKFILL else "other"
        self.at_once[spent.lane] += 1
        self.most[spent.lane] = max(self.most[spent.lane], self.at_once[spent.lane])
        how = self.program.how((order.due_at - self.began).total_seconds(), order.number)
        ends = self.at(how.end((started_at - self.began).total_seconds()))
        if not await self._heartbeats_until(ends, left_alone):
            return self._outcome(CANCELLED, started_at, await self.now())
        status = RunStatus.SUCCEEDED if how.good else RunStatus.FAILED
        return self._outcome(Play(status=status), started_at, await self.now())

    async def _heartbeats_until(self, moment: datetime, left_alone: asyncio.Event) -> bool:
        while (left := moment - await self.now()) > timedelta():
            if left_alone.is_set():
                return False
            await self._environment.sleep(min(left, _BEAT))
            if not (left_alone.is_set() or await self._heartbeat()):
                return False
        return not left_alone.is_set()


class _Spent:
    """What an attempt has got to."""

    started_at: datetime | None = None
    lane = "other"


def _policies(policies: model.Policies) -> dict[str, Any]:
    return {
        "overlap": policies.overlap,
        "overlap_limit": policies.limit,
        "catch_up": {"keep": policies.keep, "within": timedelta(seconds=policies.within)},
        "retry": {
            "attempts": policies.attempts,
            "backoff": timedelta(seconds=policies.backoff),
            "factor": 1,
            "max_backoff": "1h",
            "within": policies.retry_within and timedelta(seconds=policies.retry_within),
        },
        "pause_on_failure": policies.pause_on_failure,
    }


def differences(player: Player, foretold: Foretold) -> list[str]:
    """What the log has otherwise than foretold."""
    rows = dict(player.log.final)
    found = []
    for order, expected in foretold.rows.items():
        row = rows.pop(player.id_of(order), None)
        if row is None:
            found.append(f"no row for {expected}")
        elif wrong := _wrong(player, row, expected):
            found.append(f"{', '.join(wrong)}: {_in_short(player, row)} for {expected}")
    for order in foretold.optional:
        rows.pop(player.id_of(order), None)
    found += [f"not foretold: {_in_short(player, row)}" for row in rows.values()]
    found += [f"came twice: {_in_short(player, row)}" for row in player.log.repeated]
    return found


def _wrong(player: Player, row: Run, expected: Row) -> list[str]:
    reason = row.reason or ""
    right = {
        "status": row.status == expected.status,
        "reason": any(map(reason.startswith, expected.reasons)) if expected.reasons else not reason,
        "trigger": row.trigger == expected.order.trigger,
        "due": row.due_at == player.at(expected.order.due),
        "version": expected.version in (None, row.task_version),
        "attempts": row.attempt_count == expected.attempts == len(row.attempts),
        "start": _is_about(player, row.started_at, expected.started, expected.slack),
        "end": expected.ended is None
        or _is_about(player, row.finished_at, expected.ended, expected.slack),
    }
    return [name for name, so in right.items() if not so]


def _is_about(
    player: Player, actual: datetime | None, expected: float | None, slack: float
) -> bool:
    if actual is None or expected is None:
        return actual is expected
    late = (actual - player.at(expected)).total_seconds()
    return -0.1 <= late <= slack + TOLERANCE


def _in_short(player: Player, row: Run) -> str:
    def seconds(moment: datetime | None) -> float | None:
        return moment and round((moment - player.began).total_seconds(), 2)

    return (
        f"[due {seconds(row.due_at)} {row.trigger} {row.status} {row.reason!r} started "
        f"{seconds(row.started_at)} ended {seconds(row.finished_at)} attempts {row.attempt_count} "
        f"version {row.task_version}]"
    )


def moved_back(player: Player) -> list[str]:
    """Rows that were final, and came later as ones that are not."""
    final: set[str] = set()
    found = []
    for order in player.log.progress:
        for run in order.runs:
            if run.status.is_final:
                final.add(run.run_id)
            elif run.run_id in final:
                found.append(f"moved back: {_in_short(player, run)}")
    return found


def too_many_at_once(player: Player) -> list[str]:
    """Runs side by side that ought to have come one after the other."""
    policies = [player.program.policies]
    allowed = {"other": 1, "backfill": 1}
    for step in player.program.steps:
        match step:
            case model.Revise(policies=model.Policies() as revised):
                policies.append(revised)
            case model.Trigger(overlap="allow"):
                allowed["other"] = 100
            case model.Backfill(at_once=at_once):
                allowed["backfill"] = max(allowed["backfill"], at_once)
    if any(one.overlap == "allow" for one in policies):
        allowed["other"] = 100
    return [
        f"{most} at once ({lane})" for lane, most in player.most.items() if most > allowed[lane]
    ]


async def played(program: Program, foretold: Foretold) -> list[str]:
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=temporal.find("temporal-test-server")
    )
    async with environment, stage(environment) as made:
        player = Player(environment, made.began, program)
        with pytest.MonkeyPatch.context() as patch:
            if program.short_history:
                patch.setattr(history_module, "LONG_HISTORY", _LONG)
            try:
                await player.play(foretold)
            except TimeoutError as error:
                return [f"no answer, or no end: {error!r}", *differences(player, foretold)]
            finally:
                await player.close()
    return differences(player, foretold) + moved_back(player) + too_many_at_once(player)


schedules = st.one_of(
    st.sampled_from([Every(1), Every(2), Every(3)]), st.builds(Once, st.integers(2, 5))
)
overlaps = st.sampled_from(["skip", "queue_one", "queue_all", "cancel_running", "allow"])
keeps, spans = st.sampled_from(["latest", "all", "none"]), st.sampled_from([86_400, 90, 210])
policies = st.builds(
    model.Policies,
    overlap=overlaps,
    keep=keeps,
    within=spans,
    limit=st.sampled_from([100, 2]),
    attempts=st.sampled_from([1, 2, 3]),
    backoff=st.sampled_from([13, 80]),
    retry_within=st.sampled_from([None, None, 47]),
    pause_on_failure=st.sampled_from([0, 0, 0, 1, 2]),
)
tries = st.builds(
    Try, good=st.sampled_from([True, True, False]), minutes=st.sampled_from([None, None, 0, 1, 2])
)
lives = st.lists(st.lists(tries, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)
waits = st.builds(
    model.Wait, st.integers(1, 3), st.sampled_from([model.QUIET, model.QUIET, model.LEAD])
)
resumes = st.builds(model.Resume, st.none() | keeps, spans)
triggers = st.builds(model.Trigger, st.none() | overlaps)
cancels = st.builds(model.Cancel, st.integers(0, 5))
acts = st.one_of(
    triggers,
    st.builds(model.Pause, st.none() | st.integers(1, 4)),
    resumes,
    cancels,
    st.builds(model.Revise, policies=policies),
    st.builds(model.Revise, schedule=schedules),
    st.builds(model.Backfill, st.integers(1, 3), st.integers(1, 2)),
    st.builds(model.StopWorker),
    st.builds(model.StartWorker),
    st.builds(model.RestartWorker),
    triggers,
    cancels,
    resumes,
    st.sampled_from([model.LogAway(), model.LogBack()]),
    st.one_of(st.just(model.LogBack()), st.builds(model.Delete, st.booleans())),
)
#: Some time passes, and then a few things happen at once.
scenes = st.builds(lambda wait, then: [wait, *then], waits, st.lists(acts, max_size=3))
programs = st.builds(
    Program,
    schedule=schedules,
    policies=policies,
    lives=lives.map(tuple),
    steps=st.lists(scenes, min_size=1, max_size=14).map(lambda all_: tuple(itertools.chain(*all_))),
    short_history=st.booleans(),
    no_cache=st.booleans(),
)


def a_program(*steps: model.Step, life: tuple[Try, ...] = (Try(),), **rest: Any) -> Program:
    """A task that is due each minute, and all of whose runs go the same way."""
    short_history = rest.pop("short_history", False)
    policies = model.Policies(**rest)
    return Program(Every(1), policies, (life,), steps, short_history=short_history)


_OUTAGE = (model.Wait(2), model.StopWorker(), model.Wait(3), model.Wait(2), model.StartWorker())
_LONG_TRY = (Try(minutes=2),)


# Scenes that drawn programs come upon too seldom.
@example(a_program(*_OUTAGE, model.Wait(2), keep="latest"))
@example(a_program(*_OUTAGE, model.Wait(2), keep="all", within=210))
@example(
    a_program(
        *(model.Wait(2), model.LogAway(), *[model.Wait(3)] * 4, model.LogBack(), model.Wait(2)),
        short_history=True,
    )
)
@example(
    a_program(
        *(model.Wait(3), model.Revise(policies=model.Policies(overlap="queue_all"))),
        *(model.Wait(2), model.Pause(), model.Wait(2), model.Resume("latest"), model.Wait(3)),
        life=_LONG_TRY,
        overlap="queue_all",
    )
)
@example(
    a_program(
        *(model.Wait(2), model.Trigger(), model.Wait(3)),
        life=(Try(good=False), Try(good=False), Try()),
        attempts=3,
        pause_on_failure=2,
    )
)
# A workflow that is forgotten at once leaves coroutines that were never begun.
@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@searching
@given(programs)
def test_the_log_has_the_rows_that_a_program_leads_to(program: Program) -> None:
    foretold = foretell(program)
    assume(not foretold.unclear)
    for act in foretold.acts:
        note(f"{act.at:7.0f} s  {act.step} -> version {act.version}, {act.state}")
    assert asyncio.run(played(program, foretold)) == []
