"""Keys keep their type, and what cannot be one is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed.base.keys import as_key, key_group, key_prefix, user_key

atoms = st.text() | st.binary() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def depth(key):
    return 1 + max(map(depth, key), default=0) if isinstance(key, tuple) else 0


@given(keys.filter(lambda key: depth(key) <= 4))
def test_round_trip(key):
    back = user_key(as_key(key))
    assert back == key and type(back) is type(key)


@pytest.mark.parametrize("bad", [None, True, [1], {"a"}, 1j, ("x", None), 2**64, object()])
def test_what_cannot_be_a_key(bad):
    with pytest.raises(TypeError):
        as_key(bad)


def test_too_deep():
    with pytest.raises(TypeError, match="nest at most"):
        as_key((((((1,),),),),))


@pytest.mark.parametrize(
    ("key", "prefix", "group"),
    [
        ("inc", "inc", "inc"),
        ("inc-5d41402abc4b2a76", "inc", "inc"),
        (("x-5d41402abc4b2a76", 0), "x", "x-5d41402abc4b2a76"),
        (("x", 1, 2), "x", "x"),
        ("read-csv-5d41402abc4b2a76", "read-csv", "read-csv"),
        (5, "5", "5"),
    ],
)
def test_prefix_and_group(key, prefix, group):
    assert key_prefix(key) == prefix
    assert key_group(key) == group
