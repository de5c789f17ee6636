"""A worker: the scheduler role (workflows), the executor role (the actions), or both."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from activities.apart import RunWorkflows
from activities.attempt import Executor
from activities.catch_up import catch_up
from activities.follow_ups import FollowUpActivities
from activities.limits import Limits
from activities.plan import pass_over, plan
from activities.recall import Recalls
from activities.record import Recorder
from activities.upkeep import UpkeepActivities
from onthedot import engine_runtime, metrics, readiness
from onthedot.database.pool import open_pool
from onthedot.database.run_log import RunLog
from onthedot.engine import TASK_QUEUE, UPKEEP_QUEUE, UPKEEP_WORKFLOW_ID, Engine, run_queue
from onthedot.errors import EngineUnavailable
from onthedot.follow_ups import FollowUpStarter
from onthedot.handlers import Handlers
from onthedot.metrics import PoolCollector
from onthedot.metrics_server import MetricsServer
from onthedot.presence import Presence
from onthedot.registration import Registration
from onthedot.settings import Settings
from onthedot.upkeep import Upkeep
from workflows.runner import MAIN_WORKFLOWS, UPKEEP_WORKFLOWS, workflow_runner
from workflows.upkeep import UpkeepWorkflow

logger = logging.getLogger(__name__)

Role = Literal["all", "scheduler", "executor"]

#: A workflow task for a worker that was lost goes to another after this long.
_STICKY_TIMEOUT = timedelta(seconds=5)
#: Heartbeats come every 2.5 s, and may be all that a waiting run hears of a recall by: the SDK may not
#: hold one back for longer.
_HEARTBEAT_THROTTLE = timedelta(seconds=2)
#: First workflow tasks after a start delay use the non-sticky pollers alone.
_WORKFLOW_POLLERS = PollerBehaviorSimpleMaximum(maximum=20)
#: Each waits for the engine to note that the run was sent; many more would wait for each other.
_RUN_POLLERS = PollerBehaviorSimpleMaximum(maximum=20)
_MOST_FILES = 65_536
#: In new objects, then in collections of the generation before: by default 700, 10, 10.
_GARBAGE_THRESHOLDS = (5_000, 10, 20)
_UPKEEP_POLLERS = PollerBehaviorSimpleMaximum(maximum=2)
_UPKEEP_LOOKED_AT_EVERY = 30.0  # seconds
_UPKEEP_GRACE = timedelta(seconds=5)  # for a round to end


async def run(settings: Settings, *, role: Role = "all", queues: Sequence[str] = ()) -> None:
    """Work until SIGTERM or SIGINT, then let runs end for ``shutdown_grace`` and return.

    ``queues`` are those whose runs it executes, by default ``default`` alone. Wait for Temporal
    when it does not answer yet; Postgres may come and go.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    _raise_file_limit()
    core_url = engine_runtime.prepare(metrics=settings.metrics_port is not None)
    queues = queues or ("default",)
    for queue in queues:
        metrics.START_LAG.labels(queue)  # a zero, so that the first run counts
    identity = f"{socket.gethostname()}:{os.getpid()}"
    engine = await _connect(settings, identity, stop)
    if engine is None:
        return
    pool = await open_pool(settings)
    scraped = MetricsServer(settings, core_url, PoolCollector(pool.get_stats))
    if settings.metrics_port is not None:
        await scraped.start()
    registration = Registration(settings, pool, engine)
    async with RunLog(pool) as log:
        parts = _Parts(settings, engine, log, identity)
        keeper = Upkeep(settings, pool, engine, registration)
        starter = FollowUpStarter(pool, registration.send)
        workers = parts.workers(role, queues, UpkeepActivities(keeper), FollowUpActivities(starter))
        if not engine.tells_workers:
            logger.info("Temporal tells no worker of cancellations: waiting runs heartbeat")
        logger.info("worker %s: role %s, queues %s", identity, role, ", ".join(queues))
        async with Presence(pool, identity, role, queues, settings.metrics_port):
            await _work(workers, engine, stop)
        await parts.close()
    await registration.close()
    await scraped.close()
    await pool.close()


