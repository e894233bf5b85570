"""Who waits is told once for all, and leaves nothing behind."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref

import pytest

from distributed.client.future_table import FutureState, FutureTable, run_ready
from distributed.client.parking import BlockedThread, Countdown, wait_here, wait_patiently_here
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeyErred, KeyInMemory


def held(table: FutureTable, n: int) -> list[FutureState]:
    with table.lock:
        return [table.hold(f"k{i}")[0] for i in range(n)]


def finish(table: FutureTable, *states: FutureState) -> None:
    run_ready(table.apply([KeyInMemory(state.key) for state in states]))


def countdown(table: FutureTable, states: list[FutureState], **options: bool) -> tuple[Countdown, BlockedThread]:
    parked = BlockedThread()
    return Countdown(table, states, parked, **options), parked


def test_goes_when_the_last_one_is_done_though_some_were_before():
    table = FutureTable()
    states = held(table, 4)
    finish(table, states[1])
    count, parked = countdown(table, states)
    assert not count.over
    finish(table, states[0], states[3])
    assert not parked.wait(0)
    finish(table, states[2])
    assert parked.wait(0)
    assert countdown(table, states)[0].over
    assert countdown(table, [])[0].over


def test_one_state_may_be_waited_for_twice():
    table = FutureTable()
    (state,) = held(table, 1)
    _, parked = countdown(table, [state, state])
    finish(table, state)
    assert parked.wait(0)


def test_the_first_one_and_an_error_end_it():
    table = FutureTable()
    states = held(table, 3)
    _, first = countdown(table, states, first=True)
    strict, at_error = countdown(table, states, stop_at_error=True)
    finish(table, states[0])
    assert first.wait(0)
    assert not strict.over
    assert not at_error.wait(0)
    run_ready(table.apply([KeyErred(states[1].key, ErrorInfo("ValueError", "no"))]))
    assert at_error.wait(0)
    assert countdown(table, states, first=True)[0].over
    assert countdown(table, states, stop_at_error=True)[0].over


def test_who_gives_up_leaves_no_callback():
    table = FutureTable()
    states = held(table, 2)
    assert not wait_here(table, states, 0.0)
    assert not wait_here(table, states[:1], 0.0)
    assert not any(state.callbacks for state in states)
    finish(table, *states)
    assert wait_here(table, states, 0.0)
    assert wait_here(table, states[:1], 0.0)


def test_states_and_their_values_are_not_kept_by_a_cycle():
    table = FutureTable()
    states = held(table, 3)
    count, parked = countdown(table, states)
    finish(table, *states)
    assert parked.wait(0)
    count.give_up()
    gone = weakref.ref(count)
    gc.disable()
    try:
        del count
        assert gone() is None
    finally:
        gc.enable()


class Struck(Exception):
    pass


def test_a_signal_that_another_thread_takes_ends_the_wait() -> None:
    def strike(*_: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGUSR2, strike)
    begin = time.monotonic()
    try:
        other = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR2))
        other.start()
        with pytest.raises(Struck):
            wait_patiently_here(BlockedThread(), 60)
        other.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert time.monotonic() - begin < 30
