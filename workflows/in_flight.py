"""A run that was sent off, as its task's workflow knows it."""

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

from temporalio import workflow

from activities.apart import HowToStop
from activities.messages import RunOrder
from onthedot.run import Run, Trigger
from onthedot.task import FollowUps

#: A waiting run that learns of a recall by heartbeat sends its last one 1 to 2.5 s before its instant:
#: a later recall comes too late, and it runs.
_LAST_RECALL = timedelta(seconds=3)


class RunInFlight(ABC):
    """It keeps the definition that it started with."""

    def __init__(self, order: RunOrder, start_at: datetime, follow_ups: FollowUps) -> None:
        """``start_at`` is its instant: its due time, or when it was sent off where that was later."""
        self.order = order
        self.start_at = start_at
        self.follow_ups = follow_ups
        self.is_recorded = False  # its first attempt has written the final row itself
        self.recalled = False  # it was asked for back, and nobody has cancelled it
        self.withdrawn = False  # it leaves a line: its task was paused or deleted
        self.held_back = False  # it waits here, and no worker has it
        self.in_line = False  # it waits for a place under a limit, or did
        self.shown = False  # the log has a row for it, whether or not a worker has it
        self._comes_back = False  # whether it will hear in time that it shall not start
        self._stop_reason: str | None = None

    @abstractmethod
    async def to_end(self) -> Run:
        """Make as many attempts as the policies allow; the final row."""

    @abstractmethod
    async def end_unless_taken(self, reason: str) -> None:
        """Cancel an attempt that waits for a worker, once one that was taken would have ended."""

    @property
    @abstractmethod
    def is_bound(self) -> bool:
        """Whether it ends with the history that it was sent off in."""

    @property
    @abstractmethod
    def has_begun(self) -> bool:
        """Whether an attempt is known to have started."""

    @property
    @abstractmethod
    def has_finished_task(self) -> bool:
        """Whether the log has it that its task is finished, too."""

    @property
    @abstractmethod
    def may_be_silent(self) -> bool:
        """Whether it was asked to end before its instant, and only its worker can answer."""

    @property
    def is_asked_to_stop(self) -> bool:
        return self._stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        return self._stop_reason

    @property
    def waits(self) -> bool:
        """Whether its instant is still ahead."""
        return not self.has_begun and workflow.now() < self.start_at

    @property
    def counts_for_overlap(self) -> bool:
        """Whether another run would overlap with it: unless it is on its way back."""
        return not (self._comes_back and self.waits)

    @property
    def late_by(self) -> timedelta:
        """How long after its due time it was sent off."""
        return self.start_at - self.order.due_at

    def recall(self) -> None:
        """Ask for it back while the worker will still hear of it before the instant."""
        if self.is_scheduled and self._hears and not self.is_asked_to_stop:
            self._stop(HowToStop.RECALL, "recalled")
            self.recalled = True

    def withdraw(self) -> None:
        """Let it leave the line that it waits in."""
        self.withdrawn = True
        self._stop(HowToStop.WITHDRAW, "withdrawn")

    def cancel(self, reason: str) -> None:
        """Stop it; it ends as cancelled unless it ends by itself first."""
        self._stop(HowToStop.CANCEL, reason)

    def _stop(self, how: HowToStop, reason: str) -> None:
        self.recalled = False  # one that was on its way back is not to be planned again
        self._comes_back = self._comes_back or self._hears
        is_asked, self._stop_reason = self.is_asked_to_stop, reason
        self._tell(how, reason, is_first=not is_asked)

    @abstractmethod
    def _tell(self, how: HowToStop, reason: str, *, is_first: bool) -> None:
        """Have the attempt that goes on hear that it shall end."""

    @property
    def is_scheduled(self) -> bool:
        return self.order.trigger is Trigger.SCHEDULE

    @property
    def _hears(self) -> bool:
        """Whether it waits for its instant, here or at a worker that still listens."""
        listens = self.held_back or workflow.now() < self.start_at - _LAST_RECALL
        return self.waits and listens
