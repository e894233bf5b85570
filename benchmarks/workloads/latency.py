"""One task at a time: from submit to result."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable
from typing import Any

from measure import Figures, cluster, inc, run_script


def sample(call: Callable[[int], Any], n: int) -> list[float]:
    """Microseconds of each of ``n`` calls, sorted, after some that do not count."""
    for i in range(20):
        call(-1 - i)
    times = []
    for i in range(n):
        start = time.perf_counter()
        call(i)
        times.append((time.perf_counter() - start) * 1e6)
    return sorted(times)


def median_and_p99(name: str, times: list[float]) -> Figures:
    return {f"{name}_median_us": statistics.median(times), f"{name}_p99_us": times[int(len(times) * 0.99)]}


def latency(smoke: bool) -> Figures:
    """With worker processes, with workers in this process, and of a result that is here already."""
    n = 20 if smoke else 500
    with cluster(2) as client:
        figures = median_and_p99("latency", sample(lambda i: client.submit(operator.add, i, 1, pure=False).result(), n))
        done = client.submit(inc, 1)
        done.result()
        figures |= median_and_p99("gather_finished", sample(lambda i: client.gather(done), n))
    with cluster(2, processes=False) as client:
        figures |= median_and_p99(
            "latency_inprocess", sample(lambda i: client.submit(operator.add, i, 1, pure=False).result(), n)
        )
    return figures


if __name__ == "__main__":
    run_script(latency)
