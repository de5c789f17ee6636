"""The picture of the page: for each side a line from the median lag to the longest, p99 as a dot."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.figures import Kept, spread
from bench.sides import OFFERS

_LEFT, _RIGHT, _ROW, _HEAD, _WIDTH = 150, 90, 22, 44, 760
_LEAST, _MOST = -3, 3  # powers of ten of a second
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #d0d7de } .range { stroke: #8c959f; stroke-width: 6; stroke-linecap: round }
  .range.ours { stroke: #0969da } .dot { fill: #24292f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #8d96a0 } .grid { stroke: #30363d }
    .range { stroke: #6e7681 } .range.ours { stroke: #4493f8 } .dot { fill: #e6edf3 }
  }
"""


def lags(kept: Kept) -> str | None:
    """The picture as SVG, readable on a light and on a dark page; None without figures."""
    cases = kept.cases("herd", "steady")
    groups = [(case, list(_rows(kept, case))) for case in cases]
    groups = [(case, rows) for case, rows in groups if len(rows) > 1]
    if not groups:
        return None
    lines, top = [], 0
    for case, rows in groups:
        lines += _group(case, rows, top)
        top += _HEAD + len(rows) * _ROW + 12
    label = "Lag of each side: a line from the median to the longest, with p99 as a dot"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img" '
            f'aria-label="{label}">',
            f"<style>{_STYLE}</style>",
            *lines,
            "</svg>",
            "",
        ]
    )


Row = tuple[str, bool, float, float, float]  # title, ours, median, p99, longest


def _rows(kept: Kept, case: str) -> Iterator[Row]:
    for name, offer in OFFERS.items():
        records = kept.of("herd", name, case) + kept.of("steady", name, case)
        found = [spread(records, f"lag {what}") for what in ("p50", "p99", "max")]
        if all(found):
            middle, p99, most = (one.middle for one in found if one)
            yield offer.title, name == "onthedot", middle, p99, most


def _group(case: str, rows: Sequence[Row], top: int) -> list[str]:
    bottom = top + _HEAD + len(rows) * _ROW
    lines = [f'<text class="title" x="4" y="{top + 18}">{escape(case)}</text>']
    for power in range(_LEAST, _MOST + 1):
        x = _x(10.0**power)
        words = f"{10.0**power:g} s" if power >= 0 else f"{10 ** (power + 3)} ms"
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top + _HEAD - 6}" y2="{bottom}"/>')
        lines.append(
            f'<text class="small" text-anchor="middle" x="{x}" y="{top + _HEAD - 12}">{words}</text>'
        )
    for number, (title, ours, middle, p99, most) in enumerate(rows):
        y = top + _HEAD + number * _ROW + _ROW // 2
        range_ = "range ours" if ours else "range"
        lines += [
            f'<text x="4" y="{y + 4}">{escape(title)}</text>',
            f'<line class="{range_}" x1="{_x(middle)}" x2="{_x(most)}" y1="{y}" y2="{y}"/>',
            f'<circle class="dot" cx="{_x(p99)}" cy="{y}" r="4"/>',
            f'<text class="small" x="{_WIDTH - _RIGHT + 12}" y="{y + 4}">p99 {p99:.3g} s</text>',
        ]
    return lines


def _x(seconds: float) -> float:
    """Where a lag is, on a scale of powers of ten."""
    power = min(max(math.log10(max(seconds, 1e-9)), _LEAST), _MOST)
    return round(_LEFT + (power - _LEAST) / (_MOST - _LEAST) * (_WIDTH - _LEFT - _RIGHT), 1)
