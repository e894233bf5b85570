"""pytest fixtures: a loop in a thread, a cluster of real processes, a client of it. Import those that a test uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from distributed.client import Client
from distributed.rpc.loop_runner import LoopRunner
from distributed.testing.environment import clean
from distributed.testing.processes import cluster


@pytest.fixture
def cleanup() -> Iterator[None]:
    """Threads and processes that the test leaves behind are its failure; the configuration is reset."""
    with clean():
        yield


@pytest.fixture
def loop_in_thread(cleanup: None) -> Iterator[Any]:
    """A tornado IOLoop that runs in a thread."""
    runner = LoopRunner(asynchronous=False)
    runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


@pytest.fixture
def loop(loop_in_thread: Any) -> Any:
    """The same."""
    return loop_in_thread


@pytest.fixture
def cluster_fixture(loop: Any) -> Iterator[Any]:
    """``(scheduler, workers)`` of ``cluster()``."""
    with cluster() as (scheduler, workers):
        yield scheduler, workers


@pytest.fixture
def s(cluster_fixture: Any) -> Any:
    """The scheduler: ``s["address"]``."""
    return cluster_fixture[0]


@pytest.fixture
def a(cluster_fixture: Any) -> Any:
    """The first worker."""
    return cluster_fixture[1][0]


@pytest.fixture
def b(cluster_fixture: Any) -> Any:
    """The second worker."""
    return cluster_fixture[1][1]


@pytest.fixture
def client(loop: Any, cluster_fixture: Any) -> Iterator[Client]:
    """A synchronous client of a scheduler and two workers."""
    scheduler, _ = cluster_fixture
    with Client(scheduler["address"], loop=loop) as client:
        yield client


c = client
"""The same fixture under the name by which most tests ask for it."""
