"""When adaptive scaling grows and shrinks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from distributed.deploy.adaptive_policy import ScalingPolicy, workers_for


@pytest.mark.parametrize(
    ("target", "expected"),
    [(-1, 2), (0, 2), (2, 2), (3, 3), (5, 5), (6, 5), (math.inf, 5)],
)
def test_bounds(target: float, expected: int) -> None:
    assert ScalingPolicy(minimum=2, maximum=5).bound(target) == expected


def test_no_upper_bound() -> None:
    assert ScalingPolicy().bound(10**6) == 10**6


@pytest.mark.parametrize("bounds", [{"minimum": -1}, {"minimum": 3, "maximum": 2}, {"maximum": 2.5}])
def test_bad_bounds(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"minimum|maximum"):
        ScalingPolicy(**bounds)


def test_shrinks_after_agreeing_looks_only() -> None:
    policy = ScalingPolicy(wait_count=3)
    assert policy.agree({"a", "b"}) == set()
    assert policy.agree({"a", "b"}) == set()
    assert policy.agree({"a", "c"}) == {"a"}
    assert policy.close_counts == {"c": 1}


def test_a_look_without_a_worker_starts_its_count_anew() -> None:
    policy = ScalingPolicy(wait_count=2)
    policy.agree({"a"})
    policy.agree({"b"})
    assert policy.agree({"a"}) == set()


def test_growing_forgets() -> None:
    policy = ScalingPolicy(wait_count=2)
    policy.agree({"a"})
    assert policy.compare(5, planned=3) == "up"
    assert policy.close_counts == {}
    policy.agree({"a"})
    assert policy.compare(3, planned=3) == "same"
    assert policy.close_counts == {}
    policy.agree({"a"})
    assert policy.compare(1, planned=3) == "down"
    assert policy.close_counts == {"a": 1}


def test_absent_workers_go_first() -> None:
    policy = ScalingPolicy()
    assert policy.never_arrived({0, 1, 2}, {0}, 1) == {1}
    assert policy.never_arrived({0, 1, 2}, {0}, 5) == {1, 2}
    assert policy.never_arrived({0, 1}, {0, 1}, 1) == set()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((None, None, None, None), math.inf),
        ((8, None, 2, None), 4),
        ((7, None, 2, None), 3),
        ((None, 100, None, 30), 3),
        ((8, 100, 2, 60), 1),
    ],
)
def test_workers_for(limits: tuple[Any, ...], expected: float) -> None:
    assert workers_for(*limits) == expected
