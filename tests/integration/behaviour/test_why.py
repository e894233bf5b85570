"""``client.why(future)``: a sentence that is true in each state in which a task can wait, in a real cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, wait
from distributed.nanny import Nanny
from distributed.testing import gen_cluster, inc
from distributed.worker import secede

GATE = threading.Event()
ONE = [("127.0.0.1", 1)]
QUIET = {"distributed.scheduler.worker-saturation": 1.0}


@pytest.fixture(autouse=True)
def gate() -> Iterator[None]:
    """Tasks that wait at the gate go on at the end of the test, whatever it came to."""
    GATE.clear()
    yield
    GATE.set()


def wait_at_gate(x: int = 0, *needed: Any) -> int:
    assert GATE.wait(60)
    return x


def secede_and_wait(x: int) -> int:
    secede()
    return wait_at_gate(x)


class Tries:
    left = 0


def fail_then_wait(x: int) -> int:
    Tries.left -= 1
    if Tries.left >= 0:
        raise ValueError("not yet")
    return wait_at_gate(x)


async def until_text(client: Client, future: Any, *parts: str) -> dict[str, Any]:
    """The explanation, once it has all these parts."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while True:
        why = await client.why(future)
        if all(part in why["text"] for part in parts):
            return why
        assert loop.time() < deadline, f"{parts} not in {why}"
        await asyncio.sleep(0.01)


@gen_cluster(client=True, nthreads=ONE, config=QUIET)
async def test_waiting_queued_and_executing(c, s, a):
    x = c.submit(wait_at_gate, 1, key="x")
    y = c.submit(inc, x, key="y")
    z = c.submit(inc, y, key="z")
    why = await until_text(c, x, f"assigned to {a.address}", "there: executing since")
    assert why["state"] == "processing"
    assert why["there"]["since_s"] >= 0
    assert (await c.why(y))["text"] == "waits for 1 task(s): 'x' (processing)"
    assert (await c.why(z))["waiting_on"] == [("y", "waiting")]
    first, second = [c.submit(inc, i, key=f"root-{i}") for i in range(2)]
    why = await until_text(c, second, "queued behind 1 task(s)")
    assert (why["state"], why["queued_behind"]) == ("queued", 1)
    assert (await c.why(first))["queued_behind"] == 0
    GATE.set()
    assert await z.result() == 3
    assert (await c.why(z))["text"] == f"finished; held by {a.address}"
    assert (await c.why("never heard of"))["state"] == "forgotten"


@gen_cluster(client=True, nthreads=ONE)
async def test_executing_since(c, s, a):
    x = c.submit(wait_at_gate, key="x")
    await until_text(c, x, "there: executing since")
    # As soon as the scheduler has heard it with a heartbeat, it says so itself.
    why = await until_text(c, x, f"runs on {a.address} since")
    assert why["executing_s"] >= 0
    GATE.set()
    await x


@gen_cluster(client=True)
async def test_no_worker_satisfies(c, s, a, b):
    x = c.submit(inc, 1, resources={"GPU": 2}, key="x")
    y = c.submit(inc, 2, workers=["nowhere"], key="y")
    z = c.submit(inc, 3, workers=[a.address], resources={"GPU": 1}, key="z")
    assert "no worker has the resources {'GPU': 2" in (await until_text(c, x, "no worker"))["text"]
    assert "no worker has an address, name or host among ['nowhere']" in (await c.why(y))["text"]
    text = (await c.why(z))["text"]
    assert a.address in text
    assert "GPU" in text


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_fetching(c, s, a, b):
    held = asyncio.Event()
    get_data = b.data_service.get_data

    async def slow(*args, **kwargs):
        await held.wait()
        return await get_data(*args, **kwargs)

    b.data_service.get_data = slow
    x = c.submit(bytes, 100_000, workers=[b.address], key="x")
    await wait(x)
    y = c.submit(len, x, workers=[a.address], key="y")
    why = await until_text(c, y, f"asked from {b.address}", "s ago")
    assert why["fetching"] == [("x", [b.address])]
    assert why["there"]["state"] == "waiting"
    assert why["there"]["fetching_from"] == b.address
    held.set()
    assert await y.result() == 100_000


@gen_cluster(client=True, nthreads=ONE)
async def test_seceded(c, s, a):
    x = c.submit(secede_and_wait, 1, key="x")
    why = await until_text(c, x, "seceded", "without a slot")
    assert why["state"] == "processing"
    GATE.set()
    assert await x.result() == 1


@gen_cluster(client=True, nthreads=ONE, config=QUIET)
async def test_paused(c, s, a):
    running = c.submit(wait_at_gate, key="running")
    await until_text(c, running, "there: executing since")
    queued_there = c.submit(inc, 1, key="pinned", workers=[a.address])
    await until_text(c, queued_there, f"assigned to {a.address}")
    a.pause()
    await until_text(c, queued_there, "paused and starts no task now", "there: this worker is paused")
    bound = c.submit(inc, 2, key="bound", workers=[a.address])
    await until_text(c, bound, "no worker", "paused")
    free = c.submit(inc, 3, key="free")
    await until_text(c, free, "all workers that qualify are paused", "queued behind 0")
    a.unpause()
    GATE.set()
    assert await c.gather([queued_there, bound, free]) == [2, 3, 4]


@gen_cluster(client=True, nthreads=ONE)
async def test_retried(c, s, a):
    Tries.left = 2
    x = c.submit(fail_then_wait, 1, retries=3, key="x")
    await until_text(c, x, "retried: it has raised 2 time(s), and may raise 1 more")
    GATE.set()
    assert await x.result() == 1


@gen_cluster(client=True, nthreads=ONE)
async def test_erred_and_what_needs_it(c, s, a):
    x = c.submit(int, "no number", key="x")
    y = c.submit(inc, x, key="y")
    with pytest.raises(ValueError, match="no number"):
        await y
    assert "failed: ValueError" in (await c.why(x))["text"]
    assert "failed because 'x' did" in (await c.why(y))["text"]


def die_once(directory: str) -> int:
    first, second = Path(directory, "first"), Path(directory, "second")
    if not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    second.touch()
    while second.exists():
        time.sleep(0.01)
    return 1


@gen_cluster(client=True, nthreads=ONE, Worker=Nanny)
async def test_after_a_worker_has_died(c, s, a):
    with tempfile.TemporaryDirectory() as directory:
        x = c.submit(die_once, directory, key="x")
        await until_text(c, x, "1 worker(s) died running it", "killed by signal 9", "there: executing since")
        while not Path(directory, "second").exists():
            await asyncio.sleep(0.01)
        Path(directory, "second").unlink()
        assert await x.result() == 1


@gen_cluster(client=True, nthreads=ONE)
async def test_without_a_connection(c, s, a):
    x = c.submit(wait_at_gate, key="x")
    await until_text(c, x, "there: executing since")
    s.stop()  # nobody is let in again
    c.session.connection.abort()
    why = await until_text(c, x, "disconnected since", "cannot be reached")
    assert (why["key"], why["there"]) == ("x", None)
    GATE.set()
