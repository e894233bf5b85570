"""Bytes between client and workers, between workers, and many small values."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from measure import Figures, cluster, pss_bytes, run_script, timed


def make(nbytes: int, fill: int = 1) -> Any:
    return np.full(nbytes, fill, dtype="u1")


def make_many(n: int, nbytes: int) -> list[Any]:
    return [make(nbytes, i % 200) for i in range(n)]


def first_bytes(parts: list[Any]) -> int:
    return sum([int(part[0]) for part in parts])


def bulk(client: Any, nbytes: int) -> Figures:
    """One large array: from client to worker, to another worker, and back."""
    a, b = client.scheduler_info()["workers"]
    value = make(nbytes)
    kept: list[Any] = []
    scatter_s = timed(lambda: kept.append(client.scatter(value, workers=[a], hash=False)))
    future = kept.pop()
    move_s = timed(lambda: client.submit(len, future, workers=[b], pure=False).result())
    gather_s = timed(lambda: kept.append(client.gather(future)))
    assert len(kept[0]) == nbytes and kept[0][-1] == 1
    mib = nbytes / 2**20
    return {
        "scatter_MiB_per_s": mib / scatter_s,
        "worker_to_worker_MiB_per_s": mib / move_s,
        "gather_MiB_per_s": mib / gather_s,
    }


def read(part: Any) -> int:
    """Touch every page, so that each process maps what it uses."""
    return len(part) + 0 * int(part[::4096].sum())


def made(client: Any, nbytes: int) -> Figures:
    """One large array that a task has made: used on another worker, and another such one by the client."""
    a, b = client.scheduler_info()["workers"]
    first, second = client.map(make, [nbytes] * 2, workers=[a], pure=False)
    client.gather(client.map(len, [first, second], workers=[a], pure=False))
    kept: list[Any] = []
    move_s = timed(lambda: client.submit(read, first, workers=[b], pure=False).result())
    gather_s = timed(lambda: kept.append(second.result()))
    assert len(kept[0]) == nbytes and kept[0][-1] == 1
    mib = nbytes / 2**20
    return {"made_worker_to_worker_MiB_per_s": mib / move_s, "made_gather_MiB_per_s": mib / gather_s}


def broadcast(client: Any, nbytes: int, n_workers: int) -> Figures:
    """The same array to every worker: time, and how many copies the machine then holds."""
    value = make(nbytes)
    pids = [*client.run(os.getpid).values(), os.getpid()]
    before = sum([pss_bytes(pid) for pid in pids])
    kept: list[Any] = []
    seconds = timed(lambda: kept.append(client.scatter(value, broadcast=True, hash=False)))
    addresses = list(client.scheduler_info()["workers"])
    lengths = [client.submit(read, kept[0], workers=[w], pure=False) for w in addresses]
    assert client.gather(lengths) == [nbytes] * n_workers
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
