"""Hosts that cannot reach one another for a while, in network namespaces: the test is the scheduler's host.

Inside the grace no task runs again and no future is cancelled; beyond it the worker is fenced. Packets are dropped, so
that no connection ends by itself; connections end by silence, or go on when the line is whole again.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from distributed.comm import Secret, secrets
from distributed.scheduler import Scheduler
from distributed.testing import gen_test
from tests.integration.comm.loops import until

from .hosts import Hosts
from .places import client, records
from .small_cluster import Journal
from .tasks import note

pytestmark = pytest.mark.usefixtures("private_places", "log_afresh")


@contextlib.asynccontextmanager
async def scheduler_at(net: Hosts) -> AsyncIterator[Scheduler]:
    async with Scheduler(port=0, host=net.ip(0), validate=True) as scheduler:
        yield scheduler
        scheduler.validate_state()


def slow_note(path: str, word: str, seconds: float) -> str:
    note(path, word)
    time.sleep(seconds)
    return word


def blob(path: str, nbytes: int) -> bytes:
    note(path, "blob")
    return bytes(nbytes)


@contextlib.asynccontextmanager
async def two_workers_at(net: Hosts) -> AsyncIterator[tuple[Scheduler, Any]]:
    """Workers a and b on hosts 1 and 2: the scheduler, and a client."""
    async with scheduler_at(net) as s, net.member(1, "worker", s.address, name="a"):
        async with net.member(2, "worker", s.address, name="b"), client(s.address) as c:
            yield s, c


def actions(scheduler: Any) -> list[str]:
    return [event["action"] for _, event in scheduler.get_events("all") if isinstance(event, dict)]


@gen_test(timeout=110)
async def test_worker_and_scheduler_inside_the_grace(tmp_path: Path) -> None:
    """Dropped both ways, one way, the other way, and a cable that is pulled: each task runs once, its result comes."""
    journal = Journal(tmp_path / "runs")
    faults = {
        "both": (lambda net: net.cut(0, 1), 1.5),
        "down": (lambda net: net.cut_one_way(0, 1), 1.5),
        "up": (lambda net: net.cut_one_way(1, 0), 1.5),
        "unplugged": (lambda net: net.unplug(1), 1.5),
        "long": (lambda net: net.cut(0, 1), 9.0),
    }
    with Hosts(1) as net:
        async with scheduler_at(net) as s, net.member(1, "nanny", s.address, name="far"), client(s.address) as c:
            for name, (fault, seconds) in faults.items():
                future = c.submit(slow_note, journal.path, name, 0.5, workers="far", pure=False)
                await until(lambda name=name: name in journal.lines(), 20)
                fault(net)
                await asyncio.sleep(seconds)  # the fault itself
                assert name == "down" or not future.done(), name
                net.heal()
                net.plug(1)
                assert await asyncio.wait_for(future.result(), 25) == name
            assert journal.lines() == [*faults]
            assert "remove-worker" not in actions(s) and "worker-suspect" in actions(s), "of the long one"
            assert len(s.workers) == 1


@gen_test(
    config={
        "distributed.scheduler.worker-grace": "3s",
        "distributed.scheduler.suspect-after": "1s",
        "distributed.scheduler.lost-after": "1s",
    },
    timeout=110,
)
async def test_worker_and_scheduler_beyond_the_grace(tmp_path: Path, caplog: Any) -> None:
    """Its task runs elsewhere. When the line is whole again the first run does not count, and a new process begins."""
    journal = Journal(tmp_path / "runs")
    with Hosts(2) as net:
        async with scheduler_at(net) as s, net.member(1, "nanny", s.address, name="far"):
            async with net.member(2, "nanny", s.address, name="near"), client(s.address) as c:
                await until(lambda: len(s.workers) == 2, 30)
                old = s.state.workers[s.state.aliases["far"]]
                future = c.submit(slow_note, journal.path, "x", 6.0, workers="far", allow_other_workers=True)
                await until(lambda: journal.lines() == ["x"], 20)
                begin = time.monotonic()
                net.cut(0, 1)
                await until(lambda: journal.lines() == ["x", "x"], 20)
                assert 2.5 < time.monotonic() - begin, "not before the grace is over"
                net.heal()
                assert await asyncio.wait_for(future.result(), 30) == "x"
                await until(lambda: "far" in s.state.aliases, 40)
                assert s.state.workers[s.state.aliases["far"]].pid != old.pid
                assert journal.count("x") == 2
    assert any("no sign of life" in line for line in records(caplog, "distributed.scheduler"))


@pytest.mark.parametrize("how", ["blackhole", "unreachable"])
def test_two_workers(how: str, tmp_path: Path) -> None:
    """Both see the scheduler, but not one another: what one needs of the other comes through it, nothing runs again."""

    @gen_test(timeout=110)
    async def test() -> None:
        journal = Journal(tmp_path / "runs")
        with Hosts(2) as net:
            async with two_workers_at(net) as (s, c):
                x = c.submit(blob, journal.path, 1_000_000, workers="a")
                await x
                net.cut(1, 2, how)
                y = c.submit(len, x, workers="b", pure=False)
                assert await asyncio.wait_for(y.result(), 60) == 1_000_000
                net.heal()
                z = c.submit(len, x, workers="a", pure=False)
                assert await asyncio.wait_for(z.result(), 30) == 1_000_000
                assert len(s.workers) == 2 and journal.lines() == ["blob"]
                ((_, bad),) = s.get_events("bad-link")
                assert bad["to"] == s.state.aliases["a"] and bad["reason"]

    test()


@pytest.mark.parametrize("how", ["blackhole", "unreachable"])
def test_two_workers_whose_connection_stood(how: str, tmp_path: Path) -> None:
    """Long before the kernel gives a connection up it is found that there is no way: values come by the scheduler's."""

    @gen_test(timeout=110)
    async def test() -> None:
        journal = Journal(tmp_path / "runs")
        with Hosts(2) as net:
            async with two_workers_at(net) as (s, c):
                x, y = (c.submit(blob, journal.path, n, workers="a", pure=False) for n in (1_000_000, 2_000_000))
                assert await c.submit(len, x, workers="b", pure=False) == 1_000_000
                await y
                net.cut(1, 2, how)
                begin = time.monotonic()
                assert await asyncio.wait_for(c.submit(len, y, workers="b", pure=False).result(), 60) == 2_000_000
                took = time.monotonic() - begin
                ((_, bad),) = s.get_events("bad-link")
                assert bad["to"] == s.state.aliases["a"] and bad["reason"]
                assert took < 30, "the kernel takes some 30 s, and a connection that cannot be made 5 s more"
                assert journal.count("blob") == 2

    test()


