"""Transports of other packages: a toy one carries a cluster, the handshake guards it, and its faults are named."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed.core import rpc

from distributed import Client, Scheduler, Worker
from distributed.base.errors import CommClosedError, FrameError, HandshakeRefused
from distributed.comm import Secret, connect, get_address_host, get_local_address_for, listen, resolve_address
from distributed.comm.registry import backends
from distributed.messages.control import Control, Reply
from distributed.protocol.codec import Codec
from tests.integration.comm.loops import on_both_loops, on_uvloop, until
from tests.integration.comm.toy_package.toy_transport import ToyBackend, ToyComm, ToyConnector, ToyListener

SECRET = Secret.new()
PACKAGE = Path(__file__).parent / "toy_package"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(backends, "toy", ToyBackend())


class Certificates:
    """What a transport asks a Security for."""

    secret = SECRET

    def get_connection_args(self, role):
        return {"ssl_context": f"context of a {role}"}

    def get_listen_args(self, role):
        return {"ssl_context": f"context of a {role}"}


@on_both_loops
async def test_a_cluster_over_a_toy():
    before = ToyComm.carried
    async with Scheduler(
        protocol="toy", host="127.0.0.1", port=0, dashboard=False, secret=SECRET, security=Certificates()
    ) as s:
        assert s.address.startswith("toy://127.0.0.1:")
        assert ToyListener.seen_args == {"ssl_context": "context of a scheduler"}
        async with (
            Worker(s.address, nthreads=1, security=Certificates()) as a,
            Worker(s.address, nthreads=1, security=Certificates()) as b,
            Client(s.address, asynchronous=True, security=Certificates()) as c,
        ):
            assert a.address.startswith("toy://") and b.address.startswith("toy://")
            assert ToyConnector.seen_args["ssl_context"].startswith("context of a")
            x = c.submit(np.arange, 200_000, workers=[a.address], pure=False)
            y = c.submit(lambda v: v + 1, x, workers=[b.address], pure=False)
            got = await y
            assert got.sum() == np.arange(200_000).sum() + 200_000
            assert ToyComm.carried - before > 2 * got.nbytes  # from a to b, and to the client
            got[0] = 7  # as writable as over any other transport
            assert await c.gather(c.map(lambda i: i + 1, range(100))) == list(range(1, 101))
            with pytest.raises(ZeroDivisionError):
                await c.submit(lambda: 1 / 0)
            async with rpc(s.address, secret=SECRET, connection_args={"ssl_context": 1}) as r:
                assert (await r.identity())["type"] == "Scheduler"
                assert ToyConnector.seen_args == {"ssl_context": 1}


class End:
    def __init__(self, comm):
        self.comm = comm
        self.got = []
        self.ends = []
        comm.start(self.got.extend, self.ends.append, Codec(Control))


async def two_ends():
    ends = []
    listener = listen("toy://127.0.0.1:0", lambda comm: ends.append(End(comm)), role="scheduler", secret=SECRET)
    await listener.start()
    near = End(await connect(listener.contact_address, role="worker", secret=SECRET))
    await until(lambda: ends)
    return listener, near, ends[0]


@on_both_loops
async def test_order_end_and_pauses():
    listener, near, far = await two_ends()
    assert (near.comm.peer_role, far.comm.peer_role) == ("scheduler", "worker")
    far.comm.pause_reading()
    for i in range(500):
        near.comm.send([Reply(i)])
    far.comm.resume_reading()
    await near.comm.drain()
    await near.comm.close()
    await until(lambda: far.ends)
    assert [m.id for m in far.got] == list(range(500))
    assert far.ends == near.ends == [None] and far.comm.closed
    with pytest.raises(CommClosedError):
        near.comm.send([Reply(1)])
    listener.stop()
    await until(lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


@on_uvloop
async def test_a_lost_connection_is_an_error_at_both_ends():
    listener, near, far = await two_ends()
    far.comm._inner.abort()
    await until(lambda: far.ends and near.ends)
    assert isinstance(near.ends[0], CommClosedError)
    listener.stop()
    await until(lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


@on_uvloop
async def test_bad_messages_close_the_connection(caplog):
    listener, near, far = await two_ends()
    await near.comm._inner.write([(5).to_bytes(8, "big"), b"x"])
    await until(lambda: far.ends)
    assert isinstance(far.ends[0], FrameError) and "message 0 should come next" in str(far.ends[0])
    assert "cannot be used" in caplog.text
    await until(lambda: near.ends)
    listener.stop()
    await until(lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


@on_uvloop
async def test_strangers_stay_outside():
    comms = []
    listener = listen("toy://127.0.0.1:0", comms.append, role="scheduler", secret=SECRET)
    await listener.start()
    with pytest.raises(HandshakeRefused, match="another cluster's secret"):
        await connect(listener.contact_address, secret=Secret.new())
    host, port = listener.contact_address[6:].split(":")
    stranger = await ToyConnector().connect(f"{host}:{port}")
    await stranger.write({"op": "hello"})
    with pytest.raises(CommClosedError):
        await stranger.read()
    await stranger.close()
    assert not comms
    listener.stop()
    with pytest.raises(OSError, match=f"cannot connect to toy://127.0.0.1:{port}: nobody plays at"):
        await connect(listener.contact_address, secret=SECRET)
    await until(lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


def test_addresses_are_read_by_their_transport():
    assert get_address_host("toy://node7:9") == "node7"
    assert resolve_address("toy://localhost:9") == "toy://127.0.0.1:9"
    assert get_local_address_for("toy://node7:9") == "toy://127.0.0.1"


def test_an_installed_package_is_found_by_its_entry_point():
    code = (
        "from distributed.comm.registry import backends, get_transport; assert 'toy' not in backends; "
        "get_transport('toy'); print(type(backends['toy']).__name__)"
    )
    path = os.pathsep.join([str(PACKAGE), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "ToyBackend", done.stderr


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ValueError, match="'what'; there are inproc, tcp, tls, toy, unix"):
        listen("what://", print)
