"""One cluster for the tests of this folder: two workers, one thread each, half a second of grace."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest

from distributed import Client, LocalCluster

GRACE_S = 0.5


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with (
        dask.config.set({"distributed.worker.stop.grace": GRACE_S, "distributed.worker.stop.repeat": GRACE_S}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        yield client
