"""Slots that blocked tasks lend to tasks that want to go on. Shell.

A task that has left its slot while it waited may hold a ``Lock`` for which the task now in that slot waits: then each
waits for the other. So a task that waits for a lock, an event, a queue... offers its slot to those that want to come
back (never to tasks that have not begun), and asks for one again once its own wait is over. Must not start or end
threads: a slot only changes hands, and how many there are stays the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from distributed.worker.runtime import RunningTask


class Rejoin:
    """The wish of a running task for a slot."""

    __slots__ = ("granted",)

    def __init__(self) -> None:
        self.granted = threading.Event()


class SlotLoans:
    """Who wants a slot, and who has one on offer; first come, first served. Any thread may call.

    Parameters
    ----------
    on_taken
        Told of each task whose slot was taken, with the table locked.
    """

    def __init__(self, on_taken: Callable[[RunningTask], None]) -> None:
        self._on_taken = on_taken
        self._lock = threading.Lock()
        self._wishes: dict[Rejoin, None] = {}
        self._offers: dict[RunningTask, float] = {}  # task: since when, on the monotonic clock

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

    def offer(self, task: RunningTask) -> int:
        """``task`` is blocked: whoever wishes may have its slot. Returns how many slots are on offer."""
        with self._lock:
            self._offers[task] = time.monotonic()
            self._match()
            return len(self._offers)

    def withdraw(self, task: RunningTask) -> None:
        """``task`` is not blocked any more. Its ``in_slot`` now says, for good, whether its slot was taken."""
        with self._lock:
            self._offers.pop(task, None)

    def give_up(self, n_slots: int, after_s: float) -> RunningTask | None:
        """Take the slot of the task that has waited longest, if all ``n_slots`` have been on offer for ``after_s``."""
        with self._lock:
            offers = self._offers
            if not 0 < n_slots <= len(offers) or max(offers.values()) > time.monotonic() - after_s:
                return None
            task = next(iter(offers))
            self._take_slot(task)
            return task

    @property
    def n_offers(self) -> int:
        """How many slots are on offer."""
        return len(self._offers)

    def _match(self) -> None:
        while self._wishes and self._offers:
            request, task = next(iter(self._wishes)), next(iter(self._offers))
            del self._wishes[request]
            self._take_slot(task)
            request.granted.set()

    def _take_slot(self, task: RunningTask) -> None:
        del self._offers[task]
        task.in_slot, task.seceded = False, True
        self._on_taken(task)


class Relief:
    """How long all slots must have been blocked before one more task is begun.

    Tasks that are begun so may have to wait as well (the next ones of a ``map`` that all want one lock), each in a
    thread of its own. So the pause doubles with every slot given up, and halves with every task that comes back.
    """

    FIRST_S, LAST_S = 0.05, 5.0

    def __init__(self) -> None:
        self.pause_s = self.FIRST_S
        self.is_due = False

    def given(self) -> None:
        """A slot was given up."""
        self.pause_s = min(self.LAST_S, 2 * self.pause_s)

    def returned(self) -> None:
        """A task whose slot was given up goes on."""
        self.pause_s = max(self.FIRST_S, self.pause_s / 2)
