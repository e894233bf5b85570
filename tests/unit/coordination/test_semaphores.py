"""The table of semaphores and locks."""

from __future__ import annotations

import pytest

from tests.unit.coordination.world import World


def acquire(w, client, timeout=None, name="x", **kwargs):
    return w.ask(client, "semaphore_acquire", timeout, name=name, **kwargs)


def lock(w, client, timeout=None):
    return acquire(w, client, timeout, transient=True)


def release(w, client, lease, name="x"):
    return w.get(client, "semaphore_release", name=name, lease=lease)


def test_one_holder_and_the_next_in_line():
    w = World()
    a, b, c = lock(w, "a"), lock(w, "b"), lock(w, "c")
    assert w.answers == {a: 1}
    assert w.get("d", "semaphore_value", name="x") == 1
    assert release(w, "a", 1) is True
    assert w.answers == {a: 1, b: 2}
    assert release(w, "b", 2) is True
    assert w.answers[c] == 3
    release(w, "c", 3)
    w.assert_empty()


def test_a_late_release_frees_nothing():
    w = World()
    lock(w, "a")
    b = lock(w, "b")
    w.pass_time(41)
    assert w.answers[b] == 2, "a was silent, so b has it"
    assert [lease.client for lease in w.tables.stale] == ["a"]
    assert release(w, "a", 1) is False
    assert w.get("c", "semaphore_value", name="x") == 1


def test_a_lease_of_another_client_or_name_is_not_freed():
    w = World()
    lock(w, "a")
    assert release(w, "b", 1) is False
    assert release(w, "a", 1, name="y") is False
    assert release(w, "a", 1) is True
    assert release(w, "a", 1) is False
    w.assert_empty()


def test_renewed_leases_stay():
    w = World()
    lock(w, "a")
    b = lock(w, "b")
    for _ in range(20):
        w.pass_time(20)
        assert w.get("a", "lease_renew", leases=[1, 77]) == [77]
    assert b not in w.answers
    w.pass_time(40)
    assert w.answers[b] == 2
    assert w.get("a", "lease_renew", leases=[1]) == [1]


def test_leases_that_never_end():
    w = World(lease_timeout_s=None)
    lock(w, "a")
    assert w.tables.next_deadline() is None
    w.pass_time(1e9)
    assert w.get("b", "semaphore_value", name="x") == 1


def test_nothing_is_periodic_while_nobody_holds():
    w = World()
    lock(w, "a")
    release(w, "a", 1)
    w.pass_time(11)
    assert w.tables.next_deadline() is None


def test_time_is_up():
    w = World()
    lock(w, "a")
    b, c = lock(w, "b", 5), lock(w, "c", 0)
    assert w.answers[c] is None
    w.pass_time(4.9)
    assert b not in w.answers
    w.pass_time(0.2)
    assert w.answers[b] is None
    release(w, "a", 1)
    w.assert_empty()


def test_withdrawn_while_it_waits_and_after():
    w = World()
    a = lock(w, "a")
    b, c = lock(w, "b"), lock(w, "c")
    w.withdraw(b)
    assert w.answers[b] is None
    w.withdraw(a)
    assert w.answers[a] == 1, "was granted before: the client gives it back"
    release(w, "a", 1)
    assert w.answers[c] == 2


def test_a_client_that_is_gone_leaves_nothing():
    w = World()
    lock(w, "a")
    b, c, d = lock(w, "b"), lock(w, "c"), lock(w, "d")
    w.leave("c")
    w.leave("a")
    assert w.answers[b] == 2 and c not in w.answers and d not in w.answers
    w.leave("b")
    assert w.answers[d] == 3
    w.leave("d")
    w.assert_empty()


def test_one_client_with_several_requests_goes():
    w = World()
    lock(w, "a"), lock(w, "a"), lock(w, "a")
    b = lock(w, "b")
    w.leave("a")
    assert len(w.answers) == 2 and w.answers[b] == 2
    w.leave("b")
    w.assert_empty()


