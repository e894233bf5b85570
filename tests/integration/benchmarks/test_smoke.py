"""The benchmarks run, and measure what the table of goals names. Counts are asserted, never times."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import GROUPS, plan, run, run_script
from benchmarks.goals import GOALS, Goal
from benchmarks.plots import PICTURES
from benchmarks.report import figures_table, goals_table, judged, medians, ratio
from benchmarks.scaling import CURVES
from benchmarks.stolen import share_stolen
from benchmarks.systems import OURS, THEIRS, System

ROOT = Path(__file__).parent.parent.parent.parent
# Sizes of a smoke run give other names to what depends on the number of workers.
ONLY_FULL = {"idle_64_cpu_percent", "idle_200_cpu_percent", "inprocess_200_us_per_task"}

found: dict[str, float] = {}


@pytest.mark.parametrize("group", [*GROUPS, "pools ProcessPoolExecutor", "pools multiprocessing.Pool"])
def test_workload_runs(group: str) -> None:
    figures = run_script(sys.executable, group, smoke=True)
    assert figures
    assert all(value >= 0 for value in figures.values())
    if not group.startswith("pools"):
        found.update(figures)


def test_every_goal_is_measured() -> None:
    if len(found) < 20:
        pytest.skip("the workloads were not run in this process")
    wanted = {goal.figure for goal in GOALS} - ONLY_FULL
    assert not [figure for figure in wanted if not fnmatch.filter(found, figure)]


def test_ratios_are_of_rounds_and_say_how_many_times_better() -> None:
    assert ratio("x_tasks_per_s", [{"x_tasks_per_s": 10}], [{"x_tasks_per_s": 2}]) == 5
    ours, theirs = [{"x_s": 1.0}, {"x_s": 2.0}, {"x_s": 4.0}], [{"x_s": 3.0}, {"x_s": 8.0}, {"x_s": 20.0}]
    assert ratio("x_s", ours, theirs) == 4
    assert ratio("x_s", ours, [{}, {"x_s": 2.0}, {}]) == 1
    assert ratio("x_s", ours, []) is None
    assert medians([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": 2, "b": 5}
    goal = Goal("a", 1.3, 1.1, "value", of="b")
    assert judged(goal, {OURS: [{"a": 6.0, "b": 5.0}]}) == pytest.approx(1.2)
    assert goal.met(1.2, goal.must) and not goal.met(1.2, goal.goal)
    against = Goal("x_tasks_per_s", 1, 1, against="loky")
    assert judged(against, {OURS: [{"x_tasks_per_s": 9.0}], "loky": [{"x_tasks_per_s": 3.0}]}) == 3


def test_many_figures_have_one_mean_and_one_least_ratio() -> None:
    ours, theirs = {"a_wall_s": 1.0, "b_wall_s": 2.0, "c_s": 1.0}, {"a_wall_s": 2.0, "b_wall_s": 16.0, "c_s": 0.1}
    results = {OURS: [ours], THEIRS: [theirs]}
    assert judged(Goal("*_wall_s", 2, 5, "mean ratio"), results) == pytest.approx(4)
    least = Goal("*_wall_s", 1, 3, "least ratio")
    assert judged(least, results) == 2 and least.met(2, least.must) and not least.met(2, least.goal)
    assert judged(least, {OURS: [ours]}) is None
    assert least.name == "*_wall_s, least ratio"


def test_tables() -> None:
    ours, theirs = {"import_s": 0.1, "latency_median_us": 600.0}, {"import_s": 0.25, "latency_median_us": 9000.0}
    text = goals_table({OURS: [ours], THEIRS: [theirs]})
    assert "| import_s | 2x | 3x | 2.5x | must |" in text
    assert "| latency_median_us | 500 | 120 | 600 | **missed** |" in text
    assert "| close_s | 1x | 3x | - | not measured |" in text
    pool = {"map_gather_tasks_per_s": 5.0}
    text = figures_table({OURS: [ours, {"import_s": 0.1}], THEIRS: [theirs, {"import_s": 0.25}], "loky": [pool, pool]})
    assert "| import_s | 0.1 | 0.25 | - | 2.5x | 2 |" in text
    assert "| latency_median_us | 600 | 9,000 | - | 15.0x | 1 |" in text


def test_systems_take_turns() -> None:
    systems = [System(OURS, "", ("startup", "graphs", "million")), System(THEIRS, "", ("startup", "graphs"))]
    steps = [(number, script, system.name) for number, script, system in plan(systems, 2)]
    assert steps == [
        (0, "startup", OURS),
        (0, "startup", THEIRS),
        (0, "graphs", OURS),
        (0, "graphs", THEIRS),
        (0, "million", OURS),
        (1, "startup", OURS),
        (1, "startup", THEIRS),
        (1, "graphs", OURS),
        (1, "graphs", THEIRS),
        (1, "million", OURS),
    ]


def test_progress_tells_the_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    seconds = {"startup, this": 600.0}
    stolen: list[dict[str, float]] = []
    rounds = run([System(OURS, sys.executable, ("startup",))], 2, seconds, stolen, smoke=True)
    results = next(rounds)
    assert results[OURS][0].keys() >= {"import_s", "close_s"}
    assert "round 1 of 2: startup, this (20 minutes left)" in capfd.readouterr().err
    assert len(stolen) == len(results[OURS]) == 1
    assert [len(results[OURS]) for results in rounds] == [2]
    assert 0 < seconds["startup, this"] < 600
    assert 0 <= stolen[0]["startup, this"] <= 100


def test_what_other_machines_have_had() -> None:
    assert share_stolen((10, 100), (15, 120)) == 25
    assert share_stolen((10, 100), (10, 100)) == 0


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


def test_coordination() -> None:
    command = [sys.executable, "-m", "benchmarks.coordination", "-n", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    kinds = ["lock", "queue", "variable", "event", "semaphore", "multi_lock", "limited_queue", "log_event", "actor"]
    for style in ("plain", "coroutines"):
        assert list(figures[style]["rounds_per_s"]) == kinds
        assert all(figures[style]["rounds_per_s"].values())


def test_contended_names() -> None:
    command = [sys.executable, "-m", "benchmarks.coordination", "--contended", "2", "-n", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["2 clients"]["rounds_per_s"]
    assert list(figures) == ["lock", "semaphore", "multi_lock", "queue", "variable", "event"]
    assert all(figures.values())
