"""How long the event loop of this process stands still, and what collecting garbage costs: for ``/metrics``. Shell.

Looks only while somebody scrapes: from the first scrape on, until there was none for :data:`REST_AFTER_S`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

TICK_S = 0.02
REST_AFTER_S = 300.0


class LoopWatch:
    """Ticks on the running loop.

    Attributes
    ----------
    n_ticks
        So far.
    last_tick
        Time of the last one, on the clock of the loop.
    gc_s
        Seconds that collecting garbage took, in the whole process.
    """

    def __init__(self) -> None:
        self.n_ticks = 0
        self.last_tick = 0.0
        self.gc_s = 0.0
        self._longest_s = 0.0
        self._scraped = 0.0
        self._gc_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def scraped(self) -> float:
        """Go on watching. Returns the longest time between two ticks since somebody looked before, in seconds."""
        loop = asyncio.get_running_loop()
        self._scraped = now = loop.time()
        if self._timer is None:
            self.last_tick = now
            gc.callbacks.append(self._on_collection)
            self._timer = loop.call_later(TICK_S, self._tick, loop)
        longest, self._longest_s = max(self._longest_s, now - self.last_tick), 0.0
        return longest

    def stop(self) -> None:
        """Watch no more, until somebody looks again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self.n_ticks += 1
        self._longest_s = max(self._longest_s, now - self.last_tick)
        self.last_tick = now
        if now - self._scraped > REST_AFTER_S:
            self.stop()
        else:
            self._timer = loop.call_later(TICK_S, self._tick, loop)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._gc_since = now
        elif self._gc_since:
            self.gc_s += now - self._gc_since
            self._gc_since = 0.0
