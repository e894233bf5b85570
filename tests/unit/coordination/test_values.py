"""The tables of queues, variables, events and topics."""

from __future__ import annotations

import pytest

from tests.unit.coordination.world import World

# ---------------------------------------------------------------- queues


def put(w, client, value, timeout=None, keys=(), maxsize=0):
    return w.ask(client, "queue_put", timeout, name="q", value=value, keys=list(keys), maxsize=maxsize)


def get(w, client, timeout=None, n=0, maxsize=0):
    return w.ask(client, "queue_get", timeout, name="q", n=n, maxsize=maxsize)


def size(w):
    return w.get("z", "queue_size", name="q")


def got(w, request):
    """The values that a get has brought; None: nothing yet."""
    answer = w.answers.get(request)
    if isinstance(answer, Exception):
        return type(answer)
    return None if answer is None else [value for value, _ in answer[0]]


def test_first_in_first_out():
    w = World()
    for i in range(5):
        put(w, "a", i)
    assert size(w) == 5
    assert [got(w, get(w, "b")) for _ in range(5)] == [[0], [1], [2], [3], [4]]
    w.assert_empty()


def test_who_waits_longest_is_served_first():
    w = World()
    b, c = get(w, "b"), get(w, "c")
    put(w, "a", 1)
    assert (got(w, b), got(w, c)) == ([1], None)
    put(w, "a", 2)
    assert got(w, c) == [2]
    w.assert_empty()


def test_a_full_queue_lets_putters_wait_in_order():
    w = World()
    requests = [put(w, "a", i, maxsize=2) for i in range(5)]
    assert [request in w.answers for request in requests] == [True, True, False, False, False]
    assert got(w, get(w, "b", n=-1)) == [0, 1]
    assert [request in w.answers for request in requests] == [True, True, True, True, False]
    assert [got(w, get(w, "b")) for _ in range(3)] == [[2], [3], [4]]
    w.leave("a")
    w.assert_empty()


def test_the_first_limit_counts_and_goes_with_its_clients():
    w = World()
    put(w, "a", 0)
    put(w, "b", 1, maxsize=2)
    late = put(w, "a", 2, timeout=1, maxsize=9)
    assert late not in w.answers
    w.pass_time(2)
    assert isinstance(w.answers[late], TimeoutError)
    get(w, "c", n=-1)
    w.leave("b")
    w.leave("a")
    w.assert_empty()


def test_time_is_up():
    w = World()
    b = get(w, "b", 3)
    c = get(w, "b", 0)
    assert got(w, c) is TimeoutError
    w.pass_time(4)
    assert got(w, b) is TimeoutError
    put(w, "a", 1)
    assert size(w) == 1, "nobody took it"


def test_batches():
    w = World()
    assert got(w, get(w, "b", n=-1)) == []
    for i in range(3):
        put(w, "a", i)
    assert got(w, get(w, "b", n=2)) == [0, 1]
    four = get(w, "b", n=4)
    next_one = get(w, "c")
    for i in range(3, 5):
        put(w, "a", i)
    assert got(w, four) is None and size(w) == 0
    put(w, "a", 5)
    put(w, "a", 6)
    assert got(w, four) == [2, 3, 4, 5] and got(w, next_one) == [6]
    w.assert_empty()


def test_a_batch_that_never_fills_gives_back_what_it_had():
    w = World()
    four = get(w, "b", 5, n=4)
    for i in range(3):
        put(w, "a", i)
    w.pass_time(6)
    assert got(w, four) is TimeoutError
    assert [got(w, get(w, "c")) for _ in range(3)] == [[0], [1], [2]]
    w.assert_empty()


def test_a_batch_larger_than_the_queue():
    w = World()
    five = get(w, "b", n=5)
    for i in range(5):
        put(w, "a", i, maxsize=2)
    assert got(w, five) == [0, 1, 2, 3, 4]


def test_a_getter_that_is_gone():
    w = World()
    get(w, "b", n=2)
    c = get(w, "c")
    put(w, "a", 1)
    assert got(w, c) is None
    w.leave("b")
    assert got(w, c) == [1]
    w.assert_empty()


def test_what_nobody_took_is_first_again():
    w = World()
    put(w, "a", 1, keys=["k"])
    put(w, "a", 2)
    request = get(w, "b")
    items, transit = w.answers[request]
    w.get("b", "queue_give_back", name="q", items=items, transit=transit)
    assert w.wanted == {"k"} and w.tables.held.n_in_transit == 0
    again = get(w, "b")
    assert got(w, again) == [1]
    w.get("b", "coordination_arrived", transit=w.answers[again][1])
    get(w, "b")
    w.assert_empty()


def test_close_with_waiters():
    w = World()
    b = get(w, "b", n=3)
    put(w, "a", 1, keys=["k"])
    w.get("c", "queue_close", name="q")
    assert "was closed while get() waited" in str(w.answers[b])
    put(w, "a", 1, maxsize=1)
    d = put(w, "a", 2, keys=["m"], maxsize=1)
    w.get("c", "queue_close", name="q")
    assert "was closed while put() waited" in str(w.answers[d])
    w.get("c", "queue_close", name="q")
    w.assert_empty()


# ---------------------------------------------------------------- keys of futures


def test_keys_are_wanted_until_the_receiver_has_them():
    w = World()
    put(w, "a", 1, keys=["k", "m"])
    put(w, "a", 2, keys=["k"])
    assert w.wanted == {"k", "m"}
    _, transit = w.answers[get(w, "b")]
    assert w.wanted == {"k", "m"} and transit
    w.get("b", "coordination_arrived", transit=transit)
    w.get("b", "coordination_arrived", transit=transit)
    assert w.wanted == {"k"}
    get(w, "c")
    w.leave("c")
    w.assert_empty()


