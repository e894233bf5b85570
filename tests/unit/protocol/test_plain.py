"""Plain data keeps its types; the rest stays closed for who must not open it."""

import datetime
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed.base.errors import DeserializeError, SerializationError
from distributed.base.status import Status
from distributed.messages.payload import Attached, ErrorInfo, FunctionBlob, Payload
from distributed.protocol.plain import Pickled, dumps_plain, loads_plain
from distributed.protocol.serialize import dumps, live, loads, pack_error

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs", "L"]), max_size=3)
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.timedeltas()
)
hashable = st.recursive(
    atoms, lambda x: st.lists(x, max_size=3).map(tuple) | st.frozensets(x, max_size=3), max_leaves=5
)
data = st.recursive(
    hashable,
    lambda x: (
        st.lists(x, max_size=4)
        | st.lists(x, max_size=4).map(tuple)
        | st.dictionaries(hashable, x, max_size=4)
        | st.dictionaries(st.text(max_size=3), x, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


def typed(obj):
    """A form of ``obj`` in which 1, 1.0 and True differ."""
    if isinstance(obj, list | tuple):
        return type(obj), [typed(member) for member in obj]
    if isinstance(obj, set | frozenset):
        return type(obj), sorted(map(repr, map(typed, obj)))
    if isinstance(obj, dict):
        return dict, [(typed(k), typed(v)) for k, v in obj.items()]
    return type(obj), repr(obj)


@given(data)
def test_types_survive(obj):
    assert typed(loads_plain(dumps_plain(obj), unpickle=True)) == typed(obj)


@given(data.filter(lambda obj: not any("\ud800" <= c <= "\udfff" for c in repr(obj))))
def test_plain_data_needs_no_pickle(obj):
    back = loads_plain(dumps_plain(obj), unpickle=False)
    if "Pickled" not in repr(back):
        assert typed(back) == typed(obj)


def test_no_pickle_is_opened(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    payload = dumps_plain({"f": Status.running, "n": [1, {2}], "p": dumps(1), "big": 2**100})
    monkeypatch.setattr("distributed.protocol.payloads._loads", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    back = loads_plain(payload, unpickle=False)
    assert isinstance(back["f"], Pickled) and back["n"] == [1, {2}] and back["big"] == 2**100
    monkeypatch.undo()
    assert back["f"].load() is Status.running


def test_what_stays_closed_can_be_passed_on():
    closed = loads_plain(dumps_plain([Status.running]), unpickle=False)
    assert loads_plain(dumps_plain(closed), unpickle=True) == [Status.running]


def test_payloads_pass_with_their_buffers():
    big = b"z" * 100_000
    payloads = {"a": dumps(1), ("b", 0): dumps(big), "c": Payload(b"x", Attached([b"1", b"2"])), "d": Payload(b"")}
    wire = dumps_plain({"data": payloads, "raw": big})
    assert len(wire.data) < 2000
    back = loads_plain(wire, unpickle=False)
    assert back["raw"] == big
    assert loads(back["data"]["a"]) == 1 and loads(back["data"]["b", 0]) == big
    assert list(back["data"]["c"].attached.buffers) == [b"1", b"2"]
    assert back["data"]["d"] == Payload(b"")


def test_live_payload_inside_is_pickled_and_live_outside_is_itself():
    obj = object()
    assert loads_plain(live(obj), unpickle=False) is obj
    assert loads(loads_plain(dumps_plain([live([1])]), unpickle=False)[0]) == [1]


def test_errors_and_functions_pass_closed():
    info, blob = pack_error(ValueError("x")), FunctionBlob(b"d", dumps(len), "len")
    back = loads_plain(dumps_plain({"e": info, "f": blob}), unpickle=False)
    assert isinstance(back["e"], ErrorInfo) and back["e"] == info
    assert back["f"] == blob


def test_large_plain_data_travels_beside():
    obj = {"names": [f"key-{i}" for i in range(20_000)], "raw": b"r" * 100_000}
    wire = dumps_plain(obj)
    assert wire.data == b"" and loads_plain(wire) == obj


def test_subclasses_keep_their_type():
    import collections

    obj = [collections.OrderedDict(a=1), True, Status.closed, ValueError]
    back = loads_plain(dumps_plain(obj))
    assert back == obj and type(back[0]) is collections.OrderedDict


def test_cycles_and_depth():
    cycle = [1]
    cycle.append(cycle)
    back = loads_plain(dumps_plain(cycle))
    assert back[1] is back
    deep = []
    for _ in range(300):
        deep = [deep]
    assert loads_plain(dumps_plain(deep)) == deep


def test_not_plain_and_not_picklable():
    import threading

    with pytest.raises(SerializationError, match="lock"):
        dumps_plain({"a": threading.Lock()})


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([99, 1]),
        msgspec.msgpack.encode(["x", 1]),
        msgspec.msgpack.encode([None]),
        msgspec.msgpack.encode([-1]),
        msgspec.msgpack.encode([2, [0]]),  # a set of lists
        msgspec.msgpack.encode([4, 1]),  # a key without a value
        msgspec.msgpack.encode([5, "zz"]),
        msgspec.msgpack.encode([6, "yesterday", 0]),
        msgspec.msgpack.encode([9, b"x", 0, 5]),
        msgspec.msgpack.encode([9, b"x", 0, -5]),
        msgspec.msgpack.encode([9, 5, 0, 0]),
        msgspec.msgpack.encode([9]),
        msgspec.msgpack.encode([13, 7]),
        b"\x91" * 5000,
    ],
)
def test_bad_bytes(wire):
    with pytest.raises(DeserializeError):
        loads_plain(Payload(wire), unpickle=False)


@given(st.binary(max_size=200))
def test_random_bytes(wire):
    try:
        loads_plain(Payload(wire), unpickle=False)
    except DeserializeError:
        pass


class Explodes:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise KeyError("mine")


def test_error_of_opening_is_the_objects_own():
    with pytest.raises(KeyError, match="mine"):
        loads_plain(dumps_plain([Explodes()]))
