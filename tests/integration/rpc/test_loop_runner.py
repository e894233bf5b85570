from __future__ import annotations

import _thread
import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import time

import pytest
from tornado.ioloop import IOLoop

from distributed.rpc import loop_runner
from distributed.rpc.loop_runner import LoopRunner, SyncMethodMixin, sync
from distributed.testing.waiting import poll_for


async def answer(x=1):
    await asyncio.sleep(0)
    return x


async def fails():
    raise KeyError("no")


@pytest.fixture
def runner():
    threads = set(threading.enumerate())
    r = LoopRunner()
    r.start()
    yield r
    r.stop()
    assert set(threading.enumerate()) <= threads


def test_own_loop(runner):
    assert runner.is_started()
    runner.start()
    assert isinstance(runner.loop, IOLoop)
    assert "uvloop" in type(runner.loop.asyncio_loop).__module__
    assert runner.run_sync(answer, 5) == 5
    assert runner.run_sync(lambda: 7) == 7
    with pytest.raises(KeyError, match="no"):
        runner.run_sync(fails)
    assert runner.run_sync(_current) is runner.loop


async def _current():
    return IOLoop.current()


def test_stop_closes_what_it_made():
    r = LoopRunner()
    loop = r.loop
    r.start()
    r.stop()
    r.stop()
    assert not r.is_started()
    assert loop.asyncio_loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        sync(loop, answer)


def test_run_sync_without_start():
    threads = set(threading.enumerate())
    r = LoopRunner()
    assert r.run_sync(answer) == 1
    assert not r.is_started()
    assert set(threading.enumerate()) <= threads


def test_a_loop_that_is_given_and_runs_already():
    loop = IOLoop(make_current=False)
    thread = threading.Thread(target=loop.start)
    thread.start()
    deadline = time.monotonic() + 30
    while not loop.asyncio_loop.is_running():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    r = LoopRunner(loop=loop)
    r.start()
    assert r.loop is loop
    assert r.run_sync(answer) == 1
    r.stop()
    assert loop.asyncio_loop.is_running()
    loop.add_callback(loop.stop)
    thread.join(5)
    loop.close()


def test_a_loop_that_is_given_and_does_not_run():
    loop = IOLoop(make_current=False)
    a, b = LoopRunner(loop=loop), LoopRunner(loop=loop)
    a.start()
    b.start()
    assert a.run_sync(answer) == b.run_sync(answer) == 1
    a.stop()
    assert loop.asyncio_loop.is_running() and b.run_sync(answer) == 1
    b.stop()
    assert not loop.asyncio_loop.is_running() and not loop.asyncio_loop.is_closed()
    a.start()
    assert a.run_sync(answer) == 1
    a.stop()
    loop.close()


def test_asyncio_loops_are_taken_too():
    loop = asyncio.new_event_loop()
    r = LoopRunner(loop=loop)
    r.start()
    assert r.run_sync(answer) == 1
    assert r.loop.asyncio_loop is loop
    r.stop()
    loop.close()
    with pytest.raises(TypeError, match="event loop"):
        LoopRunner(loop=5)


def test_asynchronous():
    async def main():
        r = LoopRunner(asynchronous=True)
        r.start()
        assert r.is_started() and r.loop.asyncio_loop is asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="await"):
            r.run_sync(answer)
        r.stop()

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="running event loop"):
        LoopRunner(asynchronous=True)


def test_a_runner_that_was_not_stopped_ends_as_garbage():
    threads = set(threading.enumerate())
    first = LoopRunner()
    first.start()
    second = LoopRunner(loop=first.loop)
    second.start()
    del first
    gc.collect()
    assert second.run_sync(answer) == 1
    del second
    gc.collect()
    poll_for(lambda: set(threading.enumerate()) <= threads)


def test_sync_on_the_loops_own_thread(runner):
    def inner():
        sync(runner.loop, answer)

    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"cannot wait for 'answer' on the thread of the event loop"):
        runner.run_sync(inner)
    assert time.monotonic() - begin < 20


def test_timeouts(runner):
    cancelled = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
        sync(runner.loop, long, callback_timeout="50ms")
    assert cancelled.wait(5)
    assert sync(runner.loop, answer, callback_timeout=5) == 1

    async def own():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        sync(runner.loop, own, callback_timeout=5)


def test_many_threads(runner):
    got = []

    def ask(i):
        got.append(runner.run_sync(answer, i))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got) == list(range(50))


def test_context_variables_come_along(runner):
    variable = contextvars.ContextVar("v", default=0)

    async def read():
        return variable.get()

    variable.set(3)
    assert runner.run_sync(read) == 3


def test_loop_that_stops_meanwhile(monkeypatch):
    monkeypatch.setattr(loop_runner, "_LOOK_S", 0.05)
    r = LoopRunner()
    r.start()
    loop = r.loop

    async def never():
        loop.add_callback(loop.stop)
        await asyncio.shield(asyncio.get_running_loop().create_future())

    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        sync(loop, never)
    r.stop()


def test_keyboard_interrupt_ends_a_wait(runner):
    cancelled = threading.Event()

    async def long():
        threading.Timer(0.1, _thread.interrupt_main).start()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run_sync(long)
    assert time.monotonic() - begin < 10
    assert cancelled.wait(5)


PROGRAM = """
import asyncio, os, signal, threading
from distributed.rpc.loop_runner import LoopRunner
r = LoopRunner(); r.start()
async def long():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    await asyncio.sleep(60)
try:
    r.run_sync(long)
except KeyboardInterrupt:
    print("interrupted")
r.stop()
"""


def test_control_c():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "interrupted" and done.returncode == 0, done.stderr


class Thing(SyncMethodMixin):
    def __init__(self, loop, asynchronous=False):
        self.loop = loop
        self._asynchronous = asynchronous

    async def _get(self, x):
        assert self.asynchronous
        return x

    def get(self, x, **kwargs):
        return self.sync(self._get, x, **kwargs)


def test_sync_methods(runner):
    thing = Thing(runner.loop)
    assert not thing.asynchronous
    assert thing.get(1) == 1

    async def inside():
        assert thing.asynchronous
        return await thing.get(2) + await thing.get(3, callback_timeout=5)

    assert runner.run_sync(inside) == 5

    async def elsewhere():
        assert not thing.asynchronous

    asyncio.run(elsewhere())


def test_many_threads_ask_for_the_io_loop_of_one_loop():
    """Asking at once gives all of them the same one; there can be no two."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        _ask_for_io_loops()
    finally:
        sys.setswitchinterval(interval)


def _ask_for_io_loops():
    for _ in range(50):
        inner = asyncio.new_event_loop()
        start, found = threading.Barrier(8), []

        def ask(inner=inner, start=start, found=found):
            start.wait()
            try:
                found.append(loop_runner.as_io_loop(inner))
            except RuntimeError as e:
                found.append(e)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8 and len(set(map(id, found))) == 1
        found[0].close(all_fds=True)
