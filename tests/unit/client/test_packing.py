from __future__ import annotations

import collections
import types

import pytest

from distributed.base.keys import as_key
from distributed.client.future_table import FutureState
from distributed.client.futures import Future
from distributed.client.packing import keyed, pack_call
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
