"""Slots that blocked tasks lend to tasks that want to go on. Shell.

A task that has left its slot while it waited may hold a ``Lock`` for which the task now in that slot waits: then each
waits for the other. So a task that waits for a lock, an event, a queue... offers its slot to those that want to come
back (never to tasks that have not begun), and asks for one again once its own wait is over. Must not start or end
threads: a slot only changes hands, and how many there are stays the same.
"""

from __future__ import annotations

import threading

from distributed.worker.runtime import RunningTask


class Rejoin:
    """The wish of a running task for a slot."""

    __slots__ = ("granted",)

    def __init__(self) -> None:
        self.granted = threading.Event()


class SlotLoans:
    """Who wants a slot, and who has one on offer; first come, first served. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: dict[Rejoin, None] = {}
        self._offers: dict[RunningTask, None] = {}

    def wish(self, request: Rejoin) -> None:
        """Grant ``request`` as soon as a slot is on offer, unless somebody takes it (:meth:`take`) before that."""
        with self._lock:
            self._wishes[request] = None
            self._match()

    def take(self, request: Rejoin) -> bool:
        """Whether nobody has granted ``request`` yet; if so the caller, and nobody else, must do it now."""
        with self._lock:
            if request not in self._wishes:
                return False
            del self._wishes[request]
            return True

    def offer(self, task: RunningTask) -> None:
        """``task`` is blocked: whoever wishes may have its slot."""
        with self._lock:
            self._offers[task] = None
            self._match()

    def withdraw(self, task: RunningTask) -> None:
        """``task`` is not blocked any more. Its ``in_slot`` now says, for good, whether its slot was taken."""
        with self._lock:
            self._offers.pop(task, None)

    def _match(self) -> None:
        while self._wishes and self._offers:
            request, task = next(iter(self._wishes)), next(iter(self._offers))
            del self._wishes[request], self._offers[task]
            task.in_slot = False
            request.granted.set()
