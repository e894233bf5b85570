"""The one timer of tables that say when they want to be looked at. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class DeadlineTimer:
    """Calls ``on_due`` with the time when the earliest deadline has come.

    It may ring early but never late: to move it whenever a deadline moves costs more than a look in vain.

    Parameters
    ----------
    next_deadline
        The earliest deadline on the clock of the event loop, None when there is none.
    on_due
        Deals with what is due. It, or its caller, arms the timer again.
    """

    __slots__ = ("_next_deadline", "_on_due", "_rings_at", "_timer")

    def __init__(self, next_deadline: Callable[[], float | None], on_due: Callable[[float], None]) -> None:
        self._next_deadline = next_deadline
        self._on_due = on_due
        self._timer: asyncio.Handle | None = None
        # Kept here: uvloop makes a bare handle, without ``when``, of a timer that is due already.
        self._rings_at = 0.0

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make sure that it rings in time."""
        deadline = self._next_deadline()
        timer = self._timer
        if deadline is None or (timer is not None and self._rings_at <= deadline):
            return
        if timer is not None:
            timer.cancel()
        self._rings_at = deadline
        self._timer = loop.call_at(deadline, self._ring, loop)

    def stop(self) -> None:
        """Ring no more, until it is armed again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        deadline = self._next_deadline()
        if deadline is not None and deadline <= now + 1e-3:
            self._on_due(max(now, deadline))
        else:
            self.arm(loop)
