"""Connections as TCP makes them: FIFO in each direction, delayed by chance, stalled, half-open, or cut. Pure.

A cut loses any suffix of what is under way, in each direction by itself; what is left arrives, and then the end of the
stream. A direction that stalls holds everything back until it goes on. A half-open connection is one of which a
direction stalls until the connection is given up, with all that was held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from distributed.messages.control import Applied
from distributed.messages.worker_to_scheduler import Heartbeat
from distributed.simulation.simulator import Simulator

_END = object()
_SIGNS = frozenset([Heartbeat, Applied])


def _nobody(*_: Any) -> None:
    """Nobody listens yet."""


class Link:
    """One direction of a connection.

    Parameters
    ----------
    sim
        Time.
    rng
        Chance for the delays.
    delays_s
        The delays, in seconds, of which each message gets one.
    """

    __slots__ = ("_delays_s", "_dead", "_flying", "_last", "_rng", "_sim", "deliver", "ended", "on_end", "stalled")

    def __init__(self, sim: Simulator, rng: Random, delays_s: Sequence[float]) -> None:
        self._sim = sim
        self._rng = rng
        self._delays_s = delays_s
        self._flying: deque[tuple[float, Any]] = deque()
        self._last = 0.0
        self._dead = False
        self.stalled = False
        self.ended = False
        self.deliver: Callable[[list[Any]], None] = _nobody
        self.on_end: Callable[[], None] = _nobody

    def send(self, batch: list[Any]) -> None:
        """Put a batch on its way; after the end it is lost."""
        if not self.ended and batch:
            self._push(batch)

    def end(self) -> None:
        """The sender closes: what is under way arrives, then the end."""
        if not self.ended:
            self.ended = True
            self._push(_END)

    def cut(self, kept: float) -> None:
        """Only this share of what is under way arrives, then the end."""
        if self._dead:
            return
        for _ in range(len(self._flying) - int(len(self._flying) * kept)):
            self._flying.pop()
        self.ended = True
        if not self._flying or self._flying[-1][1] is not _END:
            self._push(_END)

    def die(self) -> None:
        """Nobody reads any more."""
        self.ended = self._dead = True
        self._flying.clear()

    def stall(self) -> None:
        """Hold back everything from now on."""
        self.stalled = True

    def go_on(self) -> None:
        """Deliver what was held back."""
        self.stalled = False
        self._sim.after(0.0, self._arrive)

    @property
    def quiet(self) -> bool:
        """Whether nothing but heartbeats is under way."""
        return all(item is not _END and type(item[0]) in _SIGNS for _, item in self._flying)

    def _push(self, item: Any) -> None:
        delay_s = self._rng.choice(self._delays_s)
        self._last = max(self._last + 1e-9, self._sim.now + delay_s)  # never two at the same time: FIFO
        self._flying.append((self._last, item))
        self._sim.at(self._last, self._arrive)

    def _arrive(self) -> None:
        flying = self._flying
        while flying and not self.stalled and not self._dead and flying[0][0] <= self._sim.now:
            item = flying.popleft()[1]
            if item is _END:
                self._dead = True
                self.on_end()
            else:
                self.deliver(item)


class Connection:
    """Both directions between a peer and the scheduler: ``up`` to it, ``down`` from it; named on admission. ``member``:
    the session of the worker that has made it."""

    __slots__ = ("down", "member", "name", "up")

    def __init__(self, sim: Simulator, peer: str, delays_s: Sequence[float]) -> None:
        rng = sim.stream(f"link {peer}")
        self.up = Link(sim, rng, delays_s)
        self.down = Link(sim, rng, delays_s)
        self.name = ""
        self.member: Any = None

    @property
    def quiet(self) -> bool:
        """Whether nothing but heartbeats is under way."""
        return self.up.quiet and self.down.quiet

    def cut(self, kept_up: float, kept_down: float) -> None:
        """Break, and lose what is under way but for these shares of it."""
        self.up.cut(kept_up)
        self.down.cut(kept_down)

    def give_up(self) -> None:
        """A half-open connection is noticed: what was held back is lost."""
        for link in (self.up, self.down):
            if link.stalled:
                link.stalled = False
                link.cut(0.0)
            else:
                link.cut(1.0)
