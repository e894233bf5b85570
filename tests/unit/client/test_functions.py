from __future__ import annotations

import itertools

from distributed.client.functions import is_importable, takes_things_along

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
