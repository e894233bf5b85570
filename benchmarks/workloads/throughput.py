"""Many trivial tasks at once."""

from __future__ import annotations

from typing import Any

from measure import Cost, Figures, cluster, inc, peak_bytes, run_script


def map_gather(client: Any, n: int) -> None:
    answers = client.gather(client.map(inc, range(n), pure=False))
    assert answers[-1] == n and len(answers) == n


def submit_loop(client: Any, n: int) -> None:
    assert len(client.gather([client.submit(inc, i, pure=False) for i in range(n)])) == n


def sixteen_in_flight(client: Any, n: int) -> None:
    """Each result is answered by a new task."""
    from distributed import as_completed

    running = as_completed([client.submit(inc, i, pure=False) for i in range(16)])
    sent, done = 16, 0
    for future in running:
        future.result()
        done += 1
        if sent < n:
            running.add(client.submit(inc, sent, pure=False))
            sent += 1
    assert done == n


def throughput(smoke: bool) -> Figures:
    """Tasks per second, and CPU microseconds a task by process."""
    n = 200 if smoke else 10_000
    with cluster(2) as client:
        cost = Cost(client)
        cost.measure("map_gather", n, lambda: map_gather(client, n))
        cost.measure("submit", n, lambda: submit_loop(client, n))
        cost.measure("as_completed_16", max(n // 5, 32), lambda: sixteen_in_flight(client, max(n // 5, 32)))
        return {**cost.figures, "throughput_peak_MB": peak_bytes() / 2**20}


if __name__ == "__main__":
    run_script(throughput)
