"""When to grow, when to shrink: the arithmetic of adaptive scaling. Pure: no clock, no cluster, no I/O.

Growing is immediate. Shrinking waits until ``wait_count`` looks in a row have named the same worker, and for as long as
that worker took to come (at most a minute), so that a lull costs no workers: those that are dear to get are kept
longer. Workers that were asked for and have not arrived go first: they hold nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Set
from dataclasses import dataclass, field
from typing import Any

_MOST_PATIENCE_S = 60.0


@dataclass
class ScalingPolicy:
    """Bounds, and the memory of how often and since when each worker was found dispensable, and how long it took to
    come. Times are in seconds on any clock."""

    minimum: int = 0
    maximum: float = math.inf
    wait_count: int = 3
    close_counts: dict[Hashable, int] = field(default_factory=dict)
    idle_since: dict[Hashable, float] = field(default_factory=dict)
    asked_at: dict[Hashable, float] = field(default_factory=dict)
    patience_s: dict[Hashable, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.minimum < 0:
            raise ValueError(f"minimum must not be negative, got {self.minimum!r}")
        if self.maximum < self.minimum:
            raise ValueError(f"maximum ({self.maximum!r}) must not be less than minimum ({self.minimum!r})")
        if self.maximum != math.inf and not isinstance(self.maximum, int):
            raise ValueError(f"maximum must be an int or math.inf, got {self.maximum!r}")

    def bound(self, target: float) -> int:
        """``target`` between minimum and maximum."""
        return int(max(self.minimum, min(self.maximum, target)))

    def compare(self, target: int, planned: int) -> str:
        """``up``, ``down`` or ``same``. Growing, or having enough, forgets who was dispensable."""
        if target < planned:
            return "down"
        self.close_counts.clear()
        self.idle_since.clear()
        return "up" if target > planned else "same"

    def never_arrived(self, requested: Set[Hashable], observed: Set[Hashable], surplus: int) -> set[Hashable]:
        """At most ``surplus`` workers that were asked for and are not here."""
        absent = sorted(requested - observed, key=str)
        return set(absent[:surplus])

    def note(self, requested: Set[Hashable], observed: Set[Hashable], now: float) -> None:
        """Remember who has been asked for, and who has come."""
        before = self.patience_s
        self.patience_s = {name: before.get(name, now - self.asked_at.get(name, now)) for name in observed}
        self.asked_at = {name: self.asked_at.get(name, now) for name in requested - observed}

    def agree(self, dispensable: Iterable[Hashable], now: float) -> set[Hashable]:
        """Note who is dispensable now; return those that have been so often and long enough without a break.

        They are in the result of each look as long as they are dispensable: whoever closes workers in groups waits
        until all of a group are.
        """
        found = set(dispensable)
        counts = {name: self.close_counts.get(name, 0) + 1 for name in found}
        since = {name: self.idle_since.get(name, now) for name in found}
        firm = {
            name
            for name, count in counts.items()
            if count >= self.wait_count and now - since[name] >= min(self.patience_s.get(name, 0.0), _MOST_PATIENCE_S)
        }
        self.close_counts, self.idle_since = counts, since
        return firm


def workers_for(cores: float | None, memory: float | None, cores_each: int | None, memory_each: int | None) -> float:
    """How many workers give at most so many cores and so much memory (infinite when neither is said)."""
    limits: list[Any] = []
    if cores is not None:
        limits.append(cores // cores_each if cores_each else math.inf)
    if memory is not None:
        limits.append(memory // memory_each if memory_each else math.inf)
    return min(limits, default=math.inf)
