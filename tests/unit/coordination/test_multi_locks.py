"""The table of multi-locks."""

from __future__ import annotations

import pytest

from tests.unit.coordination.world import World


def acquire(w, client, names, n=None, timeout=None):
    names = list(names)
    return w.ask(client, "multi_lock_acquire", timeout, name="", names=names, n=len(names) if n is None else n)


def release(w, client, lease):
    return w.get(client, "multi_lock_release", name="", lease=lease)


def test_all_or_nothing():
    w = World()
    a, b, c = acquire(w, "a", "xy"), acquire(w, "b", "yz"), acquire(w, "c", "z")
    assert w.answers == {a: 1}, "c waits behind b, though z is free"
    release(w, "a", 1)
    assert w.answers[b] == 2
    release(w, "b", 2)
    assert w.answers[c] == 3
    release(w, "c", 3)
    w.assert_empty()


def test_others_are_not_held_up():
    w = World()
    acquire(w, "a", "x")
    b, c = acquire(w, "b", "xy"), acquire(w, "c", "z")
    assert b not in w.answers and w.answers[c] == 2


def test_some_of_several():
    w = World()
    acquire(w, "a", "x")
    b = acquire(w, "b", "xyz", 2)
    assert w.answers[b] == 2
    assert w.tables.leases.find("b", 2).thing == ["y", "z"]
    c = acquire(w, "c", "xyz", 1)
    release(w, "b", 2)
    assert w.tables.leases.find("c", w.answers[c]).thing == ["y"]


def test_who_leaves_the_line_lets_others_pass():
    w = World()
    acquire(w, "a", "x")
    b, c = acquire(w, "b", "xy", timeout=3), acquire(w, "c", "y")
    assert c not in w.answers
    w.pass_time(4)
    assert w.answers[b] is None and w.answers[c] == 2
    d, e = acquire(w, "d", "xz"), acquire(w, "e", "z")
    w.leave("d")
    assert d not in w.answers and w.answers[e] == 3


def test_zero_timeout_leaves_no_trace():
    w = World()
    acquire(w, "a", "x")
    b = acquire(w, "b", "xyz", timeout=0)
    assert w.answers[b] is None
    assert set(w.tables.multi_locks.by_name) == {"x"}


def test_stale_and_lost_holders():
    w = World()
    acquire(w, "a", "xy")
    b = acquire(w, "b", "y")
    w.pass_time(41)
    assert w.answers[b] == 2
    assert release(w, "a", 1) is False
    c = acquire(w, "c", "y")
    w.leave("b")
    assert w.answers[c] == 3


def test_no_deadlock_around_the_table():
    """Philosophers: each needs two forks, in the order that deadlocks when they are taken one by one."""
    w = World()
    n, rounds = 7, 20
    eaten = dict.fromkeys(range(n), 0)
    open_requests = {i: acquire(w, f"p{i}", [i, (i + 1) % n]) for i in range(n)}
    while open_requests:
        ready = [i for i, request in open_requests.items() if request in w.answers]
        assert ready, "deadlock"
        for i in ready:
            release(w, f"p{i}", w.answers.pop(open_requests.pop(i)))
            eaten[i] += 1
            if eaten[i] < rounds:
                open_requests[i] = acquire(w, f"p{i}", [i, (i + 1) % n])
    w.assert_empty()


@pytest.mark.parametrize(("names", "n"), [([], 1), (["x"], 0), (["x"], 2), (["x", "x"], 2)])
def test_nonsense_from_the_wire(names, n):
    w = World()
    with pytest.raises(ValueError, match="cannot acquire"):
        acquire(w, "a", names, n)
    w.assert_empty()


def test_a_long_chain_of_grants():
    w = World()
    acquire(w, "a", range(300))
    requests = [acquire(w, "b", [i, i + 1]) for i in range(0, 299, 2)]
    release(w, "a", 1)
    assert all(request in w.answers for request in requests)
