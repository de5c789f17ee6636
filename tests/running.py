"""The engine's parts, running: a task's workflow in skipped time, or real workers."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar
from uuid import uuid4

from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import AsyncActivityCancelledError, Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.apart import RunWorkflows
from activities.catch_up import catch_up
from activities.follow_ups import StartFollowUps
from activities.limits import Limits
from activities.messages import ExecuteAttempt, Outcome, RunOrder
from activities.own_row import row_of_success
from activities.plan import pass_over, plan
from activities.recall import Recalls
from activities.record import RecordProgress
from onthedot import engine, schedule
from onthedot.database.pool import Pool, open_pool
from onthedot.engine import Engine
from onthedot.errors import DatabaseUnavailable
from onthedot.registration import Registration
from onthedot.run import Output, Run, RunStatus, Trigger, requested_run_id, scheduled_run_id
from onthedot.settings import Settings
from onthedot.task import (
    CatchUp,
    HttpAction,
    OverlapPolicy,
    Policies,
    Schedule,
    TaskSpec,
    TaskState,
)
from tests import services
from workflows.backlog import BacklogWorkflow
from workflows.limit import LimitWorkflow
from workflows.messages import CancelRun, KeepTask, ReviseTask, StartRuns
from workflows.runner import workflow_runner
from workflows.single_run import RunWorkflow
from workflows.task import TaskWorkflow

T = TypeVar("T")
TASK = "task-1"

#: Between heartbeats of an attempt that waits, and of one that goes on, in skipped time.
_WAITING, _GOING_ON = timedelta(seconds=0.8), timedelta(seconds=2.5)


@dataclass(frozen=True, kw_only=True)
class Play:
    """How an attempt goes."""

    status: RunStatus = RunStatus.SUCCEEDED
    lasts: timedelta = timedelta()
    retry_after: timedelta | None = None
    may_retry: bool = True
    result: dict[str, Any] | None = None
    error: str = "it went wrong"  # where it is a failure


def lasting(**span: float) -> Play:
    """An attempt that succeeds after a while."""
    return Play(lasts=timedelta(**span))


GOOD, BAD, CANCELLED = Play(), Play(status=RunStatus.FAILED), Play(status=RunStatus.CANCELLED)


@dataclass
class Log:
    """What was recorded. It can be away; then it raises as the real one does."""

    final: dict[str, Run] = field(default_factory=dict)
    shown: list[Run] = field(default_factory=list)  # rows that are not final, in order
    repeated: list[Run] = field(default_factory=list)  # final rows that came again, and otherwise
    progress: list[RecordProgress] = field(default_factory=list)
    is_away: bool = False

    def write(self, order: RecordProgress) -> None:
        self.write_rows(order.runs)
        self.progress.append(order)

    def write_rows(self, runs: Sequence[Run]) -> None:
        if self.is_away:
            raise DatabaseUnavailable("Postgres does not answer")
        for run in runs:
            if not run.status.is_final:
                self.shown.append(run)
            elif self.final.setdefault(run.run_id, run) != run:
                # The same row comes again where the engine has a slow workflow task done anew.
                self.repeated.append(run)

    def rows(self) -> list[Run]:
        """The final rows by due time; none may have become another."""
        assert not self.repeated
        return sorted(self.final.values(), key=lambda run: (run.due_at, run.run_id))


class Stage:
    """One task's workflow in skipped time, with the real plan; attempts go as they are told to."""

    task_id = TASK

    def __init__(self, environment: WorkflowEnvironment, now: datetime) -> None:
        self._environment = environment
        self.client = Client(
            environment.client.service_client, data_converter=engine.DATA_CONVERTER
        )
        self.began = now  # aware UTC, a whole minute: nothing was due before
        self.log = Log()
        self.followed: list[StartFollowUps] = []
        self.attempts: list[ExecuteAttempt] = []
        self.waits_deaf = False  # attempts that wait hear of nothing
        self.most_at_once = 0  # runs; one that the test server took for lost is attempted twice
        self._going_on: Counter[str] = Counter()
        self.plays: Callable[[ExecuteAttempt], Play] = lambda _: GOOD
        self.spec = TaskSpec(
            name="A task", schedule=every("1m", now), action=HttpAction(url="http://127.0.0.1/")
        )
        self._version = 1

    async def now(self) -> datetime:
        return await self._environment.get_current_time()

    async def until(self, moment: datetime) -> None:
        """Let time pass until ``moment``, and what happens by then come to an end."""
        while (left := moment - await self.now()) > timedelta():
            try:
                await self._environment.sleep(left)
            except RPCError as error:
                if error.status is not RPCStatusCode.CANCELLED:
                    raise  # that one says that the call took 30 s, as it may: time goes on

    async def minutes(self, number: float) -> None:
        """Let time pass until so many minutes after the stage began."""
        await self.until(self.begins_after(number))

    def begins_after(self, minutes: float) -> datetime:
        return self.began + timedelta(minutes=minutes)

    def scripted(self, *plays: Play, then: Play = GOOD) -> None:
        """Attempts go as ``plays`` say, one after the other, and ``then`` all others."""
        left = list(plays)
        self.plays = lambda _: left.pop(0) if left else then

    async def start(
        self,
        schedule: Schedule | None = None,
        policies: dict[str, Any] | None = None,
        **state: Any,
    ) -> WorkflowHandle[TaskWorkflow, None]:
        """Start the task's workflow; ``state`` are fields of its state."""
        self.spec = self.spec.model_copy(
            update={
                "schedule": schedule or self.spec.schedule,
                "policies": Policies.model_validate({"timeout": "1d", **(policies or {})}),
            }
        )
        given = {"version": 1, "state": TaskState.ACTIVE, "cursor": self.began, **state}
        return await self.client.start_workflow(
            TaskWorkflow.run,
            KeepTask(task_id=self.task_id, spec=self.spec, **given),
            id=engine.workflow_id(self.task_id),
            task_queue=engine.TASK_QUEUE,
            memo=engine.memo(self.spec, 1, None),
            search_attributes=engine.search_attributes(self.spec, given["state"]),
        )

    @property
    def handle(self) -> WorkflowHandle[TaskWorkflow, None]:
        return self.client.get_workflow_handle_for(
            TaskWorkflow.run, engine.workflow_id(self.task_id)
        )

    async def revise(
        self,
        state: TaskState,
        *,
        paused_until: datetime | None = None,
        catch_up: CatchUp | None = None,
        let_finish: bool = False,
        changed_at: datetime | None = None,
        **spec: Any,
    ) -> int:
        """The task's next version; ``spec`` are fields of its definition."""
        self._version += 1
        self.spec = self.spec.model_copy(update=spec)
        desired = ReviseTask(
            version=self._version,
            spec=self.spec,
            state=state,
            changed_at=changed_at or await self.now(),
            paused_until=paused_until,
            catch_up=catch_up,
            let_finish=let_finish,
        )
        return await self.handle.execute_update(TaskWorkflow.revise, desired)

    async def trigger(self, key: str = "asked", overlap: OverlapPolicy | None = None) -> str:
        """Ask for a run now; its id."""
        now = await self.now()
        order = RunOrder(
            run_id=requested_run_id(self.task_id, now, key),
            trigger=Trigger.MANUAL,
            due_at=now,
            overlap=overlap,
        )
        await self.ask(key, order)
        return order.run_id

    async def ask(self, key: str, *orders: RunOrder, at_once: int = 1) -> None:
        asked = StartRuns(request_id=key, orders=list(orders), at_once=at_once)
        await self.handle.execute_update(TaskWorkflow.start_runs, asked)

    async def cancel(self, run_id: str) -> None:
        asked = CancelRun(request_id=uuid4().hex, run_id=run_id)
        await self.handle.execute_update(TaskWorkflow.cancel_run, asked)

    def run_id(self, minutes: float) -> str:
        """The id of the run that is due so many minutes after the stage began."""
        return scheduled_run_id(self.task_id, self.begins_after(minutes))

    def seen(self) -> list[tuple[float, str, str | None]]:
        """The final rows: minutes after the stage began, status, reason."""
        return [
            ((run.due_at - self.began) / timedelta(minutes=1), run.status.value, run.reason)
            for run in self.log.rows()
        ]

    def expected_ids(self, until: datetime) -> list[str]:
        """The runs of all occurrences from the beginning up to ``until``."""
        found = []
        for due in schedule.due_times(self.spec.schedule, self.task_id, self.began):
            if due > until:
                break
            found.append(scheduled_run_id(self.task_id, due))
        return found

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[None]:
        """A worker, until the block is left; without one, nothing happens as time passes."""
        async with Worker(
            self.client,
            task_queue=engine.TASK_QUEUE,
            workflows=[TaskWorkflow, RunWorkflow, LimitWorkflow],
            activities=[
                plan,
                pass_over,
                catch_up,
                self._record,
                self._attempt,
                *self._messengers(),
            ],
            workflow_runner=workflow_runner(),
            graceful_shutdown_timeout=timedelta(),
            **options,
        ):
            yield

    @asynccontextmanager
    async def upkeep(self) -> AsyncIterator[None]:
        """A worker for upkeep's queue, until the block is left."""
        async with Worker(
            self.client,
            task_queue=engine.UPKEEP_QUEUE,
            workflows=[BacklogWorkflow],
            activities=[self._record_rows, self._start_follow_ups],
            workflow_runner=workflow_runner(),
            graceful_shutdown_timeout=timedelta(),
        ):
            yield

    def _messengers(self) -> list[Callable[..., Any]]:
        limits, recalls = Limits(self.client), Recalls(self.client)
        apart = RunWorkflows(self.client)
        return [
            *(limits.ask, limits.give_back, limits.tell, limits.find_gone),
            recalls.give_silent_up,
            *(apart.begin, apart.stop, apart.tell, apart.find_ended),
        ]

    @activity.defn(name="record")
    async def _record(self, order: RecordProgress) -> None:
        self.log.write(order)

    @activity.defn(name="record-rows")
    async def _record_rows(self, rows: list[Run]) -> None:
        self.log.write_rows(rows)

    @activity.defn(name="start-follow-ups")
    async def _start_follow_ups(self, ended: list[StartFollowUps]) -> None:
        missing = [one for one in ended if one.run_id not in self.log.final]
        assert not missing, "what follows a run reads its row"
        self.followed += ended

    @activity.defn(name="attempt")
    async def _attempt(self, order: ExecuteAttempt) -> Outcome:
        # A call to the server that were cancelled would leave its clock stopped.
        cancelled = asyncio.Event()
        performing = asyncio.create_task(self._perform(order, cancelled))
        try:
            return await asyncio.shield(performing)
        except asyncio.CancelledError:
            cancelled.set()
            return await performing

    async def _perform(self, order: ExecuteAttempt, cancelled: asyncio.Event) -> Outcome:
        if self.waits_deaf:
            await self.until(order.start_at)
        elif not await self._goes_on_until(order.start_at, cancelled, _WAITING):
            return self._outcome(CANCELLED, None, await self.now())
        self.attempts.append(order)
        started_at, play = await self.now(), self.plays(order)
        self._going_on[order.run_id] += 1
        self.most_at_once = max(self.most_at_once, len(+self._going_on))
        if not await self._goes_on_until(started_at + play.lasts, cancelled, _GOING_ON):
            play = CANCELLED
        self._going_on[order.run_id] -= 1
        return self._recorded(order, self._outcome(play, started_at, await self.now()))

    def _recorded(self, order: ExecuteAttempt, outcome: Outcome) -> Outcome:
        """As attempts do: one that succeeds writes the row itself, where it may and can."""
        after = order.after_success
        if after is None or outcome.status is not RunStatus.SUCCEEDED or self.log.is_away:
            return outcome
        progress = RecordProgress(
            task_id=order.task_id,
            version=order.task_version,
            state=TaskState.ACTIVE if after.next_due_at else TaskState.FINISHED,
            next_due_at=after.next_due_at,
            runs=[row_of_success(order, outcome)],
        )
        self.log.write(progress)
        return replace(outcome, is_recorded=True)

    async def _goes_on_until(
        self, moment: datetime, cancelled: asyncio.Event, step: timedelta
    ) -> bool:
        """Whether it was not cancelled until ``moment``."""
        while (left := moment - await self.now()) > timedelta():
            if cancelled.is_set():
                return False
            await self._environment.sleep(min(left, step))
            if not await self._heartbeat():
                return False
        return True

    async def _heartbeat(self) -> bool:
        """Whether the attempt is to go on; it has arrived before time skips on."""
        activity.heartbeat()  # for the worker, which watches it by the real clock
        try:
            await self.client.get_async_activity_handle(
                task_token=activity.info().task_token
            ).heartbeat()
        except AsyncActivityCancelledError:
            return False
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False  # it was taken for lost
        return True

    def _outcome(self, play: Play, started_at: datetime | None, now: datetime) -> Outcome:
        return Outcome(
            status=play.status,
            started_at=started_at,
            finished_at=now,
            worker="worker-1",
            output=Output(),
            error=play.error if play.status.is_failure else None,
            retry_after=play.retry_after,
            may_retry=play.may_retry,
            result=play.result,
        )


