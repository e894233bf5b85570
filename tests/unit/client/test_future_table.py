from __future__ import annotations

from distributed.base.errors import DataLostError, FutureCancelledError
from distributed.client.future_table import FutureTable, run_ready
from distributed.client.futures import cancelled_error
from distributed.client.gathering import Gatherer
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_client import (
    ClusterRestarted,
    KeyErred,
    KeyInMemory,
    KeysCancelled,
    KeysLost,
    KeysRetried,
)

ERROR = ErrorInfo("ValueError", "no")


def held(table: FutureTable, key: str = "x"):
    with table.lock:
        return table.hold(key)[0]


def test_counts():
    table = FutureTable()
    state = held(table)
    assert held(table) is state and state.count == 2
    with table.lock:
        assert table.drop([state]) == []
        assert table.drop([state]) == ["x"]
    assert not table.states
    again = held(table)
    assert again is not state
    with table.lock:
        assert table.drop([state]) == []  # a late death of a future of before
    assert table.states["x"] is again


def test_life_of_a_value():
    table = FutureTable()
    state = held(table)
    seen = []
    assert table.on_done(state, lambda s: seen.append(s.status))
    run_ready(table.apply([KeyInMemory("x", "int", Payload(b"1")), KeyInMemory("unknown")]))
    assert state.done and state.inline == Payload(b"1") and seen == ["finished"]
    assert not table.on_done(state, seen.append)
    table.apply([KeysLost(["x"])])
    assert state.status == "finished" and state.inline == Payload(b"1")  # what is here cannot be lost there
    table.apply([KeyInMemory("x", holders=("tcp://a",))])
    assert state.status == "finished" and state.holders == ("tcp://a",)
    table.apply([KeysLost(["x"])])
    assert state.status == "lost" and not state.done and state.holders == ()
    table.apply([KeyInMemory("x", holders=("tcp://b",))])
    assert state.status == "finished" and state.holders == ("tcp://b",)


def test_errors_and_retries():
    table = FutureTable()
    state = held(table)
    table.apply([KeyErred("x", ERROR)])
    assert state.status == "error" and state.error is ERROR
    assert table.retry(["x", "unknown"]) == ["x"]
    assert state.status == "pending" and state.error is None
    table.apply([KeyErred("x", ERROR)])
    table.apply([KeysRetried(["x"])])
    assert state.status == "pending"


def test_failed_before_it_was_sent():
    table = FutureTable()
    state = held(table)
    table.fail_here(state, ERROR)
    assert table.retry(["x"]) == []
    with table.lock:
        assert table.drop([state]) == []  # the scheduler has never heard of it
    assert not table.states


def test_cancelled_states_leave_the_table():
    table = FutureTable()
    state = held(table)
    seen = []
    table.on_done(state, seen.append)
    run_ready(table.apply([KeysCancelled(["x"], "lost dependencies", "msg")]))
    assert seen == [state] and state.status == "cancelled" and state.reason == "lost dependencies"
    new = held(table)
    assert new is not state and new.status == "pending"
    table.apply([KeyInMemory("x")])
    assert state.status == "cancelled" and new.status == "finished"
    run_ready(table.apply([ClusterRestarted()]))
    assert new.status == "cancelled" and not table.states


def test_what_the_scheduler_cancels_is_given_up():
    """A message of ours may have crossed the news, and made it want the keys again for us."""
    table = FutureTable()
    given_up = []
    table.on_given_up = given_up.extend
    held(table)
    table.apply([KeysCancelled(["x", "nowhere"], "lost")])
    held(table)
    table.apply([ClusterRestarted()])
    assert given_up == ["x", "x"]


def test_waiters_that_give_up_leave_nothing():
    table = FutureTable()
    state = held(table)
    callback = [].append
    table.on_done(state, callback)
    table.forget_callback([state], callback)
    assert not state.callbacks


def test_lost_beyond_recomputing():
    table = FutureTable()
    state = held(table)
    run_ready(table.apply([KeysCancelled(["x"], "'y' was held only by tcp://a:1", lost=True)]))
    error = cancelled_error(state)
    assert type(error) is DataLostError and error.key == "x" and "tcp://a:1" in str(error)
    other = held(table)
    run_ready(table.apply([KeysCancelled(["x"], "by hand")]))
    assert type(cancelled_error(other)) is FutureCancelledError


def test_a_value_at_hand_is_kept_though_it_be_lost():
    table = FutureTable()
    near, far, lost = held(table, "near"), held(table, "far"), held(table, "lost")
    inline = Payload(b"1")
    table.apply([KeyInMemory("near", inline=inline), KeyInMemory("far", holders=("a",)), KeyInMemory("lost")])
    table.apply([KeysLost(["lost"])])
    here, absent = Gatherer.at_hand([near, far, lost])
    table.apply([KeysLost(["near", "far"])])
    assert here == {"near": inline} and absent == [far, lost]
