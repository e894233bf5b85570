"""A scheduler and workers in one small server: enough for a real Client over real comms, and able to misbehave.

Runs each task on a thread pool as soon as its inputs are there. Values above ``inline_limit`` stay at one of the fake
workers, which are servers of their own, and are fetched by ``get_data``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distributed.base.keys import Key, user_key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    ClientClosing,
    DataAnnounced,
    DataScattered,
    FireAndForget,
    ReleaseKeys,
    RetryKeys,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import RegisterClient, Registered
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import (
    ClusterRestarted,
    KeyErred,
    KeyInMemory,
    KeysCancelled,
    KeysRetried,
)
from distributed.protocol.program import Program
from distributed.protocol.serialize import TaskInput, dumps, live, loads, pack_error
from distributed.rpc.loop_runner import LoopRunner
from distributed.rpc.server import Server
from distributed.rpc.session import SessionLink


def fill(obj: Any, values: list[Any]) -> Any:
    kind = type(obj)
    if kind is TaskInput:
        return values[obj.index]
    if kind in (list, tuple, set, frozenset):
        return kind(fill(part, values) for part in obj)
    if kind is dict:
        return {fill(k, values): fill(v, values) for k, v in obj.items()}
    if isinstance(obj, tuple):
        return obj._make(fill(part, values) for part in obj)
    return obj


class FakeWorker(Server):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__({"get_data": self.get_data, "update_data": self.update_data}, role="worker", **kwargs)
        self.data: dict[Key, Payload] = {}
        self.asked: list[list[Key]] = []

    def get_data(self, keys: list[Key], who: str = "", borrows: bool = False) -> dict[Key, Payload]:
        self.asked.append(list(keys))
        return {key: self.data[key] for key in keys if key in self.data}

    def update_data(self, data: dict[Key, Payload], after: int | None, placed: bool) -> dict[str, Any]:
        self.data.update(data)
        return {"status": "OK"}


class FakeScheduler(Server):
    def __init__(self, n_workers: int = 2, inline_limit: int = 1000, **kwargs: Any) -> None:
        super().__init__(
            {
                "gather": self.gather,
                "who_has": self.who_has,
                "restart": self.restart,
                "proxy": self.proxy,
                "scatter_plan": self.scatter_plan,
            },
            role="scheduler",
            unpickle=False,
            **kwargs,
        )
        self.n_workers = n_workers
        self.inline_limit = inline_limit
        self.workers: list[FakeWorker] = []
        self.tasks: dict[Key, Any] = {}
        self.functions: dict[bytes, Any] = {}
        self.results: dict[Key, Any] = {}
        self.errors: dict[Key, Any] = {}
        self.events: dict[Key, asyncio.Event] = {}
        self.wanted: dict[Key, set[str]] = {}
        self.messages: list[Any] = []
        self.released: list[Key] = []
        self.clients: dict[str, SessionLink] = {}
        self.forgetful = False
        self.pool = ThreadPoolExecutor(8)
        self.hold = threading.Event()
        self.hold.set()

    async def on_start(self, address: Any = None) -> None:
        await self.listen(address)
        scheme = self.address.partition("://")[0]
        for _ in range(self.n_workers):
            worker = FakeWorker(secret=self.secret)
            await worker.start("inproc://" if scheme == "inproc" else "tcp://127.0.0.1:0")
            self.workers.append(worker)

    async def on_close(self, **options: Any) -> None:
        self.hold.set()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            await worker.close()

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        return {
            "type": "Scheduler",
            "id": self.id,
            "address": self.address,
            "services": {},
            "workers": {
                worker.address: {
                    "name": i,
                    "host": "127.0.0.1",
                    "nthreads": 1,
                    "memory_limit": 2**30,
                    "status": "running",
                }
                for i, worker in enumerate(self.workers)
                if worker.listeners
            },
        }

    async def on_register(self, connection: Any, first_message: Any) -> None:
        assert isinstance(first_message, RegisterClient)
        client = first_message.client
        link = self.clients.get(client)
        back = link is not None and first_message.session == link.id and not self.forgetful
        if not back:
            link = self.clients[client] = SessionLink()
        connection.send(Registered(self.address, self.id, session=link.id, applied=link.end.applied))
        link.attach(connection, first_message.applied if back else 0)
        connection.on_messages = lambda messages: self.on_messages(client, link.receive(connection, messages))

    def want(self, client: str, keys: list[Key]) -> None:
        for key in keys:
            self.wanted.setdefault(key, set()).add(client)

    def tell(self, message: Any) -> None:
        for link in self.clients.values():
            link.send([message])

    def on_messages(self, client: str, messages: list[Any]) -> None:
        for message in messages:
            self.messages.append(message)
            match message:
                case UpdateGraph():
                    self.want(client, [t.key for t in message.tasks] if message.wanted is None else message.wanted)
                    for blob in message.functions:
                        self.functions[blob.digest] = blob
                    for spec in message.tasks:
                        if spec.key not in self.tasks:
                            self.tasks[spec.key] = spec
                            self.events[spec.key] = asyncio.Event()
                            self.add_task(self.run(spec))
                        else:
                            self.report(spec.key)
                case WantKeys():
                    self.want(client, message.keys)
                    for key in message.keys:
                        if key not in self.events:
                            self.tell(KeysCancelled([key], "lost dependencies"))
                        else:
                            self.report(key)
                case ReleaseKeys():
                    self.released.extend(message.keys)
                    needed = {
                        d for key, spec in self.tasks.items() if key not in self.results for d in spec.dependencies
                    }
                    for key in message.keys:
                        self.wanted.get(key, set()).discard(client)
                        if key in needed or self.wanted.get(key):
                            continue
                        self.results.pop(key, None)
                        self.errors.pop(key, None)
                        self.tasks.pop(key, None)
                        self.events.pop(key, None)
                case CancelKeys():
                    for key in message.keys:
                        self.tasks.pop(key, None)
                        self.events.pop(key, None)
                case RetryKeys():
                    self.tell(KeysRetried(message.keys))
                    for key in message.keys:
                        self.errors.pop(key, None)
                        self.add_task(self.run(self.tasks[key]))
                case DataScattered():
                    for replica in message.replicas:
                        self.events[replica.key] = event = asyncio.Event()
                        event.set()
                        holder = next(w for w in self.workers if w.address == replica.workers[0])
                        self.results[replica.key] = loads(holder.data[replica.key])
                case ClientClosing() | FireAndForget() | DataAnnounced():
                    pass

    async def run(self, spec: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            for key in spec.dependencies:
                await self.events[key].wait()
                if key in self.errors:
                    raise self.errors[key]
            inputs = [self.results[key] for key in spec.dependencies]
            if spec.alias:
                value = inputs[0]
            else:
                value = await loop.run_in_executor(self.pool, self.call, spec, inputs)
                if inspect.isawaitable(value):
                    value = await value
        except Exception as e:
            self.errors[spec.key] = e
        else:
            self.results[spec.key] = value
        if spec.key in self.events:
            self.events[spec.key].set()
            self.report(spec.key)

    def call(self, spec: Any, inputs: list[Any]) -> Any:
        self.hold.wait()
        if not spec.function:
            node = loads(spec.payload)
            return node({user_key(key): value for key, value in zip(spec.dependencies, inputs, strict=True)})
        function = loads(self.functions[spec.function].payload)
        if type(function) is Program:
            return function(() if spec.payload is None else loads(spec.payload), inputs)
        args, kwargs = loads(spec.payload)
        return function(*fill(args, inputs), **fill(kwargs, inputs))

    def report(self, key: Key) -> None:
        if not self.wanted.get(key):
            return
        if key in self.errors:
            self.tell(KeyErred(key, pack_error(self.errors[key])))
        elif key in self.results:
            value = self.results[key]
            type_name = type(value).__name__
            try:
                payload = live(value) if self.address.startswith("inproc") else dumps(value)
            except Exception as e:
                self.tell(KeyInMemory(key, type_name, holders=(self.workers[0].address,), unshippable=pack_error(e)))
                return
            if payload.nbytes <= self.inline_limit:
                self.tell(KeyInMemory(key, type_name, payload))
            else:
                holders = [w for w in self.workers if w.listeners][:2]
                for worker in holders:
                    worker.data[key] = payload
                self.tell(KeyInMemory(key, type_name, None, tuple(w.address for w in holders), payload.nbytes))

    def gather(self, keys: list[Key]) -> dict[Key, Payload]:
        return {key: dumps(self.results[key]) for key in keys if key in self.results}

    def who_has(self, keys: list[Key] | None = None) -> dict[Key, list[str]]:
        names = list(self.results) if keys is None else keys
        return {key: [w.address for w in self.workers if key in w.data] for key in names}

    async def scatter_plan(self, workers: list[str] | None = None, timeout: float = 30) -> dict[str, Any]:
        found = {w.address: (1, None) for w in self.workers if workers is None or w.address in workers}
        if not found:
            await asyncio.sleep(timeout)
            raise TimeoutError("none")
        return found

    def restart(self, **kwargs: Any) -> None:
        self.tasks.clear()
        self.results.clear()
        self.tell(ClusterRestarted())

    async def proxy(self, worker: str, msg: dict[str, Any]) -> Any:
        msg = dict(msg)
        return await getattr(self.rpc(worker), msg.pop("op"))(**msg)


@contextlib.contextmanager
def fake_cluster(address: str = "tcp://127.0.0.1:0", **kwargs: Any) -> Iterator[FakeScheduler]:
    """A running fake in a loop of its own."""
    runner = LoopRunner()
    runner.start()

    async def start() -> FakeScheduler:
        scheduler = FakeScheduler(**kwargs)
        await scheduler.start(address)
        return scheduler

    scheduler = runner.run_sync(start)
    try:
        yield scheduler
    finally:
        runner.run_sync(scheduler.close)
        runner.stop()
