"""S66-S74: Scheduler, Worker and Nanny made by hand, with a tornado loop in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from distributed import Client, Nanny, Scheduler, Status, Worker, rpc
from distributed.testing import gen_test, inc, open_port, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")


@pytest.fixture
def by_hand() -> Iterator[tuple[IOLoop, list[Any]]]:
    """A loop as in the seeds, its thread started last, and servers to close at the end."""
    loop = IOLoop(make_current=False)
    thread = Thread(target=loop.start, daemon=True)
    servers: list[Any] = []
    loop.thread = thread  # type: ignore[attr-defined]
    yield loop, servers

    async def close() -> None:
        for server in reversed(servers):
            await server.close()

    if thread.is_alive():
        asyncio.run_coroutine_threadsafe(close(), loop.asyncio_loop).result(15)  # type: ignore[attr-defined]
        loop.add_callback(loop.stop)
        thread.join(5)
    loop.close()


def use(address: str) -> None:
    with Client(address, timeout="10s") as client:
        client.wait_for_workers(1, timeout=15)
        assert client.submit(inc, 1).result(timeout=10) == 2


@pytest.mark.parametrize("thread_first", [True, False])
def test_s66_s67_s68_scheduler_and_worker(by_hand: Any, thread_first: bool) -> None:
    loop, servers = by_hand
    port = open_port("127.0.0.1")
    if thread_first:
        loop.thread.start()
    s = Scheduler(loop=loop)
    servers.append(s)
    s.start(f"tcp://127.0.0.1:{port}")
    if not thread_first:
        loop.thread.start()
    poll_for(lambda: s.status == Status.running)
    assert s.address == f"tcp://127.0.0.1:{port}"
    w = Worker(f"tcp://127.0.0.1:{port}", loop=loop)
    servers.append(w)
    w.start()
    use(s.address)


def test_s67_default_port() -> None:
    assert Scheduler.default_port == 8786


def test_s69_s70_ip_and_port_apart(by_hand: Any) -> None:
    loop, servers = by_hand
    port = open_port("127.0.0.1")
    loop.thread.start()
    s = Scheduler(loop=loop)
    servers.append(s)
    s.start(port)
    poll_for(lambda: s.status == Status.running)
    w = Worker("127.0.0.1", port, loop=loop)
    servers.append(w)
    w.start(0)
    poll_for(lambda: w.status == Status.running)
    assert w.port > 0
    use(f"tcp://127.0.0.1:{port}")


def test_s71_servers_have_the_members_of_a_tcp_server(by_hand: Any) -> None:
    loop, servers = by_hand
    loop.thread.start()
    s = Scheduler(loop=loop)
    servers.append(s)
    s.start("tcp://127.0.0.1:0")
    poll_for(lambda: s.status == Status.running)
    assert s.port > 0
    for name in ("listen", "start"):
        assert callable(getattr(s, name, None)), name


def test_s72_nanny_instead_of_worker(by_hand: Any) -> None:
    loop, servers = by_hand
    loop.thread.start()
    s = Scheduler(loop=loop)
    servers.append(s)
    s.start("tcp://127.0.0.1:0")
    poll_for(lambda: s.status == Status.running)
    w = Nanny(s.address, loop=loop, nthreads=1)
    servers.append(w)
    w.start()
    poll_for(lambda: bool(s.workers), timeout=20)
    use(s.address)


def test_s73_loop_of_the_caller() -> None:
    from tornado.ioloop import IOLoop

    loop = IOLoop()

    from threading import Thread

    t = Thread(target=loop.start, daemon=True)
    t.start()
    s = Scheduler(loop=loop)
    s.start("tcp://127.0.0.1:0")
    poll_for(lambda: s.status == Status.running)
    asyncio.run_coroutine_threadsafe(s.close(), loop.asyncio_loop).result(10)  # type: ignore[attr-defined]
    loop.add_callback(loop.stop)
    t.join(5)
    loop.close()


@gen_test()
async def test_s74_terminate() -> None:
    s = await Scheduler(host="127.0.0.1", port=0, dashboard=False)
    w = await Worker(s.address, nthreads=1)
    n = await Nanny(s.address, nthreads=1)
    for server in (w, n, s):
        remote = rpc(server.address)
        await remote.terminate()
        await asyncio.wait_for(server.finished(), 10)
        assert server.status in (Status.closed, Status.closing)
        remote.close_rpc()
    for server in (w, n, s):
        await server.close()


@gen_test()
async def test_todays_forms() -> None:
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as s:
        async with Worker(s.address, nthreads=1) as w:
            assert w.address in s.workers
            async with Client(s.address, asynchronous=True) as client:
                assert await client.submit(inc, 1) == 2
        assert w.status == Status.closed
    await s.finished()
