"""What strangers cost a scheduler: seconds until they are shown out, bytes that left them, memory of its process.

``python -m benchmarks.attacks``: the scheduler is a program of its own, asked over its port and its web pages' port.
The rows are those of ``docs/SECURITY.md``; whether they end as they should is for the tests to say.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from distributed import Client
from distributed.comm.keys import Secret

MIB = 1 << 20


@dataclass
class Target:
    """A scheduler under attack."""

    process: psutil.Process
    address: str
    ports: dict[str, int]


@contextlib.contextmanager
def scheduler() -> Iterator[Target]:
    """A scheduler as a program, visited once already."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    program = subprocess.Popen([*command, "--dashboard-address", ":0"], stderr=subprocess.PIPE, text=True)
    try:
        text = ""
        assert program.stderr is not None
        while "Start scheduler at" not in text:
            text += program.stderr.readline()
        address = re.findall(r"Start scheduler at: (\S+)", text)[0]
        pages = int(re.findall(r"dashboard at: +http://127.0.0.1:(\d+)", text)[0])
        target = Target(psutil.Process(program.pid), address, {"port": int(address.rpartition(":")[2]), "pages": pages})
        knock(pages, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with Client(address):
            yield target
    finally:
        program.terminate()
        program.communicate()


def knock(port: int, *parts: bytes, timeout: float = 10.0) -> tuple[int, float, bytes]:
    """Send these until the other end has had enough: bytes that left, seconds until it closed, what it said."""
    begin = time.monotonic()
    sent, said = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        with contextlib.suppress(OSError):
            for part in parts:
                view = memoryview(part)
                while view:
                    n = sock.send(view[:65536])
                    sent, view = sent + n, view[n:]
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                said += data
    return sent, time.monotonic() - begin, said


def drip(port: int) -> tuple[int, float, bytes]:
    """A byte a second."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        sent, said = 0, b""
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begin < 20:
                sock.send(b"\xd5dskeng\n"[sent : sent + 1] or b"\0")
                sent += 1
                with contextlib.suppress(TimeoutError):
                    said = sock.recv(4096)
                    break
    return sent, time.monotonic() - begin, said


def silent(target: Target, n: int = 1000) -> tuple[int, float, bytes]:
    """So many silent connections; then a friend comes: seconds until he is in, and how many were kept."""
    before = target.process.num_fds()
    socks = [socket.create_connection(("127.0.0.1", target.ports["port"])) for _ in range(n)]
    begin = time.monotonic()
    Client(target.address, timeout=10, set_as_default=False).close()
    took = time.monotonic() - begin
    kept = target.process.num_fds() - before
    for sock in socks:
        sock.close()
    return 0, took, f"{kept} kept".encode()


def refusals(target: Target) -> str:
    """Milliseconds until a wrong secret and a wrong role's keys are refused: the shortest of many."""
    import asyncio

    from distributed.comm import connect

    async def one(secret: Secret, role: str) -> float:
        begin = time.perf_counter()
        with contextlib.suppress(OSError):
            (await connect(target.address, 5, role=role, secret=secret, shortcuts=False)).abort()
        return time.perf_counter() - begin

    async def best(secret: Secret, role: str) -> float:
        return min([await one(secret, role) for _ in range(50)]) * 1e3

    wrong = Secret.new()
    return ", ".join(f"{asyncio.run(best(wrong, role)):.2f}" for role in ("client", "worker", "nanny"))


def main() -> None:
    """Print the table."""
    noise, zeros = os.urandom(MIB), bytes(600 * MIB)
    with scheduler() as target:
        rows = [
            (f"1 MiB of noise at the {name}", lambda port=port: knock(port, noise))  # type: ignore[misc]
            for name, port in target.ports.items()
        ]
        for exponent in (33, 40, 63):
            head = struct.pack("!BBHQQ", 0xD6, 0, 1, 0, 2**exponent)
            rows.append(
                (
                    f"a head that claims 2^{exponent} bytes, 600 MiB",
                    lambda head=head: knock(target.ports["port"], head, zeros),
                )
            )  # type: ignore[misc]
        header = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * MIB
        rows.append(("1 MiB of HTTP header at the pages", lambda: knock(target.ports["pages"], header)))
        rows.append(("a byte a second", lambda: drip(target.ports["port"])))
        rows.append(("1000 silent connections; seconds until a friend is in", lambda: silent(target)))
        print("| input | bytes that left | seconds | memory, MiB | said |\n|---|---|---|---|---|")
        for name, attack in rows:
            before = target.process.memory_info().rss
            sent, took, said = attack()
            grown = (target.process.memory_info().rss - before) / MIB
            text = re.sub(r"[^ -~]+", " ", said[-60:].decode("latin1")).strip()
            print(f"| {name} | {sent} | {took:.3f} | {grown:+.2f} | {text} |", flush=True)
        print(f"\nms until a wrong secret is refused, as client, worker, nanny: {refusals(target)}")


if __name__ == "__main__":
    main()
