"""``make bench``: this system, the incumbent and the pools side by side, A B A B, medians and ratios.

Each system runs the same scripts (``workloads/``) in a virtual environment of its own, which is made at the first run.
Prints two tables in Markdown (what must be reached, with what was; all figures), and writes them with the raw figures
as JSON to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.goals import GOALS, Goal

HERE = Path(__file__).parent
SCRIPTS = HERE / "workloads"
INCUMBENT = "2026.8.0"
OURS, THEIRS = "this", "incumbent"
GROUPS = ("startup", "latency", "throughput", "graphs", "data", "workers", "pending")
LONG = ("throughput_100k", "million")
POOLS = ("multiprocessing.Pool", "ProcessPoolExecutor", "loky")

Runs = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class System:
    """Something to measure: which interpreter runs the scripts, and which of them."""

    name: str
    python: str
    scripts: tuple[str, ...]


def environment(name: str, packages: list[str]) -> str:
    """The interpreter of a virtual environment with ``packages``, made when it is not there."""
    folder = HERE.parent / ".bench-venv" / name
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "made").touch()
    return str(python)


def systems(groups: tuple[str, ...], with_peers: bool) -> list[System]:
    """All that is to be measured; a peer that cannot be installed is left out, and said so."""
    found = [System(OURS, sys.executable, groups)]
    if not with_peers:
        return found
    packages = [f"distributed=={INCUMBENT}", f"dask=={INCUMBENT}", "numpy", "loky"]
    try:
        python = environment(f"distributed-{INCUMBENT}", packages)
    except subprocess.CalledProcessError as error:
        print(f"the incumbent cannot be installed: {error}", file=sys.stderr)
        return found
    found.append(System(THEIRS, python, tuple(group for group in groups if group != "million")))
    if "throughput" in groups:
        found += [System(name, python, (f"pools {name}",)) for name in POOLS]
    return found


def run_script(python: str, script: str, smoke: bool = False) -> dict[str, float]:
    """The figures of one script in a fresh process."""
    name, *arguments = script.split()
    command = [python, "-W", "ignore", str(SCRIPTS / f"{name}.py"), *arguments, *(["--smoke"] if smoke else [])]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if python == sys.executable:
        env["PYTHONPATH"] = str(HERE.parent)
    done = subprocess.run(command, stdout=subprocess.PIPE, env=env, cwd=SCRIPTS, text=True, timeout=1800)
    if done.returncode:
        print(f"{script} failed with exit code {done.returncode} under {python}", file=sys.stderr)
        return {}
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def run(found: list[System], rounds: int, smoke: bool = False) -> Runs:
    """Every script of every system, in turns."""
    results: Runs = {system.name: [] for system in found}
    scripts = list(dict.fromkeys([script for system in found for script in system.scripts]))
    for number in range(rounds):
        merged: dict[str, dict[str, float]] = {system.name: {} for system in found}
        for script in scripts:
            if script in LONG and number and not smoke:
                continue  # once is enough: they average over many tasks
            for system in found:
                if script in system.scripts:
                    print(f"round {number + 1} of {rounds}: {script}, {system.name}", file=sys.stderr)
                    merged[system.name] |= run_script(system.python, script, smoke)
        for name, figures in merged.items():
            results[name].append(figures)
    return results


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys([name for figures in runs for name in figures])
    return {name: statistics.median([figures[name] for figures in runs if name in figures]) for name in names}


def ratio(figure: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> float | None:
    """How many times better than the incumbent."""
    if not ours.get(figure) or not theirs.get(figure):
        return None
    quotient = ours[figure] / theirs[figure]
    return quotient if figure.endswith("_per_s") else 1 / quotient


def judged(goal: Goal, ours: Mapping[str, float], theirs: Mapping[str, float]) -> float | None:
    """The number that is held against must and goal."""
    if goal.kind == "ratio":
        return ratio(goal.figure, ours, theirs)
    found = ours.get(goal.figure)
    if found is None or not goal.of:
        return found
    return found / ours[goal.of] if ours.get(goal.of) else None


def goals_table(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    lines = ["| figure | must | goal | measured | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        found = judged(goal, ours, theirs)
        if found is None:
            continue
        sign = "x" if goal.kind == "ratio" or goal.of else ""
        verdict = "goal" if goal.met(found, goal.goal) else "must" if goal.met(found, goal.must) else "**missed**"
        name = goal.figure if not goal.of else f"{goal.figure} / {goal.of}"
        lines.append(f"| {name} | {goal.must:.3g}{sign} | {goal.goal:.3g}{sign} | {found:,.3g}{sign} | {verdict} |")
    return "\n".join(lines)


def figures_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """All medians, and our ratio to the incumbent (above 1: we are better)."""
    names = list(found)
    lines = ["| figure | " + " | ".join(names) + " | ratio |", "|---" * (len(names) + 2) + "|"]
    for figure in found[OURS]:
        cells = [f"{found[name][figure]:,.4g}" if figure in found[name] else "-" for name in names]
        times = ratio(figure, found[OURS], found.get(THEIRS, {}))
        lines.append(f"| {figure} | " + " | ".join(cells) + f" | {'' if times is None else f'{times:.1f}x'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*GROUPS, *LONG], help="these workloads")
    parser.add_argument("--long", action="store_true", help="also a hundred thousand and a million tasks")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    options = parser.parse_args()
    groups = tuple(options.only or (GROUPS + LONG if options.long else GROUPS))
    results = run(systems(groups, not options.no_peers), options.rounds, options.smoke)
    found = {name: medians(runs) for name, runs in results.items()}
    where = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores, {options.rounds} rounds"
    text = "\n\n".join([where, goals_table(found[OURS], found.get(THEIRS, {})), figures_table(found)])
    print(text)
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    (folder / f"{stamp}.json").write_text(json.dumps({"where": where, "runs": results}, indent=1))
    (folder / f"{stamp}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
