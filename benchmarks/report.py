"""What the figures say: medians, ratios of rounds that were run side by side, and the two tables. Pure."""

from __future__ import annotations

import fnmatch
import statistics
from collections.abc import Mapping

from benchmarks.goals import GOALS, Goal
from benchmarks.systems import OURS, THEIRS

Rounds = list[dict[str, float]]
"""Of one system: for each round, its figures. What has failed in a round is missing there."""


def medians(runs: Rounds) -> dict[str, float]:
    names = dict.fromkeys([name for figures in runs for name in figures])
    return {name: statistics.median([figures[name] for figures in runs if name in figures]) for name in names}


def ratio(figure: str, ours: Rounds, theirs: Rounds) -> float | None:
    """How many times better we are: the median over the rounds in which both were measured."""
    pairs = [(a[figure], b[figure]) for a, b in zip(ours, theirs, strict=False) if a.get(figure) and b.get(figure)]
    if not pairs:
        return None
    return statistics.median([a / b if figure.endswith("_per_s") else b / a for a, b in pairs])


def ratios(pattern: str, ours: Rounds, theirs: Rounds) -> list[float]:
    """Of all figures that match ``pattern`` and were measured on both sides."""
    found = [ratio(name, ours, theirs) for name in fnmatch.filter(medians(ours), pattern)]
    return [times for times in found if times is not None]


def judged(goal: Goal, results: Mapping[str, Rounds]) -> float | None:
    """The number that is held against must and goal; None when something for it was not measured."""
    ours = results[OURS]
    if goal.many:
        found = ratios(goal.figure, ours, results.get(goal.against, []))
        best = min if goal.kind == "least ratio" else statistics.geometric_mean
        return best(found) if found else None
    if goal.kind == "ratio":
        return ratio(goal.figure, ours, results.get(goal.against, []))
    if goal.of:
        parts = [run[goal.figure] / run[goal.of] for run in ours if run.get(goal.figure) and run.get(goal.of)]
        return statistics.median(parts) if parts else None
    return medians(ours).get(goal.figure)


def goals_table(results: Mapping[str, Rounds]) -> str:
    lines = ["| figure | must | goal | measured | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        found = judged(goal, results)
        sign = "x" if goal.kind != "value" or goal.of else ""
        bounds = f"{goal.must:.3g}{sign} | {goal.goal:.3g}{sign}"
        if found is None:
            lines.append(f"| {goal.name} | {bounds} | - | not measured |")
            continue
        verdict = "goal" if goal.met(found, goal.goal) else "must" if goal.met(found, goal.must) else "**missed**"
        lines.append(f"| {goal.name} | {bounds} | {found:,.3g}{sign} | {verdict} |")
    return "\n".join(lines)


def figures_table(results: Mapping[str, Rounds]) -> str:
    """All medians, our ratio to the incumbent (above 1: we are better), and in how many rounds it was measured."""
    found = {name: medians(runs) for name, runs in results.items()}
    lines = ["| figure | " + " | ".join(found) + " | ratio | rounds |", "|---" * (len(found) + 3) + "|"]
    for figure in dict.fromkeys([figure for figures in found.values() for figure in figures]):
        cells = [f"{figures[figure]:,.4g}" if figure in figures else "-" for figures in found.values()]
        times = ratio(figure, results[OURS], results.get(THEIRS, []))
        rounds = sum([figure in run for run in results[OURS]])
        lines.append(
            f"| {figure} | " + " | ".join(cells) + f" | {'' if times is None else f'{times:.1f}x'} | {rounds} |"
        )
    return "\n".join(lines)
