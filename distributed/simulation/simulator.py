"""Virtual time: one heap of what is to happen, and the only sources of chance. Pure.

Two things that are due at the same time come in an order that chance decides. Every place that needs chance has a
stream of its own, named and derived from the seed: what one place draws does not change what another one gets, so a
script that has been shortened still runs much like the whole.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

STORY_LENGTH = 4000
# So many events at one instant are a loop that never ends.
MAX_AT_ONCE = 5000


class Simulator:
    """Time, chance, and the record of what happened.

    Attributes
    ----------
    now
        Virtual seconds.
    trace
        The last events: (when, who, what).
    counts
        How often each kind of event happened.
    """

    def __init__(self, seed: int, digest: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.trace: deque[tuple[float, str, Any]] = deque(maxlen=STORY_LENGTH)
        self.counts: Counter[str] = Counter()
        self.n_events = 0
        self._heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self._serial = 0
        self._at_once = 0
        self._ties = self.stream("ties")
        self._hash = hashlib.sha256() if digest else None

    def stream(self, name: str) -> Random:
        """Chance for one purpose."""
        return Random(f"{self.seed}/{name}")

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have something happen at a time (now, if that is past)."""
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self.now), self._ties.random(), self._serial, act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have something happen in a while."""
        self.at(self.now + delay_s, act)

    def run_until(self, end: float) -> None:
        """Let time pass, with all that is due in it."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, _, act = heapq.heappop(heap)
            self._at_once = self._at_once + 1 if when == self.now else 0
            assert self._at_once < MAX_AT_ONCE, f"time stands still at {when}"
            self.now = when
            self.n_events += 1
            act()
        self.now = max(self.now, end)

    def note(self, who: str, what: Any) -> None:
        """Put an event on record."""
        kind = what if type(what) is str else type(what).__name__
        self.counts[kind] += 1
        self.trace.append((self.now, who, what))
        if self._hash is not None:
            self._hash.update(f"{self.now!r} {who} {what!r}\n".encode())

    @property
    def digest(self) -> str:
        """Differs as soon as anything that happened does (of a run that was asked to make one)."""
        return "" if self._hash is None else self._hash.hexdigest()
