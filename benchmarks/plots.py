"""Draws the curves of ``benchmarks.scaling``: ``results.json`` of a folder to one SVG file a curve, beside it.

Needs matplotlib (the extra ``plots``), and nothing of this project.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Picture:
    """One panel: which figures of which curve, on what axes."""

    curve: str
    title: str
    across: str
    up: str
    lines: dict[str, str]


PICTURES = {
    "tasks": [
        Picture(
            "tasks",
            "CPU time of a trivial task, by how many there are",
            "tasks in one map and gather",
            "µs a task",
            {"client_scheduler_us": "client + scheduler", "worker_us": "workers", "core_us": "scheduler core alone"},
        )
    ],
    "workers": [
        Picture(
            "workers",
            "CPU time of a trivial task in the scheduler, by workers",
            "workers",
            "µs a task",
            {"scheduler_us": "scheduler process, real sockets", "core_us": "scheduler core alone"},
        ),
        Picture(
            "workers",
            "The scheduler process while nothing is to be done",
            "workers",
            "% of a core",
            {"idle_cpu_percent": "idle"},
        ),
    ],
    "dependencies": [
        Picture(
            "dependencies",
            "CPU time of a task, by its dependencies",
            "dependencies of each task",
            "µs a task",
            {
                "client_scheduler_us": "client + scheduler, shared by all tasks",
                "worker_us": "workers, shared by all tasks",
                "core_shared_us": "core alone, shared by all tasks",
                "core_own_us": "core alone, each task its own choice",
            },
        )
    ],
    "payload": [
        Picture(
            "payload",
            "One value, by its size",
            "bytes",
            "seconds",
            {"make_s": "make it in a task", "move_s": "move it to another worker", "gather_s": "gather it"},
        )
    ],
}


def draw(results: dict[str, Any], out: Path) -> list[Path]:
    """Write the pictures of the curves that are in ``results``."""
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        sys.exit("matplotlib draws the curves, and is not here: pip install 'distributed[plots]'")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "scaling"
    import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

    written = []
    for name, panels in PICTURES.items():
        if name not in results:
            continue
        figure, found = plt.subplots(1, len(panels), figsize=(6.4 * len(panels), 4), squeeze=False)
        for axes, picture in zip(found[0], panels, strict=True):
            points = results[picture.curve]
            sizes = [int(size) for size in points]
            for figure_name, label in picture.lines.items():
                axes.plot(sizes, [point[figure_name] for point in points.values()], marker="o", label=label)
            axes.set_xscale("symlog" if 0 in sizes else "log", **({"linthresh": 1} if 0 in sizes else {}))
            axes.set_yscale("log")
            axes.set(title=picture.title, xlabel=picture.across, ylabel=picture.up)
            axes.grid(visible=True, which="both", alpha=0.2)
            axes.legend()
        figure.tight_layout()
        file = out / f"{name}.svg"
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
        written.append(file)
    return written


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for path in draw(json.loads((folder / "results.json").read_text()), folder):
        print(path)
