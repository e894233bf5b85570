"""What the way of a collection's graph costs, per task: CPU time of the client beyond dask's own work, and of the
scheduler, which is a process of its own.

dask's own work is that it optimizes the collection and makes its graph. It is measured alone, with an equal collection,
and taken from the client's CPU time between ``compute`` and the result.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from collection_jobs import make_rows
from measure import Figures, cpu_seconds, run_script, separate_cluster


def centred(seed: int, side: int) -> Any:
    """The sum of an array less its means: a few tasks for each of ``side * side`` chunks, and the reductions."""
    import dask.array as da

    x = da.full((2 * side, 2 * side), float(seed), chunks=2)
    return (x - x.mean(axis=0)).sum()


def shuffled(seed: int, parts: int) -> Any:
    """A dataframe that is shuffled by tasks."""
    import dask
    import dask.dataframe as dd

    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        rows = dd.from_map(make_rows, range(seed, seed + parts), n_rows=20, meta=make_rows(0, 1).iloc[:0])
        return rows.shuffle("key", npartitions=parts).x.sum()


def own_work(collection: Any) -> tuple[float, int]:
    """CPU seconds that dask needs for the graph of ``collection``, and its number of tasks."""
    from dask._expr import FinalizeCompute
    from dask.base import collections_to_expr

    start = cpu_seconds()
    graph = dict(FinalizeCompute(collections_to_expr([collection])).optimize().__dask_graph__())
    return cpu_seconds() - start, len(graph)


def cost(client: Any, make: Callable[[int, int], Any], size: int, rounds: int) -> tuple[float, float, float]:
    """``(client, scheduler, dask alone)`` in CPU us per task: medians."""
    found = []
    for seed in range(rounds):
        dask_s, n_tasks = own_work(make(1000 * seed, size))
        collection = make(1000 * seed + 500, size)
        scheduler, start = client.run_on_scheduler(time.process_time), cpu_seconds()
        client.compute(collection).result()
        client_s = cpu_seconds() - start
        scheduler_s = client.run_on_scheduler(time.process_time) - scheduler
        found.append([1e6 * s / n_tasks for s in (max(0.0, client_s - dask_s), scheduler_s, dask_s)])
    a, b, c = [statistics.median(column) for column in zip(*found, strict=True)]
    return a, b, c


def graph_path(smoke: bool) -> Figures:
    rounds, side, parts = (1, 4, 4) if smoke else (3, 80, 200)
    figures: Figures = {}
    with separate_cluster() as client:
        for name, make, size in (("array", centred, side), ("frame", shuffled, parts)):
            client.compute(make(0, 4)).result()  # everything is imported once before anything is measured
            path, scheduler, own = cost(client, make, size, rounds)
            figures[f"graph_path_{name}_client_us_per_task"] = path
            figures[f"graph_path_{name}_scheduler_us_per_task"] = scheduler
            figures[f"graph_path_{name}_dask_alone_us_per_task"] = own
    return figures


if __name__ == "__main__":
    run_script(graph_path)
