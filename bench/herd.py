"""``python -m bench.herd``: a herd of tasks that are due in the same second, beside the control."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from bench import control, product, report
from bench.figures import Kind, Measurement

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmark.md"


@dataclass(frozen=True)
class Options:
    tasks: int
    rounds: int
    kinds: Sequence[Kind]
    workers: int
    json: Path | None
    page: Path | None


async def run(options: Options) -> list[Measurement]:
    """All measurements, Onthedot and the control by turns."""
    measured: list[Measurement] = []
    for round_ in range(1, options.rounds + 1):
        for side in (product, control):
            with _folder() as folder:
                async with side.running(folder, options.workers) as running:
                    for kind in options.kinds:
                        one = await running.measure(kind, round_, options.tasks)
                        measured.append(one)
                        _say(report.line(one))
    return measured


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that also the account which Postgres runs as may go to."""
    with tempfile.TemporaryDirectory(prefix="onthedot-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _main(options: Options) -> int:
    conditions = report.conditions(options.workers, sys.argv[1:])
    _say(report.heading(conditions))
    measured = await run(options)
    conditions = report.finished(conditions)
    _say(report.summary(measured, conditions))
    if options.json:
        figures = {"conditions": asdict(conditions), "measured": [asdict(one) for one in measured]}
        await asyncio.to_thread(options.json.write_text, json.dumps(figures, indent=1), "utf-8")
    if any(one.problems for one in measured):
        return 1
    if options.page:
        await asyncio.to_thread(report.write_page, options.page, measured, conditions)
    return 0


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.herd",
        description="Tasks that are due in the same second, beside bare Temporal workflows.",
    )
    parser.add_argument("--tasks", type=_positive, default=1000, help="due together (1000)")
    parser.add_argument("--rounds", type=_positive, default=2, help="of both by turns (2)")
    parser.add_argument("--kinds", type=_kinds, default=get_args(Kind), help="once,interval")
    parser.add_argument(
        "--workers", type=_positive, default=len(os.sched_getaffinity(0)), help="processes (cores)"
    )
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page to write the table into")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None)
    return Options(**vars(parser.parse_args(arguments)))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 1 on")
    return number


def _kinds(text: str) -> Sequence[Kind]:
    known = {str(kind): kind for kind in get_args(Kind)}
    if unknown := [name for name in text.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: give one or more of {', '.join(known)}")
    return [known[name] for name in text.split(",")]


async def _run_and_leave() -> None:
    code = await _main(_options(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(code)  # the SDK's core can abort an interpreter that is wound up


if __name__ == "__main__":
    asyncio.run(_run_and_leave())
