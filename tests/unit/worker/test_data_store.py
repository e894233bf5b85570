from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest

from distributed.messages.payload import Attached, Payload
from distributed.protocol import serialize
from distributed.worker.data_store import DataStore, Sealed


def test_sealed_values_open_when_read() -> None:
    store = DataStore()
    store.seal("x", serialize.dumps([1, 2]), "peer")
    assert "x" in store and len(store) == 1 and list(store) == ["x"]
    assert type(store.hold("x")) is Sealed
    assert store["x"] == [1, 2]
    assert store.hold("x") is store["x"]


def test_live_values_are_open_at_once() -> None:
    store = DataStore()
    value = object()
    store.seal("x", Payload(attached=Attached(live=value, is_live=True)), "peer")
    assert store.hold("x") is value


def test_discard_and_delete() -> None:
    store = DataStore()
    store["x"] = 1
    assert store.discard("x")
    assert not store.discard("x")
    with pytest.raises(KeyError):
        del store["x"]


def test_custom_mapping_holds_open_values() -> None:
    inner: Any = UserDict()
    store = DataStore(inner)
    store["x"] = 1
    arrived = store.opened_apart({"y": serialize.dumps(2), "z": Payload(b"no pickle")}, "peer")
    for key, payload in arrived.items():
        store.seal(key, payload, "peer")
    assert dict(inner) | {"z": None} == {"x": 1, "y": 2, "z": None}
    assert type(inner["z"]) is Sealed and store.hold("z").producer == "peer"
    assert store.discard("x")
    assert "x" not in inner


def test_opened_value_of_an_evicted_key_is_not_put_back() -> None:
    store = DataStore()
    store.seal("x", serialize.dumps(2), "peer")
    held = store.hold("x")
    store.discard("x")
    assert store.opened(held) == 2
    assert "x" not in store
