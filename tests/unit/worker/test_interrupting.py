"""An exception that is thrown into a task never strikes the next one on that thread."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from typing import Any

from distributed.base.errors import TaskCancelled
from distributed.worker.interrupting import interrupt, take_back
from distributed.worker.runtime import RunningTask
from tests.unit.worker.bench import Bench, raised, run_test


class Nobody:
    def secede(self, task: Any) -> None: ...

    def rejoin(self, task: Any) -> None: ...

    def lend_slot(self, task: Any) -> bool:
        return False

    def take_slot_back(self, task: Any) -> None: ...


def test_nothing_strikes_behind_a_task() -> None:
    """Tasks end in one thread while another one interrupts each of them, at any moment of its life."""
    n = 20_000  # at least, and more until one is struck while it is at work
    deadline = time.monotonic() + 60
    current: list[RunningTask] = []
    over = threading.Event()
    outside: list[BaseException] = []
    inside = 0

    def work() -> None:
        nonlocal inside
        for number in itertools.count():
            if number >= n and (inside or time.monotonic() > deadline):
                break
            task = RunningTask(f"x-{number}", number, 0.0, None, Nobody())
            task.thread = threading.get_ident()
            current[:] = [task]
            try:
                try:
                    task.open = True
                    sum(range(number % 50))
                finally:
                    task.open = False
                    if task.stopping:
                        try:
                            take_back(task)
                        except TaskCancelled:
                            try:
                                take_back(task)
                            except TaskCancelled:
                                pass
            except BaseException:
                inside += 1
            try:
                for _ in range(5):
                    str(number)  # the next task: no exception of the last one may come here
            except BaseException as error:
                outside.append(error)
        over.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not over.is_set():
        for task in tuple(current):
            interrupt(task)
    thread.join()
    assert not outside
    assert inside, "no task was ever struck: the test shows nothing"


PROFILED = """
import sys, threading
from distributed.worker.interrupting import interrupt, take_back
from distributed.worker.runtime import RunningTask

task = RunningTask("x", 1, 0.0, None, None)
task.thread = threading.get_ident()
take_back(task)  # nothing was on its way: as when the task ends just before
calls = []
sys.setprofile(lambda frame, event, arg: calls.append(event))
str.format("{}", 1)
(lambda: None)()
sys.setprofile(None)
assert "call" in calls
"""


def test_a_profiler_works_after_a_task_was_stopped() -> None:
    """In a process of its own: what is to be shown not to happen is a thread that never comes back."""
    subprocess.run([sys.executable, "-c", PROFILED], check=True, timeout=60)


def spin() -> None:
    while True:
        sum(range(50))


def test_stopped_runs_and_their_neighbours() -> None:
    """Runs are stopped as they come, at any moment; each of the others gives its own value."""

    async def test(b: Bench) -> None:
        stopped, kept = [], []
        for number in range(60):
            stopped.append(b.submit(spin))
            kept.append(b.submit(abs, -number))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            for run_id in stopped:
                b.executor.cancel(run_id)
                b.executor.stop(run_id, "enough", True)
            while not any(event.run_id == kept[-1] for event in b.events):
                b.executor.stop(stopped[-1], "enough", True)
                await asyncio.sleep(0)
        assert [b.values[run_id] for run_id in kept] == list(range(60))
        assert len(b.executor.threads) <= 2

    run_test(test, nthreads=1)


def test_who_was_stopped_says_so() -> None:
    async def test(b: Bench) -> None:
        run_id = b.submit(spin)
        while not b.executor.begun():
            await asyncio.sleep(0)
        b.executor.stop(run_id, "enough", False)
        assert b.executor.begun()[0].stopping
        b.executor.stop(run_id, "enough", True)
        error = raised(await b.end(run_id))
        assert "TaskCancelled" in str(error)

    run_test(test)


GATES: list[asyncio.Event] = []


async def wait_at_a_gate() -> str:
    gate = asyncio.Event()
    GATES.append(gate)
    await gate.wait()
    GATES.remove(gate)
    return threading.current_thread().name


def test_coroutines_take_slots_but_no_threads() -> None:
    async def test(b: Bench) -> None:
        runs = [b.submit(wait_at_a_gate) for _ in range(9)]
        for ended in range(len(runs)):
            while len(GATES) < min(3, len(runs) - ended) or b.executor.threads:  # these hand their slots on, and end
                await asyncio.sleep(0.001)
            assert len(GATES) <= 3 and len(b.executor.begun()) == len(GATES)
            GATES[0].set()
            while sum(event.run_id in runs for event in b.events) <= ended:
                await asyncio.sleep(0)
        assert {b.values[run_id] for run_id in runs} == {threading.current_thread().name}

    run_test(test, nthreads=3)
