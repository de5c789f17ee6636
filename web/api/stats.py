"""Figures of the whole."""

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.responses import Response

from onthedot.database import lists
from onthedot.database.pool import connection
from onthedot.run import RunStatus
from onthedot.task import TaskState
from web.api.answers import Answer, respond
from web.services import Given

router = APIRouter(prefix="/stats", tags=["stats"])


class RunCounts(Answer):
    last_hour: dict[RunStatus, int]
    last_day: dict[RunStatus, int]
    complete: bool  # False when the log has more runs than are counted: the newest ones are


class Lag(Answer):
    """Milliseconds, of the scheduled runs that were due in the last hour."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Pending(Answer):
    changes: int  # tasks of which the engine has not taken the last change
    requests: int  # triggers, backfills and cancels that it has not been sent


class Stats(Answer):
    tasks: dict[TaskState, int]
    runs: RunCounts
    lag: Lag
    pending: Pending


@router.get("", response_model=Stats)
async def stats(services: Given) -> Response:
    """Tasks by state, runs by status, the lag of the last hour, what waits for the engine."""
    async with connection(services.pool) as conn:
        found = await lists.figures(conn, now=datetime.now(UTC))
    return respond(
        {
            "tasks": found.tasks,
            "runs": {
                "last_hour": found.runs_last_hour,
                "last_day": found.runs_last_day,
                "complete": found.counted_all,
            },
            "lag": {
                "p50_ms": found.lag_p50_ms,
                "p99_ms": found.lag_p99_ms,
                "max_ms": found.lag_max_ms,
            },
            "pending": {"changes": found.pending_changes, "requests": found.pending_requests},
        }
    )
