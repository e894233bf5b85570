"""Serialisers of other packages: headers and frames, families by type and name, and their use on the wire."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from distributed import protocol
from distributed.protocol import (
    Serialize,
    Serialized,
    ToPickle,
    dask_deserialize,
    dask_serialize,
    deserialize,
    deserialize_bytes,
    register_generic,
    register_serialization_family,
    serialize,
    serialize_bytelist,
    serialize_bytes,
    to_serialize,
)
from distributed.protocol import serialize as house
from distributed.protocol.frame_lists import (
    decompress,
    frame_split_size,
    maybe_compress,
    merge_memoryviews,
    pack_frames,
    unpack_frames,
)


class Custom:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        raise TypeError("never pickled")


class Child(Custom):
    pass


@dask_serialize.register(Custom)
def _dumps(obj: Custom) -> tuple[dict[str, Any], list[Any]]:
    return {"n": len(obj.data)}, [obj.data]


@dask_deserialize.register(Custom)
def _loads(header: dict[str, Any], frames: list[Any]) -> Custom:
    obj = Custom(bytes(frames[0]))
    assert len(obj.data) == header["n"]
    return obj


class Model:
    def __init__(self) -> None:
        self.weights, self.name = np.arange(5), "m"


VALUES: list[Any] = [None, 5, "x", b"x" * 10, {"a": [1, (2, {3})]}, lambda: 5, np.arange(12).reshape(3, 4)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_round_trip(value: Any) -> None:
    ways = [deserialize(*serialize(value)), deserialize_bytes(serialize_bytes(value))]
    ways.append(deserialize_bytes(b"".join(serialize_bytelist(value, compression="zlib"))))
    ways.append(protocol.loads(protocol.dumps({"x": to_serialize(value)}))["x"])
    for back in ways:
        if callable(value):
            assert back() == 5
        else:
            assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


ARRAYS = [
    np.zeros((0, 3)),
    np.arange(6).reshape(2, 3).T,
    np.arange(10)[::3],
    np.array(5.0),
    np.array(["a", "bc"]),
    np.zeros(2, [("a", "i4"), ("b", "f8")]),
    np.broadcast_to(np.arange(3), (4, 3)),
    np.array([None, 1]),
]


@pytest.mark.parametrize(
    "array",
    ARRAYS,
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_without_pickle(array: Any) -> None:
    if array.dtype.hasobject:
        with pytest.raises(TypeError, match="ndarray"):
            serialize(array, serializers=["dask"], on_error="raise")
        return
    header, frames = serialize([array], serializers=["dask", "msgpack"], on_error="raise")
    (back,) = deserialize(header, frames, deserializers=["dask", "msgpack"])
    assert np.array_equal(back, array) and back.dtype == array.dtype and back.flags.writeable == array.flags.writeable


@pytest.mark.parametrize(
    "value", [Custom(b"abc"), [{"k": Custom(b"abc" * 9000)}], Child(b"x"), (lambda: 1, Custom(b""))]
)
def test_registered_types_leave_by_their_family_however_deep(value: Any) -> None:
    back = house.loads(house.dumps(value))
    if isinstance(value, Custom):
        assert back.data == value.data
    elif isinstance(value, tuple):
        assert back[0]() == 1 and back[1].data == b""
    else:
        assert back[0]["k"].data == value[0]["k"].data
        assert len(house.dumps(value).attached.buffers) == 1  # type: ignore[union-attr]


def test_families_are_honoured() -> None:
    with pytest.raises(TypeError, match="Model by dask, msgpack"):
        serialize(Model(), serializers=["dask", "msgpack"], on_error="raise")
    header, frames = serialize(Model(), serializers=["msgpack"])
    with pytest.raises(TypeError, match="Model"):
        deserialize(header, frames)
    with pytest.raises(TypeError, match=r"'pickle'.*msgpack"):
        deserialize(*serialize({1: print}), deserializers=["dask", "msgpack"])
    with pytest.raises(ValueError, match="'pikle'"):
        serialize(1, serializers=["pikle"])
    register_serialization_family("mine", lambda x: ({}, [repr(x).encode()]), lambda h, f: bytes(f[0]).decode())
    assert deserialize(*serialize(5, serializers=["mine"]), deserializers=["mine"]) == "5"


def test_generic() -> None:
    register_generic(Model)
    header, frames = serialize(Model())
    assert header["serializer"] == "dask"
    back = deserialize(header, frames)
    assert back.name == "m" and back.weights.tolist() == [0, 1, 2, 3, 4]


def test_a_message_stays_closed_where_nobody_may_open_it() -> None:
    message = {"a": (1, [2]), "b": Serialize({1}), "c": ToPickle({2}), "d": Serialized(*serialize(3))}
    assert protocol.loads(protocol.dumps(message)) == {"a": (1, [2]), "b": {1}, "c": {2}, "d": 3}
    closed = protocol.loads(protocol.dumps(message, frame_split_size=7), deserialize=False)
    assert isinstance(closed["b"], Serialized) and closed["a"] == (1, [2])
    assert protocol.loads(protocol.dumps(closed))["b"] == {1}
    with pytest.raises(TypeError, match="pickle"):
        protocol.loads(protocol.dumps(message), deserializers=["msgpack"])


def test_frame_lists() -> None:
    packed = pack_frames([b"a", memoryview(b"bcd")[::2], b""])
    assert [bytes(f) for f in unpack_frames(packed)] == [b"a", b"bd", b""]
    frames, rest = unpack_frames(packed + b"zz", remainder=True)
    assert len(frames) == 3 and bytes(rest) == b"zz"
    with pytest.raises(ValueError, match="cut off"):
        unpack_frames(packed[:-1])
    assert len(unpack_frames(packed[:-1], partial=True)) == 1
    with pytest.raises(ValueError, match="packed frames"):
        unpack_frames(b"123")
    assert merge_memoryviews(frame_split_size(b"abcdef", 4)) == b"abcdef"
    name, small = maybe_compress(b"a" * 20000, compression="zlib")
    assert name == "zlib" and len(small) < 1000
    assert decompress({"compression": [name, None]}, [small, b"x"]) == [b"a" * 20000, b"x"]


def test_lazy_registration_and_plain_use() -> None:
    """In a fresh process: nothing is registered at first, and a package's serialiser is called for when it comes."""
    code = """
import sys
from distributed.protocol.serialize import dumps, loads, register_serialization_lazy, dask_serialize, dask_deserialize
assert "distributed.protocol.header_frames" not in sys.modules
from fractions import Fraction
def register():
    dask_serialize.register(Fraction, lambda x: ({"n": x.numerator, "d": x.denominator}, []))
    dask_deserialize.register(Fraction, lambda h, f: ("by family", h["n"]))
register_serialization_lazy("fractions", register)
assert loads(dumps([Fraction(3, 4)])) == [("by family", 3)], loads(dumps([Fraction(3, 4)]))
import numpy as np
assert loads(dumps(np.arange(3))).tolist() == [0, 1, 2]
print("good")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "good", done.stderr
