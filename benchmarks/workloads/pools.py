"""The standard library's pools, and loky: what people compare with. The name of the pool is the first argument."""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from latency import median_and_p99, sample
from measure import Figures, cpu_seconds, inc, run_script


@contextmanager
def pool_of(name: str) -> Any:
    """The calls ``apply(i)`` and ``run(n)`` of a pool with two processes."""
    if name == "multiprocessing.Pool":
        from multiprocessing import Pool

        with Pool(2) as pool:
            yield lambda i: pool.apply(operator.add, (i, 1)), lambda n: sum(1 for _ in pool.imap(inc, range(n), 1))
    else:
        if name == "loky":
            from loky import ProcessPoolExecutor
        else:
            from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            yield (
                lambda i: pool.submit(operator.add, i, 1).result(),
                lambda n: sum(1 for _ in pool.map(inc, range(n), chunksize=1)),
            )


def pools(name: str) -> Callable[[bool], Figures]:
    def workload(smoke: bool) -> Figures:
        n = 200 if smoke else 10_000
        begin = time.perf_counter()
        with pool_of(name) as (apply, run):
            apply(0)
            figures = {"import_to_first_result_s": time.perf_counter() - begin}
            figures |= median_and_p99("latency", sample(apply, 20 if smoke else 500))
            own, start = cpu_seconds(), time.perf_counter()
            assert run(n) == n
            figures["map_gather_tasks_per_s"] = n / (time.perf_counter() - start)
            figures["map_gather_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n * 1e6
        return figures

    return workload


if __name__ == "__main__":
    run_script(pools(sys.argv.pop(1)))
