"""A worker's link breaks: inside the grace nothing runs twice and nothing is lost; beyond it the worker is fenced."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from distributed.testing import gen_test, inc
from distributed.testing.fault_proxy import FaultProxy, Faults, Script
from distributed.worker.member_link import NOBODY_THERE_S
from tests.integration.comm.loops import until

from .places import client, process, records, scheduler_here
from .small_cluster import Journal
from .tasks import note

pytestmark = pytest.mark.usefixtures("private_places", "log_afresh")


def slow_note(path: str, word: str, seconds: float = 0.05) -> str:
    note(path, word)
    time.sleep(seconds)
    return word


def resumed(scheduler: Any) -> int:
    return int(scheduler.shell.streams.counts()["sessions_resumed"])


@gen_test(timeout=60)
async def test_nothing_runs_twice(tmp_path: Path) -> None:
    """Worker and nanny lose their connections while tasks run: both are back at once, each task has run once."""
    journal = Journal(tmp_path / "runs")
    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        async with process("nanny", proxy.address, name="far"), process("nanny", s.address, name="near"):
            async with client(s.address) as c:
                await until(lambda: len(s.workers) == 2, 20)
                futures = [c.submit(slow_note, journal.path, f"n{i}", pure=False) for i in range(20)]
                await until(lambda: len(journal.lines()) >= 4)
                proxy.reset()
                assert await asyncio.wait_for(c.gather(futures), 40) == [f"n{i}" for i in range(20)]
                assert sorted(journal.lines()) == sorted(f"n{i}" for i in range(20))
                assert resumed(s) == 1 and len(s.workers) == 2 and not s.state.away
                assert proxy.n_connections == 4, "of the nanny, of its worker, and of both again"
                said = [event["action"] for _, event in s.get_events("all") if isinstance(event, dict)]
                assert "worker-away" in said and "worker-back" in said and "remove-worker" not in said


@gen_test(timeout=120)
async def test_thirty_cuts(tmp_path: Path) -> None:
    """At random points of a stream of tasks, some of which need others: every task runs once, every result is right."""
    journal = Journal(tmp_path / "runs")
    chance = random.Random(4)
    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        async with process("worker", proxy.address, nthreads=2), client(s.address) as c:
            futures = []
            for cut in range(30):
                for i in range(4):
                    futures.append(c.submit(slow_note, journal.path, f"n{cut}-{i}", 0.0, pure=False))
                total = c.submit(len, futures[-4:], pure=False)
                await asyncio.sleep(chance.choice([0.0, 0.001, 0.01, 0.05]))
                proxy.reset()
                assert await asyncio.wait_for(total.result(), 20) == 4
            names = [f"n{cut}-{i}" for cut in range(30) for i in range(4)]
            assert await asyncio.wait_for(c.gather(futures), 20) == names
            assert sorted(journal.lines()) == sorted(names)
            assert resumed(s) >= 10 and len(s.workers) == 1


@gen_test(timeout=60)
async def test_results_wait_while_the_scheduler_cannot_be_reached(tmp_path: Path) -> None:
    """No new tasks go to a worker that is away; what it has goes on, and is told when it is back."""
    journal = Journal(tmp_path / "runs")
    async with scheduler_here() as s, FaultProxy(s.address) as proxy, process("worker", proxy.address, name="far"):
        async with client(s.address) as c:
            first = c.submit(slow_note, journal.path, "first", 0.5, workers="far")
            await until(lambda: journal.lines() == ["first"])
            proxy.refuse()
            proxy.reset()
            await until(lambda: s.state.away)
            assert "is away: disconnected" in str(await c.why(first))
            second = c.submit(slow_note, journal.path, "second", 0.0, workers="far")
            await asyncio.sleep(1.0)  # the first one ends meanwhile, and nobody hears of it
            assert not first.done() and journal.lines() == ["first"]
            proxy.accept()
            assert await asyncio.wait_for(c.gather([first, second]), 20) == ["first", "second"]
            assert journal.lines() == ["first", "second"]


@gen_test(config={"distributed.scheduler.worker-grace": "1s"}, timeout=90)
async def test_beyond_the_grace_it_is_fenced(tmp_path: Path, caplog: Any) -> None:
    """Its task runs elsewhere; when it comes back what it has done does not count, and a new process begins."""
    caplog.set_level(logging.INFO, "distributed")
    journal = Journal(tmp_path / "runs")
    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        async with process("nanny", proxy.address, name="far"), client(s.address) as c:
            await until(lambda: len(s.workers) == 1, 20)
            ((_, old),) = s.state.workers.items()
            future = c.submit(slow_note, journal.path, "x", 3.0, workers="far", allow_other_workers=True)
            await until(lambda: journal.lines() == ["x"])
            proxy.stall()
            proxy.reset()
            await until(lambda: s.state.away)
            async with process("worker", s.address, name="near"):
                await until(lambda: len(journal.lines()) == 2, 20)
                proxy.resume()
                assert await asyncio.wait_for(future.result(), 20) == "x"
                await until(lambda: "far" in s.state.aliases, 30)
                new = s.state.workers[s.state.aliases["far"]]
                assert new.pid != old.pid
                assert await asyncio.wait_for(c.submit(inc, 1, workers="far").result(), 20) == 2
    assert any("it has not come back within" in line for line in records(caplog, "distributed.scheduler"))


@pytest.mark.parametrize("kind", ["worker", "nanny"])
def test_a_death_is_no_broken_link(kind: str, tmp_path: Path) -> None:
    """A killed process is known as such at once, through its nanny or by its pid, and nobody waits for the grace."""

    @gen_test(timeout=60)
    async def test() -> None:
        journal = Journal(tmp_path / "runs")
        async with scheduler_here() as s, FaultProxy(s.address) as proxy:
            async with process(kind, proxy.address, name="far"), client(s.address) as c:
                await until(lambda: len(s.workers) == 1, 20)
                ((address, ws),) = s.state.workers.items()
                future = c.submit(slow_note, journal.path, "x", 1.0, workers="far", allow_other_workers=True)
                await until(lambda: journal.lines() == ["x"])
                begin = time.monotonic()
                os.kill(ws.pid, signal.SIGKILL)
                await until(lambda: address not in s.state.workers, 10)
                assert time.monotonic() - begin < 8
                async with process("worker", s.address, name="near"):
                    assert await asyncio.wait_for(future.result(), 30) == "x"

    test()


@gen_test(timeout=90)
async def test_a_firewall_that_rejects_is_no_death(tmp_path: Path) -> None:
    """The connection is reset, and new ones are refused both ways for longer than a scheduler is looked for where
    nobody listens. Inside the grace nothing runs again, and questions to the worker wait for it."""
    journal = Journal(tmp_path / "runs")
    async with scheduler_here() as s, FaultProxy(s.address) as up, FaultProxy("tcp://127.0.0.1:1") as down:
        far = process("worker", up.address, name="far", contact_address=down.address)
        async with far, client(s.address) as c:
            await until(lambda: len(s.workers) == 1, 20)
            ((address, ws),) = s.state.workers.items()
            assert address == down.address
            future = c.submit(slow_note, journal.path, "x", 1.0)
            await until(lambda: journal.lines() == ["x"])
            for proxy in (up, down):
                proxy.refuse()
                proxy.reset()
            await until(lambda: s.state.away)
            asked = asyncio.ensure_future(c.run(os.getpid))
            await asyncio.sleep(NOBODY_THERE_S + 2.0)  # the fault itself
            assert [*s.state.workers.values()] == [ws] and not future.done() and not asked.done()
            up.accept()
            down.accept()
            assert await asyncio.wait_for(future.result(), 20) == "x"
            assert await asyncio.wait_for(asked, 20) == {address: ws.pid}
            assert journal.lines() == ["x"] and resumed(s) == 1


@gen_test(timeout=60)
async def test_a_link_on_which_nothing_comes_is_replaced(tmp_path: Path) -> None:
    """It is half-open: the worker hears nothing, though it asks, and connects anew; what was stuck is said again."""
    journal = Journal(tmp_path / "runs")
    script = Script(up=Faults(stall_at=6000), down=Faults(), connections=(0,))
    async with scheduler_here() as s, FaultProxy(s.address, script) as proxy:
        async with process("worker", proxy.address), client(s.address) as c:
            futures = [c.submit(slow_note, journal.path, f"n{i}", pure=False) for i in range(100)]
            assert await asyncio.wait_for(c.gather(futures), 40) == [f"n{i}" for i in range(100)]
            assert proxy.n_connections == 2 and resumed(s) == 1
            assert len(journal.lines()) == 100


@gen_test(timeout=60)
async def test_the_scheduler_ends_in_order() -> None:
    """It says so: its workers end too, at once, and do not look for it."""
    async with scheduler_here() as s:
        at_worker = process("worker", s.address)
        async with at_worker as (_, worker):
            begin = time.monotonic()
            await s.close()
            await until(lambda: not worker.is_alive(), 20)
            assert time.monotonic() - begin < 15
