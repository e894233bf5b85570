"""The benchmarks run, and measure what the table of goals names. Counts are asserted, never times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import GROUPS, LONG, OURS, THEIRS, figures_table, goals_table, judged, ratio, run_script
from benchmarks.goals import GOALS, Goal
from benchmarks.plots import PICTURES
from benchmarks.scaling import CURVES

ROOT = Path(__file__).parent.parent.parent.parent
# Sizes of a smoke run give other names to what depends on the number of workers.
ONLY_FULL = {"idle_64_cpu_percent", "idle_200_cpu_percent", "inprocess_200_us_per_task"}

found: dict[str, float] = {}


@pytest.mark.parametrize("group", [*GROUPS, *LONG, "pools ProcessPoolExecutor", "pools multiprocessing.Pool"])
def test_workload_runs(group: str) -> None:
    figures = run_script(sys.executable, group, smoke=True)
    assert figures
    assert all(value >= 0 for value in figures.values())
    if not group.startswith("pools"):
        found.update(figures)


def test_every_goal_is_measured() -> None:
    if len(found) < 20:
        pytest.skip("the workloads were not run in this process")
    assert {goal.figure for goal in GOALS} - ONLY_FULL <= found.keys()


def test_ratios_say_how_many_times_better() -> None:
    assert ratio("x_tasks_per_s", {"x_tasks_per_s": 10}, {"x_tasks_per_s": 2}) == 5
    assert ratio("x_s", {"x_s": 1}, {"x_s": 3}) == 3
    assert ratio("x_s", {"x_s": 1}, {}) is None
    goal = Goal("a", 1.3, 1.1, "value", of="b")
    assert judged(goal, {"a": 6, "b": 5}, {}) == pytest.approx(1.2)
    assert goal.met(1.2, goal.must) and not goal.met(1.2, goal.goal)


def test_tables() -> None:
    ours, theirs = {"import_s": 0.1, "latency_median_us": 600.0}, {"import_s": 0.25, "latency_median_us": 9000.0}
    text = goals_table(ours, theirs)
    assert "| import_s | 2x | 3x | 2.5x | must |" in text
    assert "| latency_median_us | 500 | 120 | 600 | **missed** |" in text
    assert "| import_s | 0.1 | 0.25 | 2.5x |" in figures_table({OURS: ours, THEIRS: theirs})


@pytest.mark.parametrize("module", ["core_scheduler", "core_worker", "core_codec"])
def test_cores_alone(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "2000"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "us/task" in done.stdout


def test_every_curve_has_its_point_and_its_picture(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "benchmarks.scaling", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(CURVES) == set(PICTURES) == results.keys() - {"machine"}
    for name, panels in PICTURES.items():
        (point,) = results[name].values()
        drawn = {figure for picture in panels for figure in picture.lines}
        assert drawn <= point.keys() and all(value >= 0 for value in point.values())
        assert f"{name} 1/1" in done.stderr
