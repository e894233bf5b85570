from __future__ import annotations

import collections
import itertools
import types

import pytest

from distributed.base.keys import as_key
from distributed.client.functions import is_importable, takes_things_along
from distributed.client.future_table import FutureState
from distributed.client.futures import Future
from distributed.client.submission import keyed, make_options, pack_call, worker_names
from distributed.messages.client_to_scheduler import TaskOptions
from distributed.protocol.serialize import TaskInput

Point = collections.namedtuple("Point", "x y")


@pytest.fixture
def client():
    session = types.SimpleNamespace(drop=lambda state: None, address="tcp://here")
    return types.SimpleNamespace(session=session, status="running")


def a_future(client, key="a"):
    return Future(key, client, FutureState(as_key(key)))


def test_plain_arguments_pass_as_they_are(client):
    args, kwargs = (1, [1, 2], {"a": (3,)}), {"k": {1, 2}}
    packed, packed_kwargs, futures, simple = pack_call(client, args, kwargs)
    assert all(one is other for one, other in zip(packed, args, strict=True))
    assert packed_kwargs["k"] is kwargs["k"] and not futures and simple


def test_futures_are_found_anywhere(client):
    a, b = a_future(client, "a"), a_future(client, ("b", 1))
    args = (a, [1, (b, {"x": a})], {b}, Point(a, 2), collections.OrderedDict(k=b), frozenset([a]))
    packed, packed_kwargs, futures, simple = pack_call(client, args, {"k": b})
    assert futures == [a, b] and not simple  # a namedtuple is no plain builtin
    assert packed[0] == TaskInput(0)
    assert packed[1] == [1, (TaskInput(1), {"x": TaskInput(0)})]
    assert packed[2] == {TaskInput(1)}
    assert packed[3] == Point(TaskInput(0), 2)
    assert packed[4] == {"k": TaskInput(1)}
    assert packed[5] == frozenset([TaskInput(0)])
    assert packed_kwargs == {"k": TaskInput(1)}
    assert keyed(packed[1], ["a", ("b", 1)]) == [1, (("\0future", ("b", 1)), {"x": ("\0future", "a")})]


def test_two_futures_of_one_key_are_one_dependency(client):
    packed, _, futures, simple = pack_call(client, (a_future(client), [a_future(client)]), {})
    assert len(futures) == 1 and packed == (TaskInput(0), [TaskInput(0)]) and simple


def test_futures_of_others_are_refused(client):
    other = types.SimpleNamespace(
        session=types.SimpleNamespace(address="tcp://there", drop=lambda s: None), status="running"
    )
    with pytest.raises(ValueError, match="created by another client"):
        pack_call(client, (a_future(other),), {})
    other.status = "closed"
    with pytest.raises(ValueError, match="closed"):
        pack_call(client, ([a_future(other)],), {})


def test_default_options_are_none():
    assert make_options() is None
    assert make_options(0, None, None, False, None, False, {}) is None
    assert make_options(0, 0) is None


def test_options():
    made = make_options(1, 2, ["w", 3], True, {"GPU": 1})
    assert made == TaskOptions(1.0, 2, ("w", "3"), True, {"GPU": 1.0})
    made = make_options(5, annotations={"priority": 1, "retries": 3, "custom": "x", "executor": "gpu"})
    assert made == TaskOptions(5.0, 3, executor="gpu", annotations={"custom": "x"})


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"priority": "high"}, TypeError),
        ({"retries": "x"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"workers": object()}, TypeError),
        ({"workers": [None]}, TypeError),
        ({"allow_other_workers": "x", "workers": "a"}, TypeError),
        ({"resources": 5}, TypeError),
        ({"resources": {"GPU": "one"}}, TypeError),
        ({"resources": {"GPU": -1}}, ValueError),
        ({"resources": {1: 1}}, TypeError),
        ({"annotations": {"executor": 5}}, TypeError),
    ],
)
def test_bad_options(keywords, error):
    with pytest.raises(error) as info:
        make_options(**keywords)
    name = next(iter(keywords))
    assert name.rstrip("s") in str(info.value) or "executor" in str(info.value)


def test_worker_names():
    assert worker_names(None) is None
    assert worker_names("a") == ("a",)
    assert worker_names(3) == ("3",)
    assert worker_names({"a"}) == ("a",)
    assert worker_names(iter(["a"])) == ("a",)


LIMIT = 3


def plain(x):
    return x


def test_what_functions_take_along():
    assert is_importable(itertools.chain) and is_importable(plain)
    assert not is_importable(lambda: None)
    y = []
    assert takes_things_along(lambda: y)
    assert takes_things_along(lambda: LIMIT)
    assert takes_things_along(lambda x=3: x)
    assert takes_things_along(lambda: [LIMIT for _ in range(2)])
    assert not takes_things_along(lambda x: x + 1)
    assert not takes_things_along(lambda x: itertools.chain(plain(x)))
