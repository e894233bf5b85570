"""What a connection costs until it may be used, and what goes over it: in clear, in TLS between machines, in ``tls://``.

``python -m benchmarks.core_security``: both ends in one process; CPU time is that of both. With ``--peer PYTHON`` the
same over ``tls://`` by the dask.distributed that this other Python has, in turn with ours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import dask

from distributed.comm import connect, listen
from distributed.comm.certificates import self_signed
from distributed.comm.keys import Secret
from distributed.comm.security import Security
from distributed.messages.control import Control, Reply
from distributed.messages.payload import Attached, Payload
from distributed.protocol.codec import Codec
from distributed.rpc.loop_runner import new_asyncio_loop

SECRET = Secret.new()
CERTIFICATES = Security.temporary()
N_CONNECTS = 200
N_BUFFERS = 8
BUFFER = os.urandom(64 << 20)
CASES: list[tuple[str, str, Any, Any]] = [
    ("unix, handshake", "unix://", "auto", None),
    ("tcp, handshake", "tcp://127.0.0.1:0", "auto", None),
    ("tcp, handshake and TLS", "tcp://127.0.0.1:0", True, None),
    ("tls://, certificates both ways", "tls://127.0.0.1:0", "auto", CERTIFICATES),
]


async def measure(address: str, security: Any) -> tuple[float, float, float]:
    """CPU and wall time of a connect in ms, and MiB of CPU-second of bulk data."""
    got: list[Any] = []
    ends: list[Any] = []

    def on_comm(comm: Any) -> None:
        ends.append(comm)
        comm.start(got.extend, lambda error: None, Codec(Control))

    listener = listen(address, on_comm, role="scheduler", secret=SECRET, security=security, twin=False)
    await listener.start()
    options = {"secret": SECRET, "shortcuts": False, "security": security}
    (await connect(listener.contact_address, 5, **options)).abort()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(N_CONNECTS):
        (await connect(listener.contact_address, 5, **options)).abort()
    cpu_ms = (time.process_time() - cpu) / N_CONNECTS * 1e3
    wall_ms = (time.perf_counter() - wall) / N_CONNECTS * 1e3
    comm = await connect(listener.contact_address, 5, **options)
    comm.start(lambda batch: None, lambda error: None, Codec(Control))
    cpu = time.process_time()
    for i in range(N_BUFFERS):
        comm.send([Reply(i, Payload(b"", Attached([BUFFER])))])
        await comm.drain()
    while len(got) < N_BUFFERS:
        await asyncio.sleep(0.001)
    rate = N_BUFFERS * len(BUFFER) / 2**20 / (time.process_time() - cpu)
    for end in (comm, *ends):
        end.abort()
    listener.stop()
    return cpu_ms, wall_ms, rate


PEER = """
import asyncio, os, sys, time
from distributed.comm import connect, listen
from distributed.protocol.serialize import Serialized
from distributed.security import Security
cert, key, n_connects, n_buffers, nbytes = *sys.argv[1:3], *map(int, sys.argv[3:])
parts = (("cert", cert), ("key", key))
files = {f"tls_{role}_{part}": path for role in ("client", "scheduler", "worker") for part, path in parts}
security = Security(tls_ca_file=cert, require_encryption=True, **files)
async def on_comm(comm):
    n = 0
    try:
        while True:
            message = await comm.read()
            n += 1
            if message == "count":
                await comm.write(n)
    except OSError:
        pass
async def main():
    rules = security.get_listen_args("scheduler")
    async with listen("tls://127.0.0.1:0", on_comm, deserialize=False, **rules) as there:
        options = security.get_connection_args("worker")
        (await connect(there.contact_address, **options)).abort()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(n_connects):
            (await connect(there.contact_address, **options)).abort()
        cpu_ms = (time.process_time() - cpu) / n_connects * 1e3
        wall_ms = (time.perf_counter() - wall) / n_connects * 1e3
        comm = await connect(there.contact_address, **options)
        buffer = os.urandom(nbytes)
        cpu = time.process_time()
        for _ in range(n_buffers):
            await comm.write({"x": Serialized({"serializer": "bytes"}, [buffer])})
        await comm.write("count")
        assert await comm.read() == n_buffers + 1
        print(cpu_ms, wall_ms, n_buffers * nbytes / 2**20 / (time.process_time() - cpu))
        comm.abort()
asyncio.run(main())
"""


def of_the_peer(python: str) -> tuple[float, float, float]:
    """The numbers of :func:`measure` for ``tls://``, by what is installed for another Python; with our certificate."""
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / "cert.pem", Path(place) / "key.pem"]
        for path, content in zip(paths, self_signed(), strict=True):
            path.write_text(content)
        numbers = map(str, (N_CONNECTS, N_BUFFERS, len(BUFFER)))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, "-c", PEER, *map(str, paths), *numbers]
        said = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, check=True).stdout.split()
    cpu_ms, wall_ms, rate = map(float, said)
    return cpu_ms, wall_ms, rate


async def main(peer: str | None) -> None:
    print("| connection | connect, CPU ms | wall ms | bulk, MiB a CPU second |\n|---|---|---|---|")
    for name, address, encryption, security in CASES:
        with dask.config.set({"distributed.comm.encryption": encryption}):
            cpu_ms, wall_ms, rate = await measure(address, security)
        print(f"| {name} | {cpu_ms:.2f} | {wall_ms:.2f} | {rate:.0f} |", flush=True)
    if peer is not None:
        cpu_ms, wall_ms, rate = await asyncio.to_thread(of_the_peer, peer)
        print(f"| dask.distributed, tls:// | {cpu_ms:.2f} | {wall_ms:.2f} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python in whose environment dask.distributed is installed")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        runner.run(main(given.peer))
