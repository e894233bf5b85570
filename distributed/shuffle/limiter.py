"""A bound on the bytes that all shuffles of a worker hold in memory; who would exceed it waits until others have
written theirs to disk. Shell: on the event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class MemoryLimiter:
    """Counts bytes in use.

    Parameters
    ----------
    limit_nbytes
        How many may be in use at once. A single larger amount is let through when nothing else is in use.

    Attributes
    ----------
    relieve
        Called when somebody has to wait: each begins to write out what it holds.
    """

    def __init__(self, limit_nbytes: int) -> None:
        if limit_nbytes <= 0:
            raise ValueError(f"a limit must be a positive number of bytes, not {limit_nbytes}")
        self.limit_nbytes = limit_nbytes
        self.used_nbytes = 0
        self.peak_nbytes = 0
        self.relieve: dict[Callable[[], None], None] = {}
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, nbytes: int) -> None:
        """Count these as in use, as soon as there is room; first come, first served."""
        if not self._waiting and self._fits(nbytes):
            self._take(nbytes)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (nbytes, future)
        self._waiting.append(entry)
        for write_out in list(self.relieve):
            write_out()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(nbytes)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            raise

    def release(self, nbytes: int) -> None:
        """They are no longer in use."""
        self.used_nbytes -= nbytes
        self._admit()

    @property
    def n_waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            nbytes, future = self._waiting.popleft()
            if not future.done():
                self._take(nbytes)
                future.set_result(None)

    def _fits(self, nbytes: int) -> bool:
        return not self.used_nbytes or self.used_nbytes + nbytes <= self.limit_nbytes

    def _take(self, nbytes: int) -> None:
        self.used_nbytes += nbytes
        self.peak_nbytes = max(self.peak_nbytes, self.used_nbytes)
