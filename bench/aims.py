"""What is aimed at, and whether it is met."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import ge

from bench.figures import Kept, Record, Spread, spread, spread_of

_PAGE_LIMIT = 50.0  # ms


@dataclass(frozen=True)
class Aim:
    words: str
    case: str
    found: Spread | None
    unit: str
    digits: int
    met: Callable[[float], bool] | None  # None: nothing is aimed at, it stands for comparison
    why_not: str = "not measured"

    def row(self) -> str:
        if self.found is None:
            return f"| {self.words} | {self.case} | {self.why_not} |"
        found = f"{self.found.text(self.digits)}{self.unit}"
        if self.met is not None:
            found = f"{'met' if self.met(self.found.middle) else 'MISSED'}: {found}"
        return f"| {self.words} | {self.case} | {found} |"


def table(kept: Kept) -> str:
    rows = ["| aim | where | |", "| --- | --- | --- |", *(aim.row() for aim in _aims(kept))]
    return "\n".join(["**What is aimed at**", "", *rows])


def _aims(kept: Kept) -> Iterator[Aim]:
    for kind in ("one-time", "recurring"):
        case = f"2000 {kind} tasks, noop"
        words = "a herd of 2,000: lag p99 under 0.25 s"
        yield _lag(kept, words, "herd", case, "lag p99", lambda lag: lag < 0.25)
        case = f"5000 {kind} tasks, noop"
        words = "a herd of 5,000: all within 10 s"
        yield _lag(kept, words, "herd", case, "lag max", lambda lag: lag < 10)
    for case in kept.cases("steady"):
        if case.startswith("50 "):
            words = "50 firings a second: lag p99 under 0.05 s"
            yield _lag(kept, words, "steady", case, "lag p99", lambda lag: lag < 0.05)
    yield from _ratios(kept)
    yield from _waiting(kept)
    case = "1000000 rows"
    slowest = spread(kept.of("log", "onthedot", case), _slowest)
    words = "pages of a log of 1,000,000 rows under 50 ms: the slowest"
    yield Aim(words, case, slowest, " ms", 0, lambda took: took < _PAGE_LIMIT)


def _lag(
    kept: Kept, words: str, part: str, case: str, figure: str, met: Callable[[float], bool]
) -> Aim:
    return Aim(words, case, spread(kept.of(part, "onthedot", case), figure), " s", 3, met)


def _waiting(kept: Kept) -> Iterator[Aim]:
    """Caches fill with the first thousands of tasks; what comes beyond them is what tasks cost."""
    cases = kept.cases("scale")[-2:]
    found = [spread(kept.of("scale", "onthedot", case), "memory") for case in cases]
    if len(found) == 2 and found[0] and found[1]:
        fewer, more = (int(case.split()[0]) for case in cases)
        each = (found[1].middle - found[0].middle) * 1024 / (more - fewer)
        words = "waiting tasks cost nothing but disk: under 1 KiB of memory for each more"
        where = f"from {fewer} to {more} tasks"
        yield Aim(words, where, Spread(each, each, each), " KiB", 2, lambda one: one < 1)
        words = "memory of a waiting task, counted from an empty installation"
        whole = spread(kept.of("scale", "onthedot", cases[1]), "memory of each")
        yield Aim(words, cases[1], whole, " KiB", 2, None)
        words = "CPU of an installation whose tasks only wait"
        for case in (kept.cases("scale")[0], cases[1]):
            idle = spread(kept.of("scale", "onthedot", case), "idle")
            yield Aim(words, case, idle, " ms a second", 0, None)


def _ratios(kept: Kept) -> Iterator[Aim]:
    """CPU a firing beside others, in each case that both were measured in."""
    words = "CPU a firing at most 1.3 times bare Temporal's"
    whole = "CPU of a one-time task from its registration on, beside bare Temporal's"
    for part, case in _firing_cases(kept):
        yield from _ratio(kept, words, part, case, "onthedot", "control", ["cpu"], most=1.3)
        if "one-time" in case:
            figures = ["cpu", "cpu registration"]
            yield from _ratio(kept, whole, part, case, "onthedot", "control", figures)
    words = "CPU a firing at most a third of Temporal Schedules'"
    bare = "bare Temporal's CPU a firing beside Temporal Schedules'"
    for part, case in _firing_cases(kept):
        if "one-time" not in case:  # of those it is a workflow with a delay: no schedule
            yield from _ratio(kept, words, part, case, "onthedot", "schedules", ["cpu"], most=1 / 3)
            yield from _ratio(kept, bare, part, case, "control", "schedules", ["cpu"])


def _firing_cases(kept: Kept) -> Iterator[tuple[str, str]]:
    for part in ("herd", "steady"):
        for case in kept.cases(part):
            yield part, case


def _ratio(
    kept: Kept,
    words: str,
    part: str,
    case: str,
    side: str,
    other: str,
    figures: Sequence[str],
    *,
    most: float | None = None,
) -> Iterator[Aim]:
    """What one side uses in sum, divided by what the other does: each ratio is of two neighbours.

    A machine that is shared is slower at some hours than at others, for both. One that does not keep
    up uses all that there is, and no more.
    """

    def used(one: Record) -> float:
        return sum(one.figures.get(name, float("nan")) for name in figures)

    pairs = kept.pairs(part, case, side, other)
    met = None if most is None else partial(ge, most)
    if pairs and not (pairs := [pair for pair in pairs if all(map(_kept_up, pair))]):
        yield Aim(words, case, None, "", 2, met, "no ratio: they did not keep up")
    if found := spread_of([used(ours) / used(theirs) for ours, theirs in pairs]):
        yield Aim(words, case, found, "", 2, met)


def _kept_up(one: Record) -> bool:
    """Without firings that never came; where they go on all the time, all but a few in time."""
    is_late = one.part == "steady" and one.figures["within 10"] <= 0.99
    return not one.figures["missing"] and not is_late


def _slowest(one: Record) -> float:
    return max(value for name, value in one.figures.items() if name != "disk")
