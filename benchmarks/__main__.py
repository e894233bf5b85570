"""``make bench``: this system, the incumbent and the pools side by side, A B A B, medians and ratios of paired rounds.

Each system runs the same scripts (``workloads/``) in a virtual environment of its own (``systems.py``). Prints two
tables in Markdown (what must be reached, with what was; all figures), and writes them with the raw figures as JSON to
``benchmarks/results/``, which are brought up to date after each round. Five rounds take an hour, nearly all of it the
incumbent's.
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
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Rounds, figures_table, goals_table
from benchmarks.stolen import processor_time, share_stolen
from benchmarks.systems import System, say, systems

HERE = Path(__file__).parent
SCRIPTS = HERE / "workloads"
RESULTS = HERE / "results"
GROUPS = (
    "startup",
    "latency",
    "throughput",
    "graphs",
    "data",
    "spill",
    "workers",
    "pending",
    "collection_jobs",
    "graph_path",
    "throughput_100k",
    "million",
)
LIMIT_S = 1800


def run_script(python: str, script: str, smoke: bool = False) -> dict[str, float]:
    """The figures of one script in a fresh process; none, and a line on stderr, when it fails."""
    name, *arguments = script.split()
    command = [python, "-W", "ignore", str(SCRIPTS / f"{name}.py"), *arguments, *(["--smoke"] if smoke else [])]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["PATH"] = f"{Path(python).parent}{os.pathsep}{env.get('PATH', '')}"
    if python == sys.executable:
        env["PYTHONPATH"] = str(HERE.parent)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, env=env, cwd=SCRIPTS, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        say(f"{script} under {python} was ended after {LIMIT_S} s")
        return {}
    if done.returncode:
        say(f"{script} failed with exit code {done.returncode} under {python}")
        return {}
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def plan(found: list[System], rounds: int) -> list[tuple[int, str, System]]:
    """What is run, in order: (round, script, system). The systems take turns with each script."""
    scripts = list(dict.fromkeys([script for system in found for script in system.scripts]))
    return [
        (number, script, system)
        for number in range(rounds)
        for script in scripts
        for system in found
        if script in system.scripts
    ]


def run(
    found: list[System], rounds: int, seconds: dict[str, float], stolen: list[dict[str, float]], smoke: bool = False
) -> Iterator[dict[str, Rounds]]:
    """Run all of it, and give what there is after each round. ``seconds`` tells what each step took the last time, and
    is brought up to date; ``stolen`` gets what other machines of the host have had, in percent, for each round."""
    results: dict[str, Rounds] = {system.name: [] for system in found}
    steps = plan(found, rounds)
    for done, (number, script, system) in enumerate(steps):
        known = [seconds.get(f"{s}, {at.name}") for _, s, at in steps[done:]]
        left = sum([s for s in known if s is not None]) / 60
        more = f", and {known.count(None)} steps of which it is not known" if None in known else ""
        say(f"round {number + 1} of {rounds}: {script}, {system.name} ({left:.0f} minutes left{more})")
        if number == len(stolen):
            stolen.append({})
            for runs in results.values():
                runs.append({})
        step = f"{script}, {system.name}"
        before, start = processor_time(), time.perf_counter()
        results[system.name][number] |= run_script(system.python, script, smoke)
        seconds[step] = time.perf_counter() - start
        stolen[number][step] = share_stolen(before, processor_time())
        if done + 1 == len(steps) or steps[done + 1][0] > number:
            yield results


def last_seconds() -> dict[str, float]:
    """What each step took in the last run that was written."""
    files = sorted(RESULTS.glob("*.json"))
    found: dict[str, float] = json.loads(files[-1].read_text()).get("seconds", {}) if files else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="these workloads")
    parser.add_argument("--no-peers", action="store_true", help="this system only; nothing is compared")
    parser.add_argument("--smoke", action="store_true", help="sizes that only show that it runs")
    options = parser.parse_args()
    groups = tuple(options.only or GROUPS)
    seconds = {} if options.smoke else last_seconds()
    begin = time.perf_counter()
    stolen: list[dict[str, float]] = []
    stamp = time.strftime("%Y%m%d-%H%M%S")
    RESULTS.mkdir(exist_ok=True)
    text = ""
    for results in run(systems(groups, not options.no_peers), options.rounds, seconds, stolen, options.smoke):
        minutes = (time.perf_counter() - begin) / 60
        shares = ", ".join([f"{statistics.mean(steps.values()):.0f} %" for steps in stolen])
        where = (
            f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores, {len(stolen)} rounds in "
            f"{minutes:.0f} minutes; other machines of the host had so much of the wanted time of the processors, by "
            f"round: {shares}"
        )
        text = "\n\n".join([where, goals_table(results), figures_table(results)])
        raw = {"where": where, "runs": results, "seconds": seconds, "stolen": stolen}
        (RESULTS / f"{stamp}.json").write_text(json.dumps(raw, indent=1))
        (RESULTS / f"{stamp}.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
