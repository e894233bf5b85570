"""A client's session outlives its connection: clients that are killed, stopped, cut off, and schedulers that are."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dask
import pytest

from distributed import Client, Future, FutureCancelledError, Lock, Queue, get_client
from distributed.base.errors import CommClosedError
from distributed.client import admin, scheduler_link
from distributed.comm import secrets, sockets
from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.scheduler import Scheduler
from distributed.testing import gen_test, inc, open_port
from distributed.testing.fault_proxy import FaultProxy
from distributed.worker import actor_calls
from tests.integration.comm.loops import until
from tests.integration.faults.client_programs import noise

from .places import client, process, records, scheduler_here
from .small_cluster import Journal
from .tasks import note

pytestmark = pytest.mark.usefixtures("private_places", "log_afresh")

ROOT = Path(__file__).parents[3]


class Program:
    """A client in a process of its own, see ``client_programs``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hears(self, word: str) -> str:
        """The rest of the next line, which begins with ``word``."""
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode().strip()
        assert line.startswith(word), line
        return line.removeprefix(word).strip()

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def kill(self, number: int) -> None:
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def program(name: str, *args: str) -> AsyncIterator[Program]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.faults.client_programs", name, *args,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    try:
        yield Program(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGCONT)
            child.kill()
        await child.wait()


def link_of(s: Scheduler, name: str) -> Any:
    """The scheduler's end of a client's session."""
    return s.shell.streams.clients[name]


def mine(s: Scheduler) -> set[str]:
    return {key for key in s.tasks if str(key).startswith("mine")}


def events_of(s: Scheduler, name: str) -> list[str]:
    return [event["action"] for _, event in s.get_events(name)]


# ---------------------------------------------------------------- clients that end


@gen_test(config={"distributed.scheduler.client-grace": "1500ms"}, timeout=60)
async def test_killed_client() -> None:
    """Its keys are released after the grace and not before; those of another client stay."""
    async with scheduler_here() as s, process("worker", s.address), client(s.address) as other:
        shared = other.submit(inc, 100, key="shared")
        own = other.submit(inc, 200, key="own")
        async with program("twenty", s.address) as one:
            name = await one.hears("holds")
            assert len(mine(s)) == 20
            one.kill(signal.SIGKILL)
            await until(lambda: "client-lost" in events_of(s, name))
            begin = time.monotonic()
            assert len(mine(s)) == 20 and name in s.clients
            await until(lambda: name not in s.clients and "remove-client" in events_of(s, name))
            assert time.monotonic() - begin > 1.3
        assert not mine(s)
        assert {"shared", "own"} == set(s.tasks)
        assert await shared.result() == 101 and await own.result() == 201
        assert events_of(s, name) == ["add-client", "client-lost", "remove-client"]


@pytest.mark.parametrize("how", ["ends_without_close", "ends_by_an_error", "ends_with_its_loop"])
def test_a_program_that_ends_says_so(how: str) -> None:
    @gen_test(timeout=60)
    async def test() -> None:
        async with scheduler_here() as s, process("worker", s.address), program(how, s.address) as one:
            name = await one.hears("ends")
            await until(lambda: not mine(s) and "remove-client" in events_of(s, name))
            assert events_of(s, name) == ["add-client", "remove-client"]

    test()


# ---------------------------------------------------------------- clients that stand still


async def all_in_memory(s: Scheduler, n_tasks: int) -> None:
    await until(lambda: sum(ts.state == "memory" for ts in s.tasks.values()) == n_tasks, 30)


