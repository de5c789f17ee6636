"""A cluster under load, watched: what it acknowledges, what its log says, and what is seen of it."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import psycopg
from psycopg.rows import dict_row
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client

from onthedot.engine import run_workflow_id, workflow_id
from onthedot.run import RunStatus, Trigger
from onthedot.task import TaskSpec, TaskState
from tests.faults.cluster import Cluster
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
from tests.faults.observer import SHELL_NOTE, read_calls
from tests.faults.windows import windows

_BETWEEN_SAMPLES = 0.5  # seconds
_BETWEEN_TRIES = 0.3
_ROWS = """
    SELECT run_id, task_id, trigger, due_at, status, reason, started_at, finished_at, attempt_count
    FROM runs WHERE starts_with(task_id, %(prefix)s)
        OR task_id IN (SELECT id FROM tasks WHERE starts_with(name, %(prefix)s))
"""
_STORED = """
    SELECT id, name, spec, state, version, engine_version FROM tasks WHERE starts_with(name, %(prefix)s)
"""


def now() -> datetime:
    return datetime.now(UTC)


async def until(moment: datetime) -> None:
    await asyncio.sleep((moment - now()).total_seconds())


class Refused(Exception):  # noqa: N818 - named for what has happened
    """An answer that a client does not try again on."""


class Watch:
    """One test's tasks, and all that is known of them."""

    def __init__(self, cluster: Cluster, client: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.prefix = f"t{uuid.uuid4().hex[:6]}-"
        self.tasks: dict[str, Registered] = {}
        self.outages: list[Outage] = []
        self.asked: list[Asked] = []
        self._client = client
        self._samples: list[Sample] = []
        self._known: dict[str, Row] = {}
        self._next_web = 0
        self._reading = asyncio.Lock()  # samples are in the order in which they were read

    # what clients do

    async def register(
        self,
        name: str,
        schedule: dict[str, Any],
        action: str | dict[str, Any] = "http",
        *,
        ends: frozenset[RunStatus] = frozenset({RunStatus.SUCCEEDED}),
        with_id: bool = True,
        within: float = 60,
        **task: Any,
    ) -> Registered:
        """Register a task, and ask again with the same key until that is acknowledged.

        ``action`` is "http", "shell" or "python" (seen from outside), a path of the observer
        ("/after/2"), or an action of its own. Without an id the key alone tells that a request
        has come before.
        """
        full_name = f"{self.prefix}{name}"
        body = {
            **({"id": full_name} if with_id else {}),
            "name": full_name,
            "schedule": schedule,
            "action": self.action(action),
            **task,
        }
        answer = await self.call("POST", "/tasks", body, key=uuid.uuid4().hex, within=within)
        task_id = answer["id"]
        registered = Registered(
            task_id=task_id,
            spec=_spec(answer),
            since=datetime.fromisoformat(answer["created_at"]),
            observed=isinstance(action, str),
            ends=ends,
        )
        self.tasks[task_id] = registered
        return registered

    def action(self, kind: str | dict[str, Any]) -> dict[str, Any]:
        match kind:
            case dict():
                return kind
            case "http":
                return {"kind": "http", "url": f"{self.cluster.observer_url}/"}
            case "shell":
                return {"kind": "shell", "script": SHELL_NOTE.format(file=self.cluster.seen)}
            case "python":
                arguments = {"file": str(self.cluster.seen)}
                handler = "tests.faults.observer:note"
                return {"kind": "python", "handler": handler, "arguments": arguments}
        return {"kind": "http", "url": f"{self.cluster.observer_url}{kind}"}

    async def herd(self, count: int, at: datetime, action: str = "http") -> None:
        """One-time tasks that are all due at once."""
        once = {"kind": "once", "at": at.isoformat()}
        names = (f"herd-{at:%M%S}-{number}" for number in range(count))
        await self.register_many(dict.fromkeys(names, once), action)

    async def register_many(
        self, schedules: Mapping[str, dict[str, Any]], action: str = "http"
    ) -> list[Registered]:
        """Tasks by name, some at a time."""
        places = asyncio.Semaphore(16)

        async def register(name: str) -> Registered:
            async with places:
                return await self.register(name, schedules[name], action, within=180)

        return await asyncio.gather(*map(register, schedules))

    async def mix(self, each: int = 1) -> None:
        """A load of all kinds: about three runs a second, ``each`` times."""
        for number in range(each):
            await asyncio.gather(
                self.register(f"every-1-{number}", _every(1)),
                self.register(f"every-2-{number}", _every(2), "python"),
                self.register(f"every-5-{number}", _every(5), "shell"),
                self.register(f"slow-{number}", _every(4), "/after/1.5"),
                self.register(f"cron-{number}", {"kind": "cron", "cron": "*/3 * * * * *"}),
                self.register(f"queued-{number}", _every(3), policies={"overlap": "queue_one"}),
                self.register(f"all-{number}", _every(5), policies={"catch_up": {"keep": "all"}}),
            )

    async def change(self, task: Registered, state: TaskState, within: float = 60) -> None:
        """Pause, resume or delete a task; return once the engine has it."""
        asked_at, path = now(), f"/tasks/{task.task_id}"
        match state:
            case TaskState.PAUSED:
                await self.call("POST", f"{path}/pause", within=within)
            case TaskState.ACTIVE:
                await self.call("POST", f"{path}/resume", within=within)
            case TaskState.DELETED:
                await self.call("DELETE", path, within=within)
        change = Change(state=state, asked_at=asked_at, acknowledged_at=now())
        known = self.tasks[task.task_id]
        self.tasks[task.task_id] = replace(known, changes=(*known.changes, change))

    async def change_many(self, tasks: Sequence[Registered], state: TaskState) -> None:
        """The same for many tasks, some at a time."""
        places = asyncio.Semaphore(16)

        async def change(task: Registered) -> None:
            async with places:
                await self.change(task, state, within=180)

        await asyncio.gather(*map(change, tasks))

    async def trigger(self, task: Registered) -> None:
        """Ask for a run, once, however often that must be said."""
        path, key = f"/tasks/{task.task_id}/trigger", uuid.uuid4().hex
        answer = await self.call("POST", path, {}, key=key)
        due_at = datetime.fromisoformat(answer["due_at"])
        asked = Asked(run_id=answer["run_id"], task_id=task.task_id, due_at=due_at)
        self.asked.append(asked)

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        within: float = 60,
    ) -> dict[str, Any]:
        """An answer of REST, from one web instance or the other; asked for until there is one.

        Raise Refused on an answer that says no, AssertionError when there is none in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        headers = {"Authorization": f"Bearer {self.cluster.key}"}
        if key:
            headers["Idempotency-Key"] = key
        problem = ""
        while loop.time() < deadline:
            self._next_web += 1
            url = self.cluster.urls[self._next_web % len(self.cluster.urls)]
            try:
                async with self._client.request(
                    method, f"{url}/api/v1{path}", json=body, headers=headers
                ) as answer:
                    text = await answer.text()
                    if answer.status < 300:
                        return dict(json.loads(text))
                    problem = f"{answer.status}: {text[:300]}"
                    if answer.status < 500:
                        raise Refused(f"{method} {path}: {problem}")
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = repr(error)
            await asyncio.sleep(_BETWEEN_TRIES)
        raise AssertionError(f"{method} {path}: no answer within {within} s: {problem}")

    @asynccontextmanager
    async def outage(self, *, only_at_most_once: bool = False) -> AsyncIterator[Callable[[], None]]:
        """Declare that nothing can run within the block, which heals it before it is left.

        It calls what it gets as it begins to heal.
        """
        begun_at = now()
        healing: list[datetime] = []
        yield lambda: healing.append(now())
        self.outages.append(
            Outage(
                begun_at=begun_at,
                ended_at=now(),
                healing_from=healing[0] if healing else None,
                only_at_most_once=only_at_most_once,
            )
        )

    # what is seen

    async def sample_for_ever(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                await self._sample()
            await asyncio.sleep(_BETWEEN_SAMPLES)

    async def settled(self, last: datetime, within: float = 90) -> None:
        """Wait until all that is due up to ``last`` has come to its end, or for ``within`` s."""
        await until(last)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        known = self._history([], {}, {}, last)  # once: the links between the parts wait meanwhile
        due = {
            (task.task_id, window.due_at)
            for task in self.tasks.values()
            for window in windows(task, known)
            if TaskState.DELETED not in window.states
        }
        asked = {one.run_id for one in self.asked}
        while loop.time() < deadline:
            with contextlib.suppress(psycopg.Error):
                rows = [row for row in await self._sample() if row.status.is_final]
                ended = {(row.task_id, row.due_at) for row in rows}
                if due <= ended and asked <= {row.run_id for row in rows}:
                    return
            await asyncio.sleep(0.3)

    async def history(self, last: datetime) -> History:
        """All that is known now."""
        await self._all_in_step()
        rows = await self._sample()
        samples = list(self._samples)  # none that was read after these rows
        stored = await self._stored()
        lost = await self._lost_attempts()
        return replace(self._history(rows, stored, lost, last), samples=samples)

    def latest(self) -> list[Row]:
        """The log as it was read last."""
        return list(self._samples[-1].rows.values())

    async def calls(self) -> list[Call]:
        found = await asyncio.to_thread(read_calls, self.cluster.seen)
        return [one for one in found if self._is_ours(one)]

    def _is_ours(self, call: Call) -> bool:
        return call.key.startswith(self.prefix) or call.key.partition(".")[0] in self.tasks

    async def delete_all(self) -> None:
        """Leave nothing behind that would disturb the next test."""
        places = asyncio.Semaphore(16)

        async def delete(task_id: str) -> None:
            async with places:
                with contextlib.suppress(Refused):
                    await self.call("DELETE", f"/tasks/{task_id}")

        await asyncio.gather(*map(delete, self.tasks))

    def _history(
        self,
        rows: Sequence[Row],
        stored: dict[str, Stored],
        lost: dict[str, int],
        last: datetime,
    ) -> History:
        seen = read_calls(self.cluster.seen)
        return History(
            tasks=list(self.tasks.values()),
            stored=stored,
            rows=rows,
            until=last,
            calls=[one for one in seen if self._is_ours(one)],
            asked=list(self.asked),
            outages=list(self.outages),
            lost_attempts=lost,
        )

    async def _sample(self) -> list[Row]:
        """All rows, each the object that it was before where it has not changed."""
        async with self._reading:
            rows = []
            for values in await self._select(_ROWS):
                row = _row(values)
                known = self._known.get(row.run_id)
                rows.append(known if known == row and known is not None else row)
            found = {row.run_id: row for row in rows}
            self._known.update(found)
            self._samples.append(Sample(at=now(), rows=found))
            return rows

    async def _stored(self) -> dict[str, Stored]:
        client = await Client.connect(self.cluster.settings.temporal)
        ids = [f"WorkflowId STARTS_WITH '{workflow_id(self.prefix)}'"]
        ids += [
            f"WorkflowId = '{workflow_id(one)}'" for one in self.tasks if self.prefix not in one
        ]
        running = client.list_workflows(f"({' OR '.join(ids)}) AND ExecutionStatus = 'Running'")
        open_ = {one.id async for one in running}
        return {
            row["id"]: Stored(
                name=row["name"],
                spec=TaskSpec.model_validate(row["spec"]),
                in_step=row["engine_version"] >= row["version"],
                state=TaskState(row["state"]),
                has_workflow=workflow_id(row["id"]) in open_,
            )
            for row in await self._select(_STORED)
        }

    async def _all_in_step(self, within: float = 60) -> None:
        """Wait for what goes on in the background, which looks every few seconds, but not for ever."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while loop.time() < deadline:
            stored = await self._stored()
            if all(map(_is_in_step, (stored[one] for one in self.tasks if one in stored))):
                return
            await asyncio.sleep(0.5)

    async def _select(self, query: str) -> list[dict[str, Any]]:
        url = self.cluster.postgres_server.url()
        # Without a transaction to end: cancelled while it commits, a connection stays open.
        connecting = psycopg.AsyncConnection.connect(
            url, autocommit=True, row_factory=dict_row, connect_timeout=3
        )
        async with await connecting as connection:
            await connection.execute("SET statement_timeout = '5s'")
            found = await connection.execute(query.encode(), {"prefix": self.prefix})
            return await found.fetchall()

    async def _lost_attempts(self) -> dict[str, int]:
        """By run, the attempts that the engine has on record as lost, for those seen twice."""
        seen = Counter(one.key for one in await self.calls())
        repeated = {key for key, count in seen.items() if count > 1}
        lost: dict[str, int] = {}
        if repeated:
            client = await Client.connect(self.cluster.settings.temporal)
            for task_id in {key.partition(".")[0] for key in repeated}:
                for run_id, count in (await _lost_attempts_of(client, task_id)).items():
                    lost[run_id] = lost.get(run_id, 0) + count
        return lost