class _Parts:
    """What the workers of one process share."""

    def __init__(self, settings: Settings, engine: Engine, log: RunLog, identity: str) -> None:
        self._settings, self._engine, self._log = settings, engine, log
        self._identity = identity
        self._recorder = Recorder(log)
        self._executors: list[Executor] = []

    def workers(
        self,
        role: Role,
        queues: Sequence[str],
        upkeep: UpkeepActivities,
        follow_ups: FollowUpActivities,
    ) -> list[Worker]:
        """One for the main queue, one for each other queue that is executed here, and upkeep's."""
        executed = () if role == "scheduler" else queues
        if role == "executor":
            return [self._run_worker(run_queue(one)) for one in executed]
        others = [self._run_worker(run_queue(one)) for one in executed if one != "default"]
        return [
            self._main_worker("default" in executed),
            *others,
            self._upkeep_worker(upkeep, follow_ups),
        ]

    def _main_worker(self, executes: bool) -> Worker:
        """Schedules; executes as well, so that a run can start in the process that sends it."""
        limits, apart = Limits(self._engine.client), RunWorkflows(self._engine.client)
        activities: list[Callable[..., Any]] = [
            *(plan, pass_over, catch_up, self._recorder.record),
            *(limits.ask, limits.give_back, limits.tell, limits.find_gone),
            Recalls(self._engine.client).give_silent_up,
            *(apart.begin, apart.stop, apart.tell, apart.find_ended),
        ]
        if executes:
            activities.append(self._executor().execute_attempt)
        return Worker(
            self._engine.client,
            task_queue=TASK_QUEUE,
            workflows=MAIN_WORKFLOWS,
            activities=activities,
            no_remote_activities=not executes,
            workflow_runner=workflow_runner(),
            max_cached_workflows=self._settings.workflow_cache,
            max_concurrent_workflow_tasks=200,
            max_concurrent_local_activities=1000,
            max_concurrent_activities=self._settings.worker_slots,
            sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
            max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
            workflow_task_poller_behavior=_WORKFLOW_POLLERS,
            activity_task_poller_behavior=_RUN_POLLERS,
            graceful_shutdown_timeout=self._settings.shutdown_grace,
        )

    def _run_worker(self, task_queue: str) -> Worker:
        return Worker(
            self._engine.client,
            task_queue=task_queue,
            activities=[self._executor().execute_attempt],
            max_concurrent_activities=self._settings.worker_slots,
            max_heartbeat_throttle_interval=_HEARTBEAT_THROTTLE,
            activity_task_poller_behavior=_RUN_POLLERS,
            graceful_shutdown_timeout=self._settings.shutdown_grace,
        )

    def _upkeep_worker(self, upkeep: UpkeepActivities, follow_ups: FollowUpActivities) -> Worker:
        return Worker(
            self._engine.client,
            task_queue=UPKEEP_QUEUE,
            workflows=UPKEEP_WORKFLOWS,
            activities=[
                *(upkeep.reconcile, upkeep.compare, upkeep.apply_retention),
                *(follow_ups.start, self._recorder.record_rows),
            ],
            workflow_runner=workflow_runner(),
            workflow_task_poller_behavior=_UPKEEP_POLLERS,
            activity_task_poller_behavior=_UPKEEP_POLLERS,
            graceful_shutdown_timeout=_UPKEEP_GRACE,
        )

    def _executor(self) -> Executor:
        handlers = Handlers(self._settings.handlers)
        executor = Executor(
            self._settings,
            self._log,
            self._engine.client,
            handlers,
            self._identity,
            is_told=self._engine.tells_workers,
        )
        self._executors.append(executor)
        return executor

    async def close(self) -> None:
        """After the workers have ended: show what is left to show, let go of connections."""
        for executor in self._executors:
            await executor.close()


def _spare_garbage_collection() -> None:
    """What is loaded by now stays; the rest are workflows in memory, which come and go slowly.

    Looking through all of them takes a tenth of a second or more, in which no run starts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def _raise_file_limit() -> None:
    """Each run may hold a connection or a pipe, and the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def _connect(settings: Settings, identity: str, stop: asyncio.Event) -> Engine | None:
    """The connection, as soon as Temporal answers; None when the worker shall stop instead."""
    while not stop.is_set():
        try:
            return await Engine.connect(settings, identity=identity, lazy=False)
        except EngineUnavailable as error:
            logger.warning("%s; trying again", error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=1)
    return None


async def _work(workers: Sequence[Worker], engine: Engine, stop: asyncio.Event) -> None:
    async with contextlib.AsyncExitStack() as running:
        for worker in workers:
            await running.enter_async_context(worker)
        if any(worker.task_queue == UPKEEP_QUEUE for worker in workers):
            minding = asyncio.create_task(_mind_upkeep(engine))
            running.callback(minding.cancel)
        _spare_garbage_collection()
        readiness.announce()
        await stop.wait()
        logger.info("stopping: runs may end first")
        await asyncio.gather(*(worker.shutdown() for worker in workers))


async def _mind_upkeep(engine: Engine) -> None:
    """Have the one upkeep workflow running: whoever ended it, and however long it cannot be started."""
    while True:
        try:
            await engine.client.start_workflow(
                UpkeepWorkflow.run,
                id=UPKEEP_WORKFLOW_ID,
                task_queue=UPKEEP_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary="Reconciling and retention",
            )
        except RPCError as error:
            logger.warning("the upkeep workflow could not be started: %s", error)
        await asyncio.sleep(_UPKEEP_LOOKED_AT_EVERY)
