"""A shuffle of a dataframe that is larger than the workers' memory, or a rechunk of such an array.

    python -m benchmarks.shuffle --gb 4 --workers 2 --memory-limit 1GB

Prints time, peak memory of each worker process, peak disk, and whether every row arrived. Uses public names only, so it
runs on any package called ``distributed``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from dask.utils import parse_bytes

MB = 1e6
ROW_NBYTES = 8 * 8


def make_part(i: int, n_rows: int) -> pd.DataFrame:
    """An input of ``n_rows`` rows of 64 bytes: a key, six floats, and the index."""
    rng = np.random.default_rng(i)
    columns: dict[str, Any] = {"key": rng.integers(0, 1 << 40, n_rows)}
    columns.update({f"x{j}": rng.random(n_rows) for j in range(6)})
    return pd.DataFrame(columns)


def summary(part: pd.DataFrame) -> pd.DataFrame:
    """Looks at a whole partition."""
    return pd.DataFrame({"n": [len(part)], "x0": [float(part["x0"].sum())]})


class Sampler:
    """Peaks of the processes' memory and of the files below a directory."""

    def __init__(self, pids: dict[str, int], directory: str) -> None:
        self.processes = {address: psutil.Process(pid) for address, pid in pids.items()}
        self.directory = Path(directory)
        self.start = {address: p.memory_info().rss for address, p in self.processes.items()}
        self.peak = dict(self.start)
        self.peak_disk = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for address, process in self.processes.items():
                try:
                    self.peak[address] = max(self.peak[address], process.memory_info().rss)
                except psutil.Error:
                    self.peak[address] = -1
            self.peak_disk = max(self.peak_disk, _size(self.directory))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def _size(directory: Path) -> int:
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_size
            except OSError:
                pass
    return total


@contextmanager
def cluster(args: argparse.Namespace) -> Iterator[tuple[Any, str]]:
    """A client, and the directory in which its workers keep files."""
    from distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(
            n_workers=args.workers,
            threads_per_worker=1,
            memory_limit=args.memory_limit,
            local_directory=directory,
            dashboard_address=None,
        ) as running,
        Client(running) as client,
    ):
        client.run(_warm_up)
        yield client, directory


def _warm_up() -> None:
    """Load what every worker needs in any case: it is not the shuffle's."""
    import dask.dataframe  # noqa: F401
    import pyarrow  # noqa: F401


def shuffle_frame(args: argparse.Namespace, client: Any) -> bool:
    """All rows arrive, each key in one partition."""
    import dask
    import dask.dataframe as dd

    n_rows = int(args.gb * 1e9 / args.partitions / ROW_NBYTES)
    df = dd.from_map(make_part, range(args.partitions), n_rows=n_rows, meta=make_part(0, 1).iloc[:0])
    with dask.config.set({"dataframe.shuffle.method": args.method}):
        out = df.shuffle("key", npartitions=args.partitions)
        sums = out.map_partitions(summary, meta={"n": int, "x0": float}).sum().compute()
    rows, total = sums["n"], sums["x0"]
    expected = sum(float(make_part(i, n_rows)["x0"].sum()) for i in range(args.partitions)) if args.check else total
    return bool(rows == n_rows * args.partitions and abs(total - expected) <= 1e-9 * abs(expected))


def rechunk_array(args: argparse.Namespace, client: Any) -> bool:
    """Columns of chunks become rows of chunks."""
    import dask
    import dask.array as da

    n = int((args.gb * 1e9 / 8) ** 0.5) // args.partitions * args.partitions
    x = da.ones((n, n), chunks=(n, n // args.partitions))
    with dask.config.set({"array.rechunk.method": args.method}):
        total = x.rechunk((n // args.partitions, n)).sum(axis=1).sum().compute()
    return bool(total == n * n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=4.0, help="size of the data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-limit", default="1GB", help="of each worker")
    parser.add_argument("--partitions", type=int, default=0, help="default: of a 64th of the memory limit each")
    parser.add_argument("--method", default="p2p", choices=["p2p", "tasks"])
    parser.add_argument("--what", default="frame", choices=["frame", "array"])
    parser.add_argument("--check", action="store_true", help="compare the sum with one that is computed here")
    args = parser.parse_args()
    part_nbytes = parse_bytes(args.memory_limit) / 64
    args.partitions = args.partitions or max(4, int(args.gb * 1e9 / part_nbytes))
    run = shuffle_frame if args.what == "frame" else rechunk_array
    with cluster(args) as (client, directory):
        pids = client.run(os.getpid)
        with Sampler(pids, directory) as sampler:
            start = time.perf_counter()
            complete = run(args, client)
            seconds = time.perf_counter() - start
        same_workers = client.run(os.getpid) == pids
    import distributed

    print(
        json.dumps(
            {
                "distributed": distributed.__version__,
                "what": args.what,
                "method": args.method,
                "gb": args.gb,
                "partitions": args.partitions,
                "memory_limit": args.memory_limit,
                "seconds": round(seconds, 2),
                "complete": complete,
                "no worker died": same_workers,
                "mb at start": [round(n / MB) for n in sampler.start.values()],
                "peak mb": [round(n / MB) for n in sampler.peak.values()],
                "peak disk mb": round(sampler.peak_disk / MB),
            }
        )
    )
    raise SystemExit(0 if complete else 1)


if __name__ == "__main__":
    main()
