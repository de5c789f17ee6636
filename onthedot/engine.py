"""Temporal as we use it: the client, and the names that all processes must agree on."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    GetSystemInfoRequest,
)
from temporalio.client import Client, WorkflowExecution
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter, DataConverter
from temporalio.service import KeepAliveConfig, RetryConfig, RPCError, RPCStatusCode

from onthedot import tracing
from onthedot.errors import EngineUnavailable
from onthedot.settings import Settings
from onthedot.task import Task, TaskSpec, TaskState

#: Workflows, and the runs of the queue ``default``, wait here.
TASK_QUEUE = "onthedot"
#: Upkeep has a queue of its own: it needs a worker with the scheduler role.
UPKEEP_QUEUE = "onthedot-upkeep"
UPKEEP_WORKFLOW_ID = "onthedot/upkeep"
#: A workflow task that was lost, with its worker or on its way, is noticed after this long.
TASK_TIMEOUT = timedelta(seconds=4)

STATE = SearchAttributeKey.for_keyword("OnthedotState")
ACTION = SearchAttributeKey.for_keyword("OnthedotAction")
QUEUE = SearchAttributeKey.for_keyword("OnthedotQueue")
TAGS = SearchAttributeKey.for_keyword_list("OnthedotTags")

#: The search attributes that a namespace must know, with their types.
SEARCH_ATTRIBUTES = {
    STATE.name: "Keyword",
    ACTION.name: "Keyword",
    QUEUE.name: "Keyword",
    TAGS.name: "KeywordList",
}

_RPC_TIMEOUT = timedelta(seconds=3)
_AWAY = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,  # too much for now, such as Updates of one task at once
    RPCStatusCode.UNKNOWN,  # the connection broke off before there was an answer
    RPCStatusCode.INTERNAL,  # the same, in the middle of one
)
_CONVERTERS = tuple(PydanticPayloadConverter().converters.values())


class _Payloads(PydanticPayloadConverter):
    """The SDK's, which is made anew for each workflow; what it works out by type is shared here.

    Working that out takes 12 ms of CPU inside a workflow.
    """

    def __init__(self) -> None:
        CompositePayloadConverter.__init__(self, *_CONVERTERS)


#: How all that workflows and activities are sent is written.
DATA_CONVERTER = DataConverter(payload_converter_class=_Payloads)


def workflow_id(task_id: str) -> str:
    return f"task/{task_id}"


def run_workflow_id(run_id: str) -> str:
    """How the id begins of a workflow that makes this run."""
    return f"apart/{run_id}"


def limit_workflow_id(name: str) -> str:
    return f"limit/{name}"


def run_queue(queue: str) -> str:
    """The Temporal task queue on which the runs of tasks with this ``queue`` wait."""
    return TASK_QUEUE if queue == "default" else f"{TASK_QUEUE}.{queue}"


def queue_of(task_queue: str) -> str:
    """The ``queue`` of tasks whose runs wait there: the reverse of ``run_queue``."""
    return "default" if task_queue == TASK_QUEUE else task_queue.removeprefix(TASK_QUEUE + ".")


def search_attributes(spec: TaskSpec, state: TaskState) -> TypedSearchAttributes:
    """How a task is found in the Temporal UI and CLI."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(STATE, state.value),
            SearchAttributePair(ACTION, spec.action.kind),
            SearchAttributePair(QUEUE, spec.queue),
            SearchAttributePair(TAGS, list(spec.tags)),
        ]
    )


def search_attribute_changes(spec: TaskSpec, state: TaskState) -> list[SearchAttributeUpdate[Any]]:
    """The same, as a workflow changes them."""
    return [pair.key.value_set(pair.value) for pair in search_attributes(spec, state)]


