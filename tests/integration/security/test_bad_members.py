"""Authenticated peers gone bad: whatever they send is refused, the scheduler lives, stays small, and serves others."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import dask
import msgspec
import psutil
import pytest

from distributed import Client, LocalCluster
from distributed.comm import registry
from distributed.messages.control import RegisterClient, RegisterWorker, Request
from distributed.messages.payload import Payload
from distributed.protocol.codec import Codec
from distributed.protocol.frames import frame_buffers
from distributed.rpc.links import codec_for
from distributed.rpc.pool import connect
from distributed.testing import inc

MIB = 1 << 20


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    # Large frames are refused by what they declare.
    with dask.config.set({"distributed.comm.max-frame-bytes": "64MiB"}):
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
            with Client(cluster) as client:
                client.submit(inc, 1).result()
                yield client


def digest(client: Client) -> Any:
    """What of the scheduler's tables a stranger to the work may not change."""

    def look(dask_scheduler: Any) -> Any:
        state = dask_scheduler.state
        return sorted(state.workers), sorted(map(str, state.tasks)), dask_scheduler.state.transition_counter

    return client.run_on_scheduler(look)


@contextlib.contextmanager
def unmoved(client: Client) -> Iterator[None]:
    process = psutil.Process()
    assert client.submit(inc, 1, pure=False).result() == 2
    before = process.memory_info().rss
    yield
    assert process.memory_info().rss - before < 16 * MIB
    begin = time.monotonic()
    assert client.submit(inc, 1, pure=False).result() == 2
    assert time.monotonic() - begin < 20


def speak(client: Client, *raw: bytes, role: str = "worker") -> bool:
    """Send raw bytes as an authenticated member; whether the scheduler has closed the connection."""

    async def go() -> bool:
        import asyncio

        comm = await registry.connect(client.scheduler.address, 5, role=role, shortcuts=False)
        ended = asyncio.get_running_loop().create_future()
        comm.start(lambda batch: None, ended.set_result, codec_for(role, "scheduler"))
        try:
            for data in raw:
                with contextlib.suppress(OSError):
                    comm._sock.setblocking(True)
                    comm._sock.sendall(data)
                    comm._sock.setblocking(False)
            try:
                await asyncio.wait_for(asyncio.shield(ended), 1)
            except TimeoutError:
                return False
            return True
        finally:
            comm.abort()

    return client.sync(go)


def framed(segment: bytes) -> bytes:
    return b"".join(frame_buffers([segment], 0)[0])


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(b"\x91" * 100_000 + b"\xc0", id="depth of 100000"),
        pytest.param(b"\xdd" + struct.pack(">I", 2**31), id="2**31 elements"),
        pytest.param(b"\x91\x92\x01" + b"\xdf" + struct.pack(">I", 2**32 - 1), id="2**32 pairs"),
        pytest.param(b"\x91\xc7\x04\x63abcd", id="unknown extension"),
        pytest.param(b"\x91\xa4\xff\xfe\xfd\xfc", id="no utf-8"),
        pytest.param(msgspec.msgpack.encode([["no-such-op", 1]]), id="unknown message"),
        pytest.param(msgspec.msgpack.encode([{"op": "no-such-op"}]), id="unknown message as a map"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1" * 1000, id="reserved bytes"),
    ],
)
def test_messages_that_are_none(client: Client, segment: bytes) -> None:
    with unmoved(client):
        assert speak(client, framed(segment))


@pytest.mark.parametrize("nbytes", [2**33, 2**40, 2**63 - 1])
def test_a_frame_that_declares_too_much(client: Client, nbytes: int) -> None:
    with unmoved(client):
        assert speak(client, struct.pack("!BBHQQ", 0xD6, 0, 1, 0, nbytes) + bytes(64))


def test_bombs(client: Client) -> None:
    """64 MiB of zeros in 64 kB, under every flag of a frame's header."""
    bomb = zlib.compress(bytes(64 * MIB), 9)
    with unmoved(client):
        for flags in range(1, 9):
            assert speak(client, struct.pack("!BBHQQ", 0xD6, flags, 1, 0, len(bomb)) + bomb)


def test_a_worker_that_speaks_as_a_client(client: Client) -> None:
    before = digest(client)
    for message in (RegisterClient("me", {}, "me"),):
        segments = codec_for("client", "scheduler").encode([message])
        speak(client, b"".join(bytes(b) for b in frame_buffers(segments, 0)[0]))
    assert digest(client) == before


@pytest.mark.parametrize("role", ["worker", "nanny"])
def test_a_second_worker_at_a_taken_address(client: Client, role: str) -> None:
    (address,) = client.scheduler_info()["workers"]
    before = digest(client)
    message = RegisterWorker(address, "thief", "127.0.0.1", 1, 10**9)
    speak(client, b"".join(bytes(b) for b in frame_buffers(Codec(RegisterWorker).encode([message]), 0)[0]), role=role)
    assert digest(client) == before
    assert client.submit(os.getpid, pure=False).result() == client.run(os.getpid)[address]


@pytest.mark.parametrize(
    "op, kwargs",
    [
        ("no_such_op", {}),
        ("__class__", {}),
        ("who_has", {"keys": 5}),
        ("retire_workers", {"workers": 5, "names": {}}),
        ("set_resources", {"worker": -1, "resources": {"x": float("nan")}}),
        ("get_events", {"topic": {"a": []}}),
        ("identity", {"n_workers": "many"}),
        ("identity", {"unknown": 1}),
        ("scatter_plan", {"n": -5}),
    ],
)
def test_questions_that_make_no_sense(client: Client, op: str, kwargs: dict[str, Any]) -> None:
    """An answer that names the error, and no change."""

    async def ask() -> None:
        connection = await connect(client.scheduler.address, 5, role="worker", shortcuts=False)
        try:
            with pytest.raises(Exception) as caught:
                await connection.call(op, timeout=5, **kwargs)
            assert not isinstance(caught.value, (TimeoutError, ConnectionError)), caught.value
        finally:
            await connection.close(1)

    before = digest(client)
    client.sync(ask)
    assert digest(client) == before


def test_changed_frames(client: Client) -> None:
    """Some thousand mutations of a good frame, glued and single: an error or patience, nothing else."""
    rng = random.Random(3)
    good = [
        b"".join(bytes(b) for b in frame_buffers(codec_for("worker", "scheduler").encode([m]), 0)[0])
        for m in (Request(1, "identity", Payload(b"\x80")), RegisterWorker("tcp://10.0.0.9:1", "x", "10.0.0.9", 1, 1))
    ]
    with unmoved(client):
        for _ in range(60):
            data = bytearray(rng.choice(good))
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            begin = time.monotonic()

            async def go(data: bytes = bytes(data)) -> None:
                comm = await registry.connect(client.scheduler.address, 5, role="worker", shortcuts=False)
                comm._sock.send(data)
                comm.abort()

            client.sync(go)
            assert time.monotonic() - begin < 20
