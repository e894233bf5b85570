"""What a connection costs until it may be used, and what goes over it: in clear, in TLS between machines, in ``tls://``.

``python -m benchmarks.core_security``: both ends in one process; CPU time is that of both.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import dask

from distributed.comm import connect, listen
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


async def main() -> None:
    print("| connection | connect, CPU ms | wall ms | bulk, MiB a CPU second |\n|---|---|---|---|")
    for name, address, encryption, security in CASES:
        with dask.config.set({"distributed.comm.encryption": encryption}):
            cpu_ms, wall_ms, rate = await measure(address, security)
        print(f"| {name} | {cpu_ms:.2f} | {wall_ms:.2f} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        runner.run(main())