@gen_test(config={"distributed.comm.session-buffer": "2MiB"}, timeout=90)
async def test_stopped_client() -> None:
    """Work goes on, what waits for the client is bounded, and all of it arrives when it goes on."""
    n_tasks, nbytes = 1500, 7_000  # 10 MB, each small enough to come with the report
    async with (
        scheduler_here() as s,
        process("worker", s.address),
        program("many_results", s.address, str(n_tasks), str(nbytes)) as one,
    ):
        name = await one.hears("submitted")
        await until(lambda: len(s.tasks) == n_tasks)
        one.kill(signal.SIGSTOP)
        await all_in_memory(s, n_tasks)
        link = link_of(s, name)
        kept = [m for _, messages in link.end._kept for m in messages if type(m) is KeyInMemory]
        assert {m.inline is None for m in kept} == {True, False}, "values at first, then without"
        assert link.end.unacknowledged_bytes < 2 << 20
        assert link.connection.pending_bytes < 2 << 20
        one.kill(signal.SIGCONT)
        one.tell()
        digest, resumed = (await one.hears("digest")).split()
        assert digest == hashlib.sha256(b"".join(noise(i, nbytes) for i in range(n_tasks))).hexdigest()
        assert resumed == "0", "the connection has stood all the time"


@gen_test(config={"distributed.comm.session-buffer": "20kiB"}, timeout=90)
async def test_stopped_client_that_is_too_far_behind() -> None:
    """Thousands of messages do not fit: the scheduler gives the session up, and the client is told why."""
    async with (
        scheduler_here() as s,
        process("worker", s.address),
        program("many_results", s.address, "5000", "1") as one,
    ):
        name = await one.hears("submitted")
        await until(lambda: len(s.tasks) == 5000 or name not in s.clients, 30)
        one.kill(signal.SIGSTOP)
        await until(lambda: name not in s.clients, 60)
        await until(lambda: not s.tasks)
        one.kill(signal.SIGCONT)
        one.tell()
        assert "too far behind" in await one.hears("cancelled")


@gen_test(timeout=60)
async def test_stopped_scheduler(tmp_path: Path) -> None:
    """Nothing is lost, nobody gives up, and what was asked for meanwhile is done."""
    journal = Journal(tmp_path / "runs")
    async with process("scheduler") as (address, child), process("worker", address), client(address) as c:
        before = [c.submit(note, journal.path, f"before-{i}", pure=False) for i in range(20)]
        await c.gather(before[:1])
        os.kill(child.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            during = [c.submit(note, journal.path, f"during-{i}", pure=False) for i in range(20)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(c.gather(during))), 10)
            assert c.status == "running" and {f.status for f in during} == {"pending"}
        finally:
            os.kill(child.pid, signal.SIGCONT)
        assert time.monotonic() - stopped > 9
        assert set(await c.gather(before + during)) == {1}
        assert sorted(journal.lines()) == sorted([f"{when}-{i}" for when in ("before", "during") for i in range(20)])
        assert c.session.link.counts["resumed"] == 0


# ---------------------------------------------------------------- connections that break


@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_cuts(seed: int, tmp_path: Path) -> None:
    """At random points of a stream of submissions and results: nothing is cancelled, lost, or run twice."""

    @gen_test(timeout=90)
    async def test() -> None:
        rng = random.Random(seed)
        journal = Journal(tmp_path / "runs")
        cuts: list[Callable[[], Any]] = []
        async with scheduler_here() as s, process("worker", s.address, nthreads=2), FaultProxy(s.address) as proxy:
            async with client(proxy.address) as c:
                connection = lambda: next((x.connection for x in s.shell.streams.clients.values()), None)
                cuts += [proxy.reset, proxy.close_links]
                cuts.append(lambda: (found := connection()) and found.abort())
                cuts.append(lambda: c.session.connection and c.session.connection.abort())
                futures: list[Any] = []
                while c.session.link.counts["resumed"] < 30:
                    first = len(futures)
                    numbers = range(first, first + rng.choice([1, 5, 40]))
                    futures += [c.submit(note, journal.path, f"n{i}", pure=False) for i in numbers]
                    if rng.random() < 0.5:
                        futures += c.map(noise, range(10), nbytes=rng.choice([1, 5000]), pure=False)
                    for _ in range(rng.randrange(6)):
                        await asyncio.sleep(0)
                    if rng.random() < 0.3:
                        await asyncio.wait([asyncio.ensure_future(futures[-1].result())], timeout=rng.random() / 20)
                    rng.choice(cuts)()
                    if rng.random() < 0.6:
                        await until(lambda: c.status == "running")
                assert await asyncio.wait_for(c.gather(futures), 60)
                assert {f.status for f in futures} == {"finished"}
                lines = journal.lines()
                assert len(lines) == len(set(lines)) == sum(f.key.startswith("note") for f in futures)
                end = c.session.link._stream.end
                theirs = link_of(s, c.id).end
                await until(lambda: theirs.applied == end.sent and end.applied == theirs.sent)
                assert events_of(s, c.id).count("add-client") == 1
                assert s.shell.streams.counts()["sessions_resumed"] >= 30
                assert s.shell.streams.counts()["messages_doubled"] == 0
                del futures
                await until(lambda: not s.tasks)

    test()