def test_keys_of_a_put_that_waits():
    w = World()
    put(w, "a", 0, maxsize=1)
    put(w, "a", 1, timeout=5, keys=["k"])
    assert w.wanted == {"k"}
    w.pass_time(6)
    assert not w.wanted
    put(w, "a", 1, timeout=0, keys=["k"])
    assert not w.wanted
    b = put(w, "b", 1, keys=["k"])
    w.leave("b")
    assert not w.wanted and b not in w.answers


def test_items_stay_when_their_putter_goes():
    w = World()
    put(w, "a", 1, keys=["k"])
    w.leave("a")
    assert size(w) == 1 and w.wanted == {"k"}


# ---------------------------------------------------------------- variables


def test_variable():
    w = World()
    early = w.ask("b", "variable_get", name="v")
    late = w.ask("b", "variable_get", 2, name="v")
    w.pass_time(3)
    assert isinstance(w.answers[late], TimeoutError) and early not in w.answers
    w.get("a", "variable_set", name="v", value=1, keys=["k"])
    value, keys, transit = w.answers[early]
    assert (value, keys) == (1, ["k"])
    w.get("a", "variable_set", name="v", value=2, keys=[])
    assert w.wanted == {"k"}, "still on its way"
    w.get("b", "coordination_arrived", transit=transit)
    assert not w.wanted
    assert w.get("c", "variable_get", name="v") == (2, [], 0)
    w.get("c", "variable_delete", name="v")
    w.get("c", "variable_delete", name="v")
    w.assert_empty()


def test_the_same_key_again():
    w = World()
    w.get("a", "variable_set", name="v", value=1, keys=["k"])
    w.get("a", "variable_set", name="v", value=1, keys=["k"])
    assert w.wanted == {"k"}
    w.leave("a")
    assert w.wanted == {"k"}


def test_deleted_while_waited_for():
    w = World()
    b, c = w.ask("b", "variable_get", name="v"), w.ask("c", "variable_get", name="v")
    w.leave("c")
    w.get("a", "variable_delete", name="v")
    assert isinstance(w.answers[b], RuntimeError) and "was deleted while get() waited" in str(w.answers[b])
    assert c not in w.answers
    w.assert_empty()


# ---------------------------------------------------------------- events


def test_event():
    w = World()
    waits = [w.ask(client, "event_wait", name="e") for client in "abc"]
    late = w.ask("a", "event_wait", 1, name="e")
    w.withdraw(waits[1])
    w.leave("c")
    w.pass_time(2)
    assert w.answers == {waits[1]: False, late: False}
    assert w.get("a", "event_is_set", name="e") is False
    w.get("a", "event_set", name="e")
    assert w.answers[waits[0]] is True and waits[2] not in w.answers
    assert w.get("b", "event_wait", name="e") is True
    w.leave("a")
    assert w.get("b", "event_is_set", name="e") is True
    w.get("a", "event_clear", name="e")
    assert not w.tables.events.are_set
    w.assert_empty()


# ---------------------------------------------------------------- topics


def publish(w, value, keys=()):
    w.get("p", "pubsub_put", name="t", value=value, keys=list(keys))


def read(w, client, id, timeout=None):
    return w.ask(client, "pubsub_get", timeout, name="t", id=id)


def test_everybody_gets_every_message():
    w = World()
    publish(w, 0)
    w.get("a", "pubsub_subscribe", name="t", id="1")
    w.get("b", "pubsub_subscribe", name="t", id="2")
    assert w.get("a", "pubsub_subscribers", name="t") == ["1", "2"]
    waiting = read(w, "b", "2")
    publish(w, 1)
    publish(w, 2)
    assert w.answers[waiting] == ([(1, [])], 0, 0)
    assert w.answers[read(w, "a", "1")] == ([(1, []), (2, [])], 0, 0)
    assert w.answers[read(w, "b", "2")] == ([(2, [])], 0, 0)
    late = read(w, "a", "1", 1)
    w.pass_time(2)
    assert isinstance(w.answers[late], TimeoutError)
    w.get("a", "pubsub_unsubscribe", name="t", id="1")
    w.leave("b")
    w.assert_empty()


def test_a_subscription_that_has_ended():
    w = World()
    with pytest.raises(RuntimeError, match="has ended"):
        read(w, "a", "1")
    w.get("a", "pubsub_subscribe", name="t", id="1")
    with pytest.raises(RuntimeError, match="has ended"):
        read(w, "b", "1")
    waiting = read(w, "a", "1")
    w.get("a", "pubsub_unsubscribe", name="t", id="1")
    assert "was closed while get() waited" in str(w.answers[waiting])
    w.assert_empty()


def test_a_subscriber_that_does_not_read():
    w = World()
    w.tables.pubsub.max_unread = 3
    w.get("a", "pubsub_subscribe", name="t", id="1")
    for i in range(5):
        publish(w, i, [f"k{i}"])
    assert w.wanted == {"k2", "k3", "k4"}
    items, transit, n_dropped = w.answers[read(w, "a", "1")]
    assert [value for value, _ in items] == [2, 3, 4] and n_dropped == 2
    assert w.wanted == {"k2", "k3", "k4"}
    w.get("a", "coordination_arrived", transit=transit)
    w.leave("a")
    w.assert_empty()
