"""The benchmark itself, on numbers so small that its figures mean nothing."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from croniter import croniter

from bench import aims, plot, product, report
from bench.figures import Kept, Record, lag_figures
from bench.peers import cron_fields
from bench.plan import Work

ROOT = Path(__file__).parents[2]
N = 5


def test_every_task_of_a_herd_is_called_and_has_one_succeeded_row(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--parts=herd", f"--tasks={N}", "--kinds=once", "--workers=1", "--no-page"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options, "--sides=onthedot,control", f"--json={figures}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {one["side"]: one for one in json.loads(figures.read_text())}
    assert set(measured) == {"onthedot", "control"}
    for one in measured.values():
        assert one["problems"] == []
        assert one["figures"]["missing"] == 0
        assert one["figures"]["lag p50"] > -0.001
        assert one["figures"]["cpu of engine"] > 0
    assert "| bare Temporal |" in done.stdout


@pytest.mark.parametrize("every", [10, 60, 300])
def test_peers_are_given_what_is_due_when_it_shall_be(every: int) -> None:
    for start in range(1_900_000_000, 1_900_000_700, 37):
        seconds, minutes = cron_fields(start, every)
        cron = f"{seconds} {minutes} * * * *"
        due = croniter(cron, start - 1, second_at_beginning=True)
        assert [due.get_next(), due.get_next()] == [start, start + every]


def test_missing_doubled_and_failed_rows_are_problems() -> None:
    work = Work(label="herd", tasks=4, first=1_900_000_000)
    due = datetime.fromtimestamp(work.first, UTC)
    good, doubled, failed, missing = work.names
    rows: list[product.Row] = [
        (good, due, "succeeded", 1),
        (doubled, due, "succeeded", 1),
        (doubled, due, "succeeded", 1),
        (failed, due, "failed", 1),
        (good, due + timedelta(seconds=1), "succeeded", 1),
    ]
    found = product.check(work, rows)
    assert len(found) == 4
    for name, words in ((doubled, "too many"), (failed, "failed"), (missing, "no row")):
        assert any(name in problem and words in problem for problem in found)


def test_lags_are_those_of_the_first_calls_after_a_task_is_due() -> None:
    work = Work(label="steady", tasks=2, first=1000, every=10, times=2, seconds=10)
    called = {
        "steady-00000": [940.0, 1000.25, 1010.5, 1020.0],  # before it was due, and once more
        "steady-00001": [1001.75],
    }
    figures = lag_figures(work, called)
    assert (figures["lag p50"], figures["lag max"], figures["missing"]) == (0.5, 0.75, 1)
    assert (figures["within 0.1"], figures["within 1"]) == (0, 0.75)


def test_figures_of_several_runs_are_kept_and_summed_up(tmp_path: Path) -> None:
    file, case = tmp_path / "figures.json", "1000 one-time tasks, noop"
    lags = {"lag p50": 0.01, "lag p99": 0.02, "lag max": 0.03, "missing": 0}
    for p99 in (0.02, 0.04, 0.03):
        kept = Kept(file)
        figures = {**lags, "lag p99": p99}
        lost = ["9 firings are missing"] if p99 > 0.02 else []
        kept.add(Record(part="herd", side="onthedot", case=case, figures=figures, problems=lost))
    kept.add(Record(part="herd", side="control", case=case, left_out="not today"))
    assert "Left out: bare Temporal: not today." in report.summary(Kept(file))
    kept.add(Record(part="herd", side="control", case=case, figures=lags))
    text = report.summary(Kept(file))
    assert "0.030 (0.020-0.040)" in text
    assert f"\n- 9 firings are missing: {case}, Onthedot (2 runs)" in text
    assert "not today" not in text
    assert "p99 0.03 s" in (plot.lags(kept) or "")


def test_sides_are_held_against_those_that_were_measured_beside_them() -> None:
    """A slow hour is no ratio: it slows both."""
    kept = Kept(None)
    for side, cpu in [("control", 10), ("onthedot", 12), ("onthedot", 39), ("control", 30)]:
        kept.add(Record(part="herd", side=side, case="9 tasks", figures={"cpu": cpu, "missing": 0}))
    kept.add(Record(part="herd", side="control", case="8 tasks", figures={"cpu": 1}))
    kept.add(Record(part="herd", side="onthedot", case="9 tasks", figures={"cpu": 99}))
    pairs = kept.pairs("herd", "9 tasks", "onthedot", "control")
    assert sorted((one.figures["cpu"], two.figures["cpu"]) for one, two in pairs) == [
        (12, 10),
        (39, 30),
    ]
    assert "met: 1.25 (1.20-1.30)" in aims.table(kept)


def test_sides_that_did_not_keep_up_have_no_ratio() -> None:
    kept = Kept(None)
    for part, late in [("herd", {"missing": 1}), ("steady", {"missing": 0, "within 10": 0.9})]:
        in_time = {"cpu": 1, "missing": 0, "within 10": 1}
        kept.add(Record(part=part, side="control", case=part, figures={**in_time, **late}))
        kept.add(Record(part=part, side="onthedot", case=part, figures=in_time))
        rows = [row for row in aims.table(kept).splitlines() if f"| {part} |" in row]
        assert rows
        assert all("no ratio: they did not keep up" in row for row in rows)
