"""Plain arrays take a short way, and come out as the pickler would have made them."""

import copyreg
import pickle

import numpy as np
import pytest

from distributed.messages.payload import Attached, Payload
from distributed.protocol import arrays
from distributed.protocol.serialize import dumps, loads

N = 20_000


class Sub(np.ndarray):
    pass


def arrived(payload):
    """The payload with buffers of its own, as a wire gives them."""
    return Payload(payload.data, Attached([memoryview(bytearray(b)) for b in payload.attached.buffers]))


ARRAYS = {
    "bytes": np.arange(N, dtype="u1"),
    "two dimensions": np.arange(N, dtype="f8").reshape(100, 200),
    "big-endian": np.arange(N, dtype=">i4"),
    "complex": np.arange(N) * 1j,
    "fortran": np.asfortranarray(np.arange(N, dtype="f8").reshape(100, 200)),
    "strided": np.arange(2 * N)[::2],
    "view": np.arange(2 * N)[N:],
    "dates": np.arange(N).astype("M8[s]"),
    "text": np.array(["abc", "d"] * N),
    "records": np.zeros(N, [("a", "i4"), ("b", "f8")]),
    "metadata": np.zeros(N, np.dtype("f8", metadata={"unit": "m"})),
    "subclass": np.arange(N).view(Sub),
    "masked": np.ma.masked_greater(np.arange(N), 5),
    "objects": np.array([{}, None] * 10, dtype=object),
    "scalar shape": np.array(5.0),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_same_as_the_pickler(name):
    array = ARRAYS[name]
    want = pickle.loads(pickle.dumps(array, 5))
    for _ in range(3):
        payload = dumps(array)
        got = loads(payload if payload.attached is None else arrived(payload))
        assert type(got) is type(array) and got.dtype == want.dtype and got.shape == want.shape
        assert got.flags.writeable and got.flags.f_contiguous == want.flags.f_contiguous
        assert (got == want).all()


def test_what_is_sent_is_a_pickle_for_anybody():
    array = np.arange(N, dtype="f8").reshape(200, 100)
    dumps(array)
    payload = dumps(array)
    again = pickle.loads(payload.data, buffers=payload.attached.buffers)
    assert (again == array).all() and again.shape == array.shape
    loads(arrived(payload))
    assert arrays.opener(payload.data) is not None


def test_read_only_stays_so_and_a_snapshot_is_a_copy():
    array = np.arange(N)
    array.flags.writeable = False
    for _ in range(2):
        assert not loads(arrived(dumps(array))).flags.writeable
    array = np.arange(N)
    payload = dumps(array, snapshot=True)
    array[0] = 99
    assert loads(payload)[0] == 0


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("part", [np.float64(3), np.arange(300.0), np.arange(200)[:, None], np.array("x")])
def test_what_an_array_repeats_is_sent_once_and_stays_read_only(part, snapshot):
    array = np.broadcast_to(part, (200, 300))
    payload = dumps(array, snapshot=snapshot)
    assert payload.nbytes < 6000
    got = loads(payload)
    assert type(got) is np.ndarray and got.strides == array.strides and not got.flags.writeable
    assert got.dtype == array.dtype and (got == array).all()


def test_large_repeated_parts_travel_beside_the_pickle():
    array = np.broadcast_to(np.arange(N), (100, N))
    payload = dumps(array)
    assert len(payload.data) < 1000 and payload.nbytes < 10 * N
    assert (loads(arrived(payload)) == array).all()


def test_without_a_copy_both_ways():
    array = np.arange(N)
    dumps(array)
    for _ in range(2):
        payload = dumps(array)
        assert np.shares_memory(loads(payload), array)


def test_a_pickle_that_only_looks_alike_is_opened_by_the_pickler():
    calls = []
    data = dumps(np.arange(N, dtype="i2")).data
    arrays.met(b"something else", np.arange(N, dtype="i2"))
    assert arrays.opener(b"something else") is None
    arrays.met(data, calls)
    assert arrays.opener(data) is None


def test_a_registered_function_for_arrays_has_precedence(monkeypatch):
    array = np.arange(N)
    dumps(array)
    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda a: (list, ([1, 2],)))
    assert loads(dumps(array)) == [1, 2]
