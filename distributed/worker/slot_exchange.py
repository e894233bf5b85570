"""Tasks that leave their slot while they run, lend it while they are blocked, and want one back. Shell.

A task calls from its own thread; how many slots there are, and what a free one is for, the executor knows.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from distributed.worker.runtime import RunningTask
from distributed.worker.slot_loans import Rejoin, Relief, SlotLoans
from distributed.worker.state_machine.events import ExecuteLongRunning

REJOIN_PATIENCE_S = 5.0
"""A task that wants its slot back goes on without one when no slot has changed hands for so long."""


class Slots(Protocol):
    """What the executor offers."""

    loop: asyncio.AbstractEventLoop
    nthreads: int
    closed: bool

    def begun(self) -> list[RunningTask]: ...

    def take_slot(self) -> bool: ...

    def free_slot(self) -> None: ...

    def line_up(self, request: Rejoin) -> None: ...

    def report(self, event: Any, value: Any) -> None: ...

    def call_loop(self, function: Callable[[], None]) -> None: ...


class SlotExchange:
    """Of one worker."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._loans = SlotLoans(self._say_slotless)
        self._relief = Relief()

    def secede(self, task: RunningTask) -> None:
        """The task gives its slot to a new thread and runs on."""
        task.seceded = True
        had_slot, task.in_slot = task.in_slot, False
        self._say_slotless(task)
        if had_slot:  # behind the news: the worker hears of it before of the task that comes next
            self._slots.call_loop(self._slots.free_slot)

    def _say_slotless(self, task: RunningTask) -> None:
        duration = time.monotonic() - task.started
        self._slots.report(ExecuteLongRunning(task.key, task.run_id, duration), None)

    def rejoin(self, task: RunningTask) -> None:
        """Wait until a slot is free for this task, or until none is to be expected (:meth:`_wait_for_slot`)."""
        if not task.in_slot and threading.get_ident() == task.thread:
            request = Rejoin()
            task.waits_for = "a slot, to rejoin"
            self._slots.call_loop(functools.partial(self._give_slot, request))
            try:
                task.in_slot = self._wait_for_slot(request)
            except BaseException:  # interrupted: nobody will use that slot
                self._slots.call_loop(functools.partial(self._take_back_wish, request))
                raise
            task.waits_for = ""
        task.seceded = False

    def _wait_for_slot(self, request: Rejoin) -> bool:
        """Whether there is a slot. When no slot has changed hands for :data:`REJOIN_PATIENCE_S`, the tasks in them may
        wait for this very one, in a way that nobody can see: it goes on beside them."""
        runs, since = self._run_ids(), time.monotonic()
        while not request.granted.wait(1.0):
            if self._slots.closed or self._slots.loop.is_closed():
                break
            now_runs, now = self._run_ids(), time.monotonic()
            if now_runs != runs:
                runs, since = now_runs, now
            elif now - since >= REJOIN_PATIENCE_S and self._loans.take(request):
                return False
        return True

    def _run_ids(self) -> list[int]:
        return sorted([task.run_id for task in self._slots.begun() if task.in_slot])

    def lend_slot(self, task: RunningTask) -> bool:
        """The task is going to block: its slot is for those that want to rejoin. Whether it had one to lend."""
        if not task.in_slot:
            return False
        if self._loans.offer(task) >= self._slots.nthreads and not self._relief.is_due:
            self._relief.is_due = True
            self._slots.call_loop(self._relieve_later)
        return True

    def take_slot_back(self, task: RunningTask) -> None:
        """Behind :meth:`lend_slot`: wait for a slot if somebody has taken this one."""
        self._loans.withdraw(task)
        if task.seceded:
            self._relief.returned()
        self.rejoin(task)

    def claim(self, request: Rejoin) -> bool:
        """A slot thread has met ``request`` and would end for it: whether it is still to be granted, and the thread's
        slot is now the task's."""
        if not self._loans.take(request):
            return False  # it was lent a slot
        request.granted.set()
        return True

    # -- on the loop

    def _give_slot(self, request: Rejoin) -> None:
        if self._slots.take_slot():
            request.granted.set()
        else:
            self._loans.wish(request)
            self._slots.line_up(request)

    def _take_back_wish(self, request: Rejoin) -> None:
        if not self._loans.take(request):  # it was granted
            self._slots.free_slot()

    def _relieve_later(self) -> None:
        self._slots.loop.call_later(self._relief.pause_s, self._relieve)

    def _relieve(self) -> None:
        """When every slot is blocked, one of them goes to the next task: perhaps all wait for that."""
        slots, relief = self._slots, self._relief
        relief.is_due = False
        task = None if slots.closed else self._loans.give_up(slots.nthreads, relief.pause_s)
        if task is not None:
            relief.given()
            slots.free_slot()
        if self._loans.n_offers >= slots.nthreads and not slots.closed and not relief.is_due:
            relief.is_due = True
            self._relieve_later()
