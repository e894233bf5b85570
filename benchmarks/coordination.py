"""Operations a second of locks, queues, variables and events, from one client: plain threads and coroutines.

``python -m benchmarks.coordination [-n PAIRS]``; as a file, the same script runs with any ``distributed`` that is
installed: ``/path/to/other/bin/python benchmarks/coordination.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psutil

import distributed
from distributed import Client, Event, Lock, Queue, Variable


def plain(n: int) -> dict[str, Callable[[], None]]:
    """One client in the main thread."""
    lock, queue, variable, event = Lock("bench"), Queue("bench"), Variable("bench"), Event("bench")

    def lock_pairs() -> None:
        for _ in range(n):
            lock.acquire()
            lock.release()

    def queue_pairs() -> None:
        for i in range(n):
            queue.put(i)
            queue.get()

    def variable_pairs() -> None:
        for i in range(n):
            variable.set(i)
            variable.get()

    def event_rounds() -> None:
        for _ in range(n):
            event.set()
            event.wait()
            event.clear()

    return {"lock": lock_pairs, "queue": queue_pairs, "variable": variable_pairs, "event": event_rounds}


def coroutines(n: int) -> dict[str, Callable[[], Any]]:
    """The same in coroutines."""
    lock, queue, variable, event = Lock("abench"), Queue("abench"), Variable("abench"), Event("abench")

    async def lock_pairs() -> None:
        for _ in range(n):
            await lock.acquire()
            await lock.release()

    async def queue_pairs() -> None:
        for i in range(n):
            await queue.put(i)
            await queue.get()

    async def variable_pairs() -> None:
        for i in range(n):
            await variable.set(i)
            await variable.get()

    async def event_rounds() -> None:
        for _ in range(n):
            await event.set()
            await event.wait()
            await event.clear()

    return {"lock": lock_pairs, "queue": queue_pairs, "variable": variable_pairs, "event": event_rounds}


class Meter:
    """Rounds a second by the clock, and microseconds of processor time a round, of the client and the scheduler."""

    def __init__(self, n: int, scheduler_pid: int | None) -> None:
        self.n = n
        self._scheduler = None if scheduler_pid is None else psutil.Process(scheduler_pid)
        self.rounds_per_s: dict[str, int] = {}
        self.cpu_us: dict[str, int] = {}

    def _cpu_s(self) -> float:
        of_scheduler = 0.0 if self._scheduler is None else sum(self._scheduler.cpu_times()[:2])
        return time.process_time() + of_scheduler

    def start(self) -> None:
        self._started, self._cpu_started = time.perf_counter(), self._cpu_s()

    def stop(self, name: str) -> None:
        self.rounds_per_s[name] = round(self.n / (time.perf_counter() - self._started))
        self.cpu_us[name] = round((self._cpu_s() - self._cpu_started) / self.n * 1e6)

    def report(self) -> dict[str, dict[str, int]]:
        return {"rounds_per_s": self.rounds_per_s, "cpu_us_per_round": self.cpu_us}


def measure_plain(address: str, meter: Meter) -> None:
    """Threads that wait."""
    with Client(address):
        for (name, run), warm in zip(plain(meter.n).items(), plain(20).values(), strict=True):
            warm()
            meter.start()
            run()
            meter.stop(name)


async def measure_coroutines(address: str, meter: Meter) -> None:
    """Coroutines that wait."""
    async with Client(address, asynchronous=True):
        for (name, run), warm in zip(coroutines(meter.n).items(), coroutines(20).values(), strict=True):
            await warm()
            meter.start()
            await run()
            meter.stop(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="rounds of each kind")
    parser.add_argument("--address", help="of a scheduler that runs already; default: one in a process of its own")
    arguments = parser.parse_args()
    if arguments.address is not None:
        report(arguments.address, arguments.n, None)
        return
    with SchedulerProcess() as scheduler:
        report(scheduler.address, arguments.n, scheduler.pid)


def report(address: str, n: int, scheduler_pid: int | None) -> None:
    """Print one line of JSON."""
    threads, loop = Meter(n, scheduler_pid), Meter(n, scheduler_pid)
    measure_plain(address, threads)
    asyncio.run(measure_coroutines(address, loop))
    figures = {"plain": threads.report(), "coroutines": loop.report()}
    print(json.dumps({"distributed": distributed.__version__, "rounds": n, **figures}))


class SchedulerProcess:
    """A scheduler as users start it, on a free port."""

    def __enter__(self) -> SchedulerProcess:
        self._directory = tempfile.TemporaryDirectory()
        path = os.path.join(self._directory.name, "scheduler.json")
        start = "from distributed.cli.dask_scheduler import main; main()"
        command = [sys.executable, "-c", start, "--port", "0", "--host", "127.0.0.1", "--scheduler-file", path]
        command += ["--no-dashboard", "--dashboard-address", ":0"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._directory.name)
        self.pid = self._process.pid
        deadline = time.monotonic() + 30
        while True:
            try:
                with open(path, encoding="utf-8") as file:
                    self.address = str(json.load(file)["address"])
                return self
            except (FileNotFoundError, ValueError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise TimeoutError("the scheduler has not started") from None
                time.sleep(0.05)

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._directory.cleanup()


if __name__ == "__main__":
    main()