@gen_test(timeout=110)
async def test_a_line_that_loses_packets(tmp_path: Path) -> None:
    """One of twenty is lost, either way: slower, and nothing else. Nobody is taken for dead, nothing runs again."""
    journal = Journal(tmp_path / "runs")
    with Hosts(1) as net:
        async with net.lossy(1, 0.05) as counts, scheduler_at(net) as s:
            async with net.member(1, "worker", s.address, name="far"), client(s.address) as c:
                futures = [c.submit(slow_note, journal.path, f"n{i}", 0.0, pure=False) for i in range(100)]
                assert await asyncio.wait_for(c.gather(futures), 60) == [f"n{i}" for i in range(100)]
                value = c.submit(blob, journal.path, 1_000_000, pure=False)
                assert await asyncio.wait_for(value.result(), 60) == bytes(1_000_000)
                assert journal.lines() == [*[f"n{i}" for i in range(100)], "blob"]
                assert "remove-worker" not in actions(s) and len(s.workers) == 1
        n_lost, n_carried = counts
        assert n_lost > 10 and 0.01 < n_lost / n_carried < 0.2


CLIENT = """
import asyncio, sys, time
from distributed import Client
def slow(i):
    time.sleep(0.2)
    return i
async def main():
    async with Client(sys.argv[1], asynchronous=True) as client:
        futures = client.map(slow, range(20), pure=False)
        await futures[0]
        print("begun", flush=True)
        print(sum(await client.gather(futures)), flush=True)
        print(await client.submit(slow, 7).result(), client.session.link.counts["resumed"], flush=True)
asyncio.run(main())
"""


@gen_test(timeout=110)
async def test_client_and_scheduler(tmp_path: Path) -> None:
    """The work goes on without it; its futures stay pending, and end when the line is whole again."""
    with Hosts(2) as net:
        async with scheduler_at(net) as s, net.member(1, "worker", s.address, name="a"):
            async with net.program(2, "-c", CLIENT, s.address) as program:
                assert program.stdout is not None
                assert (await asyncio.wait_for(program.stdout.readline(), 40)).strip() == b"begun"
                net.cut(0, 2)
                await until(lambda: len(s.tasks) == 20 and all(ts.state == "memory" for ts in s.tasks.values()), 30)
                net.heal()
                assert (await asyncio.wait_for(program.stdout.readline(), 30)).strip() == b"190"
                assert (await asyncio.wait_for(program.stdout.readline(), 30)).split()[0] == b"7"


@gen_test(timeout=110)
async def test_the_scheduler_moves_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up at each attempt: when it leads elsewhere, the worker goes there, and on with its session."""
    monkeypatch.setenv(secrets.ENV_TOKEN, Secret.new().reveal())  # it is not known by the name of the host
    with Hosts(1) as net:
        names = net.names(1, {"head": net.ip(0)})
        subprocess.run(f"ip addr add {net.net}.0.3/24 dev {net.name}".split(), check=True)
        async with Scheduler(port=0, host="0.0.0.0", validate=True) as s:
            port = s.address.rpartition(":")[2]
            async with net.member(1, "worker", f"tcp://head:{port}", name="far"), client(s.address) as c:
                assert await asyncio.wait_for(c.submit(abs, -1).result(), 20) == 1
                ((_, ws),) = s.state.workers.items()
                names.write_text(f"{net.net}.0.3 head\n")
                net.cut(0, 1)  # from and to the old address only
                future = c.submit(abs, -2)
                assert await asyncio.wait_for(future.result(), 40) == 2
                assert [*s.state.workers.values()] == [ws], "it is the same one"
                assert s.shell.streams.counts()["sessions_resumed"] == 1
