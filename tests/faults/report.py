"""What the scenarios found, as docs/reliability.md has it; docs/reliability.json keeps it."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.verdict import Figures

BEGIN, END = "<!-- figures: written by make faults -->", "<!-- end of figures -->"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One scenario: what was done, under what, and what became of it."""

    fault: str
    load: str
    promise: str
    played: str  # under what, and when
    seconds: float
    figures: Figures | None  # None where the scenario broke off
    violations: Sequence[str] = ()
    broke_off: str | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.fault, self.load


def conditions() -> str:
    """What the figures depend on besides the code, as it is now."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores, Onthedot "
        f"{version('onthedot')}, Python {platform.python_version()}, Temporal SDK "
        f"{version('temporalio')}"
    )


def table(findings: Sequence[Finding]) -> str:
    """One row a scenario, in Markdown."""
    rows = [
        "| fault | load | promise | occurrences | worst lag, s | p99, s | lost | doubled"
        " | repeated after a lost attempt | skipped, missed | kept | took, s |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    return "\n".join([*rows, *map(_row, findings)])


def summary(findings: Sequence[Finding]) -> str:
    """The table, under what it was made, and what went wrong."""
    played = "; ".join(dict.fromkeys(one.played for one in findings))
    broken = [one for one in findings if one.violations or one.broke_off]
    verdict = f"{len(broken)} of {len(findings)} broke a promise" if broken else "all were kept"
    wrong = [
        f"- **{one.fault}**: {text}"
        for one in broken
        for text in [*one.violations[:5], *([one.broke_off] if one.broke_off else [])]
    ]
    return "\n".join(
        [
            "",
            f"Played {played}. {len(findings)} scenarios: {verdict}.",
            "",
            table(findings),
            *(["", *wrong] if wrong else []),
        ]
    )


def write_page(page: Path, findings: Sequence[Finding], *, all_played: bool) -> None:
    """Put the summary between the marks of ``page``, and what it is made of beside it.

    What is kept there of other scenarios stays, unless all were played.
    """
    beside = page.with_suffix(".json")
    found = {one.name: one for one in [*([] if all_played else _read(beside)), *findings]}
    kept = json.dumps([asdict(one) for one in found.values()], indent=1)
    beside.write_text(kept + "\n", encoding="utf-8")
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    made = summary(list(found.values()))
    page.write_text(f"{head}{BEGIN}\n{made}\n\n{END}{tail}", encoding="utf-8")


def _read(path: Path) -> list[Finding]:
    if not path.exists():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [
        Finding(**{**one, "figures": one["figures"] and Figures(**one["figures"])}) for one in kept
    ]


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
