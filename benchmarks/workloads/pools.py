"""Pools of processes: what people compare with. The name of the pool is the first argument."""

from __future__ import annotations

import operator
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from latency import median_and_p99, sample
from measure import Figures, cpu_seconds, inc, peak_bytes, run_script

Calls = tuple[Callable[[int], Any], Callable[[int], int]]
"""``apply(i)`` does one task and waits; ``run(n)`` does so many, one message each, and tells how many came back."""
# Those that do a hundred thousand in a few seconds.
FAST = ("multiprocessing.Pool",)


@contextmanager
def standard_pool() -> Iterator[Calls]:
    from multiprocessing import Pool

    with Pool(2) as pool:
        yield lambda i: pool.apply(operator.add, (i, 1)), lambda n: sum(1 for _ in pool.imap(inc, range(n), 1))


@contextmanager
def executor(name: str) -> Iterator[Calls]:
    if name == "loky":
        from loky import ProcessPoolExecutor
    else:
        from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2) as pool:
        yield (
            lambda i: pool.submit(operator.add, i, 1).result(),
            lambda n: sum(1 for _ in pool.map(inc, range(n), chunksize=1)),
        )


@contextmanager
def ray_tasks() -> Iterator[Calls]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    one_more = ray.remote(inc)
    try:
        yield (
            lambda i: ray.get(one_more.remote(i)),
            lambda n: len(ray.get([one_more.remote(i) for i in range(n)])),
        )
    finally:
        ray.shutdown()


@contextmanager
def parsl_apps() -> Iterator[Calls]:
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    os.environ["PYTHONPATH"] = os.path.dirname(__file__)  # its workers start in folders of their own
    pool = HighThroughputExecutor(
        max_workers_per_node=2, address="127.0.0.1", provider=LocalProvider(init_blocks=1, max_blocks=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = Config(executors=[pool], run_dir=folder, usage_tracking=0, initialize_logging=False)
        with parsl.load(settings):
            one_more = parsl.python_app(inc)
            yield (
                lambda i: one_more(i).result(),
                lambda n: sum([future.result() is not None for future in [one_more(i) for i in range(n)]]),
            )


def pool_of(name: str) -> Any:
    """The pool of that name, with two processes."""
    special = {"multiprocessing.Pool": standard_pool, "Ray": ray_tasks, "Parsl": parsl_apps}
    return special[name]() if name in special else executor(name)


def pools(name: str) -> Callable[[bool], Figures]:
    def workload(smoke: bool) -> Figures:
        figures: Figures = {}

        def throughput(figure: str, run: Callable[[int], int], n: int) -> None:
            own, start = cpu_seconds(), time.perf_counter()
            assert run(n) == n
            figures[f"{figure}_tasks_per_s"] = n / (time.perf_counter() - start)
            figures[f"{figure}_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n * 1e6

        begin = time.perf_counter()
        with pool_of(name) as (apply, run):
            apply(0)
            figures["import_to_first_result_s"] = time.perf_counter() - begin
            figures |= median_and_p99("latency", sample(apply, 20 if smoke else 500))
            throughput("map_gather", run, 200 if smoke else 10_000)
            if name in FAST:
                throughput("map_gather_100k", run, 500 if smoke else 100_000)
            end = time.perf_counter()
        figures["close_s"] = time.perf_counter() - end
        return {**figures, "throughput_peak_MB": peak_bytes() / 2**20}

    return workload


if __name__ == "__main__":
    run_script(pools(sys.argv.pop(1)))
