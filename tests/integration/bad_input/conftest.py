"""Fixtures of the tests here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from distributed import Client, LocalCluster
from distributed.testing import cleanup, inc, loop, loop_in_thread

__all__ = ["cleanup", "loop", "loop_in_thread"]

OPTIONS: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2, **OPTIONS) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """Works behind each test as well as before."""
    with Client(cluster, set_as_default=False) as client:
        yield client
        assert client.submit(inc, 1, pure=False).result(timeout=5) == 2


@contextlib.contextmanager
def soon(seconds: float = 5.0) -> Iterator[None]:
    """What is refused is refused at once."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds
