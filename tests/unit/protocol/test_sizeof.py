"""Sizes: about right, quick, never an error."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed.protocol.sizeof import UNKNOWN_BYTES, safe_sizeof, sizeof


@given(st.recursive(st.integers() | st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_counts_the_whole(obj):
    def full(o):
        members = [*o, *o.values()] if isinstance(o, dict) else o if isinstance(o, list) else ()
        return sys.getsizeof(o) + sum(map(full, members))

    assert sizeof(obj) <= full(obj) * 1.01 + 1
    assert sizeof(obj) >= sys.getsizeof(obj)


def test_long_containers_are_sampled():
    obj = ["x" * 1000] * 10**5
    assert 0.8 < sizeof(obj) / (10**5 * (1000 + 49 + 8)) < 1.2
    assert 0.5 < sizeof(dict.fromkeys(range(10**5), "y" * 1000)) / 10**8 < 1.5
    assert sizeof({*range(10**5)}) > 10**6


def test_arrays():
    numpy = pytest.importorskip("numpy")
    assert sizeof(numpy.zeros(1000)) == 8000
    assert sizeof(numpy.broadcast_to(1.0, (1000, 1000))) < 1000
    assert 8000 <= sizeof(numpy.broadcast_to(numpy.arange(1000.0), (1000, 1000))) < 10_000
    assert sizeof(numpy.array(["a" * 1000] * 10, dtype=object)) > 0
    pandas = pytest.importorskip("pandas")
    assert sizeof(pandas.DataFrame({"a": range(1000)})) >= 8000


class Fails:
    def __sizeof__(self):
        raise RuntimeError


class Negative:
    def __sizeof__(self):
        return -5


def test_never_raises():
    assert sizeof(Fails()) == UNKNOWN_BYTES
    assert safe_sizeof(Fails(), 7) == 7
    assert sizeof([Fails()]) > 0
    assert sizeof(Negative()) >= 0
    cycle = []
    cycle.append(cycle)
    assert sizeof(cycle) > 0
