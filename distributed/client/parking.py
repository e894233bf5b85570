"""How callers wait for futures: threads on a lock, coroutines on a future of their loop; one of either, however
many keys.

A task that waits for other tasks leaves its slot meanwhile (after :data:`PATIENCE_S`), so that they can run even
when every
slot of the cluster waits. Shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from distributed.base.lazy import loaded
from distributed.client.future_table import FutureState, FutureTable

PATIENCE_S = 0.005
"""A task waits so long in its slot before it leaves it."""
SLICE_S = 0.5
"""And so long at once behind that."""


class BlockedThread:
    """Parks the calling thread until somebody else says go; lighter than an Event."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def go(self, _what: object = None) -> None:
        """Wake the thread. May be called more than once."""
        try:
            self._lock.release()
        except RuntimeError:  # it is awake
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """False when ``timeout`` seconds have passed first."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX))


class ParkedCoroutine:
    """Parks the calling coroutine until another thread, or its own loop, says go."""

    __slots__ = ("_future", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def go(self) -> None:
        """Wake the coroutine. May be called more than once."""
        if threading.get_ident() == self._thread:
            self._set()
        else:
            with contextlib.suppress(RuntimeError):  # the waiter's loop is gone
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """False when ``timeout`` seconds have passed first."""
        if timeout is None:
            await self._future
            return True
        done, _ = await asyncio.wait([self._future], timeout=max(0.0, timeout))
        return bool(done)


class Countdown:
    """Says go when all states are done; with ``first``, when one is; with ``stop_at_error``, when one has failed.

    Refers to no method of its own: in a cycle it would keep the values of all states until garbage is looked for.
    """

    def __init__(
        self,
        table: FutureTable,
        states: Iterable[FutureState],
        parked: BlockedThread | ParkedCoroutine,
        first: bool = False,
        stop_at_error: bool = False,
    ) -> None:
        self._parked = parked
        self._stop_at_error = stop_at_error
        self._first = first
        self._table = table
        states = list(states)
        # Out of reach until it is known how many are awaited: some may be done before that.
        self._awaited = len(states) + 1
        self._done: list[FutureState] = []
        self._waiting: list[FutureState] = []
        if first and (not states or any(state.done for state in states)):
            self.over = True
            return
        self._waiting, done = table.on_all_done(states, self._on_done)
        self._awaited = len(self._waiting)
        # Set, then counted; and in _on_done counted, then looked at: one of the two sees the last one.
        self.over = len(self._done) >= self._awaited or any(self._ends(state) for state in done)

    def _ends(self, state: FutureState) -> bool:
        return self._first or (self._stop_at_error and state.status != "finished")

    def _on_done(self, state: FutureState) -> None:
        # Appending needs no lock.
        self._done.append(state)
        if len(self._done) >= self._awaited or self._ends(state):
            self._parked.go()

    def give_up(self) -> None:
        """Leave nothing behind in the states that are not done."""
        self._table.forget_callback([state for state in self._waiting if not state.done], self._on_done)


def _task() -> Any:
    current_task = loaded("distributed.worker.runtime", "current_task")
    return None if current_task is None else current_task.get()


def holds_slot() -> bool:
    """Whether the calling thread or coroutine runs a task that holds a slot of a worker."""
    task = _task()
    return task is not None and not task.seceded and not getattr(task, "actor", False)


def leave_slot() -> Any:
    """Leave the slot if this is the thread of a task that holds one; what to call to come back, or None."""
    if not holds_slot():
        return None
    runtime = sys.modules["distributed.worker.runtime"]
    try:
        runtime.secede()
    except Exception:
        return None
    return runtime.rejoin


def wait_here(
    table: FutureTable,
    states: Sequence[FutureState],
    timeout: float | None = None,
    first: bool = False,
    stop_at_error: bool = False,
) -> bool:
    """Block the calling thread until the states are done (see :class:`Countdown`); False when time was up first."""
    parked = BlockedThread()
    if len(states) == 1:
        return _wait_for_one(table, states[0], parked, timeout)
    countdown = Countdown(table, states, parked, first, stop_at_error)
    if countdown.over:
        if countdown._waiting:
            countdown.give_up()
        return True
    try:
        return wait_patiently_here(parked, timeout)
    finally:
        countdown.give_up()


def _wait_for_one(table: FutureTable, state: FutureState, parked: BlockedThread, timeout: float | None) -> bool:
    """The most frequent case: nothing to count."""
    if not table.on_done(state, parked.go):
        return True
    try:
        return wait_patiently_here(parked, timeout)
    finally:
        if not state.done:
            table.forget_callback([state], parked.go)


def wait_patiently_here(parked: BlockedThread, timeout: float | None) -> bool:
    """``parked.wait(timeout)``, outside of the slot of the calling task once that has taken :data:`PATIENCE_S`."""
    if not holds_slot() or (timeout is not None and timeout <= PATIENCE_S):
        return _wait_in_slices(parked, timeout)
    if parked.wait(PATIENCE_S):
        return True
    come_back = leave_slot()
    try:
        return _wait_in_slices(parked, None if timeout is None else timeout - PATIENCE_S)
    finally:
        if come_back is not None:
            come_back()


def _wait_in_slices(parked: BlockedThread, timeout: float | None) -> bool:
    """A thread in one long wait cannot be interrupted (``docs/TASKS.md``); and Ctrl-C is lost on it that comes just
    before the wait begins, or in another thread."""
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        left = SLICE_S if until is None else min(SLICE_S, until - time.monotonic())
        if parked.wait(left):
            return True
        if left < SLICE_S:
            return False


async def wait_async(
    table: FutureTable,
    states: Sequence[FutureState],
    timeout: float | None = None,
    first: bool = False,
    stop_at_error: bool = False,
) -> bool:
    """The same for a coroutine."""
    parked = ParkedCoroutine()
    countdown = Countdown(table, states, parked, first, stop_at_error)
    if countdown.over:
        countdown.give_up()
        return True
    try:
        return await wait_patiently(parked.wait, timeout)
    finally:
        countdown.give_up()


async def wait_patiently(wait: Callable[[float | None], Awaitable[bool]], timeout: float | None) -> bool:
    """``await wait(timeout)``, outside of the slot of the calling task once that has taken :data:`PATIENCE_S`."""
    if not holds_slot() or (timeout is not None and timeout <= PATIENCE_S):
        return await wait(timeout)
    if await wait(PATIENCE_S):
        return True
    come_back = leave_slot()
    try:
        return await wait(None if timeout is None else timeout - PATIENCE_S)
    finally:
        if come_back is not None:
            come_back()
