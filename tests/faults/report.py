"""What the scenarios found, as docs/reliability.md has it."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.verdict import Figures, Violation

BEGIN, END = "<!-- figures: written by make faults -->", "<!-- end of figures -->"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One scenario: what was done, under what, and what became of it."""

    fault: str
    load: str
    promise: str
    seconds: float
    figures: Figures | None  # None where the scenario broke off
    violations: Sequence[Violation] = ()
    broke_off: str | None = None


def table(findings: Sequence[Finding]) -> str:
    """One row a scenario, in Markdown."""
    rows = [
        "| fault | load | promise | occurrences | worst lag, s | p99, s | lost | doubled"
        " | repeated after a lost attempt | skipped, missed | kept | took, s |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    return "\n".join([*rows, *map(_row, findings)])


def summary(findings: Sequence[Finding], command: str) -> str:
    """The table, under what it was made, and what went wrong."""
    broken = [one for one in findings if one.violations or one.broke_off]
    verdict = f"{len(broken)} of {len(findings)} broke a promise" if broken else "all were kept"
    wrong = [
        f"- **{one.fault}**: {text}"
        for one in broken
        for text in [*map(str, one.violations[:5]), *([one.broke_off] if one.broke_off else [])]
    ]
    return "\n".join(
        [
            "",
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: {len(os.sched_getaffinity(0))} cores, "
            f"load {os.getloadavg()[0]:.1f} at the end; Onthedot {version('onthedot')}, "
            f"Python {platform.python_version()}, Temporal SDK {version('temporalio')}. "
            f"{len(findings)} scenarios: {verdict}.",
            "",
            table(findings),
            *(["", *wrong] if wrong else []),
        ]
    )


def write_page(page: Path, findings: Sequence[Finding], command: str) -> None:
    """Put the summary between the marks of ``page``."""
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    made = summary(findings, command)
    page.write_text(f"{head}{BEGIN}\n{made}\n\n{END}{tail}", encoding="utf-8")


def _row(one: Finding) -> str:
    cells = [one.fault, one.load, one.promise]
    if one.figures is None:
        cells += [""] * 7
    else:
        figures = one.figures
        cells += [
            f"{figures.occurrences}",
            f"{figures.worst_lag:.2f}",
            f"{figures.p99:.2f}",
            f"{figures.lost}",
            f"{figures.doubled}",
            f"{figures.lost_attempts}",
            f"{figures.skipped}, {figures.missed}",
        ]
    kept = "no" if one.violations or one.broke_off else "yes"
    return f"| {' | '.join([*cells, kept, f'{one.seconds:.0f}'])} |"
