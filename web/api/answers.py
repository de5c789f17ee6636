"""The shapes of what REST answers.

The models are for the OpenAPI document, and tests hold the answers against them. Answers are built
as plain dicts, which takes a fraction of the time.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue
from starlette.responses import Response

from onthedot import schedule as schedules
from onthedot.run import Attempt, Run, RunStatus, Trigger
from onthedot.task import Action, FollowUps, Policies, Schedule, Task, TaskState, as_json

_NEXT_TIMES = 5


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LastRun(Answer):
    started_at: AwareDatetime | None
    status: RunStatus


class TaskItem(Answer):
    """A task in a list: what was sent, and how it is."""

    id: str
    name: str
    schedule: Schedule
    action: Action
    policies: Policies
    follow_ups: FollowUps
    tags: list[str]
    queue: str
    description: str
    state: TaskState
    version: int
    engine: Literal["in_step", "pending"]
    next_due_at: AwareDatetime | None
    last_run: LastRun | None
    run_count: int
    failure_count: int
    created_at: AwareDatetime
    created_by: str
    updated_at: AwareDatetime


class TaskAnswer(TaskItem):
    """A task by itself, with its next due times."""

    next_due: list[AwareDatetime]


class TaskList(Answer):
    items: list[TaskItem]
    next_cursor: str | None


class AttemptAnswer(Answer):
    number: int
    status: RunStatus
    started_at: AwareDatetime
    finished_at: AwareDatetime
    worker: str
    error: str | None


class RunItem(Answer):
    """A row of the log. ``lag_ms`` is started_at - due_at in milliseconds."""

    run_id: str
    task_id: str
    task_version: int
    trigger: Trigger
    due_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    lag_ms: float | None
    status: RunStatus
    reason: str | None
    attempt_count: int
    worker: str | None
    error: str | None


class RunAnswer(RunItem):
    """A run by itself: with its attempts, the head and tail of its output, and its result."""

    attempts: list[AttemptAnswer]
    output: str | None
    output_size: int | None
    result: dict[str, JsonValue] | None


class RunList(Answer):
    items: list[RunItem]
    next_cursor: str | None


def respond(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, headers, "application/json")


def respond_task(task: Task, now: datetime, *, status: int = 200) -> Response:
    """A task with its ETag; 202 while the engine has not taken its last change."""
    document = task_item(task) | {"next_due": [stamp(one) for one in next_due(task, now)]}
    headers = {"ETag": f'"{task.version}"'}
    if status == 201:
        headers["Location"] = f"/api/v1/tasks/{task.id}"
    return respond(document, status if task.in_step else 202, headers)


def task_item(task: Task) -> dict[str, Any]:
    last = None
    if task.last_status is not None:
        last = {"started_at": stamp(task.last_run_at), "status": task.last_status}
    return {
        "id": task.id,
        **as_json(task.spec),
        "description": describe(task.spec.schedule, task.id),
        "state": task.state,
        "version": task.version,
        "engine": "in_step" if task.in_step else "pending",
        "next_due_at": stamp(task.next_due_at),
        "last_run": last,
        "run_count": task.run_count,
        "failure_count": task.failure_count,
        "created_at": stamp(task.created_at),
        "created_by": task.created_by,
        "updated_at": stamp(task.updated_at),
    }


def run_item(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "task_id": run.task_id,
        "task_version": run.task_version,
        "trigger": run.trigger,
        "due_at": stamp(run.due_at),
        "started_at": stamp(run.started_at),
        "finished_at": stamp(run.finished_at),
        "lag_ms": run.lag_ms,
        "status": run.status,
        "reason": run.reason,
        "attempt_count": run.attempt_count,
        "worker": run.worker,
        "error": run.error,
    }


def run_answer(run: Run) -> dict[str, Any]:
    return run_item(run) | {
        "attempts": [_attempt(one) for one in run.attempts],
        "output": run.output.text if run.output else None,
        "output_size": run.output.size if run.output else None,
        "result": run.result,
    }


def next_due(task: Task, now: datetime) -> list[datetime]:
    """The next few due times of a task that is active."""
    if task.state != TaskState.ACTIVE:
        return []
    return list(islice(schedules.due_times(task.spec.schedule, task.id, now), _NEXT_TIMES))


@lru_cache(8192)
def describe(schedule: Schedule, task_id: str) -> str:
    return schedules.describe(schedule, task_id)


def stamp(moment: datetime | None) -> str | None:
    """UTC with ``Z`` and microseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "status": attempt.status,
        "started_at": stamp(attempt.started_at),
        "finished_at": stamp(attempt.finished_at),
        "worker": attempt.worker,
        "error": attempt.error,
    }
