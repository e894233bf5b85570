"""One changed byte in an authenticated stream, in clear with checksums and within TLS: noticed, counted, and the
session goes on over another connection, each message applied once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from distributed import Client, Scheduler, Worker
from distributed.comm import bad_streams
from distributed.testing import gen_test
from distributed.testing.fault_proxy import FaultProxy, Faults, Script

pytestmark = pytest.mark.usefixtures("private_places")


def noise(i: int) -> bytes:
    return random.Random(i).randbytes(2000)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("kind", ["checksums", "TLS"])
def test_c4_22_one_changed_byte(kind: str, direction: str) -> None:
    config = {"distributed.comm.checksums": True, "distributed.comm.encryption": kind == "TLS"}

    @gen_test(config=config, timeout=60)
    async def test() -> None:
        script = Script(**{direction: Faults(flip_at=(20_000,))}, connections=(0,))
        async with Scheduler(port=0, host="127.0.0.1", validate=True) as s, Worker(s.address, nthreads=1):
            async with FaultProxy(s.address, script) as proxy:
                async with Client(proxy.address, asynchronous=True, timeout=15) as c:
                    before = sum(bad_streams.by_host.values())
                    futures: list[Any] = []
                    for i in range(60):
                        futures.append(c.submit(noted, i, noise(i), pure=False))
                        if i % 10 == 9:
                            await asyncio.wait_for(c.gather(futures[-1]), 20)
                    results = await asyncio.wait_for(c.gather(futures), 20)
                    assert results == [noise(i)[::-1] for i in range(60)]
                    assert proxy.n_connections == 2 and proxy.n_flipped(direction) == 1  # type: ignore[arg-type]
                    assert sum(bad_streams.by_host.values()) - before == 1
                    assert s.shell.streams.counts()["sessions_resumed"] == 1
        assert sorted(RUNS) == list(range(60))

    RUNS.clear()
    test()


RUNS: list[int] = []
"""What ran; the worker is in this process."""


def noted(i: int, data: bytes) -> bytes:
    RUNS.append(i)
    return data[::-1]
