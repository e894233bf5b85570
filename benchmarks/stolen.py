"""How much of a virtual machine's processors the other machines of its host have had: figures taken then are slow."""

from __future__ import annotations

from pathlib import Path

Ticks = tuple[float, float]
"""Since the machine began: stolen, and wanted (stolen or worked)."""


def processor_time() -> Ticks:
    """Zeros where the system does not tell."""
    try:
        ticks = [float(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return 0.0, 0.0
    return ticks[7], sum(ticks) - ticks[3] - ticks[4]  # without idle time


def share_stolen(before: Ticks, after: Ticks) -> float:
    """Percent of the time in which a processor was wanted."""
    wanted = after[1] - before[1]
    return 100 * (after[0] - before[0]) / wanted if wanted else 0.0
