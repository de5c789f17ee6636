"""Why a task has not run, or when it will."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime

from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.database.tasks import get_task
from onthedot.engine import EngineHealth
from onthedot.run import Run
from onthedot.task import Task, TaskState
from web.api.answers import Answer, RunItem, next_due, run_item, stamp
from web.services import Services


class EngineState(Answer):
    reachable: bool
    detail: str
    taken: Literal["in_step", "pending"]
    scheduling_workers: int
    executing_workers: int  # of the task's queue


class Explanation(Answer):
    task_id: str
    state: TaskState
    summary: str
    reasons: list[str]  # all that keeps it from running; empty when nothing does
    engine: EngineState
    next_due: list[AwareDatetime]
    last_run: RunItem | None


async def explain(services: Services, task_id: str, now: datetime) -> dict[str, Any]:
    """The JSON of an Explanation; raise NotFound."""
    async with connection(services.pool) as conn:
        task = await get_task(conn, task_id)
        runs = await lists.list_runs(conn, lists.RunFilter(task_id=task_id, until=now), limit=1)
    health = await services.engine.health(task.spec.queue)
    last = runs.items[0] if runs.items else None
    due = next_due(task, now)
    reasons = list(_reasons(task, health, due))
    return {
        "task_id": task.id,
        "state": task.state,
        "summary": _summary(reasons, due, last),
        "reasons": reasons,
        "engine": {
            "reachable": health.reachable,
            "detail": health.detail,
            "taken": "in_step" if task.in_step else "pending",
            "scheduling_workers": sum(worker.schedules for worker in health.workers),
            "executing_workers": sum(worker.executes for worker in health.workers),
        },
        "next_due": [stamp(one) for one in due],
        "last_run": run_item(last) if last else None,
    }


def _reasons(task: Task, health: EngineHealth, due: list[datetime]) -> Iterator[str]:
    match task.state:
        case TaskState.PAUSED:
            yield "It is paused: its occurrences are skipped until it is resumed."
        case TaskState.FINISHED:
            yield "It is finished: no occurrence is left."
        case TaskState.DELETED:
            yield "It was deleted."
        case TaskState.ACTIVE if not due:
            yield "Its schedule has no due time left."
    if task.state in (TaskState.FINISHED, TaskState.DELETED):
        return
    if not health.reachable:
        yield f"{health.detail}."
    elif not any(worker.schedules for worker in health.workers):
        yield "No worker with the scheduler role is polling: start `onthedot worker`."
    elif not any(worker.executes for worker in health.workers):
        yield (
            f"No worker polls the queue {task.spec.queue}: start "
            f"`onthedot worker --role executor --queue {task.spec.queue}`."
        )
    if not task.in_step:
        yield (
            f"The engine has version {task.engine_version} of it, and not yet version {task.version}: "
            "the change is sent again until it is taken."
        )


def _summary(reasons: list[str], due: list[datetime], last: Run | None) -> str:
    if reasons:
        return reasons[0]
    before = f" Its last run {last.status.replace('_', ' ')}." if last else " It has not run yet."
    return f"It runs next at {due[0]:%Y-%m-%d %H:%M:%S} UTC.{before}"
