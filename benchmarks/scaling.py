"""How the cost of a task changes as the work grows: in tasks, workers, dependencies and bytes (docs/SCALING.md).

``python -m benchmarks.scaling [--smoke] [--only CURVE...] [--out FOLDER]`` measures each point in a process of its own,
writes ``results.json`` after each curve, and draws with ``benchmarks.plots`` when it is done (not with ``--smoke``).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

from benchmarks.core_scheduler import FUNCTION, PAYLOAD, a_cluster, independent, run_all
from distributed.messages.client_to_scheduler import ReleaseKeys, TaskSpec, UpdateGraph, shared_dependencies

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "scaling"
TIMEOUT_S = 900
Point = dict[str, float]


def core_life(specs: list[TaskSpec], n_workers: int) -> float:
    """CPU seconds of the scheduler's core for the whole life of these tasks, all of them wanted."""
    state = a_cluster(n_workers)
    keys = [spec.key for spec in specs]
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    begin = process_time()
    for start in range(0, len(specs), 5000):
        part = specs[start : start + 5000]
        last = start + 5000 >= len(specs)
        update = UpdateGraph(1, part, [FUNCTION], [], None, start, last=last, shared=shared_dependencies(part))
        state.handle(update, "c", 0.5)
    state.flush(0.5)
    run_all(state)
    for start in range(0, len(keys), 5000):
        state.handle(ReleaseKeys(keys[start : start + 5000]), "c", 2.0)
    state.flush(2.0)
    state.out.take()
    assert not state.tasks
    return process_time() - begin


# -- the points of the four curves


def inc(x: int) -> int:
    return x + 1


def tasks(n: int) -> Point:
    """``n`` trivial tasks in one map and one gather, on two worker processes; and in the core alone."""
    with real_cluster() as client:
        cost = Clock(client)
        assert len(client.gather(client.map(inc, range(n), pure=False))) == n
        point = cost.per(n)
    point["core_us"] = core_life(independent(n), 2) / n * 1e6
    return point


def workers(n: int) -> Point:
    """A real scheduler process with ``n`` light workers on real sockets; and the core alone with as many."""
    n_tasks = max(2_000, 20_000 if n <= 200 else 50_000) if n > 4 else 20_000
    with light_cluster(n) as client:
        client.gather(client.map(inc, range(10 * n), pure=False))
        time.sleep(1.0)
        before = client.run_on_scheduler(process_time)
        time.sleep(3.0)
        idle = (client.run_on_scheduler(process_time) - before) / 3.0
        before, begin = client.run_on_scheduler(process_time), time.perf_counter()
        client.gather(client.map(inc, range(n_tasks), pure=False))
        seconds = time.perf_counter() - begin
        spent = client.run_on_scheduler(process_time) - before
    return {
        "scheduler_us": spent / n_tasks * 1e6,
        "tasks_per_s": n_tasks / seconds,
        "idle_cpu_percent": idle * 100,
        "core_us": core_life(independent(n_tasks), n) / n_tasks * 1e6,
    }


def dependencies(n: int) -> Point:
    """Tasks that need ``n`` others: the same for all, on a real cluster and in the core; or each its own choice."""
    width = max(n, 20)
    n_tasks = max(200, n) if n else 2_000
    parts = [TaskSpec(("part", i), b"digest", PAYLOAD) for i in range(width)]
    keys = tuple([spec.key for spec in parts[:n]])
    pool = [spec.key for spec in parts]
    choice = Random(1)
    same = [TaskSpec(("total", i), b"digest", PAYLOAD, keys) for i in range(n_tasks)]
    own = [TaskSpec(("total", i), b"digest", PAYLOAD, tuple(choice.sample(pool, n))) for i in range(n_tasks)]
    base = core_life(list(parts), 2)
    point = {
        "core_shared_us": (core_life([*parts, *same], 2) - base) / n_tasks * 1e6,
        "core_own_us": (core_life([TaskSpec(p.key, b"digest", PAYLOAD) for p in parts] + own, 2) - base)
        / n_tasks
        * 1e6,
    }
    with real_cluster() as client:
        graph: dict[Any, Any] = {("part", i): (inc, i) for i in range(width)}
        graph |= {("total", i): (len, [("part", j) for j in range(n)]) for i in range(n_tasks)}
        graph["end"] = (len, [("total", i) for i in range(n_tasks)])
        cost = Clock(client)
        assert client.get(graph, "end") == n_tasks
        return point | cost.per(n_tasks + width)


