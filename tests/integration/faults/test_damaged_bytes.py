"""Bytes that change or get lost on the way, and messages larger than allowed: the link ends, nothing wrong is used."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import random
import socket
from typing import Any

import psutil
import pytest

from distributed.base.errors import CommClosedError, DeserializeError, FrameError, HandshakeRefused
from distributed.comm import Secret, bad_streams, connect, handshake, listen, secrets
from distributed.messages.control import Control, Reply
from distributed.messages.payload import Attached, Payload
from distributed.protocol import frames
from distributed.protocol.codec import Codec
from distributed.testing import gen_test, open_port
from distributed.testing.fault_proxy import FaultProxy, Faults, Script
from tests.integration.comm.loops import until

from .places import client, process, records, scheduler_here

pytestmark = pytest.mark.usefixtures("private_places", "log_afresh")

CHECKED = {"distributed.comm.checksums": True}
SECRET = Secret.from_text("of the tests")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def both_ways(data: bytes) -> tuple[str, bytes]:
    return digest(data), data[::-1]


def noise(i: int, nbytes: int = 2000) -> bytes:
    return random.Random(i).randbytes(nbytes)


@gen_test(config=CHECKED)
async def test_no_damaged_message_is_delivered() -> None:
    """A flip in 10^4 bytes, for ever: each stream delivers a beginning of what was sent, and ends with the reason."""
    got: list[list[Any]] = []
    errors: list[BaseException | None] = []

    def on_comm(comm: Any) -> None:
        mine: list[Any] = []
        got.append(mine)
        comm.start(mine.extend, errors.append, Codec(Control))

    sent = [Reply(i, Payload(noise(i, 50 + i % 400), Attached([noise(-i, i * 7 % 3000)]))) for i in range(300)]
    as_sent = [(m.id, m.body.data, [bytes(b) for b in m.body.attached.buffers]) for m in sent]
    listener = listen("tcp://127.0.0.1:0", on_comm, role="scheduler", secret=SECRET, twin=False)
    await listener.start()
    try:
        script = Script(up=Faults(flip_one_in=10_000, flip_from=300))
        async with FaultProxy(listener.contact_address, script, seed=7) as proxy:
            before = bad_streams.by_host["tcp://127.0.0.1"]
            for _ in range(30):
                comm = await connect(proxy.address, 5, secret=SECRET, shortcuts=False)
                closed = asyncio.Event()
                comm.start(lambda batch: None, lambda error, closed=closed: closed.set(), Codec(Control))
                for message in sent:
                    if comm.closed:
                        break
                    comm.send([message])
                    await asyncio.sleep(0)
                await asyncio.wait_for(closed.wait(), 5)
            await until(lambda: len(errors) == 30)
            assert proxy.n_flipped("up") >= 30
    finally:
        listener.stop()
    assert all(isinstance(e, FrameError) and "127.0.0.1" in str(e) for e in errors), errors
    assert sum("checksum" in str(e) for e in errors) >= 25, errors
    assert bad_streams.by_host["tcp://127.0.0.1"] - before == 30
    for stream in got:
        plain = [(m.id, m.body.data, [bytes(b) for b in m.body.attached.buffers]) for m in stream]
        assert plain == as_sent[: len(plain)]
    assert 0 < sum(map(len, got)) < 30 * 300


@pytest.mark.parametrize("direction", ["up", "down"])
def test_damaged_handshake(direction: str) -> None:
    """It looks like a stranger's or a wrong secret's; the peer tries once more before it believes that."""

    @gen_test(config=CHECKED)
    async def test() -> None:
        async with scheduler_here() as s:
            for at in (3, 9, 20, 40, 75):
                script = Script(**{direction: Faults(flip_at=(at,))}, connections=(0,))
                async with FaultProxy(s.address, script) as proxy, client(proxy.address):
                    assert proxy.n_connections == 2, at
            script = Script(up=Faults(flip_at=(70,)))
            async with FaultProxy(s.address, script) as proxy:
                with pytest.raises(HandshakeRefused):
                    async with client(proxy.address):
                        pass
                assert proxy.n_connections == 2

    test()


@gen_test(config=CHECKED)
async def test_client_link(caplog: Any) -> None:
    """The client is back at once and says again what was lost; nobody notices but the log."""
    script = Script(up=Faults(flip_one_in=10_000, flip_from=3000), connections=(0,))
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address, script, seed=3) as proxy:
        async with client(proxy.address) as c:
            right = {i: digest(noise(i)) for i in range(100)}
            futures = {i: c.submit(digest, noise(i), pure=False) for i in right}
            results = await asyncio.wait_for(c.gather(list(futures.values())), 20)
            assert results == [*right.values()]
            assert proxy.n_connections == 2 and proxy.n_flipped("up") >= 1
    lines = [line for line in records(caplog, "distributed.comm") if "cannot be used" in line]
    assert len(lines) == 1 and "client at tcp://127.0.0.1:" in lines[0] and "wrong checksum" in lines[0], lines
    assert "bad stream " in lines[0]
    assert any("Lost the scheduler at" in line for line in records(caplog, "distributed.client"))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_worker_link(direction: str, caplog: Any) -> None:
    """The worker connects again and goes on: every result is right, and no other process was needed."""

    @gen_test(config=CHECKED, timeout=60)
    async def test() -> None:
        # Connection 0 is the nanny's own; 1 is the first worker's.
        script = Script(**{direction: Faults(flip_one_in=10_000, flip_from=6000)}, connections=(1,))
        async with scheduler_here() as s, FaultProxy(s.address, script, seed=5) as proxy:
            async with process("nanny", proxy.address), client(s.address) as c:
                futures = [c.submit(both_ways, noise(i), pure=False) for i in range(200)]
                results = await asyncio.wait_for(c.gather(futures), 45)
                assert results == [both_ways(noise(i)) for i in range(200)]
                assert s.shell.streams.counts()["sessions_resumed"] >= 1 and len(s.workers) == 1
                assert proxy.n_connections >= 3 and proxy.n_flipped(direction) >= 1  # type: ignore[arg-type]

    caplog.set_level(logging.INFO, "distributed")
    test()
    lines = [line for line in records(caplog, "distributed.comm") if "cannot be used" in line]
    if direction == "up":  # else it is the worker's process that notices
        assert len(lines) == 1 and "worker at tcp://127.0.0.1:" in lines[0], lines


@gen_test(config=CHECKED, timeout=60)
async def test_link_between_workers() -> None:
    """A value that comes damaged is fetched again."""
    port = open_port("127.0.0.1")
    script = Script(down=Faults(flip_one_in=10_000, flip_from=1000), connections=(0,))
    async with scheduler_here() as s, FaultProxy(f"127.0.0.1:{port}", script, seed=2) as proxy:
        at_a = process("worker", s.address, port=port, contact_address=proxy.address, name="a")
        async with at_a as (a, _), process("worker", s.address, name="b"), client(s.address) as c:
            assert a == proxy.address
            x = c.submit(noise, 1, 1_000_000, workers="a", pure=False)
            y = c.submit(digest, x, workers="b", pure=False)
            assert await asyncio.wait_for(asyncio.ensure_future(c.gather(y)), 30) == digest(noise(1, 1_000_000))
            assert proxy.n_connections >= 2 and proxy.n_flipped("down") >= 1


@pytest.mark.parametrize("how", ["truncate_at", "reset_at"])
def test_cut_in_the_middle_of_a_message(how: str, caplog: Any) -> None:
    """Nothing of the message is applied; the client connects again, and says it once more."""

    @gen_test()
    async def test() -> None:
        script = Script(up=Faults(**{how: 400_000}), connections=(0,))
        async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address, script) as proxy:
            async with client(proxy.address) as c:
                future = c.submit(len, noise(1, 1_000_000), pure=False)
                assert await asyncio.wait_for(future.result(), 20) == 1_000_000
                assert proxy.n_connections == 2 and len(s.tasks) == 1

    caplog.set_level(logging.INFO, "distributed")
    test()
    lines = [line for line in records(caplog, "distributed.comm") if "cannot be used" in line]
    if how == "truncate_at":
        assert len(lines) == 1 and "ended in the middle of a message" in lines[0], lines


async def _authenticated(address: str, secret: Secret) -> socket.socket:
    """A socket on which a client has just been let in."""
    loop = asyncio.get_running_loop()
    host, _, port = address[6:].rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, (host, int(port)))
    machine = handshake.InitiatorHandshake("client", lambda _: secret)
    while not machine.done:
        if machine.outgoing:
            await loop.sock_sendall(sock, bytes(machine.outgoing))
            machine.outgoing.clear()
        machine.feed(await loop.sock_recv(sock, machine.wanted))
    return sock


@gen_test()
async def test_a_forged_size_is_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setenv(secrets.ENV_TOKEN, SECRET.reveal())
    async with process("scheduler") as (address, scheduler):
        proc = psutil.Process(scheduler.pid)
        before = proc.memory_info().rss
        for lengths in ([10, 2 << 40], [1 << 32], [10, (1 << 64) - 1]):
            sock = await _authenticated(address, SECRET)
            head = frames._HEAD.pack(frames.MAGIC, 0, len(lengths), 0)
            await loop.sock_sendall(sock, head + b"".join(n.to_bytes(8, "big") for n in lengths))
            sent = 0
            with pytest.raises(ConnectionError):
                while True:
                    await asyncio.wait_for(loop.sock_sendall(sock, bytes(1 << 16)), 5)
                    sent += 1 << 16
            assert sent < 20 << 20
            sock.close()
        assert proc.memory_info().rss - before < 8 << 20
        comm = await connect(address, 5, secret=SECRET)
        comm.abort()


def big(nbytes: int) -> bytes:
    return bytes(nbytes)


@gen_test(config={"distributed.comm.max-frame-bytes": "50MB"}, timeout=60)
async def test_a_result_above_the_limit_is_an_error_that_names_it() -> None:
    """Told by the end that would have to send it: the link stays, the worker stays, and smaller ones go through."""
    at_a, at_b = (functools.partial(process, "worker", name=name) for name in "ab")
    async with scheduler_here() as s, at_a(s.address), at_b(s.address), client(s.address) as c:
        large = c.submit(big, 60_000_000, workers="a")
        with pytest.raises(ValueError, match=r"60000\d* bytes.*limit is 50000000.*max-frame-bytes"):
            await asyncio.wait_for(large.result(), 15)
        assert await asyncio.wait_for(c.submit(len, large, workers="a").result(), 15) == 60_000_000
        elsewhere = c.submit(len, large, workers="b")
        with pytest.raises((ValueError, DeserializeError), match=r"limit is 50000000.*max-frame-bytes"):
            await asyncio.wait_for(elsewhere.result(), 15)
        assert len(await asyncio.wait_for(c.submit(big, 40_000_000).result(), 15)) == 40_000_000
        assert len(s.workers) == 2


@gen_test(timeout=60)
async def test_a_large_result_goes_through() -> None:
    async with scheduler_here() as s, process("worker", s.address), client(s.address) as c:
        assert len(await asyncio.wait_for(c.submit(big, 300_000_000).result(), 30)) == 300_000_000


@gen_test()
async def test_what_the_peer_may_not_send_is_refused_by_the_receiver(caplog: Any) -> None:
    """The sender has another limit: the receiver closes, and says which limit of its own was exceeded."""
    import dask.config

    errors: list[BaseException | None] = []
    with dask.config.set({"distributed.comm.max-frame-bytes": "1MB"}):
        listener = listen("tcp://127.0.0.1:0", lambda comm: comm.start(print, errors.append, Codec(Control)),
                          role="scheduler", secret=SECRET)  # fmt: skip
        await listener.start()
        comm = await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False)
        comm._max_frame_bytes = 1 << 40  # type: ignore[attr-defined]
        comm.start(print, lambda e: None, Codec(Control))
        comm.send([Reply(1, Payload(b"", Attached([bytes(2_000_000)])))])
        await until(lambda: errors)
    assert isinstance(errors[0], CommClosedError)
    assert "2000" in str(errors[0]) and "limit of 1000000" in str(errors[0]) and "max-frame-bytes" in str(errors[0])
    comm.abort()
    listener.stop()
