"""Many workers in one process: what they cost when idle, and what a task costs among them."""

from __future__ import annotations

import time

from measure import Figures, cluster, cpu_seconds, inc, run_script


def one_size(n_workers: int, idle_s: float, n_tasks: int) -> Figures:
    with cluster(n_workers, processes=False) as client:
        time.sleep(0.5)  # what the start has left to do
        start, clock = cpu_seconds(), time.perf_counter()
        time.sleep(idle_s)
        idle = (cpu_seconds() - start) / (time.perf_counter() - clock)
        start = cpu_seconds()
        client.gather(client.map(inc, range(n_tasks), pure=False))
        busy = (cpu_seconds() - start) / n_tasks * 1e6
        return {f"idle_{n_workers}_cpu_percent": idle * 100, f"inprocess_{n_workers}_us_per_task": busy}


def workers(smoke: bool) -> Figures:
    figures: Figures = {}
    for n in (2, 4) if smoke else (2, 64, 200):
        figures |= one_size(n, 0.1 if smoke else 5.0, 100 if smoke else 10_000)
    return figures


if __name__ == "__main__":
    run_script(workers)
