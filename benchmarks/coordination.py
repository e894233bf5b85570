"""Operations a second of all primitives, event logs and actors, from one client, and from several on the same name.

In plain threads and in coroutines; one round is a pair of operations (of an event three, of ``log_event`` and an actor
one). Names that one client uses alone are kept there; the scheduler answers each operation on those that
several clients use, and an actor's worker each call.

``python -m benchmarks.coordination [-n PAIRS] [--contended]``; as a file, the same script runs with any ``distributed``
that is installed: ``/path/to/other/bin/python benchmarks/coordination.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from distributed import Client, Event, Lock, MultiLock, Queue, Semaphore, Variable


class Counter:
    """The actor that is called."""

    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


def plain(n: int, client: Client, counter: Any) -> dict[str, Callable[[], None]]:
    """One client in the main thread."""
    lock, queue, variable, event = Lock("bench"), Queue("bench"), Variable("bench"), Event("bench")
    semaphore, several, few = Semaphore(2, "bench-s"), MultiLock(["bench-1", "bench-2"]), Queue("bench-few", maxsize=9)

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

    def semaphore_pairs() -> None:
        for _ in range(n):
            semaphore.acquire()
            semaphore.release()

    def multi_lock_pairs() -> None:
        for _ in range(n):
            several.acquire()
            several.release()

    def limited_queue_pairs() -> None:
        for i in range(n):
            few.put(i)
            few.get()

    def logs() -> None:
        for i in range(n):
            client.log_event("bench", i)
        client.get_events("bench")

    def actor_calls() -> None:
        for _ in range(n):
            counter.increment().result()

    return {
        "lock": lock_pairs,
        "queue": queue_pairs,
        "variable": variable_pairs,
        "event": event_rounds,
        "semaphore": semaphore_pairs,
        "multi_lock": multi_lock_pairs,
        "limited_queue": limited_queue_pairs,
        "log_event": logs,
        "actor": actor_calls,
    }


def coroutines(n: int, client: Client, counter: Any) -> dict[str, Callable[[], Any]]:
    """The same in coroutines."""
    lock, queue, variable, event = Lock("abench"), Queue("abench"), Variable("abench"), Event("abench")
    semaphore, several, few = Semaphore(2, "abench-s"), MultiLock(["a-1", "a-2"]), Queue("abench-few", maxsize=9)

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

    async def semaphore_pairs() -> None:
        await semaphore
        for _ in range(n):
            await semaphore.acquire()
            await semaphore.release()

    async def multi_lock_pairs() -> None:
        for _ in range(n):
            await several.acquire()
            await several.release()

    async def limited_queue_pairs() -> None:
        for i in range(n):
            await few.put(i)
            await few.get()

    async def logs() -> None:
        for i in range(n):
            await client.log_event("abench", i)
        await client.get_events("abench")

    async def actor_calls() -> None:
        for _ in range(n):
            await counter.increment()

    return {
        "lock": lock_pairs,
        "queue": queue_pairs,
        "variable": variable_pairs,
        "event": event_rounds,
        "semaphore": semaphore_pairs,
        "multi_lock": multi_lock_pairs,
        "limited_queue": limited_queue_pairs,
        "log_event": logs,
        "actor": actor_calls,
    }


class Meter:
    """Rounds a second by the clock, and microseconds of processor time a round, of client, scheduler and worker."""

    def __init__(self, n: int, pids: list[int]) -> None:
        self.n = n
        self._others = pids
        self.rounds_per_s: dict[str, int] = {}
        self.cpu_us: dict[str, int] = {}

    def _cpu_s(self) -> float:
        return time.process_time() + sum([cpu_s(pid) for pid in self._others])

    def start(self) -> None:
        self._started, self._cpu_started = time.perf_counter(), self._cpu_s()

    def stop(self, name: str) -> None:
        self.rounds_per_s[name] = round(self.n / (time.perf_counter() - self._started))
        self.cpu_us[name] = round((self._cpu_s() - self._cpu_started) / self.n * 1e6)

    def report(self) -> dict[str, dict[str, int]]:
        return {"rounds_per_s": self.rounds_per_s, "cpu_us_per_round": self.cpu_us}


def measure_plain(address: str, meter: Meter) -> None:
    """Threads that wait."""
    with Client(address) as client:
        counter: Any = client.submit(Counter, actor=True).result()
        runs, warmings = plain(meter.n, client, counter), plain(20, client, counter)
        for (name, run), warm in zip(runs.items(), warmings.values(), strict=True):
            warm()
            meter.start()
            run()
            meter.stop(name)


async def measure_coroutines(address: str, meter: Meter) -> None:
    """Coroutines that wait."""
    async with Client(address, asynchronous=True) as client:
        counter: Any = await client.submit(Counter, actor=True)
        runs, warmings = coroutines(meter.n, client, counter), coroutines(20, client, counter)
        for (name, run), warm in zip(runs.items(), warmings.values(), strict=True):
            await warm()
            meter.start()
            await run()
            meter.stop(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="rounds of each kind")
    parser.add_argument("--address", help="of a scheduler that runs already; default: one in a process of its own")
    parser.add_argument(
        "--contended", type=int, nargs="*", metavar="CLIENTS", help="so many clients use the same names (2, then 4)"
    )
    arguments = parser.parse_args()
    if arguments.contended is not None:
        with Servers() as servers:
            report_contended(servers, arguments.n, arguments.contended or [2, 4])
        return
    if arguments.address is not None:
        report(arguments.address, arguments.n, [])
        return
    with Servers() as servers:
        report(servers.address, arguments.n, servers.pids)


def report(address: str, n: int, pids: list[int]) -> None:
    """Print one line of JSON."""
    threads, loop = Meter(n, pids), Meter(n, pids)
    measure_plain(address, threads)
    asyncio.run(measure_coroutines(address, loop))
    figures = {"plain": threads.report(), "coroutines": loop.report()}
    print(json.dumps({"distributed": distributed.__version__, "rounds": n, **figures}))


def report_contended(servers: Servers, n: int, numbers: list[int]) -> None:
    """Print one line of JSON: of all clients together, each of which does ``n`` rounds of each kind."""
    figures = {f"{clients} clients": contended(servers, n, clients) for clients in numbers}
    print(json.dumps({"distributed": distributed.__version__, "rounds": n, **figures}))


def contended(servers: Servers, n: int, clients: int) -> dict[str, dict[str, int]]:
    """Several clients in processes of their own, which begin together; they count their processor time themselves."""
    command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "contender.py")]
    rate, cpu_us = {}, {}
    with contextlib.ExitStack() as stack:
        contenders = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, servers.address],
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
            for _ in range(clients)
        ]

        def together(kind: str, name: str, rounds: int) -> float:
            start = time.time() + 0.1
            for index, contender in enumerate(contenders):
                assert contender.stdin is not None
                contender.stdin.write(f"{start} {kind} {name} {rounds} {index} {clients}\n")
                contender.stdin.flush()
            answers = [contender.stdout.readline() for contender in contenders if contender.stdout is not None]
            return sum([float(answer) for answer in answers]) + sum([cpu_s(pid) for pid in servers.pids])

        for kind in ("lock", "semaphore", "multi_lock", "queue", "variable", "event"):
            cpu_before, started = together(kind, f"{kind}-{clients}", 20), time.perf_counter()
            used_s = together(kind, f"{kind}-{clients}", n) - cpu_before
            rate[kind] = round(n * clients / (time.perf_counter() - started))
            cpu_us[kind] = round(used_s / (n * clients) * 1e6)
    return {"rounds_per_s": rate, "cpu_us_per_round": cpu_us}


def cpu_s(pid: int) -> float:
    """Processor time of another process so far."""
    return sum(psutil.Process(pid).cpu_times()[:2])


class Servers:
    """A scheduler and a worker as users start them, on free ports."""

    def __enter__(self) -> Servers:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._directory = tempfile.TemporaryDirectory()
        try:
            path = os.path.join(self._directory.name, "scheduler.json")
            common = ["--host", "127.0.0.1", "--scheduler-file", path, "--no-dashboard", "--dashboard-address", ":0"]
            self._start("dask_scheduler", ["--port", "0", *common])
            self.address = self._wait_for_address(path)
            self._start("dask_worker", [self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"])
        except BaseException:
            self.__exit__()
            raise
        self.pids = [process.pid for process in self._processes]
        return self

    def _start(self, module: str, options: list[str]) -> None:
        start = f"from distributed.cli.{module} import main; main()"
        command = [sys.executable, "-c", start, *options]
        self._processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._directory.name))

    def _wait_for_address(self, path: str) -> str:
        deadline = time.monotonic() + 60
        while True:
            try:
                with open(path, encoding="utf-8") as file:
                    return str(json.load(file)["address"])
            except (FileNotFoundError, ValueError):
                if time.monotonic() > deadline or self._processes[0].poll() is not None:
                    raise TimeoutError("the scheduler has not started") from None
                time.sleep(0.05)

    def __exit__(self, *exc: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(20)
        self._directory.cleanup()


if __name__ == "__main__":
    main()
