"""Clusters of real worker processes, and questions about them, for tests that break them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

SHORT_S = 30.0
"""No wait in these tests takes longer on the slowest machine; none of them is expected to take a second."""


@contextlib.contextmanager
def small_cluster(n_workers: int = 2, threads: int = 1, **options: Any) -> Iterator[Client]:
    """A client of a ``LocalCluster`` of processes without a page; both end with the block."""
    cluster = LocalCluster(n_workers=n_workers, threads_per_worker=threads, dashboard_address=None, **options)
    with cluster, Client(cluster) as client:
        yield client


def addresses(client: Client) -> dict[int, str]:
    """Address of each worker, by its name."""
    return {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}


def pids(client: Client) -> dict[str, int]:
    """Process id of each worker, by its address."""
    return client.run(os.getpid)


def events(client: Client, topic: str) -> list[dict[str, Any]]:
    """The messages of a topic, oldest first."""
    return [message for _, message in client.get_events(topic)]


def poll(fact: Callable[[], Any], timeout_s: float = SHORT_S) -> Any:
    """What ``fact`` gives, as soon as that is true; ``AssertionError`` when it never is."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not seen within {timeout_s:g} s: {fact}"
        time.sleep(0.01)
    return found


class Journal:
    """A file in which tasks note that they have begun, whatever becomes of them: one line for each run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    def lines(self) -> list[str]:
        """What was noted, oldest first."""
        return Path(self.path).read_text().split()

    def count(self, word: str) -> int:
        """How often ``word`` was noted."""
        return self.lines().count(word)
