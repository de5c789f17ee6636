"""What the code of an action kind is given for one attempt, and what it answers."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from activities.messages import ExecuteAttempt
from activities.output import OutputCapture
from activities.plain import plain_json
from onthedot.run import RunStatus


class Stop(StrEnum):
    """Why an attempt is stopped before its action has ended."""

    CANCELLED = "cancelled"  # somebody cancelled the run
    TIMED_OUT = "timed_out"  # it took longer than the task's timeout
    WORKER_STOPS = "worker_stops"  # the worker shuts down, and its grace is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an action ended by itself: succeeded or failed."""

    status: RunStatus
    error: str | None = None
    retry_after: timedelta | None = None  # what a server asked for
    may_retry: bool = True  # False where another attempt would be wrong or in vain


SUCCEEDED = Ended(status=RunStatus.SUCCEEDED)


def failed(error: str, *, retry_after: timedelta | None = None, may_retry: bool = True) -> Ended:
    """The answer of an action that went wrong."""
    return Ended(status=RunStatus.FAILED, error=error, retry_after=retry_after, may_retry=may_retry)


@dataclass(slots=True, kw_only=True)
class Running:
    """An attempt that goes on. What is in it when the attempt is stopped is kept, too."""

    order: ExecuteAttempt
    output: OutputCapture
    started_at: datetime  # aware UTC
    has_thread: bool = False  # one is kept for its function
    result: dict[str, Any] = field(default_factory=dict)  # what is known so far: an HTTP status ...
    stop: Stop | None = None  # set before the action's task is cancelled
    remark: str | None = None  # what is to be said if the attempt is stopped

    def keep_returned(self, returned: Any) -> None:
        """Put what a function or workflow returned into the result, as far as there is room."""
        if returned is None:
            return
        value, whole = plain_json(returned)
        self.result["returned"] = value
        if not whole:
            self.result["returned_cut"] = True


class ActionKind(Protocol):
    """Performs the actions of one kind."""

    async def perform(self, running: Running) -> Ended:
        """Perform the action. When cancelled: stop it, clean up within seconds, raise again."""
        ...


def now() -> datetime:
    """The present instant, aware UTC."""
    return datetime.now(UTC)
