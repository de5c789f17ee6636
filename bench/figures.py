"""What was measured, and how it is summed up."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Parts = Mapping[str, float]
Side = Literal["onthedot", "control"]
Kind = Literal["once", "interval"]

#: Lag, in seconds, under which a start is counted.
LIMITS = (0.1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One herd: ``tasks`` that were due together, at ``due`` instants one after the other."""

    side: Side
    kind: Kind
    round: int
    tasks: int
    due: int
    registered_per_second: float
    registering: Parts  # seconds of CPU
    idle: Parts  # seconds of CPU a second, with all tasks waiting
    firing: Parts  # seconds of CPU, from before the leads until all was quiet again
    firing_seconds: float
    memory: Parts  # bytes, afterwards
    lags: Sequence[float]  # seconds, of all that were started
    problems: Sequence[str] = field(default=())

    @property
    def firings(self) -> int:
        return self.tasks * self.due

    def per_firing(self) -> Parts:
        """Milliseconds of CPU a firing, by part."""
        return {part: used / self.firings * 1000 for part, used in self.firing.items()}

    def per_firing_beyond_idle(self) -> Parts:
        """The same, less what was used in the same time while nothing was due."""
        return {
            part: (used - self.idle[part] * self.firing_seconds) / self.firings * 1000
            for part, used in self.firing.items()
        }

    def per_registration(self) -> Parts:
        """Milliseconds of CPU a registration, by part."""
        return {part: used / self.tasks * 1000 for part, used in self.registering.items()}

    def lag(self, share: float) -> float:
        """The lag in seconds that ``share`` of all starts do not exceed (nearest rank)."""
        if not self.lags:
            return math.nan
        return sorted(self.lags)[max(0, math.ceil(share * len(self.lags)) - 1)]

    def within(self, limit: float) -> float:
        """The share of the expected firings that started within ``limit`` seconds."""
        return sum(lag < limit for lag in self.lags) / self.firings


@dataclass(frozen=True)
class Spread:
    """One figure over all rounds."""

    middle: float
    least: float
    most: float

    def text(self, digits: int) -> str:
        """The median, and the range where there is one."""
        middle = f"{self.middle:.{digits}f}"
        least, most = f"{self.least:.{digits}f}", f"{self.most:.{digits}f}"
        return middle if least == most else f"{middle} ({least}-{most})"


def spread(measured: Iterable[Measurement], figure: Callable[[Measurement], float]) -> Spread:
    """``figure`` over ``measured``, of which there is at least one."""
    values = [figure(one) for one in measured]
    return Spread(statistics.median(values), min(values), max(values))


def shortened(problems: Sequence[str], most: int = 5) -> list[str]:
    """The first of them, and how many more there are."""
    more = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return [*problems[:most], *more]