@gen_test(timeout=60)
async def test_partition(monkeypatch: Any) -> None:
    """Nothing comes through, and no end is told: work goes on, futures are pending, and all is there on heal."""
    monkeypatch.setattr(admin, "ANSWER_S", 0.3)
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            futures = c.map(slow_inc, range(4))
            await until(lambda: len(s.tasks) == 4)
            proxy.stall()
            late = c.submit(inc, futures[3])
            await all_in_memory(s, 4)
            assert {f.status for f in [*futures, late]} == {"pending"}
            assert "does not answer; it was last heard" in (await c.why(futures[0]))["text"]
            proxy.resume()
            assert await asyncio.wait_for(c.gather([*futures, late]), 20) == [1, 2, 3, 4, 5]
            assert c.session.link.counts == {"resumed": 0, "resent": 0, "duplicates": 0}


@gen_test(timeout=60)
async def test_results_that_come_while_the_client_is_away() -> None:
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            slow = c.submit(slow_inc, 1)
            failing = c.submit(divide_later, 1)
            await until(lambda: len(s.tasks) == 2)
            proxy.refuse()
            proxy.reset()
            await until(lambda: c.status == "connecting")
            later = c.submit(inc, slow)
            await until(lambda: {ts.state for ts in s.tasks.values()} == {"memory", "erred"})
            assert (slow.status, failing.status, later.status) == ("pending",) * 3
            proxy.accept()
            assert await asyncio.wait_for(later.result(), 20) == 3
            assert slow.status == "finished"
            with pytest.raises(ZeroDivisionError):
                await failing


def slow_inc(x: int) -> int:
    time.sleep(0.5)
    return x + 1


def divide_later(x: int) -> float:
    time.sleep(0.5)
    return x / 0