def test_several_leases():
    w = World()
    first = [acquire(w, "a", max_leases=3) for _ in range(5)]
    assert [w.answers.get(request) for request in first] == [1, 2, 3, None, None]
    assert w.get("b", "semaphore_value", name="x") == 3
    release(w, "a", 2)
    assert w.answers[first[3]] == 4


def test_the_number_of_leases_is_one_for_a_name():
    w = World()
    acquire(w, "a", max_leases=2)
    with pytest.raises(ValueError, match=r"'x' has max_leases=2, which cannot become 3"):
        acquire(w, "b", max_leases=3)
    with pytest.raises(ValueError, match="max_leases=2"):
        w.get("b", "semaphore_register", name="x", max_leases=1)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_nonsense_from_the_wire(n):
    w = World()
    with pytest.raises(ValueError, match="whole number from 1 on"):
        acquire(w, "a", max_leases=n)
    w.assert_empty()


def test_a_registered_name_is_kept_while_the_client_is_there():
    w = World()
    w.get("a", "semaphore_register", name="x", max_leases=2)
    acquire(w, "b", max_leases=2, register=False)
    w.leave("b")
    assert "x" in w.tables.semaphores.by_name
    w.leave("a")
    w.assert_empty()


def test_metrics():
    world = World()
    assert world.tables.semaphores.metrics() == {}
    first, second = (world.get("a", "semaphore_acquire", name="x", max_leases=2) for _ in range(2))
    waiting = world.ask("b", "semaphore_acquire", name="x", max_leases=2)
    world.pass_time(3)
    assert world.tables.semaphores.metrics()["x"] == {
        "max_leases": 2,
        "active_leases": 2,
        "pending_leases": 1,
        "acquire_total": 2,
        "release_total": 0,
        "average_pending_lease_time_s": 0.0,
    }
    world.get("a", "semaphore_release", name="x", lease=first)
    assert world.answers.pop(waiting) is not None
    world.get("a", "semaphore_release", name="x", lease=second)
    found = world.tables.semaphores.metrics()["x"]
    assert (found["active_leases"], found["pending_leases"]) == (1, 0)
    assert (found["acquire_total"], found["release_total"], found["average_pending_lease_time_s"]) == (3, 2, 1.0)
    for client in ("a", "b"):
        world.leave(client)
    assert world.tables.semaphores.metrics() == {}


def test_close_with_holders_and_waiters():
    w = World()
    a = acquire(w, "a", max_leases=1)
    b = acquire(w, "b", max_leases=1)
    w.get("c", "semaphore_close", name="x")
    assert isinstance(w.answers[b], RuntimeError) and "was closed while acquire() waited" in str(w.answers[b])
    assert release(w, "a", w.answers[a]) is False
    with pytest.raises(RuntimeError, match=r"'x' is not known: it was closed"):
        acquire(w, "b", max_leases=1, register=False)
    w.get("c", "semaphore_close", name="x")
    w.assert_empty()
    c = acquire(w, "b", max_leases=5)
    assert w.answers[c] is not None, "a new semaphore of this name"


def test_requests_that_can_be_none():
    w = World()
    lock(w, "a")
    b = lock(w, "b")
    with pytest.raises(ValueError, match="numbers must be unique"):
        w.tables.waiters.new("b", b[1])
    for number, timeout in [("1", None), (None, None), (True, None), (5, "1s"), (5, True)]:
        with pytest.raises(TypeError, match="needs a number"):
            w.tables.waiters.new("b", number, timeout)
    with pytest.raises(ValueError, match="finite"):
        w.tables.waiters.new("b", 5, float("nan"))
    w.tables.validate()


def test_deadlines_of_answered_requests_do_not_pile_up():
    w = World()
    for _ in range(1000):
        lock(w, "a", 3600)
        lock(w, "b", 3600)
        w.leave("a")
        w.leave("b")
    w.tables.next_deadline()
    assert len(w.tables.waiters._deadlines) < 100
