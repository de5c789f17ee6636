"""Whether an attempt that went wrong is followed by another one, and when. Pure functions."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from activities.messages import Outcome
from onthedot import duration
from onthedot.task import Retry

#: A server that asks for a longer pause (Retry-After) is asked again after this one.
LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True)
class Again:
    """The next attempt is to be made after this pause."""

    after: timedelta


@dataclass(frozen=True)
class NotAgain:
    """It was the last attempt; ``why`` where the number of attempts is not the reason."""

    why: str | None = None


def after_attempt(
    retry: Retry, outcome: Outcome, number: int, first_at: datetime, now: datetime
) -> Again | NotAgain:
    """What follows attempt ``number`` of a run whose first started at ``first_at``."""
    if not outcome.status.is_failure or not outcome.may_retry or number >= retry.attempts:
        return NotAgain()
    if code := next((one for one in outcome.end_codes if one in retry.not_on), None):
        return NotAgain(f"not tried again: retry.not_on has {code}")
    asked_for = min(outcome.retry_after or timedelta(), LONGEST_WAIT)
    pause = max(retry.delay(number), asked_for)
    if retry.within is not None and now + pause > first_at + retry.within:
        within = duration.write(retry.within)
        return NotAgain(f"not tried again: it would be later than retry.within, {within}")
    return Again(pause)
