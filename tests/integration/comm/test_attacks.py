"""Strangers at the door: whatever they send or do not send, the listener serves others and stays small."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import resource
import socket
import time

import psutil
import pytest

from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.comm import accepting, connect, handshake, listen, secrets
from distributed.comm.keys import Secret
from distributed.messages.control import Control, RegisterClient
from distributed.protocol.codec import Codec
from distributed.protocol.frames import frame_buffers

from .loops import on_both_loops, on_uvloop, until

SECRET = Secret.from_text("of the tests")


class House:
    """A listener with its visitors."""

    def __init__(self, address="tcp://127.0.0.1:0", secret=SECRET):
        self.comms = []
        self.listener = listen(address, self.on_comm, role="scheduler", secret=secret)

    def on_comm(self, comm):
        self.comms.append(comm)
        comm.start(lambda batch: None, lambda error: None, Codec(Control))

    async def __aenter__(self):
        await self.listener.start()
        self.address = self.listener.contact_address
        host, _, port = self.address[6:].rpartition(":")
        self.where = (host, int(port))
        return self

    async def __aexit__(self, *exc):
        self.listener.stop()
        for comm in self.comms:
            comm.abort()

    async def stranger(self):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, self.where)
        return sock

    async def friend_gets_in(self, within_s=1.0):
        begin = time.monotonic()
        comm = await connect(self.address, 5, secret=SECRET, shortcuts=False)
        assert time.monotonic() - begin < within_s
        await comm.close()


async def rest(sock, limit=1 << 20):
    loop = asyncio.get_running_loop()
    got = b""
    try:
        while data := await loop.sock_recv(sock, 65536):
            got += data
            assert len(got) < limit
    except ConnectionError:
        pass
    return got


def rss():
    return psutil.Process().memory_info().rss


@on_both_loops
async def test_wrong_secret_is_one_clear_refusal_at_both_ends(caplog):
    async with House() as house:
        with caplog.at_level(logging.WARNING, "distributed.comm"):
            for _ in range(20):
                with pytest.raises(HandshakeRefused) as caught:
                    await connect(house.address, 5, secret=Secret.from_text("wrong"), shortcuts=False)
        text = str(caught.value)
        assert house.address in text and "secret" in text and "scheduler_file" in text and "AUTH_TOKEN_FILE" in text
        assert isinstance(caught.value, CommClosedError) and isinstance(caught.value, OSError)
        lines = [r.getMessage() for r in caplog.records if r.name == "distributed.comm"]
        assert len(lines) == 1 and "Refused a connection from tcp://127.0.0.1" in lines[0], lines
        for shown in (text, *lines):
            assert SECRET.reveal()[5:] not in shown
        await house.friend_gets_in()


@on_uvloop
async def test_no_secret_at_all():
    async with House() as house:
        begin = time.monotonic()
        with pytest.raises(HandshakeRefused, match="no secret for it was found"):
            await connect(house.address, 5, shortcuts=False)
        assert time.monotonic() - begin < 4.5


@on_uvloop
async def test_the_secret_is_found_without_an_argument(monkeypatch):
    async with House() as house:
        secrets.save(SECRET, ["tcp://elsewhere:1"])  # by its id, on this machine, whatever the address is called
        await (await connect(house.address, 5, shortcuts=False)).close()
        secrets.remove(SECRET)
        with pytest.raises(HandshakeRefused):
            await connect(house.address, 5, shortcuts=False)
        monkeypatch.setenv(secrets.ENV_TOKEN, "of the tests")
        await (await connect(house.address, 5, shortcuts=False)).close()
        monkeypatch.delenv(secrets.ENV_TOKEN)
        secrets.register(house.address, SECRET)
        await (await connect(house.address, 5, shortcuts=False)).close()
        secrets.forget(house.address)
        with pytest.raises(HandshakeRefused):
            await connect(house.address, 5, shortcuts=False)


@on_uvloop
async def test_an_unsafe_store_says_what_to_do():
    path = secrets.save(SECRET, ["tcp://elsewhere:1"])
    os.chmod(path, 0o644)
    async with House() as house:
        with pytest.raises(HandshakeRefused, match="chmod go-rwx"):
            await connect(house.address, 5, shortcuts=False)


@on_uvloop
async def test_another_version_is_refused_at_both_ends(monkeypatch, caplog):
    async with House() as house:
        original = handshake.InitiatorHandshake.__init__

        def init(self, *args):
            original(self, *args)
            self.outgoing[8:10] = (99).to_bytes(2, "big")

        monkeypatch.setattr(handshake.InitiatorHandshake, "__init__", init)
        with caplog.at_level(logging.WARNING, "distributed.comm"):
            with pytest.raises(HandshakeRefused, match=r"refused by tcp.*version 3 here, 99 there.*same release"):
                await connect(house.address, 5, secret=SECRET, shortcuts=False)
        assert "version 3 here, 99 there" in caplog.text


@on_uvloop
async def test_http_gets_a_page(caplog):
    async with House() as house:
        sock = await house.stranger()
        await asyncio.get_running_loop().sock_sendall(
            sock, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n"
        )
        answer = await rest(sock)
        assert answer.startswith(b"HTTP/1.1 400") and b"not HTTP" in answer
        sock.close()
        assert "HTTP" in caplog.text
        await house.friend_gets_in()


@on_uvloop
async def test_the_incumbents_first_bytes(caplog):
    async with House() as house:
        sock = await house.stranger()
        first = bytes.fromhex("3a0000000000000001000000000000002a00000000000000") + b"\x83\xabcompression\xc0"
        await asyncio.get_running_loop().sock_sendall(sock, first)
        assert b"another product" in await rest(sock)
        assert "another product" in caplog.text
        sock.close()


@on_uvloop
async def test_we_call_a_foreign_server():
    async def web(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()  # what comes behind: a close before it is read would be a reset, which overtakes the answer
        writer.close()

    async def incumbent(reader, writer):
        writer.write(bytes.fromhex("3a000000000000000100000000000000"))
        await reader.read(1000)
        writer.close()

    async def closes(reader, writer):
        writer.close()

    for handler, words in ((web, "HTTP"), (incumbent, "another product")):
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        begin = time.monotonic()
        with pytest.raises(HandshakeRefused, match=f"cannot connect to tcp://127.0.0.1:{port}.*{words}"):
            await connect(f"127.0.0.1:{port}", 5, secret=SECRET)
        assert time.monotonic() - begin < 4.5
        server.close()
        await server.wait_closed()
    server = await asyncio.start_server(closes, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CommClosedError, match="closed"):
        await connect(f"127.0.0.1:{port}", 0.5, secret=SECRET)
    server.close()
    await server.wait_closed()


@on_both_loops
async def test_random_bytes():
    loop = asyncio.get_running_loop()
    async with House("tcp://127.0.0.1:0") as house:
        await house.friend_gets_in()
        before = rss()
        noise = os.urandom(1 << 20)
        for _ in range(5):
            sock = await house.stranger()
            begin = time.monotonic()
            try:
                await asyncio.wait_for(loop.sock_sendall(sock, noise), 30)
            except ConnectionError:
                pass
            await asyncio.wait_for(rest(sock), 30)
            assert time.monotonic() - begin < 4.5
            sock.close()
            await house.friend_gets_in()
        assert rss() - before < 2 << 20


@on_uvloop
async def test_forged_huge_lengths():
    """A frame header of any kind that claims gigabytes, before authentication: closed, nothing read or allocated."""
    loop = asyncio.get_running_loop()
    async with House() as house:
        await house.friend_gets_in()
        before = rss()
        for size in (1 << 33, 1 << 40, (1 << 63) - 1):
            for head in (
                size.to_bytes(8, "little") + (1).to_bytes(8, "little"),
                b"\xd6\0\0\x01" + bytes(8) + size.to_bytes(8, "big"),
                handshake.MAGIC + b"\0\x01\x01\x01\xff\xff\0\0",
            ):
                sock = await house.stranger()
                sent = 0
                try:
                    while sent < 20 << 20:
                        await asyncio.wait_for(loop.sock_sendall(sock, head), 20)
                        head = bytes(1 << 20)
                        sent += len(head)
                except ConnectionError:
                    pass
                assert sent < 20 << 20
                sock.close()
        assert rss() - before < 4 << 20
        await house.friend_gets_in()


@on_uvloop
async def test_silent_and_slow_connections_end_at_the_deadline(monkeypatch, caplog):
    house = House()
    loop = asyncio.get_running_loop()
    async with house:
        house.listener._acceptors[0]._deadline_s = 0.4
        silent, slow = await house.stranger(), await house.stranger()
        begin = time.monotonic()

        async def drip():
            try:
                for byte in handshake.MAGIC:
                    await loop.sock_sendall(slow, bytes([byte]))
                    await asyncio.sleep(0.1)
            except ConnectionError:
                pass

        dripping = asyncio.ensure_future(drip())
        a, b = await asyncio.gather(rest(silent), rest(slow))
        assert 0.3 < time.monotonic() - begin < 4.5
        assert b"no handshake within" in a and b"no handshake within" in b
        await dripping
        silent.close(), slow.close()
        assert house.listener._acceptors[0].n_strangers == 0
        assert handshake.DEADLINE_S == 5.0


@on_both_loops
async def test_a_thousand_silent_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    async with House() as house:
        acceptor = house.listener._acceptors[0]
        socks = []
        most = 0
        for _ in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(house.where)
            socks.append(sock)
            if not len(socks) % 50:
                await asyncio.sleep(0.005)
                most = max(most, acceptor.n_strangers)
        await house.friend_gets_in(within_s=2.0)
        assert acceptor.n_strangers <= accepting.MAX_STRANGERS and most <= accepting.MAX_STRANGERS
        for sock in socks:
            sock.close()
        await until(lambda: acceptor.n_strangers == 0)
        await house.friend_gets_in()


@on_both_loops
async def test_many_friends_at_once():
    """The limit on strangers delays a crowd of friends, it does not turn them away."""
    async with House() as house:
        comms = await asyncio.gather(*(connect(house.address, 10, secret=SECRET, shortcuts=False) for _ in range(400)))
        await until(lambda: len(house.comms) == 400)
        for comm in comms:
            comm.abort()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@on_uvloop
async def test_no_pickle_is_opened_before_authentication(tmp_path):
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(str(marker)))
    loop = asyncio.get_running_loop()
    async with House() as house:
        for data in (
            bomb,
            len(bomb).to_bytes(8, "little") + (1).to_bytes(8, "little") + len(bomb).to_bytes(8, "little") + bomb,
            handshake.MAGIC + bomb,
            handshake.MAGIC + b"\0\x01\x05\0" + (len(bomb) + 16).to_bytes(2, "big") + b"\0\0" + bomb,
        ):
            sock = await house.stranger()
            await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)
            await rest(sock)
            sock.close()
        await house.friend_gets_in()
    assert not marker.exists()


@on_uvloop
async def test_handshake_glued_to_the_first_frame_and_in_single_bytes():
    """Where one TCP segment ends says nothing: the boundary between handshake and frames is respected."""
    loop = asyncio.get_running_loop()
    got = []
    ready = []

    def on_comm(comm):
        comm.start(got.extend, lambda e: None, Codec(Control))
        ready.append(comm)

    listener = listen("tcp://127.0.0.1:0", on_comm, role="scheduler", secret=SECRET)
    await listener.start()
    host, _, port = listener.contact_address[6:].rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, (host, int(port)))
    machine = handshake.InitiatorHandshake("client", lambda _: SECRET)

    async def say(data):
        for byte in data:
            await loop.sock_sendall(sock, bytes([byte]))
            await asyncio.sleep(0)

    await say(bytes(machine.outgoing))
    machine.outgoing.clear()
    while not machine.outgoing:
        machine.feed(await loop.sock_recv(sock, machine.wanted))
    frame = b"".join(frame_buffers(Codec(Control).encode([RegisterClient("me")]), 0)[0])
    await loop.sock_sendall(sock, bytes(machine.outgoing) + frame)
    while not machine.done:
        machine.feed(await loop.sock_recv(sock, machine.wanted))
    await until(lambda: got)
    assert got == [RegisterClient("me")]
    sock.close()
    listener.stop()
    ready[0].abort()


@on_both_loops
async def test_out_of_file_descriptors(caplog):
    """Accepting pauses, with one line in the log and no spinning, and goes on when there are descriptors again."""
    async with House() as house:
        await house.friend_gets_in()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = [socket.socket() for _ in range(3)]
        highest = max(int(n) for n in os.listdir("/proc/self/fd"))
        hold = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            with pytest.raises(OSError):
                while True:
                    hold.append(os.dup(0))
            cpu = time.process_time()
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(house.where)
            await asyncio.sleep(0.5)
            assert time.process_time() - cpu < 0.25
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in hold:
                os.close(fd)
        assert caplog.text.count("Cannot accept connections") == 1
        await house.friend_gets_in(within_s=3)
        for sock in waiting:
            sock.close()


@on_uvloop
async def test_listener_that_stops_drops_strangers():
    async with House() as house:
        sock = await house.stranger()
        await until(lambda: house.listener._acceptors[0].n_strangers == 1)
        house.listener.stop()
        assert await rest(sock) == b""
        sock.close()
