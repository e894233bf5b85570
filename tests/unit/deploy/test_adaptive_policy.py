"""When adaptive scaling grows and shrinks."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from distributed.deploy.adaptive import AdaptiveCore
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
    assert policy.agree({"a", "b"}, now=0) == set()
    assert policy.agree({"a", "b"}, now=0) == set()
    assert policy.agree({"a", "c"}, now=0) == {"a"}
    assert policy.close_counts == {"a": 3, "c": 1}
    assert policy.agree({"a"}, now=0) == {"a"}


def test_a_look_without_a_worker_starts_its_count_anew() -> None:
    policy = ScalingPolicy(wait_count=2)
    policy.agree({"a"}, now=0)
    policy.agree({"b"}, now=0)
    assert policy.agree({"a"}, now=0) == set()


def test_growing_forgets() -> None:
    policy = ScalingPolicy(wait_count=2)
    policy.agree({"a"}, now=0)
    assert policy.compare(5, planned=3) == "up"
    assert policy.close_counts == {}
    policy.agree({"a"}, now=0)
    assert policy.compare(3, planned=3) == "same"
    assert policy.close_counts == {}
    policy.agree({"a"}, now=0)
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


def test_a_worker_is_kept_idle_as_long_as_it_took_to_come() -> None:
    policy = ScalingPolicy(wait_count=1)
    policy.note({"a", "b"}, set(), now=100)
    policy.note({"a", "b"}, {"a"}, now=110)
    policy.note({"a", "b"}, {"a", "b"}, now=190)
    assert policy.agree({"a", "b"}, now=200) == set()
    assert policy.agree({"a", "b"}, now=209) == set()
    assert policy.agree({"a", "b"}, now=210) == {"a"}
    assert policy.agree({"b"}, now=259) == set()
    assert policy.agree({"b"}, now=260) == {"b"}  # though it took 90
    assert policy.agree({"c"}, now=260) == {"c"}  # one that never came
    policy.note({"a"}, set(), now=300)  # it is lost, and asked for again
    policy.note({"a"}, {"a"}, now=305)
    assert policy.patience_s == {"a": 5}


def test_members_of_a_group_that_came_at_different_times_can_go_together() -> None:
    policy = ScalingPolicy(wait_count=3)
    policy.note({"a", "b"}, {"a"}, now=0)
    policy.note({"a", "b"}, {"a", "b"}, now=7)
    firm = [policy.agree({"a", "b"}, now=float(now)) for now in range(10, 20)]
    assert {"a"} in firm
    assert firm[-1] == {"a", "b"}


class Trace(AdaptiveCore):
    """Bursts of work for four workers, 20 s long, with lulls between; a worker takes 15 s to come."""

    def __init__(self, lull_s: int) -> None:
        super().__init__(maximum=10)
        self.lull_s, self.now, self.starts = lull_s, 0.0, 0
        self.due: dict[int, float] = {}
        self.plan, self.requested, self.observed = set(), set(), set()

    def _now(self) -> float:
        return self.now

    async def target(self) -> int:
        return 4 if self.now % (20 + self.lull_s) < 20 else 0

    async def scale_up(self, n: int) -> None:
        while len(self.plan) < n:
            self.starts += 1
            self.due[self.starts] = self.now + 15
            self.plan.add(self.starts)
            self.requested.add(self.starts)

    async def scale_down(self, workers: Any) -> None:
        for name in workers:
            for names in (self.plan, self.requested, self.observed):
                names.discard(name)

    async def looks(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.observed |= {name for name in self.requested if self.due[name] <= self.now}
            await self.adapt()


def test_bursts_with_lulls_shorter_than_a_start_cost_no_starts() -> None:
    """Four starts are the least that any plan needs; starts under way are not asked for again."""
    trace = Trace(lull_s=9)
    asyncio.run(trace.looks(300))
    assert trace.starts <= 1.2 * 4


def test_long_lulls_are_not_paid_for() -> None:
    trace = Trace(lull_s=200)
    asyncio.run(trace.looks(60))
    assert not trace.plan
    assert trace.starts == 4