@gen_test(timeout=60)
async def test_being_away_is_told(caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(scheduler_link, "PATIENCE_S", 0.3)
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            done, pending = c.submit(inc, 1), c.submit(inc, 2, resources={"none": 1})
            assert await done.result() == 2
            assert "none" in (await c.why(pending))["text"]
            proxy.refuse()
            proxy.reset()
            await until(lambda: c.status == "connecting")
            assert "disconnected since" in repr(pending) and "disconnected since" in repr(c)
            assert "disconnected" not in repr(done)
            why = await c.why(pending)
            assert why["state"] == "unknown" and "disconnected since" in why["text"] and proxy.address in why["text"]
            said = lambda: [line for line in records(caplog, "distributed.client") if "has been away" in line]
            await until(said)
            await asyncio.sleep(0.5)  # many attempts later
            assert len(said()) == 1
            proxy.accept()
            await until(lambda: c.status == "running")
            assert "disconnected" not in repr(pending)
            assert [line for line in records(caplog, "distributed.client") if "Connected again" in line]


@gen_test(config={"distributed.comm.timeouts.connect": "1s", "distributed.scheduler.client-grace": "500ms"}, timeout=60)
async def test_a_scheduler_that_stays_away() -> None:
    """The client gives up in the end, and its futures say why."""
    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        c = await scheduler_client(proxy.address)
        pending = c.submit(inc, 1)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(FutureCancelledError, match=r"(?s)scheduler-connection-lost.*could not be reached for"):
            await asyncio.wait_for(pending.result(), 20)
        await until(lambda: c.status == "closed")
        await until(lambda: not s.tasks and not [x for x in s.clients if x.startswith("Client")])


async def scheduler_client(address: str) -> Any:
    from distributed import Client

    return await Client(address, asynchronous=True, timeout=15)


@gen_test(config={"distributed.scheduler.client-grace": "200ms"}, timeout=60)
async def test_back_after_the_grace() -> None:
    """The scheduler has let the session go: the client is told, and begins another one."""
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            pending = c.submit(inc, 1, resources={"none": 1})
            topics: list[Any] = []
            await c.subscribe_topic("mine", topics.append)
            await until(lambda: len(s.tasks) == 1)
            proxy.refuse()
            proxy.reset()
            await until(lambda: not s.tasks)
            proxy.accept()
            with pytest.raises(
                FutureCancelledError, match=r"(?s)session with the scheduler is over.*not come back within"
            ):
                await asyncio.wait_for(pending.result(), 20)
            assert await c.submit(inc, 1).result() == 2
            await until(lambda: (s.log_event("mine", "again"), topics)[1])


@gen_test(timeout=60)
async def test_another_scheduler_at_the_same_address(monkeypatch: Any) -> None:
    monkeypatch.setenv(secrets.ENV_TOKEN, "a secret that both know, long enough for all")
    port = open_port("127.0.0.1")
    options = {"port": port, "host": "127.0.0.1", "validate": True}
    async with Scheduler(**options) as first, FaultProxy(first.address) as proxy:
        async with client(proxy.address) as c:
            pending = c.submit(inc, 1)
            await until(lambda: first.tasks)
            proxy.refuse()
            proxy.reset()
            await until(lambda: c.status == "connecting")
            async with Scheduler(port=0, host="127.0.0.1", validate=True) as second, process("worker", second.address):
                proxy.target = second.address
                proxy.accept()
                with pytest.raises(FutureCancelledError, match="does not know it"):
                    await asyncio.wait_for(pending.result(), 20)
                assert await c.submit(inc, 1).result() == 2


@gen_test(timeout=60)
async def test_questions_at_the_break() -> None:
    """One that only looks is asked again; another one fails, and the text says that nobody knows."""
    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        asked = dict.fromkeys(["who_has", "mine"], 0)

        async def answer(op: str) -> str:
            asked[op] += 1
            if asked[op] == 1:
                await asyncio.Event().wait()
            return "done"

        async def who_has(keys: Any = None) -> str:
            return await answer("who_has")

        async def mine() -> str:
            return await answer("mine")

        s.handlers.update(who_has=who_has, mine=mine)
        async with client(proxy.address) as c:
            look = asyncio.ensure_future(c.scheduler.who_has())
            act = asyncio.ensure_future(c.scheduler.mine())
            await until(lambda: asked == {"who_has": 1, "mine": 1})
            proxy.reset()
            with pytest.raises(CommClosedError, match=r"not known whether.*ask again if that does no harm"):
                await asyncio.wait_for(act, 10)
            assert await asyncio.wait_for(look, 10) == "done"
            assert asked == {"who_has": 2, "mine": 1}


@gen_test(timeout=90)
async def test_threads_that_ask_while_the_connection_is_cut() -> None:
    """They send by themselves, past the loop, which takes in the cuts and sends again what was lost."""

    def work(client: Client, worker: int) -> None:
        lock, queue = Lock("turns", client=client), Queue("numbers", client=client)
        for i in range(60):
            with lock:
                queue.put((worker, i))

    async with scheduler_here() as s, FaultProxy(s.address) as proxy:
        clients = [await asyncio.to_thread(Client, proxy.address, set_as_default=False) for _ in range(2)]
        threads = [asyncio.create_task(asyncio.to_thread(work, clients[k % 2], k)) for k in range(4)]
        while not all(thread.done() for thread in threads):
            proxy.reset()
            await asyncio.wait(threads, timeout=0.1)
        await asyncio.gather(*threads)
        found = await asyncio.to_thread(lambda: Queue("numbers", client=clients[0]).get(batch=True))
        assert sorted(found) == [(k, i) for k in range(4) for i in range(60)]
        assert all([pair for pair in found if pair[0] == k] == [(k, i) for i in range(60)] for k in range(4))
        assert sum([client.session.link.counts["resumed"] for client in clients]) > 0
        for one in clients:
            await asyncio.to_thread(one.close)


class Maker:
    async def make(self, x: int) -> Any:
        return [get_client().submit(abs, x, key="made")]


def patience(seconds: float) -> None:
    actor_calls.HANDOVER_S = seconds


@gen_test(timeout=60)
async def test_futures_in_an_actors_answer_live_until_the_caller_has_claimed_them() -> None:
    """Also when the caller is gone before: then they end."""
    async with (
        scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy, client(s.address) as other
    ):  # fmt: skip
        await other.run(patience, 0.001)
        async with client(proxy.address) as c:
            maker = await c.submit(Maker, actor=True)
            await other.publish_dataset(maker=Future(maker.key, c))  # it outlives its caller
            proxy.stall()  # the claim waits on its way
            (future,) = await asyncio.wait_for(maker.make(-5), 20)
            for _ in range(10):  # what the actor's client gives up is told meanwhile
                await other.run(gc.collect)
            assert "made" in s.tasks
            proxy.resume()
            assert await asyncio.wait_for(future.result(), 20) == 5
            await until(lambda: [cs.client_key for cs in s.tasks["made"].who_wants] == [c.id])
            del future
            await until(lambda: "made" not in s.tasks)
            proxy.stall()
            await asyncio.wait_for(maker.make(-5), 20)
            await until(lambda: "made" in s.tasks)
            proxy.resume()
        await until(lambda: "made" not in s.tasks)


@gen_test(config={"distributed.comm.session-buffer": "100kiB"}, timeout=60)
async def test_a_scheduler_that_acknowledges_nothing_is_sent_no_more() -> None:
    """Back-pressure: beyond the limit the client keeps what it has, and goes on when the scheduler does."""
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            assert await c.submit(inc, 1).result() == 2
            proxy.stall("down")
            end = c.session.link._stream.end
            futures = []
            for i in range(50):
                futures.append(c.submit(len, noise(i, 20_000), pure=False))
                await asyncio.sleep(0.001)
            await until(lambda: end.full)
            assert c.session.outgoing and end.unacknowledged_bytes < 50 * 20_000
            proxy.resume()
            assert await asyncio.wait_for(c.gather(futures), 30) == [20_000] * 50


@gen_test(timeout=60)
async def test_a_submission_that_cannot_be_sent(monkeypatch: Any) -> None:
    """Its future fails, something takes its number, and the session goes on, over the next connection, too."""
    monkeypatch.setattr(sockets, "MAX_FIRST_SEGMENT", 30_000)
    async with scheduler_here() as s, process("worker", s.address), FaultProxy(s.address) as proxy:
        async with client(proxy.address) as c:
            future = c.submit(len, list(range(20_000)))
            with pytest.raises(ValueError, match="too large to send at once"):
                await future
            assert await c.submit(inc, 1).result() == 2
            proxy.reset()
            assert await c.submit(inc, 2).result() == 3


def test_settings() -> None:
    assert dask.config.get("distributed.scheduler.client-grace") == "30s"
    assert dask.config.get("distributed.comm.session-buffer") == "64MiB"
