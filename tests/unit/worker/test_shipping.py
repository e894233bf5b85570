from __future__ import annotations

import threading
from typing import Any

import numpy as np

from distributed.protocol import serialize
from distributed.worker.shipping import is_surely_shippable, ship


def test_small_wanted_value_is_inline() -> None:
    inline, unshippable = ship({"a": 1}, 300, wanted=True)
    assert unshippable is None
    assert inline is not None and serialize.loads(inline) == {"a": 1}


def test_unwanted_or_large_value_is_not() -> None:
    assert ship(1, 28, wanted=False) == (None, None)
    assert ship(b"x" * 100_000, 100_033, wanted=True) == (None, None)


def test_size_that_lies_is_found_out() -> None:
    class Lying:
        def __init__(self) -> None:
            self.data = b"x" * 1_000_000

    assert ship(Lying(), 48, wanted=True) == (None, None)


def test_arrays_pass_unseen() -> None:
    assert is_surely_shippable(np.arange(5))
    assert not is_surely_shippable(np.array([object()]))


def test_huge_value_is_probed_for_a_bounded_part() -> None:
    calls: list[int] = []

    class Counted:
        def __reduce__(self) -> Any:
            calls.append(1)
            return (str, (f"{len(calls)}" * 1000,))

    assert ship([Counted() for _ in range(10_000)], 10**7, wanted=False) == (None, None)
    assert len(calls) < 500


def test_bad_member_is_named() -> None:
    inline, unshippable = ship({"deep": [threading.Lock()]}, 100, wanted=False)
    assert inline is None
    assert unshippable is not None and "deep" in unshippable.message


def test_more_is_probed_of_what_took_long_to_make() -> None:
    value = [bytes(700_000), threading.Lock()]  # bytes: nothing to search through for the bad member
    assert ship(value, 10**6, wanted=True, duration_s=0.01) == (None, None)
    inline, unshippable = ship(value, 10**6, wanted=True, duration_s=0.5)
    assert inline is None
    assert unshippable is not None and "result[1]" in unshippable.message
