"""Workflow tasks on a real Temporal server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import workflow as workflow_action
from activities.messages import ExecuteAttempt, Outcome
from onthedot.run import RunStatus
from tests.attempts import SHUTDOWN, Bench, bench, order

starts: list[str] = []


@workflow.defn
class Invoice:
    """Ends, or not, in the way that it is told."""

    def __init__(self) -> None:
        self._go_on = True

    @workflow.signal
    def finish(self) -> None:
        self._go_on = False

    @workflow.run
    async def run(self, way: str, amount: int = 0) -> Any:
        starts.append(way)
        match way:
            case "succeed":
                return {"paid": amount}
            case "fail":
                raise ApplicationError("no money", type="Broke")
            case "wait":
                await workflow.wait_condition(lambda: not self._go_on)
                return "finished"
            case "continue":
                workflow.continue_as_new(args=["succeed", amount])
            case "stubborn":
                while self._go_on:
                    try:
                        await workflow.sleep(600)
                    except asyncio.CancelledError:
                        continue
        return None


async def connect(address: str) -> Client:
    return await Client.connect(address, data_converter=pydantic_data_converter)


@dataclass
class Engine:
    client: Client
    queue: str
    executing: Bench

    def order(self, *arguments: Any, **given: Any) -> ExecuteAttempt:
        made = order(
            "workflow", type="Invoice", queue=self.queue, arguments=list(arguments), **given
        )
        # the server is the session's: no two tests share an id
        return replace(made, run_id=f"{uuid4().hex}.{made.run_id.partition('.')[2]}")

    async def status(self, wanted: ExecuteAttempt) -> WorkflowExecutionStatus | None:
        handle = self.client.get_workflow_handle(f"run/{wanted.run_id}")
        return (await handle.describe()).status

    def has_started(self) -> bool:
        return bool(starts)


@pytest.fixture
async def engine(temporal_server: str) -> AsyncIterator[Engine]:
    starts.clear()
    client = await connect(temporal_server)
    queue = f"billing-{uuid4().hex}"
    worker = Worker(
        client, task_queue=queue, workflows=[Invoice], workflow_runner=UnsandboxedWorkflowRunner()
    )
    async with worker, bench(client) as executing:
        yield Engine(client, queue, executing)


async def test_a_workflow_is_started_and_its_result_kept(engine: Engine) -> None:
    wanted = engine.order("succeed", 7)
    outcome = await engine.executing.execute(wanted)

    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert outcome.result is not None
    assert outcome.result["workflow_id"] == f"run/{wanted.run_id}"
    assert outcome.result["workflow_run_id"]
    assert outcome.result["returned"] == {"paid": 7}


async def test_a_workflow_is_followed_when_it_continues_as_new(engine: Engine) -> None:
    outcome = await engine.executing.execute(engine.order("continue", 3))
    assert outcome.result is not None
    assert outcome.result["returned"] == {"paid": 3}


async def test_a_workflow_that_fails_says_why(engine: Engine) -> None:
    outcome = await engine.executing.execute(engine.order("fail"))
    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "the workflow failed: Broke: no money"
    assert outcome.may_retry


async def test_another_attempt_starts_what_has_failed_again(engine: Engine) -> None:
    wanted = engine.order("fail")
    await engine.executing.execute(wanted)
    outcome = await engine.executing.execute(replace(wanted, number=2))
    assert outcome.status is RunStatus.FAILED
    assert starts == ["fail", "fail"]


@pytest.mark.parametrize("started", [False, True], ids=["before", "after"])
async def test_a_workflow_is_started_although_the_engine_was_away(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    """Whether it was asked in vain, or its answer was lost."""
    start, tries = engine.client.start_workflow, 0

    async def start_at_last(*arguments: Any, **given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries > 2:
            return await start(*arguments, **given)
        if started:
            await start(*arguments, **given)
        raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(engine.client, "start_workflow", start_at_last)
    outcome = await engine.executing.execute(engine.order("succeed", 7))
    assert outcome.status is RunStatus.SUCCEEDED, outcome.error
    assert tries >= 2
    assert starts == ["succeed"]


async def test_an_attempt_that_is_sent_again_finds_its_workflow(engine: Engine) -> None:
    wanted = engine.order("fail", number=1)
    await engine.executing.execute(wanted)
    environment = engine.executing.environment
    environment.info = replace(environment.info, attempt=2)
    first = await engine.executing.execute(wanted)
    second = replace(wanted, number=2)
    environment.info = replace(environment.info, attempt=1)
    await engine.executing.execute(second)
    environment.info = replace(environment.info, attempt=2)
    await engine.executing.execute(second)

    assert first.error == "the workflow failed: Broke: no money"
    assert starts == ["fail", "fail"]


async def test_what_has_succeeded_is_never_started_again(engine: Engine) -> None:
    wanted = engine.order("succeed", 7)
    await engine.executing.execute(wanted)
    outcome = await engine.executing.execute(replace(wanted, number=2))
    assert outcome.status is RunStatus.SUCCEEDED
    assert starts == ["succeed"]


async def test_a_worker_that_stops_leaves_the_workflow_to_the_next(
    engine: Engine, assert_eventually: Callable[..., Any]
) -> None:
    wanted = engine.order("wait", delivery="at_most_once")
    going = engine.executing.start(wanted)
    await assert_eventually(engine.has_started)
    engine.executing.environment.cancel(SHUTDOWN)
    with pytest.raises(ApplicationError) as raised:
        await going
    assert raised.value.type == "WorkerStopped"
    assert await engine.status(wanted) is WorkflowExecutionStatus.RUNNING

    async with bench(engine.client) as next_worker:
        following = next_worker.start(wanted)
        await engine.client.get_workflow_handle(f"run/{wanted.run_id}").signal(Invoice.finish)
        outcome = await following
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.result is not None
    assert outcome.result["returned"] == "finished"
    assert starts == ["wait"]


async def test_a_cancelled_run_cancels_its_workflow(
    engine: Engine, assert_eventually: Callable[..., Any]
) -> None:
    wanted = engine.order("wait")
    going = engine.executing.start(wanted)
    await assert_eventually(engine.has_started)
    engine.executing.environment.cancel()
    outcome = await going

    assert outcome.status is RunStatus.CANCELLED
    assert await engine.status(wanted) is WorkflowExecutionStatus.CANCELED


async def test_a_workflow_that_takes_too_long_is_cancelled(engine: Engine) -> None:
    wanted = engine.order("wait", timeout=1)
    outcome = await engine.executing.execute(wanted)
    assert outcome.status is RunStatus.TIMED_OUT
    assert await engine.status(wanted) is WorkflowExecutionStatus.CANCELED


async def test_a_workflow_that_does_not_heed_its_timeout_is_terminated(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_action, "_GRACE", 1.0)
    wanted = engine.order("stubborn", timeout=1)
    outcome = await engine.executing.execute(wanted)

    assert outcome.status is RunStatus.TIMED_OUT
    assert outcome.error is not None
    assert "was terminated" in outcome.error
    assert await engine.status(wanted) is WorkflowExecutionStatus.TERMINATED


async def test_a_workflow_that_somebody_terminates_fails(
    engine: Engine, assert_eventually: Callable[..., Any]
) -> None:
    wanted = engine.order("wait")
    going = engine.executing.start(wanted)
    await assert_eventually(engine.has_started)
    await engine.client.get_workflow_handle(f"run/{wanted.run_id}").terminate(reason="enough")
    outcome = await going
    assert outcome.status is RunStatus.FAILED
    assert outcome.error == "the workflow was terminated: enough"


# An attempt in a real activity


@workflow.defn
class OneAttempt:
    @workflow.run
    async def run(self, order: ExecuteAttempt) -> Outcome:
        return await workflow.execute_activity(
            "attempt",
            order,
            result_type=Outcome,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=8),
            retry_policy=RetryPolicy(maximum_attempts=5),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


async def note_and_wait() -> None:
    starts.append(activity.info().activity_id)
    await asyncio.sleep(600)


async def note_and_wait_once() -> None:
    starts.append(activity.info().activity_id)
    if len(starts) == 1:
        await asyncio.sleep(600)


def worker(client: Client, queue: str, executing: Bench) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=[OneAttempt],
        activities=[executing.executor.execute_attempt],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(seconds=2),
        graceful_shutdown_timeout=timedelta(seconds=1),
    )


async def test_a_cancel_reaches_the_attempt_and_its_outcome_comes_back(
    temporal_server: str, assert_eventually: Callable[..., Any]
) -> None:
    starts.clear()
    client, queue = await connect(temporal_server), uuid4().hex
    wanted = order("python", handler=f"{__name__}:note_and_wait")
    async with (
        bench(client, handlers=(f"{__name__}:*",)) as executing,
        worker(client, queue, executing),
    ):
        handle = await client.start_workflow(
            OneAttempt.run, wanted, id=uuid4().hex, task_queue=queue
        )
        await assert_eventually(lambda: starts)
        await handle.cancel()
        outcome = await handle.result()
    assert outcome.status is RunStatus.CANCELLED
    assert outcome.started_at is not None


async def test_a_waiting_attempt_goes_to_another_worker_at_once(
    temporal_server: str, assert_eventually: Callable[..., Any]
) -> None:
    client, queue = await connect(temporal_server), uuid4().hex
    settings = {"handlers": ("onthedot.examples:*",)}
    wanted = order("python", handler="onthedot.examples:noop", due_in=6)
    async with bench(client, **settings) as first, bench(client, **settings) as second:
        async with worker(client, queue, first):
            handle = await client.start_workflow(
                OneAttempt.run, wanted, id=uuid4().hex, task_queue=queue
            )

            async def is_waiting() -> bool:
                pending = (await handle.describe()).raw_description.pending_activities
                return any(one.HasField("last_started_time") for one in pending)

            await assert_eventually(is_waiting)
        async with worker(client, queue, second):
            outcome = await handle.result()
    assert outcome.status is RunStatus.SUCCEEDED
    assert outcome.started_at is not None
    assert outcome.started_at >= wanted.start_at


async def test_what_outlives_the_grace_of_its_worker_runs_again_on_another(
    temporal_server: str, assert_eventually: Callable[..., Any]
) -> None:
    starts.clear()
    client, queue = await connect(temporal_server), uuid4().hex
    settings = {"handlers": (f"{__name__}:*",)}
    wanted = order("python", handler=f"{__name__}:note_and_wait_once")
    async with bench(client, **settings) as first, bench(client, **settings) as second:
        async with worker(client, queue, first):
            handle = await client.start_workflow(
                OneAttempt.run, wanted, id=uuid4().hex, task_queue=queue
            )
            await assert_eventually(lambda: starts)
        async with worker(client, queue, second):
            outcome = await handle.result()
    assert outcome.status is RunStatus.SUCCEEDED
    assert len(starts) == 2
