"""Bytes between client and workers, between workers, and many small values."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from measure import Figures, cluster, pss_bytes, run_script, timed

PAGE = 4096
"""Bytes; a value counts as transferred when something of every page of it has been read."""


def make(nbytes: int, fill: int = 1) -> Any:
    return np.full(nbytes, fill, dtype="u1")


def make_many(n: int, nbytes: int) -> list[Any]:
    return [make(nbytes, i % 200) for i in range(n)]


def first_bytes(parts: list[Any]) -> int:
    return sum([int(part[0]) for part in parts])


def read(part: Any) -> int:
    """The sum of one byte of every page, so that each process maps what it uses. All bytes here are ones."""
    return int(part[::PAGE].sum())


def bulk(client: Any, nbytes: int) -> Figures:
    """One large array: from client to worker, to another worker, and back; each time until all of it has been read."""
    a, b = client.scheduler_info()["workers"]
    value = make(nbytes)
    kept: list[Any] = []

    def scatter_and_read() -> None:
        kept.append(client.scatter(value, workers=[a], hash=False))
        assert client.submit(read, kept[0], workers=[a], pure=False).result() == nbytes // PAGE

    scatter_s = timed(scatter_and_read)
    future = kept.pop()
    mib = nbytes / 2**20
    return {
        "scatter_MiB_per_s": mib / scatter_s,
        "worker_to_worker_MiB_per_s": mib / timed(lambda: read_at(client, b, future, nbytes)),
        "gather_MiB_per_s": mib / timed(lambda: read_here(future, nbytes)),
    }


def read_at(client: Any, worker: str, future: Any, nbytes: int) -> None:
    assert client.submit(read, future, workers=[worker], pure=False).result() == nbytes // PAGE


def read_here(future: Any, nbytes: int) -> None:
    value = future.result()
    assert len(value) == nbytes and value[-1] == 1 and read(value) == nbytes // PAGE


def made(client: Any, nbytes: int) -> Figures:
    """One large array that a task has made: used on another worker, and another such one by the client."""
    a, b = client.scheduler_info()["workers"]
    first, second = client.map(make, [nbytes] * 2, workers=[a], pure=False)
    client.gather(client.map(len, [first, second], workers=[a], pure=False))
    mib = nbytes / 2**20
    return {
        "made_worker_to_worker_MiB_per_s": mib / timed(lambda: read_at(client, b, first, nbytes)),
        "made_gather_MiB_per_s": mib / timed(lambda: read_here(second, nbytes)),
    }


def broadcast(client: Any, nbytes: int, n_workers: int) -> Figures:
    """The same array to every worker until each has read it: time, and how many copies the machine then holds."""
    value = make(nbytes)
    pids = [*client.run(os.getpid).values(), os.getpid()]
    before = sum([pss_bytes(pid) for pid in pids])
    addresses = list(client.scheduler_info()["workers"])
    kept: list[Any] = []

    def scatter_and_read() -> None:
        kept.append(client.scatter(value, broadcast=True, hash=False))
        sums = [client.submit(read, kept[0], workers=[w], pure=False) for w in addresses]
        assert client.gather(sums) == [nbytes // PAGE] * n_workers

    seconds = timed(scatter_and_read)
    copies = (sum([pss_bytes(pid) for pid in pids]) - before) / nbytes
    return {f"broadcast_{n_workers}_s": seconds, f"broadcast_{n_workers}_copies": copies}


def many_small(client: Any, n: int, nbytes: int) -> Figures:
    """Many small arrays made on one worker are used on another."""
    a, b = client.scheduler_info()["workers"]
    futures = client.map(make, [nbytes] * n, [i % 200 for i in range(n)], workers=[a], pure=False)
    from distributed import wait

    wait(futures)
    future = None

    def run() -> None:
        nonlocal future
        future = client.submit(first_bytes, futures, workers=[b], pure=False)
        assert future.result() == sum([i % 200 for i in range(n)])

    return {"small_arrays_MB_per_s": n * nbytes / 1e6 / timed(run)}


def results(client: Any, n: int, nbytes: int) -> Figures:
    """Results of a megabyte come back to the client."""
    futures = client.map(make, [nbytes] * n, pure=False)
    return {"gather_results_MB_per_s": n * nbytes / 1e6 / timed(lambda: client.gather(futures))}


def data(smoke: bool) -> Figures:
    nbytes = 2**20 if smoke else 256 * 2**20
    with cluster(2) as client:
        client.gather(client.map(make, [10, 20], pure=False))
        figures = bulk(client, nbytes)
        figures |= made(client, nbytes)
        figures |= many_small(client, 50 if smoke else 10_000, 10_000)
        figures |= results(client, 5 if smoke else 200, 1_000_000)
        figures |= broadcast(client, nbytes, 2)
    with cluster(4) as client:
        client.gather(client.map(make, [10] * 8, pure=False))
        figures |= broadcast(client, nbytes, 4)
    return figures


if __name__ == "__main__":
    run_script(data)
