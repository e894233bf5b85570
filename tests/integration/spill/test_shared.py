"""Values in shared memory of workers that spill: real processes, more bytes than their limit."""

from __future__ import annotations

import numpy as np

from distributed import wait
from tests.integration.faults.small_cluster import pids, poll, small_cluster

MIB = 1 << 20
PART = 16 * MIB
LIMIT = 400 * MIB


def make(i: int) -> np.ndarray:
    return np.full(PART // 8, i, dtype="f8")


def total(value: np.ndarray) -> float:
    return float(value.sum())


def n_shared() -> int:
    """Mappings of shared values in this process."""
    with open("/proc/self/maps") as file:
        return sum("memfd:distributed-value" in line for line in file)


def test_more_than_the_limit_is_made_read_by_a_peer_gathered_and_let_go(private_places: None) -> None:
    """A worker that sends much from its disk does not unpack all of it at once: that killed it."""
    with small_cluster(memory_limit=LIMIT) as client:
        before = pids(client)
        a, b = before
        values = client.map(make, range(30), workers=[a], pure=False)
        wait(values)
        want = [i * PART / 8 for i in range(30)]
        sums = client.map(total, values, workers=[b], pure=False)
        assert client.gather(sums) == want
        assert [float(value[-1]) for value in client.gather(values)] == list(range(30))
        assert client.gather(client.map(total, values, pure=False)) == want
        assert pids(client) == before
        del values, sums
        poll(lambda: set(client.run(n_shared).values()) == {0})


def test_more_than_the_limit_is_broadcast_and_used_everywhere(private_places: None) -> None:
    with small_cluster(memory_limit=LIMIT) as client:
        before = pids(client)
        values = [client.scatter(make(i), broadcast=True, hash=False) for i in range(40)]
        for worker in before:
            sums = client.map(total, values, workers=[worker], pure=False)
            assert client.gather(sums) == [i * PART / 8 for i in range(40)]
        assert pids(client) == before
        del values
        poll(lambda: set(client.run(n_shared).values()) == {0})
