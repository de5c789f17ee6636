"""The figures as a person reads them: a line for each, the tables, the page."""

import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import aims, plot
from bench.figures import LIMITS, Kept, Record, spread
from bench.sides import NOT_HERE, OFFERS, PROMISES

BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
_PICTURE = "images/benchmark.svg"

Column = tuple[str, Callable[[Sequence[Record]], str]]


def conditions(workers: int) -> str:
    """What the figures of a run depend on besides the code, as it is now."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {len(os.sched_getaffinity(0))} cores, {workers} worker "
        f"processes on each side, Python {platform.python_version()}"
    )


def line(one: Record) -> str:
    """One record, as soon as it is there."""
    name = f"{one.part}, {one.case}, {one.side}"
    if one.left_out:
        return f"{name}: left out, {one.left_out}"
    figures = ", ".join(f"{what} {_short(value)}" for what, value in one.figures.items())
    return "\n".join([f"{name}: {figures}", *(f"  PROBLEM: {text}" for text in one.problems)])


def summary(kept: Kept) -> str:
    """All that is kept, as text that is Markdown too."""
    parts = [_conditions(kept), aims.table(kept)]
    for part in ("herd", "steady"):
        parts += [_table(kept, part, case, _FIRING) for case in kept.cases(part)]
    if kept.of("registration"):
        parts.append(_registration(kept))
    if kept.of("scale"):
        parts.append(_by_case(kept, "scale", "Tasks that only wait", _SCALE))
    if kept.of("log"):
        parts.append(_log(kept))
    parts.append(_problems(kept))
    return "\n\n".join(part for part in parts if part)


def write_page(page: Path, kept: Kept) -> None:
    """Put the summary between the marks of ``page``, and the picture beside it."""
    picture = page.parent / _PICTURE
    drawn = plot.lags(kept)
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    shown = ""
    if drawn:
        picture.write_text(drawn, encoding="utf-8")
        shown = f"![Lags of each side, from the median to the longest]({_PICTURE})\n\n"
    body = f"{shown}{summary(kept)}\n\n{promises()}"
    page.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


def promises() -> str:
    """What each side is, and what it promises."""
    rows = [
        "**What each side promises**",
        "",
        "| side | version | durable | each run logged | a killed worker's run | once | recurring | source |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, offer in OFFERS.items():
        version = "" if offer.why_not() else offer.version()
        rows.append(f"| {offer.title} | {version} | " + " | ".join(PROMISES[name]) + " |")
    left = [f"Not measured: {name}: {why}." for name, why in NOT_HERE.items()]
    return "\n".join([*rows, "", *left])


def _conditions(kept: Kept) -> str:
    given = "; ".join(dict.fromkeys(one.conditions for one in kept.records))
    loads = [one.load for one in kept.records]
    load = f"load {min(loads):.1f}-{max(loads):.1f} in the minute before each" if loads else ""
    return f"Measured {given}; {load}. Medians, with the range where there are more runs."


def _problems(kept: Kept) -> str:
    """What went wrong, each with all places and in how many runs."""
    places: dict[str, Counter[str]] = {}
    for one in kept.records:
        for text in one.problems:
            places.setdefault(text, Counter())[f"{one.case}, {OFFERS[one.side].title}"] += 1
    rows = [
        f"- {text}: " + "; ".join(place + _times(runs) for place, runs in found.items())
        for text, found in places.items()
    ]
    return "\n".join(["**What went wrong meanwhile**", "", *rows]) if rows else ""


def _times(runs: int) -> str:
    return "" if runs == 1 else f" ({runs} runs)"


def _figure(name: str, digits: int, times: float = 1.0) -> Callable[[Sequence[Record]], str]:
    def cell(records: Sequence[Record]) -> str:
        found = spread(records, lambda one: one.figures.get(name, float("nan")) * times)
        return found.text(digits) if found else ""

    return cell


def _runs(records: Sequence[Record]) -> str:
    return str(len(records))


def _by_process(records: Sequence[Record]) -> str:
    prefix = "cpu of "
    found = [
        (name, spread(records, name)) for name in records[0].figures if name.startswith(prefix)
    ]
    return ", ".join(f"{name.removeprefix(prefix)} {one.middle:.1f}" for name, one in found if one)


_FIRING: list[Column] = [
    ("lag p50, s", _figure("lag p50", 3)),
    ("p99", _figure("lag p99", 3)),
    ("max", _figure("lag max", 3)),
    *((f"within {limit:g} s, %", _figure(f"within {limit:g}", 1, 100)) for limit in LIMITS),
    ("never", _figure("missing", 0)),
    ("CPU a firing, ms", _figure("cpu", 1)),
    ("beyond idle", _figure("cpu beyond idle", 1)),
    ("by process", _by_process),
    ("a registration, ms", _figure("cpu registration", 1)),
    ("memory, MiB", _figure("memory", 0)),
    ("runs", _runs),
]
_REGISTRATION: list[Column] = [
    ("registered a second", _figure("registered", 0)),
    ("CPU a registration, ms", _figure("cpu registration", 1)),
    ("runs", _runs),
]
_SCALE: list[Column] = [
    ("memory, MiB", _figure("memory", 0)),
    ("KiB of memory a task", _figure("memory of each", 1)),
    ("disk, MiB", _figure("disk", 0)),
    ("KiB of disk a task", _figure("disk of each", 1)),
    ("CPU idle, ms a second", _figure("idle", 0)),
    ("lag p50 among them, s", _figure("lag p50", 3)),
    ("max", _figure("lag max", 3)),
    ("list of tasks, ms", _figure("list", 1)),
    ("its page, ms", _figure("page", 1)),
    ("start-up, s", _figure("start-up", 1)),
    ("registered a second", _figure("registered", 0)),
    ("runs", _runs),
]


def _table(kept: Kept, part: str, case: str, columns: Sequence[Column]) -> str:
    """A row for each side."""
    rows, left_out = [], []
    for name, offer in OFFERS.items():
        records = kept.of(part, name, case)
        measured = [one for one in records if not one.left_out]
        if measured:
            rows.append(_row(offer.title, measured, columns))
        elif records:
            left_out.append(f"Left out: {offer.title}: {records[0].left_out}.")
    head = [*_head("side", columns), *rows, ""] if rows else []
    return "\n".join([f"**{case}**", "", *head, *left_out]).strip()


def _by_case(kept: Kept, part: str, title: str, columns: Sequence[Column]) -> str:
    """A row for each case, of Onthedot alone."""
    rows = [_row(case, kept.of(part, "onthedot", case), columns) for case in kept.cases(part)]
    return "\n".join([f"**{title}**", "", *_head("", columns), *rows])


def _registration(kept: Kept) -> str:
    tables = [
        _table(kept, "registration", case, _REGISTRATION) for case in kept.cases("registration")
    ]
    return "\n\n".join(text.replace("**", "**Registered ", 1) for text in tables)


def _log(kept: Kept) -> str:
    """A row for each page, a column for each length of the log."""
    cases = kept.cases("log")
    figures = list(kept.of("log", "onthedot", cases[-1])[0].figures)
    rows = []
    for name in figures:
        what = "disk, MiB" if name == "disk" else f"{name}, ms"
        cells = [_figure(name, 1)(kept.of("log", "onthedot", case)) for case in cases]
        rows.append(f"| {what} | " + " | ".join(cells) + " |")
    columns: list[Column] = [(case, str) for case in cases]
    return "\n".join(["**Pages of a long log**", "", *_head("page", columns), *rows])


def _row(name: str, records: Sequence[Record], columns: Sequence[Column]) -> str:
    return f"| {name} | " + " | ".join(cell(records) for _, cell in columns) + " |"


def _head(first: str, columns: Sequence[Column]) -> list[str]:
    return [
        f"| {first} | " + " | ".join(title for title, _ in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
