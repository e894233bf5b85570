"""A process that has no file descriptors left: it waits, says so in one line, and goes on when there are some."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from distributed.base.errors import CommClosedError
from distributed.comm import Comm, Secret, connect, secrets
from distributed.messages.control import Control
from distributed.protocol.codec import Codec
from distributed.testing import gen_test, poll_for
from tests.integration.cli.test_programs import SCHEDULER, WORKER, Program, running
from tests.integration.comm.loops import until

pytestmark = pytest.mark.usefixtures("private_places")

SECRET = Secret.from_text("of the tests")
LIMIT = 64


class Log:
    """What a program writes, read as it comes, so that it never has to wait for its reader."""

    def __init__(self, program: Program) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(program.process.stderr,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        self.lines.extend(stream)

    def having(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]

    def end(self) -> None:
        self._thread.join(5)


@contextlib.contextmanager
def few_descriptors(pid: int) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    process.rlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    yield process


def fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def fill(address: str, pid: int) -> list[Comm]:
    """Authenticated connections until there are no descriptors left."""
    comms = []
    while fds(pid) < LIMIT:
        comm = await connect(address, 5, secret=SECRET, shortcuts=False)
        comm.start(lambda batch: None, lambda error: None, Codec(Control))
        comms.append(comm)
    return comms


async def suffers_and_recovers(address: str, pid: int, log: Log) -> None:
    with few_descriptors(pid) as process:
        held = await fill(address, pid)
        # There may be one descriptor for a moment; two newcomers cannot both get in.
        waiting = [asyncio.ensure_future(connect(address, 1.5, secret=SECRET, shortcuts=False)) for _ in range(4)]
        await until(lambda: log.having("Cannot accept connections"))
        before = sum(process.cpu_times()[:2])
        begin = time.monotonic()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(r, (TimeoutError, CommClosedError)) for r in results) >= 3, results
        spent = sum(process.cpu_times()[:2]) - before
        assert spent < 0.25 * (time.monotonic() - begin) + 0.1, "it spins"
        for comm in held[:10]:
            comm.abort()
        begin = time.monotonic()
        comm = await connect(address, 5, secret=SECRET, shortcuts=False)
        assert time.monotonic() - begin < 4
        for one in (comm, *held, *[r for r in results if isinstance(r, Comm)]):
            one.abort()
        await until(lambda: log.having("Accepting connections at"))
    (line,) = log.having("Cannot accept connections")
    assert "Too many open files" in line and "ulimit -n" in line and re.search(r"at tcp://\S+:\d+ for now", line), line


@pytest.fixture
def shared_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secrets.ENV_TOKEN, SECRET.reveal())


@gen_test(timeout=60)
async def test_scheduler(shared_secret: None) -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as program:
        address = program.line(r"Start scheduler at: (\S+)")
        log = Log(program)
        await suffers_and_recovers(address, program.process.pid, log)
        program.process.terminate()
    log.end()


@gen_test(timeout=60)
async def test_worker(shared_secret: None) -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: (\S+)")
        with running([*WORKER, address, "--no-nanny", "--nthreads", "1"]) as program:
            at = program.line(r"Start worker at: +(\S+)")
            program.line("Registered with")
            log = Log(program)
            await suffers_and_recovers(at, program.process.pid, log)
            program.process.terminate()
        log.end()


@gen_test(timeout=60)
async def test_strangers_make_room_for_a_friend(shared_secret: None) -> None:
    """Descriptors taken by connections that say nothing are given to one that knows the secret."""
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as program:
        address = program.line(r"Start scheduler at: (\S+)")
        log = Log(program)
        host, _, port = address[6:].rpartition(":")
        with few_descriptors(program.process.pid):
            silent = [socket.create_connection((host, int(port))) for _ in range(LIMIT)]
            await until(lambda: fds(program.process.pid) >= LIMIT - 1)
            begin = time.monotonic()
            comm = await connect(address, 4, secret=SECRET, shortcuts=False)
            assert time.monotonic() - begin < 3  # before the strangers' own deadline
            comm.abort()
            for sock in silent:
                sock.close()
        program.process.terminate()
    log.end()
    assert len(log.having("Cannot accept")) <= 1


def get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while data := sock.recv(4096):
            answer += data
        return answer


@pytest.mark.parametrize("visited", [False, True])
def test_web_pages(shared_secret: None, visited: bool) -> None:
    """Also the pages' listener waits, whether or not it has ever been visited; and then they are there."""
    args = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with running([*args, "--dashboard-address", "127.0.0.1:0"]) as program:
        port = int(program.line(r"dashboard at: +http://127.0.0.1:(\d+)"))
        program.line(r"Start scheduler at: (\S+)")
        log = Log(program)
        pid = program.process.pid
        if visited:
            assert get(port).startswith(b"HTTP/1")
        with few_descriptors(pid) as process:
            socks = []
            if not visited:
                process.rlimit(resource.RLIMIT_NOFILE, (fds(pid) + 2, LIMIT))
            while visited and fds(pid) < LIMIT and len(socks) < 2 * LIMIT:
                socks.append(socket.create_connection(("127.0.0.1", port)))
                time.sleep(0.002)
            socks += [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
            before = sum(process.cpu_times()[:2])
            time.sleep(1.0)
            assert sum(process.cpu_times()[:2]) - before < 0.3, "it spins"
            for sock in socks:
                sock.close()
            process.rlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
            poll_for(lambda: get(port).startswith(b"HTTP/1.1 200"), 10)
        program.process.terminate()
    log.end()
    assert len(log.having("Cannot accept")) == int(visited), log.lines
    assert not log.having("Traceback") and len(log.lines) < 30, log.lines
