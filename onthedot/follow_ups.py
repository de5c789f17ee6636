"""Tasks that are run after the runs of others: which may be, and how they are started."""

import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from activities.follow_ups import StartFollowUps
from onthedot.database import runs as log
from onthedot.database import tasks
from onthedot.database.pool import Connection, Pool, connection, transaction
from onthedot.database.tasks import Request
from onthedot.errors import FieldError, InvalidInput, NotFound
from onthedot.run import Run, Trigger, requested_run_id
from onthedot.task import FollowUps, TaskState

#: How much of an outcome goes along, in bytes.
MOST_OUTPUT, MOST_ERROR, MOST_RESULT = 4096, 2048, 8192

#: Tasks, each with those that may follow it.
_Graph = Mapping[str, list[str]]


async def check(conn: Connection, task_id: str, follow_ups: FollowUps) -> None:
    """Raise InvalidInput for tasks that are not there and for cycles.

    Others that register follow-ups wait until the transaction ends: two at the same time cannot
    make a cycle of which neither sees the other half.
    """
    await tasks.lock_follow_ups(conn)
    named = {
        f"follow_ups.{when}.{number}": one
        for when in ("on_success", "on_failure")
        for number, one in enumerate(getattr(follow_ups, when))
    }
    graph = await _reached(conn, named.values(), task_id)
    InvalidInput.raise_if_any(
        problem for field, one in named.items() if (problem := _problem(field, one, task_id, graph))
    )


def _problem(field: str, named: str, task_id: str, graph: _Graph) -> FieldError | None:
    if named == task_id:
        remedy = "Name another task; to try a run again, use policies.retry"
        return FieldError(field, named, "a task cannot follow itself", remedy)
    if named not in graph:
        remedy = "Register that task first, or correct the id"
        return FieldError(field, named, "there is no such task", remedy)
    if path := _path(graph, named, task_id):
        remedy = "Take one of these follow-ups out: a chain has to end"
        return FieldError(field, named, f"makes a cycle: {' -> '.join([task_id, *path])}", remedy)
    return None


async def _reached(conn: Connection, start: Iterable[str], but: str) -> _Graph:
    """All tasks that runs of ``start`` may lead to; not on from ``but``, which is being changed."""
    found: dict[str, list[str]] = {}
    ahead = set(start) - {but}
    while ahead:
        edges = await tasks.follow_ups_of(conn, sorted(ahead))
        found |= edges
        missing = ahead - edges.keys()
        ahead = {one for next_ones in edges.values() for one in next_ones}
        ahead -= found.keys() | missing | {but}
    return found


def _path(graph: _Graph, start: str, goal: str) -> list[str]:
    """The shortest way from ``start`` to ``goal``, both included; empty when there is none."""
    ways = deque([[start]])
    seen = {start}
    while ways:
        way = ways.popleft()
        for one in graph.get(way[-1], []):
            if one == goal:
                return [*way, one]
            if one not in seen:
                seen.add(one)
                ways.append([*way, one])
    return []


class FollowUpStarter:
    """Asks for the runs of tasks that follow a run; each call may be made again."""

    def __init__(self, pool: Pool, send: Callable[[Request], Awaitable[bool]]) -> None:
        """``send`` tells the task's workflow of a request that is stored."""
        self._pool, self._send = pool, send

    async def start(self, after: StartFollowUps) -> None:
        """Ask for a run of each task, once. Raise DatabaseUnavailable; then call again."""
        async with connection(self._pool) as conn:
            try:
                run = await log.get_run(conn, after.run_id)
            except NotFound:  # past retention: nobody knows any more how it ended
                return
        for task_id in after.task_ids:
            request = _request(run, task_id)
            if await self._store(run, request):
                await self._send(request)

    async def _store(self, run: Run, request: Request) -> bool:
        """Whether the request is new. One that was stored before is upkeep's, if not sent yet."""
        async with transaction(self._pool) as conn:
            found = await tasks.some_tasks(conn, [request.task_id])
            if not found or found[0].state is TaskState.DELETED:
                remark = f"the follow-up {request.task_id} was not started: it is deleted"
                await log.add_to_reason(conn, run, remark)
                await tasks.tell(conn, run.task_id, runs=True)
                return False
            if not await tasks.insert_request(conn, request, now=datetime.now(UTC)):
                return False
            (order,) = request.body["orders"]
            await log.insert_waiting(
                conn,
                request.task_id,
                found[0].version,
                Trigger.FOLLOW_UP,
                [(order["run_id"], datetime.fromisoformat(order["due_at"]))],
                by=request.created_by,
                reason=request.reason,
            )
            await tasks.tell(conn, request.task_id, runs=True)
        return True


def outcome(run: Run) -> dict[str, Any]:
    """How a run ended, as the runs that follow it are told."""
    result = run.result
    if result is not None and len(json.dumps(result).encode()) > MOST_RESULT:
        result = None
    return {
        "run_id": run.run_id,
        "task_id": run.task_id,
        "status": run.status,
        "due_at": _stamp(run.due_at),
        "started_at": _stamp(run.started_at),
        "finished_at": _stamp(run.finished_at),
        "attempts": run.attempt_count,
        "error": run.error and _start_of(run.error, MOST_ERROR),
        "result": result,
        "output": _start_of(run.output.text, MOST_OUTPUT) if run.output else None,
    }


def _request(run: Run, task_id: str) -> Request:
    """The request for the run that follows; the same whoever makes it."""
    key = f"follow-up of {run.run_id}: {task_id}"
    due_at = run.finished_at or run.due_at
    reason = f"after {run.run_id}: {run.status}"
    order = {
        "run_id": requested_run_id(task_id, due_at, key),
        "due_at": due_at.isoformat(),
        "trigger": Trigger.FOLLOW_UP,
        "reason": reason,
        "outcome": outcome(run),
    }
    return Request(
        id=hashlib.sha256(key.encode()).hexdigest()[:32],
        task_id=task_id,
        kind="trigger",
        body={"orders": [order]},
        created_by=run.task_id,
        reason=reason,
    )


def _start_of(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _stamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
