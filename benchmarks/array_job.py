"""Time until all workers of an array job have registered: ``python -m benchmarks.array_job --workers 100``.

A scheduler, then so many times the very same command, all by one scheduler file. ``--python`` names a Python in which
another package of that name is installed, to be measured beside.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNT = """
import sys, time
from distributed import Client
path, n = sys.argv[1], int(sys.argv[2])
with Client(scheduler_file=path, timeout=60) as client:
    while len(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.workers))) < n:
        time.sleep(0.05)
"""


def measure(python: str, n_workers: int, limit_s: float) -> tuple[float, float]:
    """Seconds until all have registered, and of processor time of all processes, their end included."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scheduler.json")
        env = {**os.environ, "DASK_DISTRIBUTED__AUTH_STORE": str(Path(folder) / "store")}
        quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        command = [python, "-m", "dask", "worker", "--scheduler-file", path, "--no-nanny", "--nthreads", "1"]
        command += ["--memory-limit", "0", "--no-dashboard", "--host", "127.0.0.1"]
        serve = [python, "-m", "dask", "scheduler", "--scheduler-file", path, "--host", "127.0.0.1", "--port", "0"]
        used = _children_cpu()
        processes = [subprocess.Popen([*serve, "--dashboard-address", "127.0.0.1:0"], **quiet)]  # type: ignore[call-overload]
        try:
            while not Path(path).exists():
                time.sleep(0.02)
            begin = time.monotonic()
            processes += [subprocess.Popen(command, **quiet) for _ in range(n_workers)]  # type: ignore[call-overload]
            subprocess.run(
                [python, "-c", COUNT, path, str(n_workers)], env=env, check=True, timeout=limit_s, cwd=folder
            )
            seconds = time.monotonic() - begin
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
    return seconds, _children_cpu() - used


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds")
    options = parser.parse_args()
    seconds, cpu = measure(options.python, options.workers, options.limit)
    print(f"{options.workers} workers registered in {seconds:.1f} s; processor time of all {cpu:.1f} s")


if __name__ == "__main__":
    main()
