"""dask's collections as people use them: arrays, dataframes, delayed calls and bags, with small and large partitions.

``python collection_jobs.py arrays`` (or ``frames``, ``calls``) prints, for each job, wall time and the CPU time of
client, scheduler and workers, and their peak memory over the whole group. Small partitions ask what a task costs, large
ones how well the data moves. dask's own part (building and optimizing graphs) is in the client's, on every system.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from measure import Figures, JobCost, run_script, separate_cluster

Job = Callable[[], None]


def arrays(smoke: bool) -> dict[str, Job]:
    """Reductions, products and rechunks of square arrays."""
    import dask
    import dask.array as da
    import numpy as np

    def ones(n: int, chunks: Any) -> Any:
        return da.ones((n, n), chunks=chunks) * 1.0  # da.ones alone is one number, seen many times

    def square(n: int, chunks: Any, seed: int = 0) -> Any:
        return da.random.default_rng(seed).random((n, n), chunks=chunks)

    def sum_rechunk(n: int, chunk: int) -> None:
        x = ones(n, (chunk, n))
        assert (x.rechunk((n, chunk)) + 1).sum().compute() == 2 * n * n

    def product(n: int, chunk: int) -> None:
        x = square(n, chunk)
        trace = float(da.diag(x @ x.T).sum().compute())
        assert abs(trace - n * n / 3) < n * n / 20, trace

    def transpose(n: int, chunk: int, method: str) -> None:
        with dask.config.set({"array.rechunk.method": method}):
            x = ones(n, (n, chunk))
            columns = x.T.rechunk((n, chunk)).sum(axis=0).compute()
        assert np.all(columns == n)

    # (side, small chunk, large chunk)
    n, small, large = (60, 20, 30) if smoke else (4000, 100, 1000)
    m, few, many = (60, 20, 30) if smoke else (2400, 200, 800)
    return {
        "array_sum_rechunk_small": lambda: sum_rechunk(n, small),
        "array_sum_rechunk_large": lambda: sum_rechunk(n, large),
        "array_product_small": lambda: product(m, few),
        "array_product_large": lambda: product(m, many),
        "array_transpose_tasks_small": lambda: transpose(n, small, "tasks"),
        "array_transpose_tasks_large": lambda: transpose(n, large, "tasks"),
        "array_transpose_p2p_small": lambda: transpose(n, small, "p2p"),
        "array_transpose_p2p_large": lambda: transpose(n, large, "p2p"),
    }


def make_rows(i: int, n_rows: int) -> Any:
    """One partition: two keys and two numbers."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(i)
    return pd.DataFrame(
        {
            "key": rng.integers(0, 1000, n_rows),
            "group": rng.integers(0, 40, n_rows),
            "x": rng.random(n_rows),
            "y": rng.random(n_rows),
        }
    )


def frames(smoke: bool) -> dict[str, Job]:
    """Group, shuffle and join dataframes."""
    import dask
    import dask.dataframe as dd
    import pandas as pd

    def frame(parts: int, n_rows: int) -> Any:
        return dd.from_map(make_rows, range(parts), n_rows=n_rows, meta=make_rows(0, 1).iloc[:0])

    def groupby(parts: int, n_rows: int) -> None:
        found = frame(parts, n_rows).groupby("group").agg({"x": ["sum", "mean"], "y": "max"}).compute()
        assert len(found) == min(40, len(found)) and abs(found["x"]["mean"].mean() - 0.5) < 0.3

    def shuffle(parts: int, n_rows: int, method: str) -> None:
        with dask.config.set({"dataframe.shuffle.method": method}):
            out = frame(parts, n_rows).shuffle("key", npartitions=parts)
            assert int(out.map_partitions(len, meta=pd.Series(dtype=int)).sum().compute()) == parts * n_rows

    def merge(parts: int, n_rows: int, method: str) -> None:
        with dask.config.set({"dataframe.shuffle.method": method}):
            right = frame(parts, max(1, n_rows // 2_000))
            joined = frame(parts, n_rows).merge(right, on="key", broadcast=False)
            assert int(joined.map_partitions(len, meta=pd.Series(dtype=int)).sum().compute()) > 0

    parts, rows, few, many = (4, 2_000, 2, 4_000) if smoke else (60, 2_000, 12, 400_000)
    jobs: dict[str, Job] = {
        "frame_groupby_small": lambda: groupby(2 * parts, rows),
        "frame_groupby_large": lambda: groupby(few, many),
    }
    for method in ("tasks", "p2p"):
        jobs |= {
            f"frame_shuffle_{method}_small": lambda method=method: shuffle(parts, rows, method),
            f"frame_shuffle_{method}_large": lambda method=method: shuffle(few, many, method),
            f"frame_merge_{method}_small": lambda method=method: merge(parts // 2, rows, method),
            f"frame_merge_{method}_large": lambda method=method: merge(few, many, method),
        }
    return jobs


def weigh(number: int) -> int:
    return number % 7


def line_of_words(i: int) -> str:
    words = random.Random(i).choices(["ash", "beech", "elm", "fir", "larch", "oak", "pine", "yew"], k=40)
    return " ".join(words)


def calls(smoke: bool) -> dict[str, Job]:
    """Delayed calls that meet in one, and words counted in a bag."""
    import dask
    import dask.bag as db

    def fan_in(width: int) -> None:
        parts = [dask.delayed(weigh, pure=False)(i) for i in range(width)]
        assert dask.delayed(sum)(parts).compute() == sum(map(weigh, range(width)))

    def count_words(lines: int, parts: int) -> None:
        words = db.from_sequence(range(lines), npartitions=parts).map(line_of_words).map(str.split).flatten()
        assert sum(dict(words.frequencies(split_every=8).compute()).values()) == 40 * lines

    width, lines, parts, few = (50, 40, 8, 4) if smoke else (2_500, 60_000, 300, 8)
    return {
        "delayed_fan_in": lambda: fan_in(width),
        "bag_words_small": lambda: count_words(lines // 10, parts),
        "bag_words_large": lambda: count_words(lines, few),
    }


GROUPS = {"arrays": arrays, "frames": frames, "calls": calls}


def collection_jobs(smoke: bool) -> Figures:
    """The jobs of the groups that the command line names, else of all; each runs once on two fresh workers, warm."""
    groups = [name for name in sys.argv[1:] if name in GROUPS] or list(GROUPS)
    only = [name for name in sys.argv[1:] if "_" in name]
    figures: Figures = {}
    for group in groups:
        with separate_cluster() as client:
            for job in GROUPS[group](True).values():  # everything is imported once before anything is measured
                job()
            cost = JobCost(client, group)
            for name, job in GROUPS[group](smoke).items():
                if not only or name in only:
                    cost.measure(name, job)
            figures |= cost.figures
    return figures


if __name__ == "__main__":
    run_script(collection_jobs)