@asynccontextmanager
async def watching(cluster: Cluster) -> AsyncIterator[Watch]:
    """A watch that samples the log until the block is left."""
    timeout = aiohttp.ClientTimeout(total=15)
    connector = aiohttp.TCPConnector(force_close=True)  # a web instance may be killed at any time
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
        watch = Watch(cluster, client)
        sampling = asyncio.create_task(watch.sample_for_ever())
        try:
            yield watch
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)


async def _lost_attempts_of(client: Client, task_id: str) -> dict[str, int]:
    """By run, how often the engine sent its attempt again since a worker with it was lost.

    It has the failure of the last attempt before the one that ended on record, and that one tells
    whether it was a loss. Of those before it, the number is known alone: they are taken for losses.
    """
    found: dict[str, int] = {}
    apart = f"WorkflowId STARTS_WITH '{run_workflow_id(task_id)}.'"
    query = f"WorkflowId = '{workflow_id(task_id)}' OR {apart}"
    async for execution in client.list_workflows(query):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        orders: dict[int, str] = {}
        async for event in handle.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                order = json.loads(scheduled.input.payloads[0].data)
                orders[event.event_id] = order["run_id"]
            elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                run_id = orders[started.scheduled_event_id]
                again = started.attempt - 1 - (not _is_loss(started.last_failure))
                found[run_id] = found.get(run_id, 0) + max(again, 0)
    return found


def _is_loss(failure: Failure) -> bool:
    """Whether nothing was heard of its worker any more, or that one cut the attempt off."""
    stopped = failure.application_failure_info.type == "WorkerStopped"
    return failure.HasField("timeout_failure_info") or stopped


def _is_in_step(task: Stored) -> bool:
    is_over = task.state in (TaskState.FINISHED, TaskState.DELETED)
    return task.in_step and (task.has_workflow or is_over)


def _every(seconds: float) -> dict[str, Any]:
    return {"kind": "interval", "every": f"{seconds}s"}


def _spec(answer: dict[str, Any]) -> TaskSpec:
    given = {name: answer[name] for name in TaskSpec.model_fields if name in answer}
    return TaskSpec.model_validate(given)


def _row(values: dict[str, Any]) -> Row:
    kinds = {"trigger": Trigger(values["trigger"]), "status": RunStatus(values["status"])}
    return Row(**{**values, **kinds})
