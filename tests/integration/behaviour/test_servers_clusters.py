"""Clusters made from Python, seen from outside."""

from __future__ import annotations

from typing import Any

import pytest

from distributed import LocalCluster, Scheduler, SpecCluster, Worker
from distributed.testing import gen_test


class Broken(Worker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("no worker")


@gen_test()
async def test_error_of_a_worker_is_raised_as_it_is() -> None:
    scheduler = {"cls": Scheduler, "options": {"port": 0, "host": "127.0.0.1"}}
    with pytest.raises(ZeroDivisionError, match="no worker"):
        async with SpecCluster(workers={0: {"cls": Broken}}, scheduler=scheduler, asynchronous=True):
            pass


@gen_test()
async def test_asynchronous_cluster_gives_an_asynchronous_client() -> None:
    async with LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=None) as cluster:
        async with cluster.get_client() as client:
            assert await client.submit(lambda: 5) == 5
        spec = cluster.new_worker_spec()
        assert spec.keys() == cluster.new_worker_spec().keys()  # asked for, not taken
        logs = await cluster.get_logs()
        assert set(logs) >= {"Cluster", "Scheduler"} and len(logs) == 3
    assert "memory=0 B" in repr(cluster)
