"""Links that are slow, break, or repeat themselves: nothing is lost, nothing is done twice, and it is said."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import pytest

from distributed.scheduler import shell
from distributed.testing import gen_test, inc
from distributed.testing.fault_proxy import FaultProxy, Faults, Script
from distributed.worker import Worker, member_link
from tests.integration.comm.loops import until

from .places import client, process, records, scheduler_here
from .small_cluster import Journal
from .tasks import note

pytestmark = pytest.mark.usefixtures("private_places", "log_afresh")

SLOW = Faults(delay_s=0.1, bytes_per_s=125_000)
SHORT_PATIENCE = {
    "distributed.scheduler.suspect-after": "1s",
    "distributed.scheduler.lost-after": "2s",
    "distributed.scheduler.lost-after-alone": "2s",
}


def noise(i: int, nbytes: int = 8000) -> bytes:
    return random.Random(i).randbytes(nbytes)


@gen_test(config=SHORT_PATIENCE, timeout=60)
async def test_slow_network(caplog: Any) -> None:
    """100 ms and 1 Mbit/s both ways, and more to carry than the patience with silent workers: all of it arrives."""
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, FaultProxy(s.address, Script(SLOW, SLOW)) as proxy:
        async with process("worker", proxy.address), client(proxy.address) as c:
            begin = time.monotonic()
            futures = c.map(noise, range(25), pure=False)  # small enough to come back with the report
            assert await c.gather(futures) == [noise(i) for i in range(25)]
            assert await c.submit(len, noise(1, 50_000)).result() == 50_000
            assert time.monotonic() - begin > 2.0
            assert proxy.n_connections == 2 == proxy.n_open
            assert not [line for line in records(caplog, "distributed.scheduler") if "ilent" in line or "ost" in line]
            assert len(s.workers) == 1


@gen_test(config=SHORT_PATIENCE, timeout=60)
async def test_one_long_message_on_a_slow_network(caplog: Any) -> None:
    """Heartbeats wait behind a value that takes longer than the patience: the bytes that come are signs of life."""
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, FaultProxy(s.address, Script(up=Faults(bytes_per_s=125_000))) as proxy:
        async with process("worker", proxy.address), client(s.address, direct_to_workers=False) as c:
            begin = time.monotonic()
            assert await c.submit(noise, 1, 400_000).result() == noise(1, 400_000)
            assert time.monotonic() - begin > 3.0
            assert not [line for line in records(caplog, "distributed.scheduler") if "ilent" in line or "ost" in line]
            assert len(s.workers) == 1 and proxy.n_connections == 1


@gen_test(timeout=60)
async def test_a_message_that_takes_longer_than_the_patience_with_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The worker's questions wait behind its own value. The scheduler, which sees that bytes come, speaks by itself."""
    monkeypatch.setattr(member_link, "SILENT_S", 0.8)
    monkeypatch.setattr(member_link, "ASK_S", 0.1)
    monkeypatch.setattr(shell, "REASSURE_S", 0.1)
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, FaultProxy(s.address, Script(up=Faults(bytes_per_s=60_000))) as proxy:
        at_worker = Worker(proxy.address, host="127.0.0.1", nthreads=1)
        async with at_worker, client(s.address, direct_to_workers=False) as c:
            begin = time.monotonic()
            assert await c.submit(noise, 1, 400_000).result() == noise(1, 400_000)
            assert time.monotonic() - begin > 5 * member_link.SILENT_S
            assert not [line for line in records(caplog, "distributed.worker") if "does not answer" in line]
            assert proxy.n_connections == 1
            await until(lambda: at_worker.link.latency_s > 0)


@gen_test()
async def test_reset_of_the_clients_link(caplog: Any) -> None:
    """The client says so and is back; what was pending goes on."""
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            assert await c.submit(inc, 1).result() == 2
            pending = c.submit(slow_inc, 1)
            await until(lambda: any(ts.state == "processing" for ts in s.tasks.values()))
            begin = time.monotonic()
            proxy.reset()
            await until(lambda: c.session.link.counts["resumed"] == 1 and proxy.n_open == 1)
            assert time.monotonic() - begin < 5
            assert await asyncio.wait_for(pending.result(), 20) == 2
            assert [line for line in records(caplog, "distributed.client") if "Lost the scheduler at" in line]
            assert [line for line in records(caplog, "distributed.client") if "Connected again" in line]
            assert list(s.clients) and len([k for k in s.clients if k.startswith("Client")]) == 1


def slow_inc(x: int) -> int:
    time.sleep(1)
    return x + 1


@gen_test()
async def test_the_scheduler_is_not_there_for_a_while() -> None:
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            assert await c.submit(inc, 1).result() == 2
            proxy.refuse(0.7)
            proxy.reset()
            await until(lambda: c.status == "connecting")
            await until(lambda: c.status == "running", 10)
            assert await c.submit(inc, 10).result() == 11


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bytes_that_come_twice(direction: str, caplog: Any, tmp_path: Any) -> None:
    """A repeated piece of the stream is not applied: the link ends, and the text says which message was awaited."""

    @gen_test()
    async def test() -> None:
        journal = Journal(tmp_path / "runs")
        async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
            async with client(proxy.address) as c:
                ask = [c.submit(note, journal.path, f"n{i}", pure=False) for i in range(3)]
                await c.gather(ask)
                before = proxy.nbytes(direction)  # type: ignore[arg-type]
                one = c.submit(note, journal.path, "last", pure=False)
                assert await one.result() == 1
                proxy.replay(proxy.nbytes(direction) - before, direction)  # type: ignore[arg-type]
                await until(lambda: proxy.n_connections == 2 and c.status == "running")
                assert await c.submit(inc, 1).result() == 2
                assert journal.count("last") == 1

    caplog.set_level(logging.INFO, "distributed")
    test()
    lines = [line for line in records(caplog, "distributed.comm") if "cannot be used" in line]
    assert len(lines) == 1 and "should come next" in lines[0], lines


@gen_test()
async def test_a_recorded_conversation_opens_nothing(caplog: Any) -> None:
    """Everything that a client has sent, handshake included, sent again on a new connection: refused."""
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            assert await c.submit(inc, 1).result() == 2
            said = next(iter(proxy._links)).up.stream.last(1 << 20)
        await until(lambda: len(s.clients) == 1)
        host, _, port = s.address[6:].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert b"wrong secret" in answer
        writer.close()
        assert len(s.clients) == 1


@gen_test(timeout=60)
async def test_half_open_worker_link() -> None:
    """Nothing comes and nothing ends: the worker is lost after the patience with silence, its task runs elsewhere."""
    import dask.config

    with dask.config.set(SHORT_PATIENCE):
        async with scheduler_here() as s, FaultProxy(s.address) as proxy:
            async with process("worker", proxy.address, name="far"), client(s.address) as c:
                future = c.submit(inc, 1, workers="far", allow_other_workers=True)
                assert await future.result() == 2
                proxy.stall()
                async with process("worker", s.address, name="near"):
                    again = c.submit(inc, future)
                    assert await asyncio.wait_for(again.result(), 20) == 3
                    await until(lambda: len(s.workers) == 1, 20)
                    proxy.resume()
