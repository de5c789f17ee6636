"""Tasks start by the clock of their worker: how far it is from those of Postgres and the engine."""

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import scalar_row

from onthedot import metrics

logger = logging.getLogger(__name__)

#: Seconds. Beyond this tasks visibly do not start on the dot, and the log warns of it.
MOST_SKEW = 1.0
_REMEDY = "keep the clocks of all hosts in step by NTP (timedatectl, chronyc tracking)"


def skew(before: float, theirs: float, after: float) -> float:
    """By how many seconds our clock is ahead of theirs, give or take half the time in between.

    ``before`` and ``after`` are ours when they were asked and when the answer came; all three are
    seconds since the epoch.
    """
    return (before + after) / 2 - theirs


async def skew_to_postgres(
    conn: AsyncConnection[Any], clock: Callable[[], float] = time.time
) -> float:
    """By how many seconds ``clock`` is ahead of Postgres's."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        before = clock()
        await cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        theirs = await cursor.fetchone()
        after = clock()
    assert theirs is not None
    return skew(before, theirs, after)


def judge(seconds: float, against: str) -> bool:
    """Show the skew of our clock, and warn when it is too much; whether it is fine."""
    metrics.CLOCK_SKEW.labels(against).set(seconds)
    # That of the engine has the travel of a run in it: on a busy machine it may seem late.
    certain = -seconds if against == "temporal" else abs(seconds)
    if certain <= MOST_SKEW:
        return True
    side = "ahead of" if seconds > 0 else "behind"
    logger.warning(
        "this worker's clock is %.1f s %s that of %s, and so its tasks start %s: %s",
        abs(seconds), side, against, "early" if seconds > 0 else "late", _REMEDY,
        extra={"clock_skew_seconds": round(seconds, 3)},
    )  # fmt: skip
    return False


def tell_nothing(against: str) -> None:
    """Show no skew, where none is known any more."""
    metrics.CLOCK_SKEW.labels(against).set(math.nan)


class EngineClock:
    """The engine stamps each attempt that it sends; the least time between its stamp and the
    arrival here is the skew and the shortest travel.
    """

    def __init__(self) -> None:
        self._least: float | None = None

    def arrived(self, stamp: datetime) -> None:
        """An attempt that the engine sent at ``stamp`` (aware, by its clock) arrives now."""
        apart = time.time() - stamp.timestamp()
        if self._least is None or apart < self._least:
            self._least = apart

    def take(self) -> float | None:
        """By how many seconds our clock is ahead, at most; None when nothing has arrived since."""
        least, self._least = self._least, None
        return least


#: Of this process.
ENGINE = EngineClock()