def payload(nbytes: int) -> Point:
    """One value of so many bytes: made by a task, moved to the other worker, and gathered."""
    repeats = 50 if nbytes <= 1 << 16 else 10 if nbytes <= 1 << 24 else 2
    with real_cluster() as client:
        here, there = sorted(client.scheduler_info()["workers"])
        spent = {"make_s": 0.0, "move_s": 0.0, "gather_s": 0.0}
        for _ in range(repeats):
            t0 = time.perf_counter()
            made = client.submit(bytes, nbytes, pure=False, workers=[here])
            client.submit(type, made, pure=False, workers=[here]).result()
            t1 = time.perf_counter()
            moved = client.submit(len, made, pure=False, workers=[there])
            assert moved.result() == nbytes
            t2 = time.perf_counter()
            del moved
            assert len(made.result()) == nbytes
            t3 = time.perf_counter()
            for name, seconds in zip(spent, (t1 - t0, t2 - t1, t3 - t2), strict=True):
                spent[name] += seconds / repeats
            del made
    return spent


@dataclass(frozen=True)
class Curve:
    """``measure`` at each of ``sizes`` (``smoke``: of a trial)."""

    measure: Callable[[int], Point]
    sizes: tuple[int, ...]
    smoke: tuple[int, ...]


CURVES = {
    "tasks": Curve(tasks, (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000), (200,)),
    "workers": Curve(workers, (2, 10, 50, 100, 200, 500, 1000), (3,)),
    "dependencies": Curve(dependencies, (0, 1, 3, 10, 30, 100, 300, 1000), (10,)),
    "payload": Curve(payload, tuple([1 << power for power in range(0, 31, 3)]), (1000,)),
}


# -- what they measure with


class Clock:
    """CPU and wall time from its making on, of this process (client and scheduler) and of the workers."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.workers = self._workers()
        self.own, self.begin = process_time(), time.perf_counter()

    def _workers(self) -> float:
        return float(sum(self.client.run(process_time).values()))

    def per(self, n: int) -> Point:
        """Microseconds a task."""
        wall, own = time.perf_counter() - self.begin, process_time() - self.own
        found = {"wall_us": wall, "client_scheduler_us": own, "worker_us": self._workers() - self.workers}
        return {name: seconds / n * 1e6 for name, seconds in found.items()}


@contextmanager
def real_cluster() -> Iterator[Any]:
    """Two worker processes of one thread; scheduler and client in this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as local,
        Client(local) as client,
    ):
        client.wait_for_workers(2)
        client.gather(client.map(inc, range(200), pure=False))
        yield client


@contextmanager
def light_cluster(n: int) -> Iterator[Any]:
    """A scheduler process, a process of ``n`` light workers, and a client here."""
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "scheduler.json")
        options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file]
        program = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
        scheduler = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        crowd = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.light_workers", file, str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert crowd.stdout is not None and crowd.stdout.readline() == b"ready\n"
            with Client(scheduler_file=file, timeout=60) as client:
                client.wait_for_workers(n)
                yield client
        finally:
            crowd.kill()
            crowd.wait(20)
            scheduler.terminate()
            scheduler.wait(20)


# -- the whole


def measure_apart(curve: str, size: int) -> Point:
    """One point, in a process of its own."""
    program = [sys.executable, "-m", "benchmarks.scaling", "--point", curve, str(size)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"{curve} at {size} failed:\n{done.stderr[-2000:]}")
    found: Point = json.loads(done.stdout.splitlines()[-1])
    return found


def run(names: list[str], smoke: bool, out: Path) -> dict[str, Any]:
    """Measure the curves and write them down."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results["machine"] = {
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
    }
    for name in names:
        curve = CURVES[name]
        sizes = curve.smoke if smoke else curve.sizes
        points: dict[str, Point] = {}
        for number, size in enumerate(sizes, 1):
            begin = time.perf_counter()
            points[str(size)] = point = measure_apart(name, size)
            shown = "  ".join([f"{key} {value:.4g}" for key, value in point.items()])
            seconds = time.perf_counter() - begin
            print(f"{name} {number}/{len(sizes)}  {size:>10}  {shown}  ({seconds:.0f} s)", file=sys.stderr, flush=True)
        results[name] = points
        file.write_text(json.dumps(results, indent=1) + "\n")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--smoke", action="store_true", help="one small point of each curve, and no pictures")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(CURVES[options.point[0]].measure(int(options.point[1]))))
        return
    run(options.only, options.smoke, options.out)
    if not options.smoke:
        sys.exit(subprocess.run([sys.executable, "-m", "benchmarks.plots", str(options.out)], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
