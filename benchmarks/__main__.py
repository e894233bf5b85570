"""``make bench``: us, the incumbent and the standard library's pools in one run, A B A B, medians and ratios.

Each peer runs the same script in a virtual environment of its own, which is made at the first run. Writes a Markdown
table to the terminal and JSON to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PEER = "2026.8.0"
LOWER_IS_BETTER = ("_s", "_us", "_us_per_task", "_MB")


def peer_python(version: str) -> str:
    """The interpreter of the incumbent's virtual environment, made when it is not there."""
    folder = HERE.parent / ".bench-venv" / f"distributed-{version}"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        packages = [f"distributed=={version}", f"dask=={version}"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "made").touch()
    return str(python)


def run_once(python: str, system: str, tasks: list[int], samples: int) -> dict[str, float]:
    """The figures of one run of one system in fresh processes."""
    command = [python, "-W", "ignore", str(HERE / "workload.py"), system, "--tasks", *map(str, tasks)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--latency-samples", str(samples)], stdout=subprocess.PIPE, env=env, cwd=HERE, check=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Medians of all systems, and our ratio to the incumbent (above 1: we are better)."""
    names = list(results)
    medians = {n: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for n, runs in results.items() if runs}
    lines = ["| figure | " + " | ".join(names) + " | ratio to the incumbent |", "|---" * (len(names) + 2) + "|"]
    for figure in medians["this"]:
        cells = [f"{medians[n][figure]:,.4g}" if figure in medians[n] else "-" for n in names]
        ratio = ""
        if figure in medians.get("incumbent", {}) and medians["this"][figure] and medians["incumbent"][figure]:
            quotient = medians["this"][figure] / medians["incumbent"][figure]
            better = quotient if figure.endswith("_per_s") else 1 / quotient
            ratio = f"{better:.1f}x"
        lines.append(f"| {figure} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000])
    parser.add_argument("--million", action="store_true", help="also 10^6 tasks on this system alone")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    systems = {"this": (sys.executable, "futures")}
    if not options.no_peers:
        systems |= {
            "incumbent": (peer_python(PEER), "futures"),
            "ProcessPoolExecutor": (sys.executable, "executor"),
            "multiprocessing.Pool": (sys.executable, "pool"),
        }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(options.rounds):
        for name, (python, system) in systems.items():
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            results[name].append(run_once(python, system, options.tasks, 200))
    if options.million:
        figures = run_once(sys.executable, "futures", [1_000_000], 20)
        results["this"] = [r | {k: v for k, v in figures.items() if "1000000" in k} for r in results["this"]]
    text = table(results)
    print(text)
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    (folder / f"{stamp}.json").write_text(json.dumps(results, indent=1))
    (folder / f"{stamp}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
