"""Operations a second of locks, queues, variables and events, from one client: plain threads and coroutines.

``python -m benchmarks.coordination [-n PAIRS]``; as a file, the same script runs with any ``distributed`` that is
installed: ``/path/to/other/bin/python benchmarks/coordination.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

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


def measure_plain(address: str, n: int) -> dict[str, float]:
    """Rounds a second of each."""
    with Client(address):
        found = {}
        for (name, run), (_, warm) in zip(plain(n).items(), plain(10).items(), strict=True):
            warm()
            start = time.perf_counter()
            run()
            found[name] = n / (time.perf_counter() - start)
        return found


async def measure_coroutines(address: str, n: int) -> dict[str, float]:
    """Rounds a second of each."""
    async with Client(address, asynchronous=True):
        found = {}
        for (name, run), (_, warm) in zip(coroutines(n).items(), coroutines(10).items(), strict=True):
            await warm()
            start = time.perf_counter()
            await run()
            found[name] = n / (time.perf_counter() - start)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="rounds of each kind")
    parser.add_argument("--address", help="of a scheduler that runs already; default: one in a process of its own")
    n = parser.parse_args().n
    address = parser.parse_args().address
    if address is not None:
        report(address, n)
        return
    with SchedulerProcess() as started:
        report(started, n)


def report(address: str, n: int) -> None:
    """Print one line of JSON."""
    figures = {"plain": measure_plain(address, n), "coroutines": asyncio.run(measure_coroutines(address, n))}
    rounded = {kind: {name: round(rate) for name, rate in rates.items()} for kind, rates in figures.items()}
    print(json.dumps({"distributed": distributed.__version__, "rounds": n, "rounds_per_s": rounded}))


class SchedulerProcess:
    """A scheduler as users start it, on a free port."""

    def __enter__(self) -> str:
        import os
        import subprocess
        import sys
        import tempfile

        self._directory = tempfile.TemporaryDirectory()
        path = os.path.join(self._directory.name, "scheduler.json")
        start = "from distributed.cli.dask_scheduler import main; main()"
        command = [sys.executable, "-c", start, "--port", "0", "--host", "127.0.0.1", "--scheduler-file", path]
        command += ["--no-dashboard", "--dashboard-address", ":0"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._directory.name)
        deadline = time.monotonic() + 30
        while True:
            try:
                with open(path, encoding="utf-8") as file:
                    return str(json.load(file)["address"])
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
