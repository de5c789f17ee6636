"""Why a task has not run, or when it will."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime

from onthedot import clocks
from onthedot.database import lists, workers
from onthedot.database.pool import connection
from onthedot.database.runs import going_on
from onthedot.database.tasks import get_task
from onthedot.suspension import known_suspension
from onthedot.task import TaskState
from web.api.answers import Answer, RunItem, next_due, run_item, stamp
from web.api.reasons import Code, Facts, Reason, reasons
from web.services import Services

_LATEST = 20  # rows of the log


class EngineState(Answer):
    reachable: bool
    detail: str
    taken: Literal["in_step", "pending"]
    scheduling_workers: int
    executing_workers: int  # of the task's queue


class ReasonAnswer(Answer):
    """Something that keeps a task from running; ``since`` and ``remedy`` where they are known."""

    code: Code
    message: str
    since: AwareDatetime | None = None
    remedy: str | None = None


class Explanation(Answer):
    task_id: str
    state: TaskState
    summary: str
    reasons: list[ReasonAnswer]  # what weighs most first; empty when nothing keeps it from running
    engine: EngineState
    next_due: list[AwareDatetime]
    last_run: RunItem | None


async def explain(services: Services, task_id: str, now: datetime) -> dict[str, Any]:
    """The JSON of an Explanation; raise NotFound."""
    facts = await read_facts(services, task_id, now)
    task, health = facts.task, facts.health
    found = reasons(facts)
    last = facts.latest[0] if facts.latest else None
    return {
        "task_id": task.id,
        "state": task.state,
        "summary": _summary(facts, found),
        "reasons": [_reason(one) for one in found],
        "engine": {
            "reachable": health.reachable,
            "detail": health.detail,
            "taken": "in_step" if task.in_step else "pending",
            "scheduling_workers": sum(worker.schedules for worker in health.workers),
            "executing_workers": sum(worker.executes for worker in health.workers),
        },
        "next_due": [stamp(one) for one in facts.due],
        "last_run": run_item(last) if last else None,
    }


async def read_facts(services: Services, task_id: str, now: datetime) -> Facts:
    """What is known of a task, for ``reasons``; raise NotFound."""
    async with connection(services.pool) as conn:
        task = await get_task(conn, task_id)
        filter_ = lists.RunFilter(task_id=task_id, until=now)
        latest = await lists.list_runs(conn, filter_, limit=_LATEST)
        unfinished = await going_on(conn, task_id, now=now)
        skew = await clocks.skew_to_postgres(conn)
        present = await workers.seen(conn)
    health, due, suspended = await asyncio.gather(
        services.engine.health(task.spec.queue),
        asyncio.to_thread(next_due, task, now),
        known_suspension(services.engine, task_id),
    )
    return Facts(
        task=task,
        now=now,
        due=due,
        going_on=unfinished,
        latest=latest.items,
        health=health,
        clock_ahead=timedelta(seconds=-skew),
        workers=present,
        suspension=suspended,
    )


def _reason(reason: Reason) -> dict[str, Any]:
    document = {"code": reason.code, "message": reason.message}
    if reason.since is not None:
        document["since"] = stamp(reason.since) or ""
    if reason.remedy is not None:
        document["remedy"] = reason.remedy
    return document


#: Reasons that a task runs all the same with, when it is due.
_ASIDE = ("failing", "clock_skew", "overlap", "queued", "before_window", "excluded")


def _summary(facts: Facts, found: list[Reason]) -> str:
    first = found[0] if found else None
    if first is not None and (first.code not in _ASIDE or not facts.due):
        return first.message
    if not facts.due:
        return "Its last run goes on." if facts.going_on else "No due time is left."
    last = facts.latest[0] if facts.latest else None
    before = f" Its last run {last.status.replace('_', ' ')}." if last else " It has not run yet."
    more = f" {first.message}" if first else ""
    return f"It runs next at {facts.due[0]:%Y-%m-%d %H:%M:%S} UTC.{before}{more}"
