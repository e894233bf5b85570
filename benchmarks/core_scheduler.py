"""CPU microseconds that the scheduler core spends on a task's whole life, per shape of graph. No I/O: messages by hand.

python benchmarks/core_scheduler.py [n_tasks] [--profile]
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import resource
import sys
from time import process_time

from distributed.messages.client_to_scheduler import ReleaseKeys, TaskSpec, UpdateGraph
from distributed.messages.control import RegisterWorker
from distributed.messages.payload import FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import ComputeTask
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState
from distributed.scheduler.state_machine.events import ClientJoined, WorkerJoined

PAYLOAD = b"x" * 40
FUNCTION = FunctionBlob(b"digest", Payload(b"f" * 200), "inc")


def a_cluster(n_workers: int, nthreads: int = 1) -> SchedulerState:
    state = SchedulerState(SchedulerSettings())
    state.handle(ClientJoined("c"), "c", 0.0)
    for i in range(n_workers):
        info = RegisterWorker(f"tcp://10.0.0.{i}:1", f"w{i}", f"10.0.0.{i}", nthreads)
        state.handle(WorkerJoined(info), info.address, 0.0)
    state.flush(0.0)
    state.out.take()
    return state


def run_all(state: SchedulerState, duration_s: float = 2e-5, batch: int = 500) -> int:
    """Answer every ComputeTask until there are none; returns how many beats that took."""
    beats = 0
    boxes: dict[str, list[ComputeTask]] = {}
    while True:
        for address, messages in state.out.take().to_workers.items():
            boxes.setdefault(address, []).extend([m for m in messages if type(m) is ComputeTask])
        if not any(boxes.values()):
            return beats
        for address, box in boxes.items():
            todo, boxes[address] = box[:batch], box[batch:]
            for m in todo:
                state.handle(TaskFinished(m.key, m.run_id, 28, duration_s, "int"), address, 1.0)
        state.flush(1.0)
        beats += 1


def independent(n: int) -> list[TaskSpec]:
    token = "0123456789abcdef0123456789abcdef"
    return [TaskSpec(f"inc-{token}-{i}", b"digest", PAYLOAD) for i in range(n)]


def tree(n: int) -> list[TaskSpec]:
    specs = [TaskSpec(f"leaf-{i}", b"digest", PAYLOAD) for i in range(n)]
    level, depth = [s.key for s in specs], 0
    while len(level) > 1:
        depth += 1
        parents = []
        for i in range(0, len(level) - 1, 2):
            specs.append(TaskSpec(f"add-{depth}{i:08d}", b"digest", PAYLOAD, (level[i], level[i + 1])))
            parents.append(specs[-1].key)
        level = parents + ([level[-1]] if len(level) % 2 else [])
    return specs


def chain(n: int) -> list[TaskSpec]:
    return [TaskSpec(f"inc-{i}", b"digest", PAYLOAD, (f"inc-{i - 1}",) if i else ()) for i in range(n)]


def all_to_all(n: int) -> list[TaskSpec]:
    side = max(2, int(n**0.5))
    left = [TaskSpec(("split-aaaaaaaa", i), b"digest", PAYLOAD) for i in range(side)]
    keys = tuple([s.key for s in left])
    return left + [TaskSpec(("join-bbbbbbbb", i), b"digest", PAYLOAD, keys) for i in range(side)]


def exchange(n: int, fan_in: int = 10, rounds: int = 2) -> list[TaskSpec]:
    """A shuffle by tasks, or a rechunk: in each round every part is split in ten, and each new part is made of ten."""
    n_parts = max(fan_in, n // (1 + rounds * (fan_in + 2)) // fan_in * fan_in)
    specs = [TaskSpec(("part-0", i), b"digest", PAYLOAD) for i in range(n_parts)]
    near = range(fan_in)
    for r in range(1, rounds + 1):
        for i in range(n_parts):
            split = (f"split-{r}", i)
            specs.append(TaskSpec(split, b"digest", PAYLOAD, ((f"part-{r - 1}", i),)))
            specs.extend([TaskSpec((f"piece-{r}", i, j), b"digest", PAYLOAD, (split,)) for j in near])
        apart = n_parts // fan_in if r % 2 else 1
        for i in range(n_parts):
            first, j = (i % apart, i // apart) if r % 2 else (i // fan_in * fan_in, i % fan_in)
            pieces = tuple([(f"piece-{r}", first + k * apart, j) for k in near])
            specs.append(TaskSpec((f"part-{r}", i), b"digest", PAYLOAD, pieces))
    return specs


def measure(name: str, specs: list[TaskSpec], n_workers: int, wanted_all: bool = True, batch: int = 500) -> None:
    state = a_cluster(n_workers)
    n = len(specs)
    edges = sum([len(s.dependencies) for s in specs])
    keys = [s.key for s in specs]
    needed = {key for spec in specs for key in spec.dependencies}
    wanted = None if wanted_all else [key for key in keys if key not in needed]
    gc.collect()
    gc.freeze()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    t0 = process_time()
    for i in range(0, n, 5000):
        part = specs[i : i + 5000]
        last = i + 5000 >= n
        state.handle(UpdateGraph(1, part, [FUNCTION], [], wanted, i, last=last), "c", 0.5)
    t1 = process_time()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state.flush(0.5)
    beats = run_all(state, batch=batch)
    t2 = process_time()
    for i in range(0, n, 5000):
        state.handle(ReleaseKeys(keys[i : i + 5000]), "c", 2.0)
    state.flush(2.0)
    state.out.take()
    t3 = process_time()
    assert not state.tasks, len(state.tasks)
    total = (t3 - t0) / n * 1e6
    each = (t3 - t0) / (n + edges) * 1e6
    print(
        f"{name:34s} {n:8d} tasks {edges:8d} edges  add {(t1 - t0) / n * 1e6:5.2f}  run {(t2 - t1) / n * 1e6:5.2f}  "
        f"release {(t3 - t2) / n * 1e6:5.2f}  total {total:6.2f} us/task  {each:5.2f} /(task+edge)"
        f"  {beats} beats, {(after - before) * 1024 / n:.0f} B/task"
    )


def one_by_one(n: int) -> None:
    """submit, finish, release, each with a beat of its own."""
    state = a_cluster(2)
    t0 = process_time()
    for i in range(n):
        spec = TaskSpec(f"inc-{i}", b"digest", PAYLOAD)
        state.handle(UpdateGraph(i, [spec], [FUNCTION]), "c", i * 1e-4)
        state.flush(i * 1e-4)
        for address, messages in state.out.take().to_workers.items():
            for m in messages:
                if type(m) is ComputeTask:
                    state.handle(TaskFinished(m.key, m.run_id, 28, 2e-5, "int"), address, i * 1e-4)
        state.flush(i * 1e-4)
        state.out.take()
        state.handle(ReleaseKeys([spec.key]), "c", i * 1e-4)
        state.flush(i * 1e-4)
        state.out.take()
    print(f"{'one by one':34s} {n:8d} tasks   total {(process_time() - t0) / n * 1e6:6.2f} us/task")


def main() -> None:
    n = int(next((a for a in sys.argv[1:] if a.isdigit()), "100000"))
    gc.set_threshold(100_000, 50, 50)
    if "--profile" in sys.argv:
        profile = cProfile.Profile()
        profile.runcall(measure, "independent, 2 workers", independent(n), 2)
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        return
    for _ in range(2):
        measure("independent, 2 workers", independent(n), 2)
    measure("independent, 200 workers", independent(n), 200)
    measure("tree, all wanted", tree(n // 2), 2)
    measure("tree, root wanted", tree(n // 2), 2, wanted_all=False)
    measure("tree, root wanted, 200 workers", tree(n // 2), 200, wanted_all=False)
    measure("chain", chain(n // 10), 2)
    measure("all to all", all_to_all(n // 10), 4)
    measure("exchange in two rounds", exchange(n // 2), 2, wanted_all=False)
    measure("the same, reports in pairs", exchange(n // 2), 2, wanted_all=False, batch=2)
    one_by_one(n // 10)


if __name__ == "__main__":
    main()
