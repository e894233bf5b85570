"""The life of a server, and those who ask it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest
from tornado.ioloop import IOLoop

from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.base.status import Status
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.messages.client_to_scheduler import ClientLogEvent
from distributed.messages.control import Refused, RegisterClient, Registered
from distributed.rpc.pool import ConnectionPool, connect, rpc
from distributed.rpc.server import Server
from tests.integration.comm.loops import on_both_loops, on_uvloop, until


async def slow():
    await asyncio.sleep(60)


class Desk(Server):
    """A scheduler of nothing."""

    default_port = 0

    def __init__(self, **kwargs):
        super().__init__(
            {"add": lambda x, y: x + y, "slow": slow, "end": self.end}, role=kwargs.pop("role", "scheduler"), **kwargs
        )
        self.clients = {}
        self.events = []
        self.ended = 0

    async def on_register(self, connection, first):
        if not isinstance(first, RegisterClient):
            return await super().on_register(connection, first)
        await asyncio.sleep(0.01)
        if first.client == "bad":
            raise ValueError("we do not serve your kind")
        connection.name = first.client
        self.clients[first.client] = connection
        connection.send(Registered(self.address, self.id))
        connection.on_messages = self.events.extend
        return None

    async def end(self):
        await self.close()

    async def on_close(self, **options):
        self.ended += 1


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "unix://", "inproc://"])
@on_both_loops
async def test_life(address):
    server = Desk()
    assert server.status is Status.created and server.address_safe == "not-running"
    with pytest.raises(ValueError, match="does not listen"):
        _ = server.address
    assert await server.start(address) is server
    assert server.status is Status.running
    where = server.address
    await server.start()
    await server
    assert len(server.listeners) == 1 and server.address == where
    waiting = asyncio.ensure_future(server.finished())
    async with rpc(where) as desk:
        assert await desk.add(x=1, y=2) == 3
        assert await desk.echo(data=[1]) == [1]
        assert await desk.ping() == "pong"
        assert (await desk.identity())["type"] == "Desk"
        with pytest.raises(ValueError, match="unknown operation 'nope': Desk"):
            await desk.nope()
    assert not waiting.done()
    await asyncio.gather(server.close(), server.close())
    await server.close()
    await waiting
    assert server.status is Status.closed and server.ended == 1
    await server.finished()
    with pytest.raises(OSError):
        await connect(where, 1)
    with pytest.raises(RuntimeError, match="cannot be started again"):
        await server._start_once(None)
    runtime = os.environ["DASK_DISTRIBUTED__RUNTIME_DIRECTORY"]
    assert not os.path.exists(runtime) or os.listdir(runtime) == []
    assert "Desk" in repr(server) and "closed" in repr(server)


@on_uvloop
async def test_context_manager_and_ports():
    async with Desk() as a, Desk() as b:
        assert a.port and b.port and a.port != b.port and a.ip
        assert isinstance(a.loop, IOLoop) and a.loop is a.io_loop
        assert a.loop.asyncio_loop is asyncio.get_running_loop() is a.asyncio_loop
        await b.listen("inproc://")
        assert len(b.listeners) == 2 and b.address.startswith("tcp://")
        with pytest.raises(OSError, match="in use"):
            await a.listen(a.listen_address)


@on_uvloop
async def test_failed_start():
    server = Desk()
    with pytest.raises(RuntimeError, match="cannot listen"):
        await server.start("tcp://203.0.113.1:0")
    assert server.status is Status.failed and server.ended == 1
    await server.finished()
    with pytest.raises(TypeError):
        server.status = "running"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "inproc://"])
@on_both_loops
async def test_registration(address):
    async with Desk() as server:
        await server.listen(address)
        where = server.listeners[1].contact_address
        words = []
        options = {"shortcuts": address == "inproc://", "secret": server.secret}
        client = await connect(where, 5, on_messages=words.extend, **options)
        # All of it in one batch: the stream waits for the registration.
        client.send(RegisterClient("me"))
        for i in range(100):
            client.send(ClientLogEvent((), i))
        await until(lambda: len(server.events) == 100 and words)
        assert [m.msg for m in server.events] == list(range(100))
        assert words == [Registered(server.address, server.id)]
        assert server.clients["me"].name == "me"
        await client.close()
        await until(lambda: not server.connections)

        refused = []
        client = await connect(where, 5, on_messages=refused.extend, **options)
        client.send(RegisterClient("bad"))
        await until(lambda: client.closed)
        assert refused == [Refused("we do not serve your kind")]

        client = await connect(where, 5, **options)
        client.send(ClientLogEvent((), 1))
        await until(lambda: client.closed)


@on_both_loops
async def test_close_leaves_nothing(monkeypatch):
    """With visitors in the middle of questions, a stranger at the door, and a task in the background."""
    fds = len(os.listdir("/proc/self/fd"))
    server = await Desk().start("tcp://127.0.0.1:0")
    background = server.add_task(slow())
    clients = [await connect(server.address, 5, shortcuts=s, secret=server.secret) for s in (True, False)]
    questions = [asyncio.ensure_future(c.call("slow")) for c in clients]
    await asyncio.sleep(0.01)
    begin = time.monotonic()
    await server.close()
    assert time.monotonic() - begin < 20
    for answer in await asyncio.gather(*questions, return_exceptions=True):
        assert isinstance(answer, CommClosedError)
    assert background.cancelled()
    await until(lambda: all(c.closed for c in clients))
    assert len(os.listdir("/proc/self/fd")) == fds
    assert secrets.lookup(server.address_safe) is None


@pytest.mark.parametrize("op", ["terminate", "end"])
@on_both_loops
async def test_terminate(op):
    server = await Desk().start("tcp://127.0.0.1:0")
    async with rpc(server.address) as r:
        if op == "terminate":
            assert await r.terminate() == "OK"
        else:
            with pytest.raises(CommClosedError):
                await r.end()
    await asyncio.wait_for(server.finished(), 30)
    assert server.status is Status.closed
    await until(lambda: not server._tasks and not server._handler_tasks)


@on_uvloop
async def test_blocked_handlers():
    async with Desk(blocked_handlers=["add"]) as server:
        async with rpc(server.address) as r:
            with pytest.raises(ValueError, match="blocked on Desk"):
                await r.add(x=1, y=1)
            assert await r.ping() == "pong"


@on_uvloop
async def test_handlers_may_be_added_later():
    async with Desk() as server, rpc(server.address) as r:
        server.handlers["later"] = lambda: 5
        server.handlers.update({"custom": lambda comm, x: (comm.peer_role, x)})
        assert await r.later() == 5
        assert await r.custom(x=1) == ("client", 1)


@on_uvloop
async def test_pool():
    async with Desk() as a, Desk(role="worker") as b:
        pool = ConnectionPool(secret=a.secret, shortcuts=False)
        answers = await asyncio.gather(*(pool(a.address).add(x=i, y=0) for i in range(20)))
        assert answers == list(range(20))
        assert len(pool.connections) == 1 and len(a.connections) == 1
        connection = await pool.connect(a.address)
        connection.abort()
        assert await pool(a.address).add(x=1, y=1) == 2
        with pytest.raises(HandshakeRefused):
            await pool(b.address).ping()
        with pytest.raises(ConnectionRefusedError):
            await pool("tcp://127.0.0.1:1").ping()
        question = asyncio.ensure_future(pool(a.address).slow())
        await asyncio.sleep(0.01)
        pool.remove(a.address)
        with pytest.raises(CommClosedError):
            await question
        async with pool(a.address) as r:
            assert await r.ping() == "pong"
        await pool.close()
        await pool.close()
        with pytest.raises(CommClosedError, match="closed"):
            await pool(a.address).ping()
        # A server asks others with its own secret.
        async with Desk(role="worker", secret=a.secret) as c:
            assert await a.rpc(c.address).ping() == "pong"


@on_uvloop
async def test_rpc_of_a_dead_address():
    begin = time.monotonic()
    r = rpc("tcp://127.0.0.1:1")
    with pytest.raises(ConnectionRefusedError, match="refused"):
        await r.ping()
    r.close_rpc()
    r.close_rpc()
    with pytest.raises(CommClosedError):
        await r.ping()
    assert time.monotonic() - begin < 20
    with pytest.raises(TypeError):
        rpc(None)
    with pytest.raises(AttributeError):
        _ = rpc("h:1").__wrapped__


class InThread:
    """A server on a loop of its own in another thread."""

    def __enter__(self):
        self.loop = IOLoop(make_current=False)
        self.thread = threading.Thread(target=self.loop.start)
        self.thread.start()
        self.server = Desk(loop=self.loop)
        self.server.start("tcp://127.0.0.1:0")
        return self.server

    def __exit__(self, *exc):
        future = asyncio.run_coroutine_threadsafe(self.server.close(), self.loop.asyncio_loop)
        future.result(10)
        self.loop.add_callback(self.loop.stop)
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.loop.close()


def test_sync_rpc():
    """Seed S74, in plain code."""
    threads = set(threading.enumerate())
    with InThread() as server:
        with rpc(server.address) as r:
            assert r.add(x=1, y=2) == 3
            assert r.add(x=3, y=2) == 5
            with pytest.raises(ValueError, match="unknown operation"):
                r.nope()
        assert rpc(server.address).ping() == "pong"
        assert rpc(server.address).terminate() == "OK"
        deadline = time.monotonic() + 30
        while server.status is not Status.closed:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert set(threading.enumerate()) <= threads


def test_start_with_a_loop_that_runs_in_a_thread():
    """Seeds S66, S67, S73: made and started from plain code."""
    with InThread() as server:
        assert server.status is Status.running and server.port
        with rpc(server.address) as r:
            assert r.ping() == "pong"


def test_start_before_the_loop_runs():
    loop = IOLoop(make_current=False)
    server = Desk(loop=loop)
    server.start(0)
    assert server.port
    thread = threading.Thread(target=loop.start, daemon=True)
    thread.start()
    with rpc(("127.0.0.1", server.port)) as r:
        assert r.ping() == "pong"
    asyncio.run_coroutine_threadsafe(server.close(), loop.asyncio_loop).result(10)
    loop.add_callback(loop.stop)
    thread.join(10)
    loop.close()


PROGRAM = """
import sys
from distributed.rpc.pool import rpc
with rpc(sys.argv[1]) as r:
    print(r.add(x=1, y=2))
