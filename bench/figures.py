"""What was measured: records that are kept over runs, and how they are summed up."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from bench.plan import Work

#: Lag, in seconds, under which a start is counted.
LIMITS = (0.1, 1.0, 10.0)
_EARLY = 0.5  # seconds; no side starts so early


@dataclass(frozen=True, kw_only=True)
class Record:
    """The figures of one side in one case of one part, measured once; or why there are none."""

    part: str
    side: str
    case: str
    figures: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = ()
    left_out: str | None = None
    conditions: str = ""  # those of the run that it was measured in
    load: float = 0.0  # of the machine, in the minute before


def counted(work: Work, called: Mapping[str, Sequence[float]]) -> list[tuple[float, int]]:
    """Calls with their due times: the first ``work.times`` of each task, in order.

    What came long before a task was due for the first time is not of this work: some sides make
    up for the due time before they were started.
    """
    found: list[tuple[float, int]] = []
    for name, start in work.starts():
        moments = [at for at in called.get(name, ()) if at > start - _EARLY]
        found += zip(moments, work.due(start), strict=False)
    return found


def lag_figures(work: Work, called: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Lags in seconds; calls that never came are ``missing``."""
    lags = sorted(at - due_at for at, due_at in counted(work, called))
    figures = {
        "lag p50": _rank(lags, 0.5),
        "lag p99": _rank(lags, 0.99),
        "lag max": _rank(lags, 1),
        "missing": float(work.firings - len(lags)),
    }
    shares = {f"within {limit:g}": sum(lag < limit for lag in lags) for limit in LIMITS}
    return figures | {name: count / work.firings for name, count in shares.items()}


def _rank(values: Sequence[float], share: float) -> float:
    """What ``share`` of the sorted ``values`` do not exceed (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


@dataclass(frozen=True)
class Spread:
    """One figure over all runs."""

    middle: float
    least: float
    most: float

    def text(self, digits: int) -> str:
        """The median, and the range where there is one."""
        middle = f"{self.middle:.{digits}f}"
        least, most = f"{self.least:.{digits}f}", f"{self.most:.{digits}f}"
        return middle if least == most else f"{middle} ({least}-{most})"


def spread(
    records: Sequence[Record], figure: str | Callable[[Record], float | None]
) -> Spread | None:
    """``figure`` over ``records``; None where none of them has it."""
    found = [one.figures.get(figure) if isinstance(figure, str) else figure(one) for one in records]
    return spread_of([value for value in found if value is not None])


def spread_of(found: Sequence[float]) -> Spread | None:
    """That of numbers; None where there is none."""
    values = [value for value in found if not math.isnan(value)]
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


class Kept:
    """Records in a file, to which each run adds its own: the page is made of all of them."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.records: list[Record] = []
        if file is not None and file.exists():
            read = json.loads(file.read_text(encoding="utf-8"))
            self.records = [Record(**one) for one in read]

    def add(self, record: Record) -> None:
        """Keep it. A side that was left out once and is now measured was not left out."""
        same = (record.part, record.side, record.case)
        self.records = [
            one
            for one in self.records
            if (one.part, one.side, one.case) != same or not (one.left_out or record.left_out)
        ]
        self.records.append(record)
        if self._file is not None:
            text = json.dumps([asdict(one) for one in self.records], indent=1)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(text + "\n", encoding="utf-8")

    def has(self, part: str, side: str, case: str) -> bool:
        """Whether it was measured, and not left out."""
        return any(not one.left_out for one in self.of(part, side, case))

    def cases(self, *parts: str) -> list[str]:
        """Those that were measured, smaller ones first."""
        found = dict.fromkeys(one.case for part in parts for one in self.of(part))
        return sorted(found, key=_size)

    def of(self, part: str, side: str | None = None, case: str | None = None) -> list[Record]:
        return [
            one
            for one in self.records
            if one.part == part and side in (None, one.side) and case in (None, one.case)
        ]

    def pairs(self, part: str, case: str, side: str, other: str) -> list[tuple[Record, Record]]:
        """Records of two sides that were measured beside each other: near in the file.

        Each record is in one pair, at most.
        """
        places = {id(one): place for place, one in enumerate(self.records)}

        def apart(pair: tuple[Record, Record]) -> int:
            return abs(places[id(pair[0])] - places[id(pair[1])])

        all_pairs = product(self.of(part, side, case), self.of(part, other, case))
        measured = (pair for pair in all_pairs if all(one.figures for one in pair))
        possible = sorted((pair for pair in measured if apart(pair) <= _NEAR), key=apart)
        taken: set[int] = set()
        found = []
        for one, two in possible:
            if taken.isdisjoint((id(one), id(two))):
                taken |= {id(one), id(two)}
                found.append((one, two))
        return found


#: So many records apart are two sides at most that one run has measured by turns.
_NEAR = 6


def _size(case: str) -> tuple[int, str]:
    number = case.split()[0]
    return (int(number), case) if number.isdecimal() else (0, case)


def shortened(problems: Sequence[str], most: int = 5) -> list[str]:
    """The first of them, and how many more there are."""
    more = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return [*problems[:most], *more]
