"""One system, one run: time its start, latency and throughput, and print the figures as JSON.

This very file is run unchanged by the interpreter of each system's own virtual environment, as
``python workload.py SYSTEM [--tasks N ...]``; it must not import anything of this repository but the system under test.
"""

from __future__ import annotations

import argparse
import json
import operator
import resource
import statistics
import sys
import time
from typing import Any


def inc(x: int) -> int:
    return x + 1


def cpu_seconds() -> float:
    """CPU time that this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def futures_system(tasks: list[int], latency_samples: int, workers: int) -> dict[str, float]:
    """Any package named ``distributed``."""
    figures: dict[str, float] = {}
    start = time.perf_counter()
    from distributed import Client, LocalCluster, as_completed

    figures["import_s"] = time.perf_counter() - start
    start = time.perf_counter()
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    client = Client(cluster)
    client.submit(operator.add, 1, 2).result()
    figures["first_result_s"] = time.perf_counter() - start
    client.gather(client.map(inc, range(500), pure=False))  # warm

    def worker_cpu() -> float:
        return sum(client.run(time.process_time).values())

    def throughput(name: str, n: int, run: Any) -> None:
        own, theirs, start = cpu_seconds(), worker_cpu(), time.perf_counter()
        run(n)
        seconds = time.perf_counter() - start
        figures[f"{name}_tasks_per_s"] = n / seconds
        figures[f"{name}_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n * 1e6
        figures[f"{name}_worker_us_per_task"] = (worker_cpu() - theirs) / n * 1e6

    figures |= latency(lambda i: client.submit(operator.add, i, 1, pure=False).result(), latency_samples)

    def map_gather(n: int) -> None:
        answers = client.gather(client.map(inc, range(n), pure=False))
        assert answers[-1] == n and len(answers) == n

    def submit_loop(n: int) -> None:
        assert len(client.gather([client.submit(inc, i, pure=False) for i in range(n)])) == n

    def sixteen_in_flight(n: int) -> None:
        running = as_completed([client.submit(inc, i, pure=False) for i in range(16)])
        sent, done = 16, 0
        for future in running:
            future.result()
            done += 1
            if sent < n:
                running.add(client.submit(inc, sent, pure=False))
                sent += 1
        assert done == n

    for n in tasks:
        throughput(f"map_gather_{n}", n, map_gather)
    throughput(f"submit_{min(tasks)}", min(tasks), submit_loop)
    throughput("as_completed_16", max(160, min(tasks) // 5), sixteen_in_flight)
    figures["peak_memory_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    client.close()
    cluster.close()
    figures["close_s"] = time.perf_counter() - start
    return figures


def executor_system(tasks: list[int], latency_samples: int, workers: int) -> dict[str, float]:
    """``concurrent.futures.ProcessPoolExecutor``."""
    figures: dict[str, float] = {}
    start = time.perf_counter()
    from concurrent.futures import ProcessPoolExecutor

    figures["import_s"] = time.perf_counter() - start
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        pool.submit(operator.add, 1, 2).result()
        figures["first_result_s"] = time.perf_counter() - start
        figures |= latency(lambda i: pool.submit(operator.add, i, 1).result(), latency_samples)
        for n in tasks:
            own, start = cpu_seconds(), time.perf_counter()
            assert sum(1 for _ in pool.map(inc, range(n))) == n
            figures[f"map_gather_{n}_tasks_per_s"] = n / (time.perf_counter() - start)
            figures[f"map_gather_{n}_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n * 1e6
        start = time.perf_counter()
    figures["close_s"] = time.perf_counter() - start
    return figures


def pool_system(tasks: list[int], latency_samples: int, workers: int) -> dict[str, float]:
    """``multiprocessing.Pool.imap`` with chunks of one."""
    from multiprocessing import Pool

    figures: dict[str, float] = {}
    with Pool(workers) as pool:
        figures |= latency(lambda i: pool.apply(operator.add, (i, 1)), latency_samples)
        for n in tasks:
            own, start = cpu_seconds(), time.perf_counter()
            assert sum(1 for _ in pool.imap(inc, range(n), chunksize=1)) == n
            figures[f"map_gather_{n}_tasks_per_s"] = n / (time.perf_counter() - start)
            figures[f"map_gather_{n}_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n * 1e6
    return figures


def latency(call: Any, samples: int) -> dict[str, float]:
    """Microseconds from submit to result, one task at a time."""
    times = []
    for i in range(samples):
        start = time.perf_counter()
        call(i)
        times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return {"latency_median_us": statistics.median(times), "latency_p99_us": times[int(len(times) * 0.99)]}


SYSTEMS = {"futures": futures_system, "executor": executor_system, "pool": pool_system}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000])
    parser.add_argument("--latency-samples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    figures = SYSTEMS[options.system](options.tasks, options.latency_samples, options.workers)
    json.dump(figures, sys.stdout)
    print()


if __name__ == "__main__":
    main()