"""


@on_uvloop
async def test_another_program_of_the_same_user():
    async with Desk() as server:

        async def visit(**env):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, server.address, stdout=-1, stderr=-1, env={**os.environ, **env}
            )
            out, err = await process.communicate()
            return process.returncode, out.decode().strip(), err.decode()

        code, _, error = await visit()
        assert code and "HandshakeRefused" in error and "no secret for it was found" in error
        server.share_secret()
        assert (await visit())[:2] == (0, "3")
        server.unshare_secret()
        assert (await visit())[0]
        assert (await visit(DASK_DISTRIBUTED__AUTH_TOKEN=server.secret.reveal()))[:2] == (0, "3")


def test_a_forked_child_does_not_take_the_parents_listener_for_its_own():
    async def main():
        async with Desk() as server:
            code = (
                "import asyncio, os\n"
                "from tests.integration.rpc.test_server import Desk\n"
                "from distributed.comm.inproc import doors\n"
                "async def main():\n"
                "    async with Desk() as server:\n"
                "        address = server.address\n"
                "        assert doors.find(address)\n"
                "        pid = os.fork()\n"
                "        if not pid:\n"
                "            os._exit(0 if doors.find(address) is None else 1)\n"
                "        assert os.waitpid(pid, 0)[1] == 0\n"
                "asyncio.run(main())\n"
            )
            assert server.address
            return code

    code = asyncio.run(main())
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@on_uvloop
async def test_secret_is_not_shown(caplog):
    caplog.set_level("DEBUG")
    secret = Secret.new()
    async with Desk(secret=secret) as server:
        with pytest.raises(HandshakeRefused) as caught:
            await connect(server.address, 5, secret=Secret.new(), shortcuts=False)
        async with rpc(server.address) as r:
            identity = await r.identity()
        shown = [caplog.text, str(caught.value), repr(identity), repr(vars(server)), repr(server.rpc)]
    assert not any(secret.reveal()[5:] in text for text in shown)


@on_uvloop
async def test_stop_takes_no_new_connections():
    async with Desk() as desk:
        pool = ConnectionPool("client", secret=desk.secret)
        assert await pool(desk.address).add(x=1, y=2) == 3
        desk.stop()
        assert await pool(desk.address).add(x=2, y=2) == 4
        with pytest.raises(OSError):
            await connect(desk.address, timeout=2)
        await pool.close()
