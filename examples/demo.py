"""``make demo``: two jobs on real files, on a cluster of one worker process per core of this machine."""

from __future__ import annotations

import tempfile
import time

from distributed import Client, LocalCluster, progress
from examples import flights, stdlib_census


def main() -> None:
    began = time.perf_counter()
    with LocalCluster(dashboard_address=":0") as cluster, Client(cluster) as client:
        print(cluster)
        print(f"live status page: {client.dashboard_link}\n")

        print("1. A census of Python's standard library")
        start = time.perf_counter()
        files = stdlib_census.module_files()
        total, bad = stdlib_census.run(client, files, show=lambda futures: progress(futures, notebook=False))
        print("\n" + stdlib_census.report(client, total, bad))
        print(f"  in all {time.perf_counter() - start:.1f} s\n")

        print("2. The flights that left New York in 2013")
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            paths = flights.split(folder)
            print(f"  split into {len(paths)} files in {time.perf_counter() - start:.1f} s")
            start = time.perf_counter()
            print(flights.report(flights.run(client, paths)))
            print(f"  cleaned and aggregated in {time.perf_counter() - start:.1f} s")
    print(f"\nDone in {time.perf_counter() - began:.1f} s.")


if __name__ == "__main__":
    main()
