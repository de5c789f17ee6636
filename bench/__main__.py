"""``python -m bench``: Onthedot beside bare Temporal and its peers, on one machine in one run."""

import argparse
import asyncio
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from bench import firing, logpages, registration, report, scale
from bench.figures import Kept, Record
from bench.plan import Action, Kind
from bench.processes import ROOT
from bench.sides import AT_ALL_SIZES, OFFERS

PARTS = ("herd", "steady", "registration", "scale", "log")
_PAGE = ROOT / "docs" / "benchmark.md"
_FIGURES = ROOT / "docs" / "benchmark.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    parts: Sequence[str]
    sides: Sequence[str]
    tasks: Sequence[int]
    kinds: Sequence[Kind]
    rates: Sequence[int]
    seconds: int
    register: int
    sizes: Sequence[int]
    rows: Sequence[int]
    work: Sequence[Action]
    rounds: int
    workers: int
    all_sizes: bool
    missing: bool
    fresh: bool
    json: Path | None
    page: Path | None


@dataclass(frozen=True)
class Step:
    """One side in one case of a part."""

    part: str
    side: str
    case: str
    measure: Callable[[], AsyncIterator[Record]]


def steps(options: Options) -> Iterator[Step]:
    """All of one round, the sides by turns."""
    for case, first in _cases(options):
        for name in options.sides:
            if first or options.all_sizes or name in AT_ALL_SIZES:
                measure = partial(firing.measure, case, OFFERS[name], options.workers)
                yield Step(case.part, name, case.name, measure)
    if "registration" in options.parts:
        for name in options.sides:
            register = partial(
                registration.measure, OFFERS[name], options.workers, options.register
            )
            yield Step("registration", name, registration.SINGLE, register)
    if "onthedot" in options.sides:
        grow = partial(scale.measure, options.workers, options.sizes)
        fill = partial(logpages.measure, options.workers, options.rows)
        if "scale" in options.parts:
            yield Step("scale", "onthedot", f"{options.sizes[-1]} tasks wait", grow)
        if "log" in options.parts:
            yield Step("log", "onthedot", f"{options.rows[-1]} rows", fill)


def _cases(options: Options) -> Iterator[tuple[firing.Case, bool]]:
    """Those of the parts that fire, and whether a case has the first of the sizes."""
    for action in options.work:
        if "herd" in options.parts:
            for tasks in options.tasks:
                for kind in options.kinds:
                    yield firing.herd(kind, tasks, action), tasks == options.tasks[0]
        if "steady" in options.parts:
            for rate in options.rates:
                yield firing.steady(rate, options.seconds, action), rate == options.rates[0]


async def run(options: Options, kept: Kept) -> bool:
    """Measure all, and keep each figure as soon as it is there; whether Onthedot did it right."""
    conditions, is_right = report.conditions(options.workers), True
    _say(conditions)
    for round_ in range(1, options.rounds + 1):
        for step in steps(options):
            if options.missing and kept.has(step.part, step.side, step.case):
                continue
            load = round(os.getloadavg()[0], 1)
            async for record in _taken(step):
                kept.add(replace(record, conditions=conditions, load=load))
                is_right &= record.side != "onthedot" or not record.problems
                _say(f"[{round_}/{options.rounds}] {report.line(record)}")
    return is_right


async def _taken(step: Step) -> AsyncIterator[Record]:
    """The records of a step; where it cannot be taken or breaks, one that says why."""
    why = OFFERS[step.side].why_not()
    try:
        if why is None:
            async for record in step.measure():
                yield record
    except Exception as error:
        if step.side == "onthedot":
            raise
        traceback.print_exc()
        why = f"it broke: {error}".splitlines()[0][:200]
    if why is not None:
        yield Record(part=step.part, side=step.side, case=step.case, left_out=why)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _main(options: Options) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _end, asyncio.current_task())
    if options.fresh and options.json:
        options.json.unlink(missing_ok=True)
    kept = Kept(options.json)
    is_right = await run(options, kept)
    _say(report.summary(kept))
    if options.page:
        report.write_page(options.page, kept)
    return 0 if is_right else 1


def _end(task: asyncio.Task[int]) -> None:
    task.cancel()


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--parts", type=_some(PARTS), default=PARTS, help=f"of {', '.join(PARTS)}")
    add("--sides", type=_some(OFFERS), default=tuple(OFFERS), help=f"of {', '.join(OFFERS)}")
    add("--tasks", type=_numbers, default=(1000, 2000), help="sizes of the herd (1000,2000)")
    add("--kinds", type=_some(get_args(Kind)), default=get_args(Kind), help="once,recurring")
    add("--rates", type=_numbers, default=(50,), help="steady firings a second (50)")
    add("--seconds", type=_number, default=60, help="of steady firing (60)")
    add("--register", type=_number, default=1000, help="tasks that are registered (1000)")
    add("--sizes", type=_numbers, default=(1000, 10_000), help="waiting tasks (1000,10000)")
    add("--rows", type=_numbers, default=(100_000, 1_000_000), help="of the log (100000,1000000)")
    add("--work", type=_some(get_args(Action)), default=("noop",), help="noop,http (noop)")
    add("--rounds", type=int, default=1, help="of everything (1); 0: make the page anew")
    add("--workers", type=_number, default=len(os.sched_getaffinity(0)), help="processes (cores)")
    add("--all-sizes", action="store_true", help="measure the peers at all sizes and rates, too")
    add("--missing", action="store_true", help="leave out what the file of figures has")
    add("--fresh", action="store_true", help="forget what the file of figures has")
    add("--json", type=Path, default=_FIGURES, help="the file that figures are added to")
    add("--page", type=Path, default=_PAGE, help="the page that is made of all figures")
    add("--no-page", dest="page", action="store_const", const=None)
    add("--quick", action="store_true", help="small numbers that mean nothing, and no page")
    add("--whole", action="store_true", help="all sides at all sizes and rates, with both works")
    if "--quick" in arguments:
        parser.set_defaults(tasks=(20,), rates=(5,), seconds=20, register=50, sizes=(50,))
        parser.set_defaults(rows=(1000, 10_000), json=None, page=None)
    if "--whole" in arguments:
        parser.set_defaults(tasks=(100, 1000, 2000, 5000), rates=(20, 50, 100), seconds=120)
        parser.set_defaults(sizes=(1000, 10_000, 50_000), work=("noop", "http"), all_sizes=True)
    given = vars(parser.parse_args(arguments))
    del given["quick"], given["whole"]
    return Options(**given)


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 1 on")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(_number(one) for one in text.split(",")))


def _some(known: Sequence[str] | object) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if unknown := [name for name in chosen if name not in known]:  # type: ignore[operator]
            words = ", ".join(known)  # type: ignore[arg-type]
            raise argparse.ArgumentTypeError(f"{unknown[0]}: give one or more of {words}")
        return chosen

    return read


async def _run_and_leave() -> None:
    code = await _main(_options(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(code)  # the SDK's core can abort an interpreter that is wound up


if __name__ == "__main__":
    try:
        asyncio.run(_run_and_leave())
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("ended; figures that were measured are kept")
        os._exit(130)
