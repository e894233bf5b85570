"""A worker ends at the very moment at which it is given data."""

from __future__ import annotations

import os
from typing import Any

import pytest

from distributed import Client, LocalCluster


def end_when_given_data(dask_worker: Any) -> None:
    dask_worker.handlers["update_data"] = lambda **kwargs: os._exit(1)


@pytest.mark.parametrize("direct", [True, None, False])
def test_another_worker_takes_the_data(direct: bool | None) -> None:
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    values = [bytes([i]) * 1000 for i in range(6)]
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        first = min(client.scheduler_info()["workers"])
        client.run(end_when_given_data, workers=[first])
        futures = client.scatter(values, direct=direct)
        assert client.gather(futures) == values
        assert client.gather(client.map(len, futures)) == [1000] * 6
        assert first not in client.scheduler_info()["workers"]


def test_a_worker_that_cannot_take_data_is_an_error() -> None:
    def refuse(dask_worker: Any) -> None:
        def update_data(**kwargs: Any) -> None:
            raise OSError("the disk is full")

        dask_worker.handlers["update_data"] = update_data

    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.run(refuse)
            with pytest.raises(OSError, match="the disk is full"):
                client.scatter([1, 2, 3])
