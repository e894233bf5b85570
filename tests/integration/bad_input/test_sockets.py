"""Strangers at every listening socket of real clusters: they are shown out, cost next to nothing, and nobody else
notices."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from distributed import Client, LocalCluster
from distributed.comm import handshake, unix
from distributed.testing import inc, poll_for
from tests.integration.cli.test_programs import running

MIB = 1 << 20
COMM, PAGES = "comm", "pages"


@dataclass
class Door:
    """One listening socket: where, whose, and what answers there."""

    pid: int
    where: tuple[str, int] | str
    kind: str = COMM

    def knock(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX if isinstance(self.where, str) else socket.AF_INET)
        sock.settimeout(8)
        sock.connect(self.where)
        return sock


@dataclass
class Place:
    """A cluster under attack."""

    client: Client
    processes: list[psutil.Process]
    doors: list[Door] = field(default_factory=list)

    def computes(self, within_s: float = 3.0) -> None:
        begin = time.monotonic()
        assert self.client.gather(self.client.map(inc, range(20), pure=False)) == list(range(1, 21))
        assert time.monotonic() - begin < within_s

    def of(self, kind: str) -> list[Door]:
        return [door for door in self.doors if door.kind == kind]

    @contextlib.contextmanager
    def unmoved(self) -> Iterator[None]:
        """Memory of every process stays, descriptors are given back, and the cluster computes afterwards."""
        before = [(process.memory_info().rss, process.num_fds()) for process in self.processes]
        yield
        self.computes()
        for process, (rss, fds) in zip(self.processes, before, strict=True):
            assert process.memory_info().rss - rss < 8 * MIB, process
            poll_for(lambda process=process, fds=fds: process.num_fds() <= fds + 4, timeout=5)


def listening(processes: list[psutil.Process]) -> list[Door]:
    """Every listening TCP socket, and the unix twins of those that have one."""
    doors = []
    for process in processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status != psutil.CONN_LISTEN:
                continue
            host, port = connection.laddr
            door = Door(process.pid, ("127.0.0.1" if host in ("0.0.0.0", "::") else host, port))
            doors.append(door)
            with door.knock() as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = sock.recv(4096)
            assert answer.startswith(b"HTTP/1.1 ")
            if b"not HTTP" not in answer:
                door.kind = PAGES
            elif (path := unix.find_twin(host, port)) is not None:
                doors.append(Door(process.pid, path))
    return doors


@contextlib.contextmanager
def local_place() -> Iterator[Place]:
    options = {"dashboard_address": ":0", "worker_dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        pids = [os.getpid(), *client.run(os.getpid).values()]
        yield Place(client, [psutil.Process(pid) for pid in pids])


@contextlib.contextmanager
def programs_place() -> Iterator[Place]:
    cli = [sys.executable, "-m"]
    options = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    with running([*cli, "distributed.cli.dask_scheduler", "--port", "0", *options]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with running([*cli, "distributed.cli.dask_worker", address, "--no-nanny", *options]) as worker:
            worker.line(r"Registered to: +(\S+)")
            with Client(address) as client:
                pids = [scheduler.process.pid, worker.process.pid]
                yield Place(client, [psutil.Process(pid) for pid in pids])


@pytest.fixture(scope="module", params=["LocalCluster", "programs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with (local_place if request.param == "LocalCluster" else programs_place)() as place:
        place.computes(10)
        place.doors = listening(place.processes)
        place.computes()
        yield place


def push(sock: socket.socket, data: bytes, limit: int = 1 << 62) -> int:
    """Write until all has gone or the peer has had enough; how much that was."""
    sent = 0
    view = memoryview(data)
    with contextlib.suppress(ConnectionError):
        while sent < min(len(data), limit):
            sent += sock.send(view[sent : sent + 65536])
    return sent


def rest(sock: socket.socket) -> bytes:
    """All that comes until the peer closes; an error when it does not close within the socket's timeout."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            got += data
            assert len(got) < MIB
    return got


def test_every_socket_is_known_and_on_loopback(place: Place) -> None:
    for process in place.processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1")
    owners = {door.pid for door in place.of(COMM)}
    assert owners == {process.pid for process in place.processes}
    assert len(place.of(PAGES)) >= len(place.processes)
    assert any(isinstance(door.where, str) for door in place.doors)


def test_random_bytes(place: Place) -> None:
    noise = os.urandom(MIB)
    with place.unmoved():
        for door in place.doors:
            begin = time.monotonic()
            with door.knock() as sock:
                push(sock, noise)
                rest(sock)
            assert time.monotonic() - begin < 4.5, door


def forged_heads(size: int) -> Iterator[bytes]:
    """Claims of ``size`` bytes in each notation that might be tried here."""
    # A frame of ours, with one segment and with as many as there can be.
    yield struct.pack("!BBHQQ", 0xD6, 0, 1, 0, size)
    yield struct.pack("!BBHQQ", 0xD6, 1, 0xFFFF, 0, size)
    # A handshake frame with the longest length that its field can say, then the claim.
    yield handshake.MAGIC + struct.pack("!HBBHxxQ", handshake.PROTOCOL_VERSION, 1, 1, 0xFFFF, size)
    # The number alone, in both byte orders.
    yield struct.pack("<QQ", size, 1)
    yield struct.pack(">QQ", size, 1)
    yield f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()


@pytest.mark.parametrize("exponent", [33, 40, 63])
def test_forged_huge_lengths(place: Place, exponent: int) -> None:
    filler = bytes(64 * MIB)
    with place.unmoved():
        for door in place.doors:
            for head in forged_heads(2**exponent):
                begin = time.monotonic()
                with door.knock() as sock:
                    sock.sendall(head)
                    assert push(sock, filler, 32 * MIB) < 32 * MIB, (door, head)
                    rest(sock)
                assert time.monotonic() - begin < 4.5, (door, head)


def test_http_request(place: Place) -> None:
    request = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"X-A: b\r\n" * 100 + b"\r\n"
    with place.unmoved():
        for door in place.doors:
            with door.knock() as sock:
                push(sock, request)
                answer = rest(sock)
            if door.kind == COMM:
                assert answer.startswith(b"HTTP/1.1 400 ") and b"not HTTP" in answer, door
            else:
                assert answer.startswith(b"HTTP/1.1 "), door


def test_silent_connections_end_at_the_deadline(place: Place) -> None:
    with place.unmoved(), contextlib.ExitStack() as stack:
        begin = time.monotonic()
        silent = {stack.enter_context(door.knock()): door for door in place.of(COMM)}
        assert len(silent) >= len(place.processes)
        waiting = set(silent)
        place.computes()
        while waiting:
            ready, _, _ = select.select(waiting, [], [], 20)
            assert ready, [silent[sock] for sock in waiting]
            for sock in ready:
                assert b"no handshake within" in rest(sock)
                assert 4.5 < time.monotonic() - begin < 20, silent[sock]
                waiting.discard(sock)


def test_two_hundred_silent_connections_at_once(place: Place) -> None:
    with place.unmoved():
        for door in place.doors:
            with contextlib.ExitStack() as stack:
                for _ in range(200):
                    stack.enter_context(door.knock())
                place.computes()
                # Newcomers get in as well, past the crowd.
                with Client(place.client.scheduler.address, timeout=5, set_as_default=False) as newcomer:
                    assert newcomer.submit(inc, 1, pure=False).result(timeout=5) == 2
