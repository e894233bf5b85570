"""Adaptive scaling of real clusters."""

from __future__ import annotations

import inspect
import time
from typing import Any

import distributed.deploy.adaptive_core as old_address
import pytest

from distributed import Adaptive, Client, LocalCluster
from distributed.deploy.adaptive import AdaptiveCore
from distributed.testing import gen_test, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")
QUIET: dict[str, Any] = {"dashboard_address": None, "processes": False, "threads_per_worker": 1}


class Wants(Adaptive):
    """As many as it is told."""

    n = 0
    looks = 0

    async def target(self) -> int:
        self.looks += 1
        return self.n


def test_the_only_holder_of_a_result_stays_until_it_can_be_copied() -> None:
    with LocalCluster(0, **QUIET) as cluster, Client(cluster) as client:
        adaptive = cluster.adapt(Wants, interval="20ms", wait_count=1)
        adaptive.n = 2
        client.wait_for_workers(2, timeout=30)
        held = client.map(lambda x: (x, time.time()), range(4))
        values = client.gather(held)
        adaptive.n = 1  # one goes, and hands over
        poll_for(lambda: len(cluster.plan) == len(cluster.observed) == 1, timeout=30)
        adaptive.n = 0  # nobody is left to hand over to
        looks = adaptive.looks
        poll_for(lambda: adaptive.looks > looks + 5, timeout=30)
        assert len(cluster.plan) == 1
        assert client.gather(held) == values  # nothing ran again
        del held
        poll_for(lambda: not cluster.plan and not cluster.observed, timeout=30)


def test_bounds_by_cores_and_memory() -> None:
    with LocalCluster(0, memory_limit="100 MB", **QUIET) as cluster, Client(cluster) as client:
        adaptive = cluster.adapt(minimum_cores=1, maximum_memory="250 MB", interval="20ms", wait_count=2)
        assert (adaptive.minimum, adaptive.maximum) == (1, 2)
        futures = client.map(lambda i: (i, time.sleep(0.1)), range(30))
        poll_for(lambda: len(cluster.plan) == 2, timeout=30)
        client.gather(futures)
        del futures
        poll_for(lambda: len(cluster.plan) == 1, timeout=30)


@gen_test()
async def test_what_a_subclass_may_choose() -> None:
    """Each of the methods that other packages override is used."""
    said: list[str] = []

    class Own(Wants):
        async def recommendations(self, target: int) -> dict[str, Any]:
            said.append("recommendations")
            return await super().recommendations(target)

        async def workers_to_close(self, target: int) -> list[Any]:
            said.append("workers_to_close")
            return await super().workers_to_close(target)

        async def scale_up(self, n: int) -> None:
            said.append("scale_up")
            await super().scale_up(n)

        async def scale_down(self, workers: Any) -> None:
            said.append("scale_down")
            await super().scale_down(workers)

    async with LocalCluster(0, asynchronous=True, **QUIET) as cluster:
        adaptive = Own(cluster, interval=0, wait_count=1)
        adaptive.n = 1
        await adaptive.adapt()
        await cluster
        adaptive.n = 0
        await adaptive.adapt()
        adaptive.stop()
    assert said == ["recommendations", "scale_up", "recommendations", "workers_to_close", "scale_down"]
    assert old_address.AdaptiveCore is AdaptiveCore
    assert list(inspect.signature(AdaptiveCore).parameters) == ["minimum", "maximum", "wait_count"]
    with pytest.raises(NotImplementedError):
        await AdaptiveCore().target()
