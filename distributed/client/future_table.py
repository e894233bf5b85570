"""The client's book of futures: one state per key, however many Future objects stand for it.

Pure: facts from the scheduler go in, callbacks to run come out; no loop, no socket. The table has one lock. It is
held for
moments, and never while a callback runs. Counting down is left to one place (:meth:`FutureTable.drop`), because a
Future
may die anywhere, even inside this lock: its ``__del__`` only writes its state on a list.

=========  ==========================================================================
pending    submitted; nothing known yet
finished   the value exists; ``inline`` holds it when it is small, else ``holders`` do
error      the task, or one that it needs, failed; ``error`` says how
cancelled  it will never have a value; ``reason`` says why
lost       was finished, is being computed again, because its holders are gone and its value is not here
=========  ==========================================================================
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_client import (
    ClusterRestarted,
    KeyErred,
    KeyInMemory,
    KeysCancelled,
    KeysLost,
    KeysRetried,
)

NOT_DONE = frozenset({"pending", "lost"})
STATES_A_MOMENT = 1000
"""The lock is held for the callbacks of so many states."""


class FutureState:
    """What is known of one key. Read from any thread; written by :class:`FutureTable` only."""

    __slots__ = (
        "callbacks",
        "count",
        "error",
        "holders",
        "inline",
        "key",
        "let_go",
        "local",
        "lost",
        "msg",
        "nbytes",
        "reason",
        "status",
        "type_name",
        "unshippable",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.status = "pending"
        self.count = 0
        self.type_name = ""
        self.inline: Payload | None = None
        self.holders: tuple[str, ...] = ()
        self.nbytes = -1
        self.unshippable: ErrorInfo | None = None
        self.error: ErrorInfo | None = None
        self.reason = ""
        self.msg = ""
        self.lost = False  # cancelled because data that it needs is gone for good
        self.let_go = False  # released by a word, not by a death: Future objects of it are still around
        self.local = False  # the scheduler never heard of it: it failed before it could be sent
        self.callbacks: list[Callback] | None = None

    @property
    def done(self) -> bool:
        return self.status not in NOT_DONE

    def __repr__(self) -> str:
        return f"<FutureState {self.key!r} {self.status} count={self.count}>"


Callback: TypeAlias = Callable[[FutureState], object]
Ready: TypeAlias = list[tuple[Callback, FutureState]]


class FutureTable:
    """Key -> :class:`FutureState`, with the counts of Future objects."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.states: dict[Key, FutureState] = {}
        # Gets, with the lock held, keys that the scheduler has cancelled: a message of ours that crossed its own may
        # have made it want them again for us.
        self.on_given_up: Callable[[list[Key]], object] | None = None

    # -- counting -----------------------------------------------------------------------------------------------------

    def hold(self, key: Key) -> tuple[FutureState, bool]:
        """One more Future for ``key``; whether it is the first. Call with the lock held."""
        state = self.states.get(key)
        if state is None:
            state = self.states[key] = FutureState(key)
            state.count = 1
            return state, True
        state.count += 1
        return state, False

    def drop(self, dropped: Iterable[FutureState]) -> list[Key]:
        """Futures of these states have died; returns the keys that nobody holds any more. Call with the lock held."""
        released: list[Key] = []
        for state in dropped:
            state.count -= 1
            if state.count <= 0 and self.states.get(state.key) is state:
                del self.states[state.key]
                if not state.local:
                    released.append(state.key)
                if state.let_go:
                    _reset(state, "cancelled")
        return released

    # -- waiting ------------------------------------------------------------------------------------------------------

    def on_done(self, state: FutureState, callback: Callback) -> bool:
        """Have ``callback`` run once when the state is done; False (and nothing registered) when it is already."""
        with self.lock:
            if state.status not in NOT_DONE:
                return False
            if state.callbacks is None:
                state.callbacks = [callback]
            else:
                state.callbacks.append(callback)
            return True

    def on_all_done(
        self, states: Sequence[FutureState], callback: Callback
    ) -> tuple[list[FutureState], list[FutureState]]:
        """``on_done`` for many; those that are not done, and those that are already."""
        waiting: list[FutureState] = []
        done: list[FutureState] = []
        for start in range(0, len(states), STATES_A_MOMENT):
            with self.lock:
                for state in states[start : start + STATES_A_MOMENT]:
                    if state.status not in NOT_DONE:
                        done.append(state)
                        continue
                    waiting.append(state)
                    if state.callbacks is None:
                        state.callbacks = [callback]
                    else:
                        state.callbacks.append(callback)
        return waiting, done

    def forget_callback(self, states: Iterable[FutureState], callback: Callback) -> None:
        """The waiter of these states has given up."""
        with self.lock:
            for state in states:
                if state.callbacks is not None:
                    state.callbacks = [known for known in state.callbacks if known != callback]

    # -- facts --------------------------------------------------------------------------------------------------------

    def apply(self, messages: Iterable[Struct]) -> Ready:
        """Take in what the scheduler says; returns the callbacks that are due, to be run without the lock."""
        ready: Ready = []
        given_up: list[Key] = []
        with self.lock:
            states = self.states
            for message in messages:
                if type(message) is KeyInMemory:
                    state = states.get(message.key)
                    if state is not None and state.status != "cancelled":
                        state.type_name = message.type_name
                        state.inline = message.inline
                        state.holders = message.holders
                        state.nbytes = message.nbytes
                        # A value that cannot leave its worker is an error to who asks; tasks may still use it there.
                        state.unshippable = state.error = message.unshippable
                        state.status = "finished" if state.error is None else "error"
                        if state.callbacks is not None:
                            _finish(state, ready)
                elif type(message) is KeyErred:
                    state = states.get(message.key)
                    if state is not None and state.status != "cancelled":
                        _fail(state, message.error, ready)
                elif type(message) is KeysCancelled:
                    given_up.extend([key for key in message.keys if key in states])
                    self._cancel(message.keys, message.reason, message.msg, ready, message.lost)
                elif type(message) is KeysLost:
                    for key in message.keys:
                        state = states.get(key)
                        if state is None or state.inline is not None:
                            continue  # the value is here, whatever becomes of the cluster's copies
                        if state.status == "finished" or state.unshippable is not None:
                            _reset(state, "lost")
                elif type(message) is KeysRetried:
                    for key in message.keys:
                        state = states.get(key)
                        if state is not None and state.status == "error" and not state.local:
                            _reset(state, "pending")
                elif type(message) is ClusterRestarted:
                    given_up.extend(states)
                    self._cancel(list(states), "scheduler-restart", "", ready)
            if given_up and self.on_given_up is not None:
                self.on_given_up(given_up)
        return ready

    def fail_here(self, state: FutureState, error: ErrorInfo) -> Ready:
        """The task cannot even be sent."""
        ready: Ready = []
        with self.lock:
            state.local = True
            _fail(state, error, ready)
        return ready

    def arrived(self, state: FutureState, type_name: str, holders: tuple[str, ...], nbytes: int) -> Ready:
        """This client has put the value on ``holders`` itself."""
        return self.apply([KeyInMemory(state.key, type_name=type_name, holders=holders, nbytes=nbytes)])

    def cancel(self, keys: Iterable[Key], reason: str, msg: str) -> Ready:
        """These are cancelled and leave the table: the same keys submitted later are new tasks."""
        ready: Ready = []
        with self.lock:
            self._cancel(keys, reason, msg, ready)
        return ready

    def cancel_all(self, reason: str, msg: str = "") -> Ready:
        """Nothing here will ever get a value. Call with the lock held."""
        ready: Ready = []
        self._cancel(list(self.states), reason, msg, ready)
        return ready

    def retry(self, keys: Iterable[Key]) -> list[Key]:
        """Failed keys become pending; returns those that had failed at the scheduler."""
        again = []
        with self.lock:
            for key in keys:
                state = self.states.get(key)
                if state is not None and state.status == "error" and not state.local:
                    _reset(state, "pending")
                    again.append(key)
        return again

    def _cancel(self, keys: Iterable[Key], reason: str, msg: str, ready: Ready, lost: bool = False) -> None:
        for key in keys:
            state = self.states.pop(key, None)
            if state is not None:
                _reset(state, "cancelled")
                state.reason = reason
                state.msg = msg
                state.lost = lost
                _finish(state, ready)


def _fail(state: FutureState, error: ErrorInfo, ready: Ready) -> None:
    _reset(state, "error")
    state.error = error
    _finish(state, ready)


def _reset(state: FutureState, status: str) -> None:
    state.inline = None
    state.holders = ()
    state.error = None
    state.unshippable = None
    state.status = status


def _finish(state: FutureState, ready: Ready) -> None:
    callbacks = state.callbacks
    if callbacks is not None:
        state.callbacks = None
        for callback in callbacks:
            ready.append((callback, state))


def run_ready(ready: Ready) -> None:
    """Run what :meth:`FutureTable.apply` and its like returned."""
    for callback, state in ready:
        callback(state)
