"""Whether, and after what pause, a worker process that has ended is started again. Pure.

A process that had registered and then died is replaced at once: its tasks wait. One that dies again soon after is given
a growing pause, so that a broken machine is not kept busy with starting processes. One that never comes up is given up
after :data:`MAX_FAILED_STARTS` attempts: its cause lies in the environment, and people must hear of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_FAILED_STARTS = 3
SHORT_LIFE_S = 5.0
"""A process that lived shorter than this has died soon."""
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 30.0
_FREE_DEATHS = 3


@dataclass(frozen=True)
class Decision:
    """``restart`` after ``delay_s``, or not; ``reason`` says why not."""

    restart: bool
    delay_s: float = 0.0
    reason: str = ""


@dataclass
class RestartPolicy:
    """Remembers how the last processes ended."""

    failed_starts: int = field(default=0)
    short_lives: int = field(default=0)

    def on_exit(self, had_started: bool, lived_s: float) -> Decision:
        """A process has ended that nobody had told to. ``had_started``: it had become a worker with an address."""
        if not had_started:
            self.failed_starts += 1
            if self.failed_starts >= MAX_FAILED_STARTS:
                return Decision(
                    False, 0.0, f"the worker process has failed to start {self.failed_starts} times in a row"
                )
            return Decision(True, FIRST_PAUSE_S * 2 ** (self.failed_starts - 1))
        self.failed_starts = 0
        self.short_lives = self.short_lives + 1 if lived_s < SHORT_LIFE_S else 0
        if self.short_lives <= _FREE_DEATHS:
            return Decision(True)
        return Decision(True, min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.short_lives - _FREE_DEATHS - 1)))

    def on_ordered_start(self) -> None:
        """Somebody asks for a process: what was before does not count."""
        self.failed_starts = self.short_lives = 0
