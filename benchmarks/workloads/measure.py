"""What all workloads share: a cluster of the package under test, CPU time, memory, and the sizes of a run.

The scripts of this folder run unchanged in the virtual environment of each system, so they import nothing of this
repository but the system under test, and use only what every package named ``distributed`` offers.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

Figures = dict[str, float]


def cpu_seconds() -> float:
    """CPU time that this process has used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def pss_bytes(pid: int | str = "self") -> int:
    """Proportional set size of a process: shared pages are counted in shares."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of {pid}")


def rss_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def inc(x: int) -> int:
    return x + 1


def timed(call: Callable[[], Any]) -> float:
    """Seconds that ``call`` takes."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def cluster(n_workers: int = 2, processes: bool = True, **options: Any) -> Iterator[Any]:
    """A client of a fresh cluster of single-thread workers that has run its first tasks."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0, **options}
    with LocalCluster(n_workers=n_workers, processes=processes, **options) as local, Client(local) as client:
        client.wait_for_workers(n_workers)
        client.gather(client.map(inc, range(200), pure=False))
        yield client


@contextmanager
def separate_cluster(n_workers: int = 2) -> Iterator[Any]:
    """A client of a scheduler and single-thread workers that are processes of their own, started as users do."""
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        file = ["--scheduler-file", str(Path(folder) / "scheduler.json"), "--no-dashboard"]
        one = ["--nworkers", str(n_workers), "--nthreads", "1", "--memory-limit", "0", "--local-directory", folder]
        with ExitStack() as stack:
            stack.enter_context(program("dask_scheduler", *file, "--port", "0", "--host", "127.0.0.1"))
            stack.enter_context(program("dask_worker", *file, *one))
            client = stack.enter_context(Client(scheduler_file=file[1], timeout=60))
            client.wait_for_workers(n_workers, timeout=60)
            client.gather(client.map(inc, range(200), pure=False))
            yield client


@contextmanager
def program(name: str, *arguments: str) -> Iterator[None]:
    """A program of the package under test while the block runs."""
    command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{name}", *arguments]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


class Cost:
    """Wall and CPU time of the work between ``start`` and ``stop``, by process and task."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.figures: Figures = {}

    def worker_cpu(self) -> float:
        return float(sum(self.client.run(time.process_time).values()))

    def measure(self, name: str, n_tasks: int, call: Callable[[], Any]) -> None:
        """Run ``call``, which completes ``n_tasks`` tasks."""
        gc.collect()
        own, theirs, start = cpu_seconds(), self.worker_cpu(), time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        self.figures[f"{name}_tasks_per_s"] = n_tasks / seconds
        self.figures[f"{name}_client_scheduler_us_per_task"] = (cpu_seconds() - own) / n_tasks * 1e6
        self.figures[f"{name}_worker_us_per_task"] = (self.worker_cpu() - theirs) / n_tasks * 1e6


class JobCost:
    """Wall time, CPU time of client, scheduler and workers, and the most memory that each has held so far.

    The scheduler is a process of its own (:func:`separate_cluster`).
    """

    def __init__(self, client: Any, group: str) -> None:
        self.client = client
        self.group = group
        self.figures: Figures = {}

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by process."""
        return {
            "client": cpu_seconds(),
            "scheduler": self.client.run_on_scheduler(time.process_time),
            "workers": sum(self.client.run(time.process_time).values()),
        }

    def measure(self, name: str, job: Callable[[], Any]) -> None:
        """Run ``job`` once."""
        gc.collect()
        before, start = self.cpu(), time.perf_counter()
        job()
        self.figures[f"{name}_wall_s"] = time.perf_counter() - start
        after = self.cpu()
        self.figures |= {f"{name}_{process}_cpu_s": after[process] - before[process] for process in after}
        self.figures[f"{self.group}_client_peak_MB"] = peak_bytes() / 1e6
        self.figures[f"{self.group}_scheduler_peak_MB"] = self.client.run_on_scheduler(peak_bytes) / 1e6
        self.figures[f"{self.group}_worker_peak_MB"] = max(self.client.run(peak_bytes).values()) / 1e6


def run_script(workload: Callable[[bool], Figures]) -> None:
    """Entry point of a workload: its figures as one line of JSON. ``--smoke``: sizes that only show that it runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    figures = workload(parser.parse_known_args()[0].smoke)
    json.dump(figures, sys.stdout)
    print()
