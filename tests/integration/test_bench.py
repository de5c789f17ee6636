"""The benchmark itself, on a herd so small that its figures mean nothing."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import product
from bench.plan import Herd

ROOT = Path(__file__).parents[2]
N = 5


def test_every_task_of_a_herd_has_one_succeeded_row(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = [f"--tasks={N}", "--rounds=1", "--kinds=once", "--workers=1", "--no-page"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.herd", *options, f"--json={figures}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {one["side"]: one for one in json.loads(figures.read_text())["measured"]}
    assert set(measured) == {"onthedot", "control"}
    for one in measured.values():
        assert one["problems"] == []
        assert len(one["lags"]) == N
        assert min(one["lags"]) > -0.001
    assert set(measured["onthedot"]["firing"]) >= {"engine", "workers", "web", "postgres"}
    for row in ("lag p99, s", "CPU a firing, ms", "registered a second", "aim", "PROBLEM"):
        assert (row in done.stdout) is (row != "PROBLEM")


def test_missing_doubled_and_failed_rows_are_problems() -> None:
    herd = Herd(kind="once", round=1, tasks=4, first=1_900_000_000.0)
    due = datetime.fromtimestamp(herd.first, UTC)
    good, doubled, failed, missing = herd.names
    rows: list[product.Row] = [
        (good, due, "succeeded", 1, 0.5),
        (doubled, due, "succeeded", 1, 0.5),
        (doubled, due, "succeeded", 1, 0.5),
        (failed, due, "failed", 1, 0.5),
        (good, due + timedelta(seconds=1), "succeeded", 1, 0.5),
    ]
    found = product.check(herd, rows)
    assert len(found) == 4
    for name, words in ((doubled, "too many"), (failed, "failed"), (missing, "no row")):
        assert any(name in problem and words in problem for problem in found)