async def sent_first(request: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A request that has reached the server, before a worker comes.

    The test server loses an update that comes while a worker has the workflow's first task.
    """
    going = asyncio.create_task(request)
    await asyncio.sleep(0.5)
    return going


@asynccontextmanager
async def stage(environment: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """A stage whose clock stands at a whole minute."""
    keywords = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{_in_capitals(kind)}")
        for name, kind in engine.SEARCH_ATTRIBUTES.items()
    }
    await environment.client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace="default", search_attributes=keywords)
    )
    now = await environment.get_current_time()
    whole = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    await environment.sleep(whole - now)
    yield Stage(environment, whole)


def every(span: str, anchor: datetime) -> Schedule:
    return TaskSpec.model_validate(
        {
            "name": "x",
            "schedule": {"kind": "interval", "every": span, "anchor": anchor},
            "action": {"kind": "http", "url": "http://127.0.0.1/"},
        }
    ).schedule


def _in_capitals(kind: str) -> str:
    return {"Keyword": "KEYWORD", "KeywordList": "KEYWORD_LIST"}[kind]


@dataclass(frozen=True)
class Office:
    """A registration service with what it works on."""

    registration: Registration
    pool: Pool
    engine: Engine
    settings: Settings


@asynccontextmanager
async def office(settings: Settings) -> AsyncIterator[Office]:
    """A registration service in this process; Postgres and Temporal need not answer yet."""
    pool = await open_pool(settings)
    connection = await Engine.connect(settings)
    made = Office(Registration(settings, pool, connection), pool, connection, settings)
    try:
        yield made
    finally:
        await made.registration.close()
        await pool.close()


@contextmanager
def worker_process(settings: Settings, log: Path, *arguments: str) -> Iterator[Popen[bytes]]:
    """An `onthedot worker`, a process of its own, until the block is left."""
    command: Sequence[str] = [sys.executable, "-m", "onthedot", "worker", *arguments]
    with services.running(
        command, log, environment=os.environ | settings.to_environment()
    ) as child:
        yield child
