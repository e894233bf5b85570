"""An executor with its reports, for tests, and what their tasks may hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from distributed.protocol import serialize
from distributed.worker.data_store import DataStore
from distributed.worker.executor import TaskExecutor
from distributed.worker.state_machine.events import (
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteSuccess,
)
from distributed.worker.state_machine.instructions import Execute


class FakeWorker:
    address = "tcp://127.0.0.1:1"


class Bench:
    """An executor with its reports, and short ways to give it work."""

    def __init__(self, nthreads: int = 1, **options: Any) -> None:
        self.events: list[Any] = []
        self.values: dict[int, Any] = {}
        self.store = DataStore()
        self.news = asyncio.Event()
        self.worker = FakeWorker()
        self.executor = TaskExecutor(
            nthreads, asyncio.get_running_loop(), self.on_reports, self.store, self.worker, **options
        )
        self._last = 0

    def on_reports(self, reports: list[Any]) -> None:
        for event, value in reports:
            self.events.append(event)
            if isinstance(event, ExecuteSuccess):
                self.values[event.run_id] = value
        self.news.set()

    def submit(self, function: Any, *args: Any, dependencies: tuple[Any, ...] = (), **options: Any) -> int:
        blob = serialize.dumps_function(function)
        self.executor.define(blob)
        self._last += 1
        run_id = self._last
        payload = serialize.dumps((args, {}))
        self.executor.submit(Execute(f"key-{run_id}", run_id, blob.digest, payload, dependencies, **options))
        return run_id

    async def end(self, run_id: int) -> Any:
        """The terminal event of a run."""
        return await self._told(lambda event: event.run_id == run_id and not isinstance(event, ExecuteLongRunning))

    async def seceded(self, run_id: int) -> Any:
        """The event that a run has left its slot."""
        return await self._told(lambda event: event.run_id == run_id and isinstance(event, ExecuteLongRunning))

    async def _told(self, wanted: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if wanted(event):
                        return event
                self.news.clear()
                await self.news.wait()

    async def run(self, function: Any, *args: Any, **options: Any) -> Any:
        return await self.end(self.submit(function, *args, **options))


def run_test(test: Any, nthreads: int = 1, **options: Any) -> None:
    async def go() -> None:
        bench = Bench(nthreads, **options)
        try:
            await test(bench)
            terminal = [e.run_id for e in bench.events if not isinstance(e, ExecuteLongRunning)]
            assert len(terminal) == len(set(terminal))
        finally:
            await bench.executor.close(5)

    asyncio.run(go())


def inc(x: int) -> int:
    return x + 1


def raised(event: Any) -> BaseException:
    assert isinstance(event, ExecuteFailure), event
    return serialize.unpack_error(event.error)[0]


class Gate:
    """An event that pickles to itself: tests share it with the tasks of this process."""

    known: dict[int, Any] = {}


def serialize_by_reference(event: threading.Event) -> None:
    Gate.known[id(event)] = event
    import copyreg

    copyreg.pickle(threading.Event, lambda e: (known_event, (id(e),)))


def known_event(number: int) -> Any:
    return Gate.known[number]
