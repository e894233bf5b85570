"""Cost of the worker's state machine alone: microseconds of CPU a task, from order to report.

Run ``python benchmarks/core_worker.py [tasks]``. Orders come in batches, as from a scheduler that keeps the worker
busy; every ``Execute`` is answered at once. The median of five rounds is printed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from distributed.messages.scheduler_to_worker import ComputeTask, FreeKeys, TaskNeed
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import ExecuteSuccess, GatherDepSuccess
from distributed.worker.state_machine.instructions import Execute, GatherDep

BATCH = 100
ROUNDS = 5
Orders = Callable[[int, int], list[ComputeTask]]


def trivial(start: int, n: int) -> list[ComputeTask]:
    """Tasks without inputs."""
    return [ComputeTask(f"inc-{i}", i, (0.0, 0.0, i), b"digest", None, (), 1e-5) for i in range(start, start + n)]


def chained(start: int, n: int) -> list[ComputeTask]:
    """Each task needs the one before it, which is here."""
    return [
        ComputeTask(f"inc-{i}", i, (0.0, 0.0, i), b"digest", None, (TaskNeed(f"inc-{i - 1}"),) if i > 1 else (), 1e-5)
        for i in range(start, start + n)
    ]


def fetched(start: int, n: int) -> list[ComputeTask]:
    """Each task needs one value of a peer."""
    return [
        ComputeTask(
            f"inc-{i}", i, (0.0, 0.0, i), b"digest", None, (TaskNeed(f"x-{i}", ("tcp://10.0.0.2:1",), 100),), 1e-5
        )
        for i in range(start, start + n)
    ]


def drive(orders: Orders, tasks: int) -> float:
    """Microseconds of CPU a task."""
    state = WorkerState(WorkerSettings(), "tcp://10.0.0.1:1", 1)
    batches = [orders(start, BATCH) for start in range(1, tasks, BATCH)]
    spent = 0.0
    for number, batch in enumerate(batches):
        begin = time.process_time()
        for order in batch:
            state.handle(order, 0.0)
        instructions = state.outbox.take()
        spent += time.process_time() - begin
        while True:
            answers: list[ExecuteSuccess | GatherDepSuccess] = []
            for instruction in instructions:
                if type(instruction) is Execute:
                    answers.append(ExecuteSuccess(instruction.key, instruction.run_id, 28, "int", 1e-5))
                elif type(instruction) is GatherDep:
                    answers.append(GatherDepSuccess(instruction.worker, dict.fromkeys(instruction.keys, 100)))
            if not answers:
                break
            begin = time.process_time()
            for answer in answers:
                state.handle(answer, 0.0)
            instructions = state.outbox.take()
            spent += time.process_time() - begin
        if number:
            begin = time.process_time()
            state.handle(FreeKeys([order.key for order in batches[number - 1]]), 0.0)
            state.outbox.take()
            spent += time.process_time() - begin
    return spent / (len(batches) * BATCH) * 1e6


def main() -> None:
    """Print one line per kind of task."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for orders in (trivial, chained, fetched):
        figure = statistics.median(drive(orders, tasks) for _ in range(ROUNDS))
        print(f"{orders.__name__:10} {figure:6.2f} us/task (order, hand-over, report, free)")


if __name__ == "__main__":
    main()