def memo(spec: TaskSpec, version: int, changed_at: datetime | None) -> dict[str, Any]:
    """What is kept beside a task's workflow, also when it continues as new.

    ``changed_at`` (aware) is when the version was made.
    """
    kept: dict[str, Any] = {"name": spec.name, "version": version}
    return kept if changed_at is None else {**kept, "changed_at": changed_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Which version of its task a workflow follows, as its memo says."""

    version: int
    changed_at: datetime | None  # aware; None in workflows that did not write it down yet

    def has(self, task: Task) -> bool:
        """Whether it is this version, or one that came after it."""
        in_time = self.changed_at is None or self.changed_at >= task.updated_at
        return in_time and self.version >= task.version

    def is_ahead_of(self, task: Task) -> bool:
        """Whether it came after this version."""
        later = self.changed_at is not None and self.changed_at > task.updated_at
        return later or self.version > task.version


async def followed(workflow: WorkflowExecution) -> Followed:
    """Which version of its task this workflow follows."""
    return Followed(
        version=await workflow.memo_value("version", 0, type_hint=int),
        changed_at=await workflow.memo_value("changed_at", None, type_hint=datetime),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process as the engine knows it."""

    identity: str
    last_seen_at: datetime
    schedules: bool  # it has the scheduler role
    executes: bool  # it has the executor role


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    reachable: bool
    detail: str
    server_version: str | None = None
    workers: tuple[Worker, ...] = ()

    @property
    def pollers(self) -> int:
        return len(self.workers)


class Engine:
    """The connection to Temporal. It is made when first needed, and again by itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        #: Temporal tells a worker of a cancellation by itself, not only in answer to a heartbeat.
        #: Not known where the connection is made when first needed.
        self.tells_workers = False
        self._has_connected = False

    async def connected(self) -> None:
        """Wait for the first connection; raise EngineUnavailable when Temporal does not answer."""
        if self._has_connected:
            return
        try:
            await self.client.workflow_service.get_system_info(
                GetSystemInfoRequest(), timeout=_RPC_TIMEOUT
            )
        except (RPCError, RuntimeError) as error:  # a lazy client raises RuntimeError
            raise EngineUnavailable(f"Temporal does not answer: {error}") from error
        self._has_connected = True

    @classmethod
    async def connect(
        cls, settings: Settings, *, identity: str | None = None, lazy: bool = True
    ) -> "Engine":
        """Ready to use; Temporal need not answer now.

        A worker wants a client that is not ``lazy``: then raise EngineUnavailable when it does not.
        """
        connecting = Client.connect(
            settings.temporal,
            namespace=settings.temporal_namespace,
            api_key=settings.temporal_api_key,
            tls=settings.temporal_api_key is not None,
            data_converter=DATA_CONVERTER,
            keep_alive_config=KeepAliveConfig(interval_millis=10_000, timeout_millis=5_000),
            retry_config=RetryConfig(max_elapsed_time_millis=2_000, max_retries=3),
            identity=identity,
            lazy=lazy,
            interceptors=tracing.interceptors(),
        )
        try:
            engine = cls(await connecting)
            if not lazy:
                await engine._learn()
        except (RPCError, RuntimeError) as error:
            raise EngineUnavailable(f"Temporal does not answer: {error}") from error
        return engine

    async def _learn(self) -> None:
        request = DescribeNamespaceRequest(namespace=self.client.namespace)
        try:
            described = await self.client.workflow_service.describe_namespace(
                request, timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.PERMISSION_DENIED:
                return
            raise
        self.tells_workers = described.namespace_info.capabilities.worker_commands

    async def health(self, queue: str = "default") -> EngineHealth:
        """Whether Temporal answers, and which workers poll for this queue."""
        service = self.client.workflow_service
        try:
            info = await service.get_system_info(GetSystemInfoRequest(), timeout=_RPC_TIMEOUT)
            scheduling = await self._describe(TASK_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
            executing = await self._describe(
                run_queue(queue), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
            )
        except (RPCError, RuntimeError) as error:  # a lazy client raises RuntimeError
            return EngineHealth(reachable=False, detail=f"Temporal does not answer: {error}")
        return EngineHealth(
            reachable=True,
            detail="Temporal answers",
            server_version=info.server_version,
            workers=_workers(scheduling, executing),
        )

    async def _describe(self, name: str, kind: Any) -> DescribeTaskQueueResponse:
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TaskQueue(name=name),
            task_queue_type=kind,
        )
        return await self.client.workflow_service.describe_task_queue(request, timeout=_RPC_TIMEOUT)


#: The engine forgets a worker slowly; one that has not polled for this long is not counted.
_POLLS_WITHIN = timedelta(seconds=75)


def _workers(
    scheduling: DescribeTaskQueueResponse, executing: DescribeTaskQueueResponse
) -> tuple[Worker, ...]:
    now = datetime.now(UTC)
    seen: dict[str, dict[str, Any]] = {}
    for response, role in ((scheduling, "schedules"), (executing, "executes")):
        for poller in response.pollers:
            at = poller.last_access_time.ToDatetime(tzinfo=UTC)
            if now - at > _POLLS_WITHIN:
                continue
            one = seen.setdefault(
                poller.identity, {"schedules": False, "executes": False, "last_seen_at": at}
            )
            one[role] = True
            one["last_seen_at"] = max(one["last_seen_at"], at)
    return tuple(Worker(identity=name, **rest) for name, rest in sorted(seen.items()))


def translate(error: RPCError) -> Exception:
    """EngineUnavailable when the engine is away, else the error itself."""
    if error.status in _AWAY:
        return EngineUnavailable(f"Temporal does not answer: {error.message}")
    return error
