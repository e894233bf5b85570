"""What a chaos run has done and found: counts, violations, a table for people and JSON for programs."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["Tally", "Violation"]

MUST_BE_ZERO = (
    "wrong results",
    "unexpected errors",
    "stuck",
    "contradictions",
    "engine errors",
    "tasks not forgotten",
    "leaked processes",
    "leaked threads",
    "leaked sockets",
    "leaked files",
)
"""Kinds of violations."""

_SHOWN_CHARACTERS = 8000


@dataclass(frozen=True)
class Violation:
    """Something that must not happen: its kind (of ``MUST_BE_ZERO``), and all that is known about it."""

    kind: str
    text: str
    at_s: float


class Tally:
    """Counts of one run. May be used by all threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.began_at = time.monotonic()
        self._lock = threading.Lock()

    def add(self, name: str, n: int = 1) -> None:
        """Count."""
        with self._lock:
            self.counts[name] += n

    def most(self, name: str, value: int) -> None:
        """Keep the largest."""
        with self._lock:
            self.counts[name] = max(self.counts[name], value)

    def violation(self, kind: str, text: str) -> None:
        """Note something that must not happen."""
        if kind not in MUST_BE_ZERO:
            raise ValueError(f"{kind!r} is none of the kinds of violation: {', '.join(MUST_BE_ZERO)}")
        with self._lock:
            self.violations.append(Violation(kind, text, time.monotonic() - self.began_at))

    def table(self) -> str:
        """All counts, then what must be zero."""
        found = Counter(v.kind for v in self.violations)
        rows = sorted(self.counts.items())
        width = max([len(name) for name, _ in rows] + [len(kind) for kind in MUST_BE_ZERO])
        lines = [f"{name:<{width}}  {count:>9,}" for name, count in rows]
        lines.append("-" * (width + 11))
        lines += [f"{kind:<{width}}  {found[kind]:>9,}{'  <-- must be 0' * bool(found[kind])}" for kind in MUST_BE_ZERO]
        return "\n".join(lines)

    def details(self) -> str:
        """The violations, in the order in which they were found."""
        return "\n\n".join(f"[{v.at_s:.1f} s] {v.kind}: {v.text[:_SHOWN_CHARACTERS]}" for v in self.violations)

    def as_dict(self, **more: Any) -> dict[str, Any]:
        """Plain data."""
        found = Counter(v.kind for v in self.violations)
        return {
            **more,
            "seconds": round(time.monotonic() - self.began_at, 1),
            "counts": dict(sorted(self.counts.items())),
            "must_be_zero": {kind: found[kind] for kind in MUST_BE_ZERO},
            "violations": [{"kind": v.kind, "at_s": round(v.at_s, 1), "text": v.text} for v in self.violations],
        }

    def write(self, path: str, **more: Any) -> None:
        """The same as a JSON file."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.as_dict(**more), file, indent=2)
            file.write("\n")
