"""The figures as a person reads them: a line a herd, the table, the page."""

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.figures import LIMITS, Kind, Measurement, Spread, spread
from onthedot import temporal_server

BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"

#: What is aimed at, for 1,000 tasks that are due at once.
MOST_P99, MOST_CPU_RATIO, LEAST_REGISTERED = 0.1, 1.5, 100.0


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the figures depend on besides the code."""

    command: str
    date: str
    cores: int
    workers: int
    versions: str
    load_before: float
    load_after: float | None = None


def conditions(workers: int, arguments: Sequence[str]) -> Conditions:
    """As they are now."""
    server = subprocess.run(  # noqa: S603 - the program of our own installation
        [temporal_server.find(), "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return Conditions(
        command=" ".join(["python -m bench.herd", *arguments]),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=len(os.sched_getaffinity(0)),
        workers=workers,
        versions=f"Onthedot {version('onthedot')}, Python {platform.python_version()}, "
        f"Temporal SDK {version('temporalio')}, {server}",
        load_before=os.getloadavg()[0],
    )


def finished(before: Conditions) -> Conditions:
    """The same, when all is measured."""
    return replace(before, load_after=os.getloadavg()[0])


def heading(now: Conditions) -> str:
    return (
        f"{now.cores} cores, {now.workers} workers on each side, load {now.load_before:.1f}; "
        f"{now.versions}"
    )


def line(one: Measurement) -> str:
    """One herd, as soon as it is measured."""
    lag = ", ".join(
        f"{name} {one.lag(share):.3f} s"
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    )
    cpu = ", ".join(f"{part} {used:.1f}" for part, used in one.per_firing().items())
    begun = f"{len(one.lags)} of {one.firings} started"
    text = (
        f"round {one.round} {one.kind:8} {one.side:8} {begun}; lag {lag}; "
        f"{one.registered_per_second:.0f} registered/s; CPU a firing {_total(one):.1f} ms "
        f"({cpu}; {_beyond_idle(one):.1f} beyond idle)"
    )
    return "\n".join([text, *(f"  PROBLEM: {problem}" for problem in one.problems)])


def summary(measured: Sequence[Measurement], now: Conditions) -> str:
    """The tables and what is aimed at, as text that is Markdown too."""
    rounds = max(one.round for one in measured)
    kinds = list(dict.fromkeys(one.kind for one in measured))
    parts = [_table(measured, kind) for kind in kinds]
    problems = [problem for one in measured for problem in one.problems]
    verdict = f"{len(problems)} problems, see above." if problems else "No row missing or doubled."
    return "\n".join(
        [
            "",
            f"`{now.command}`, {now.date}: {heading(now)} (afterwards {now.load_after:.1f}). "
            f"The median of {rounds} round{'s' * (rounds > 1)}, and the range. {verdict}",
            "",
            "\n\n".join(parts),
            "",
            _aims(measured, kinds),
        ]
    )


def write_page(page: Path, measured: Sequence[Measurement], now: Conditions) -> None:
    """Put the summary between the marks of ``page``."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{summary(measured, now)}\n\n{END}{tail}", encoding="utf-8")


_WORDS: dict[Kind, str] = {"once": "one-time tasks", "interval": "recurring tasks"}


def _table(measured: Sequence[Measurement], kind: Kind) -> str:
    ours = [one for one in measured if (one.side, one.kind) == ("onthedot", kind)]
    theirs = [one for one in measured if (one.side, one.kind) == ("control", kind)]
    due = f", {ours[0].due} firings counted" if ours[0].due > 1 else ""
    rows = [
        f"**{ours[0].tasks} {_WORDS[kind]} due in the same second{due}**",
        "",
        "| figure | Onthedot | control |",
        "| --- | ---: | ---: |",
    ]
    for name, digits, figure in _rows(ours[0]):
        both = [_cell(side, figure, digits) for side in (ours, theirs)]
        rows.append(f"| {name} | {both[0]} | {both[1]} |")
    return "\n".join(rows)


_Figure = Callable[[Measurement], float]


def _rows(sample: Measurement) -> list[tuple[str, int, _Figure]]:
    rows: list[tuple[str, int, _Figure]] = [
        ("lag p50, s", 3, lambda one: one.lag(0.5)),
        ("lag p99, s", 3, lambda one: one.lag(0.99)),
        ("lag max, s", 3, lambda one: one.lag(1)),
    ]
    for limit in LIMITS:
        share: _Figure = lambda one, limit=limit: one.within(limit) * 100  # type: ignore[misc] # noqa: E731
        rows.append((f"started within {limit:g} s, %", 1, share))
    rows += [
        ("CPU a firing, ms", 1, _total),
        ("... beyond idle", 1, _beyond_idle),
        *((f"... {part}", 1, _of(part)) for part in sample.firing),
        ("CPU idle, ms a second", 0, lambda one: sum(one.idle.values()) * 1000),
        ("registered a second", 0, lambda one: one.registered_per_second),
        ("CPU a registration, ms", 1, _registration),
        *([("CPU in all, ms", 1, _whole_life)] if sample.kind == "once" else []),
        ("memory, MiB", 0, lambda one: sum(one.memory.values()) / 2**20),
    ]
    return rows


def _of(part: str) -> _Figure:
    return lambda one: one.per_firing().get(part, float("nan"))


def _cell(side: Sequence[Measurement], figure: _Figure, digits: int) -> str:
    found = spread(side, figure)
    return "" if found.middle != found.middle else found.text(digits)


def _aims(measured: Sequence[Measurement], kinds: Sequence[Kind]) -> str:
    rows = ["| aim | " + " | ".join(kinds) + " |", "| --- |" + " ---: |" * len(kinds)]
    p99 = f"lag p99 under {MOST_P99} s"
    cpu = f"CPU a firing at most {MOST_CPU_RATIO} times the control's"
    speed = f"at least {LEAST_REGISTERED:.0f} registrations a second"
    cells: dict[str, list[str]] = {p99: [], cpu: [], speed: []}
    for kind in kinds:
        ours = [one for one in measured if (one.side, one.kind) == ("onthedot", kind)]
        theirs = [one for one in measured if (one.side, one.kind) == ("control", kind)]
        lag, bare_lag = (spread(side, lambda one: one.lag(0.99)).middle for side in (ours, theirs))
        cells[p99].append(
            _verdict(lag < MOST_P99, f"{lag:.3f} s; the control's is {bare_lag / lag:.1f} times it")
        )
        ratio = _ratio(ours, theirs)
        cells[cpu].append(_verdict(ratio.middle <= MOST_CPU_RATIO, ratio.text(2)))
        rate = spread(ours, lambda one: one.registered_per_second)
        cells[speed].append(_verdict(rate.middle >= LEAST_REGISTERED, rate.text(0)))
    return "\n".join([*rows, *(f"| {aim} | " + " | ".join(cells[aim]) + " |" for aim in cells)])


def _ratio(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> Spread:
    """CPU a firing beside the control's of the same round."""
    bare = {one.round: _total(one) for one in theirs}
    return spread(ours, lambda one: _total(one) / bare[one.round])


def _verdict(met: bool, text: str) -> str:
    return f"{'met' if met else 'MISSED'}: {text}"


def _total(one: Measurement) -> float:
    return sum(one.per_firing().values())


def _beyond_idle(one: Measurement) -> float:
    return sum(one.per_firing_beyond_idle().values())


def _registration(one: Measurement) -> float:
    return sum(one.per_registration().values())


def _whole_life(one: Measurement) -> float:
    """What a one-time task costs from its registration to its end."""
    return _registration(one) + _total(one)
