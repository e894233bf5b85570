"""A worker in this process, with a real scheduler, client and sockets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections import UserDict
from typing import Any

import pytest

from distributed.base.errors import DeserializeError
from distributed.base.status import Status
from distributed.client import Client
from distributed.rpc.loop_runner import LoopRunner
from distributed.rpc.pool import rpc
from distributed.scheduler import Scheduler
from distributed.testing import gen_cluster, gen_test, inc
from distributed.worker import Worker, get_worker


@gen_cluster(client=True)
async def test_facts(c: Client, s: Any, a: Worker, b: Worker) -> None:
    assert a.status is Status.running
    assert a.address.startswith("tcp://127.0.0.1:")
    assert (a.name, b.name) == (0, 1)
    assert (a.nthreads, b.nthreads) == (1, 2)
    assert a.scheduler_address == s.address
    assert os.path.isdir(a.local_directory)
    assert a.identity()["type"] == "Worker"
    assert (await a.scheduler.identity())["type"] == "Scheduler"


@gen_cluster(client=True)
async def test_values_are_in_data(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(inc, 1, workers=[a.address])
    assert await future == 2
    assert future.key in a.data and a.data[future.key] == 2
    assert future.key not in b.data
    key = future.key
    del future
    while key in a.data:
        await asyncio.sleep(0.005)


@gen_cluster(client=True)
async def test_inputs_come_from_peers(c: Client, s: Any, a: Worker, b: Worker) -> None:
    x = c.submit(lambda: list(range(1000)), workers=[a.address])
    y = c.submit(sum, x, workers=[b.address])
    assert await y == sum(range(1000))
    assert x.key in b.data


class BadToOpen:
    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise ValueError("cannot be opened")


@gen_cluster(client=True)
async def test_input_that_cannot_be_opened(c: Client, s: Any, a: Worker, b: Worker) -> None:
    x = c.submit(BadToOpen, workers=[a.address])
    y = c.submit(str, x, workers=[b.address])
    with pytest.raises(DeserializeError, match=a.address):
        await y
    assert await c.submit(inc, 1, workers=[b.address]) == 2


@gen_cluster(client=True)
async def test_result_that_cannot_be_pickled_is_used_where_it_lies(c: Client, s: Any, a: Worker, b: Worker) -> None:
    x = c.submit(lambda: {"lock": threading.Lock()}, workers=[a.address], key="locked")
    y = c.submit(lambda d: type(d["lock"]).__name__, x)
    assert await y == "lock"
    with pytest.raises(TypeError, match="lock"):
        await x


@gen_cluster(client=True)
async def test_run_and_get_worker(c: Client, s: Any, a: Worker, b: Worker) -> None:
    def where(dask_worker: Any) -> tuple[str, str]:
        return dask_worker.address, get_worker().address

    assert await c.run(where) == {w.address: (w.address, w.address) for w in (a, b)}
    assert await c.submit(lambda: get_worker().name, workers=[b.address]) == 1


@gen_cluster(client=True)
async def test_task_submits_tasks(c: Client, s: Any, a: Worker, b: Worker) -> None:
    def outer(n: int) -> int:
        client = get_worker().client
        return sum(client.gather(client.map(inc, range(n))))

    assert await c.submit(outer, 10, workers=[b.address], allow_other_workers=False) == 55


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_closing_forgets_everything(c: Client, s: Any, a: Worker) -> None:
    await c.submit(inc, 1)
    directory = a.local_directory
    await a.close()
    assert a.status is Status.closed
    assert not os.path.exists(directory)
    await asyncio.wait_for(a.finished(), 30)
    while s.workers:
        await asyncio.sleep(0.005)


@gen_cluster(nthreads=[])
async def test_scheduler_that_ends_takes_its_workers_along(s: Any) -> None:
    worker = await Worker(s.address, nthreads=1)
    await s.close()
    await asyncio.wait_for(worker.finished(), 30)
    assert worker.status is Status.closed


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_terminate(s: Any, a: Worker) -> None:
    async with rpc(a.address) as r:
        await r.terminate()
    await asyncio.wait_for(a.finished(), 30)


@gen_cluster(nthreads=[])
async def test_options(s: Any) -> None:
    inner: Any = UserDict()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    async with Worker(
        s.address,
        nthreads=1,
        name="me",
        resources={"GPU": 2},
        memory_limit="1 GB",
        data=inner,
        executor={"pool": pool},
        metrics={"answer": lambda worker: 42},
        startup_information={"color": lambda worker: "red"},
    ) as w:
        assert w.memory_limit == 10**9
        assert w.total_resources == {"GPU": 2}
        assert w.data is inner
        assert w.executors["pool"] is pool
        assert s.workers[w.address].name == "me"
        async with Client(s.address, asynchronous=True) as c:
            f = c.submit(inc, 1, resources={"GPU": 1})
            assert await f == 2
            assert inner[f.key] == 2


@gen_test()
async def test_death_timeout_says_what_is_wrong() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"tcp://127.0.0.1:1 within .*death_timeout"):
        await Worker("tcp://127.0.0.1:1", death_timeout="300 ms")
    assert time.monotonic() - begin < 20


@gen_cluster(nthreads=[])
async def test_unusable_directory_is_named(s: Any) -> None:
    with pytest.raises(RuntimeError, match="local_directory '/proc/nowhere'"):
        await Worker(s.address, local_directory="/proc/nowhere")


def test_no_scheduler() -> None:
    with pytest.raises(ValueError, match="no scheduler"):
        Worker()


def test_from_plain_code_with_a_loop_in_a_thread() -> None:
    runner = LoopRunner()
    runner.start()
    try:
        s = Scheduler(loop=runner.loop, host="127.0.0.1", dashboard=False)
        s.start("tcp://127.0.0.1:0")
        host, port = s.address.removeprefix("tcp://").split(":")
        for worker in (Worker(s.address, loop=runner.loop), Worker(host, int(port), loop=runner.loop, nthreads=1)):
            worker.start(0)
            assert worker.status is Status.running
            assert worker.port > 0
        with Client(s.address, loop=runner.loop) as c:
            assert c.submit(inc, 1).result(10) == 2
        for worker in list(Worker._instances):
            runner.run_sync(worker.close)
        runner.run_sync(s.close)
    finally:
        runner.stop()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_plugins(c: Client, s: Any, a: Worker) -> None:
    events: list[Any] = []

    class Plugin:
        name = "mine"

        def setup(self, worker: Any) -> None:
            events.append(("setup", worker.address))

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            events.append((key, start, finish))

        def teardown(self, worker: Any) -> None:
            events.append("teardown")

    await a.plugin_host.add(Plugin())
    assert "mine" in a.plugins
    await c.submit(inc, 1, key="x")
    assert any(isinstance(e, tuple) and e[0] == "x" and e[-1] == "memory" for e in events)
    await a.close()
    assert events[0] == ("setup", a.address) if a.listeners else events[0][0] == "setup"
    assert events[-1] == "teardown"


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_upload_file(c: Client, s: Any, a: Worker) -> None:
    for number in (1, 2):
        a.upload_file("uploaded_here.py", f"def f():\n    return {number}\n")

        def call() -> int:
            import uploaded_here

            return uploaded_here.f()

        assert await c.submit(call, pure=False) == number


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)])
async def test_call_stack(c: Client, s: Any, a: Worker) -> None:
    event = threading.Event()

    def waits_here() -> None:
        get_worker().test_event.wait(5)

    a.test_event = event
    f = c.submit(waits_here, key="waiting")
    while not a.executor.running:
        await asyncio.sleep(0.005)
    stacks = a.call_stacks()
    assert any("waits_here" in frame for frame in stacks["waiting"])
    assert list(a.active_threads.values()) == ["waiting"]
    event.set()
    await f


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_async_task(c: Client, s: Any, a: Worker) -> None:
    async def slow(x: int) -> tuple[int, str]:
        await asyncio.sleep(0.01)
        return x, get_worker().address

    assert await c.gather(c.map(slow, range(3))) == [(i, a.address) for i in range(3)]


@gen_cluster(nthreads=[])
async def test_preload(s: Any) -> None:
    text = "def dask_setup(worker):\n    worker.was_set_up = True\n"
    text += "def dask_teardown(worker):\n    worker.was_set_up = False"
    async with Worker(s.address, preload=text) as w:
        assert w.was_set_up
    assert not w.was_set_up


@gen_cluster(nthreads=[])
async def test_lifetime(s: Any) -> None:
    worker = await Worker(s.address, lifetime="200 ms")
    await asyncio.wait_for(worker.finished(), 10)


@gen_cluster(nthreads=[])
async def test_heartbeats_arrive(s: Any) -> None:
    async with Worker(s.address, metrics={"answer": lambda worker: 42}) as w:
        async with asyncio.timeout(10):
            while s.workers[w.address].metrics.get("answer") != 42:
                await asyncio.sleep(0.02)


@gen_cluster(nthreads=[], client=True)
async def test_actor_is_kept_and_called(c: Client, s: Any) -> None:
    class Counter:
        n = 0

        def add(self, k: int) -> int:
            self.n += k
            return self.n

    async with Worker(s.address, nthreads=1) as w:
        f = c.submit(Counter, actor=True, key="counter")
        while f.status == "pending":
            await asyncio.sleep(0.005)
        async with rpc(w.address) as r:
            assert (await r.actor_execute(actor="counter", function="add", args=(2,), kwargs={}))["result"] == 2
            assert (await r.actor_attribute(actor="counter", attribute="n"))["result"] == 2


@gen_cluster(nthreads=[])
async def test_web_pages(s: Any) -> None:
    async with Worker(s.address, dashboard_address=":0") as w:
        assert w.services["dashboard"] > 0
    async with Worker(s.address, dashboard_address=":0", dashboard=False) as w:
        assert w.services == {}
