"""``make demo``: jobs on real files and on an array, on a cluster of one worker process per core of this machine."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import dask

from distributed import Client, LocalCluster, progress
from examples import flights, flights_frame, image_stack, stdlib_census


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
            print(f"  cleaned and aggregated in {time.perf_counter() - start:.1f} s\n")

            print("3. The same flights as a dask DataFrame, with weather and planes")
            start = time.perf_counter()
            answers = flights_frame.run(paths, show=lambda frame: progress(frame, notebook=False))
            print("\n" + flights_frame.report(answers))
            page = flights_frame.write_report(answers, Path(tempfile.gettempdir()) / "flights.html")
            print(f"  pictures: {page}\n  in all {time.perf_counter() - start:.1f} s\n")

        print("4. What is in 6,000 noisy pictures: a singular value decomposition")
        start = time.perf_counter()
        pictures = client.persist(image_stack.stack())
        progress(pictures, notebook=False)
        mean, values, directions = dask.compute(*image_stack.decompose_lazily(pictures))
        print("\n  largest singular values: " + ", ".join([f"{value:.0f}" for value in values]))
        picture = image_stack.draw(mean, directions, Path(tempfile.gettempdir()) / "patterns.png")
        print(f"  the mean and the three patterns behind: {picture}\n  in all {time.perf_counter() - start:.1f} s")
    print(f"\nDone in {time.perf_counter() - began:.1f} s.")


if __name__ == "__main__":
    main()
