"""Names that one client alone uses are worked on there, and are right for everybody else all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from distributed import Client, Event, LocalCluster, Lock, MultiLock, Queue, Semaphore, Variable, get_client
from distributed.coordination.link import link_of
from distributed.testing import poll_for
from distributed.testing.environment import config_for_cluster_tests
from tests.integration.facts import until

BOUND_S = 60.0

KEEPER = """
import itertools, sys
from distributed import Client, Event, Lock, Queue, Variable, get_client
from distributed.coordination.link import link_of

client = Client(sys.argv[1])
lock, event, variable, queue = Lock("kept"), Event("kept"), Variable("kept"), Queue("kept")
places = link_of(client).homes.by_place


def use(i):
    assert lock.acquire() and lock.locked() and lock.release()
    event.set()
    assert event.wait() and event.is_set()
    variable.set(i)
    assert variable.get() == i
    queue.put(i)
    queue.put(-i)
    assert queue.qsize() == 2 and queue.get() == i and queue.get(batch=True) == [-i]


def keep(n):
    for i in itertools.count():
        use(i)
        if i >= n and len(places) == 4:
            return i


last = keep(20)
"""

WRITER = (
    KEEPER
    + """
for i in range(1000):
    variable.set(i)
event.clear()
for i in range(10):
    queue.put(i)
assert [queue.get() for _ in range(5)] == list(range(5))
queue.put("end")
with lock:
    pass
"""
)

STUBBORN = (
    KEEPER
    + """
print(last, flush=True)
while True:
    use(7)
"""
)


@contextlib.contextmanager
def a_cluster(**config):
    with (
        config_for_cluster_tests(**config),
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, processes=True) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def places():
    with a_cluster() as both:
        yield both


def start(code, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", code, *args], text=True, **kwargs)


def ask(client, function, *args):
    """In a task: by the client of its worker."""
    return client.submit(function, *args, pure=False).result(timeout=BOUND_S)


def look():
    queue = Queue("kept")
    return Variable("kept").get(timeout=BOUND_S), Event("kept").is_set(), queue.get(batch=True), Lock("kept").locked()


def test_what_was_done_at_a_client_that_has_gone_is_there(places):
    cluster, client = places
    with start(WRITER, cluster.scheduler_address) as program:
        assert program.wait(BOUND_S) == 0
    assert ask(client, look) == (999, False, [*range(5, 10), "end"], False)
    tables = cluster.scheduler.extensions["coordination"].tables
    poll_for(lambda: not tables.kept.by_place and not len(tables.leases), BOUND_S)


LIMITED = """
import sys
from distributed import Client, Queue
from distributed.coordination.link import link_of

client = Client(sys.argv[1])
queue, homes = Queue("few", maxsize=3), link_of(client).homes
while not homes.by_place:
    queue.put(0)
    assert queue.get() == 0
n_done = homes.n_done
for i in range(3):
    queue.put(i)
assert homes.n_done > n_done, "nothing was done here"
try:
    queue.put(3, timeout=0.05)
except TimeoutError as error:
    assert "was full" in str(error)
else:
    raise AssertionError("four fit into three")
assert queue.qsize() == 3 and Queue("few").get(batch=True) == [0, 1, 2]
while not homes.by_place:
    queue.put(0)
    queue.get()
for i in range(3):
    queue.put(i)
print("full", flush=True)
sys.stdin.readline()
queue.put("behind")  # waits until somebody has taken one out
"""


def test_the_limit_of_a_queue_holds_where_it_is_kept(places):
    cluster, _ = places
    with start(LIMITED, cluster.scheduler_address, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == "full\n"
        queue = Queue("few")
        assert queue.qsize() == 3
        with pytest.raises(TimeoutError, match="was full"):
            queue.put("too much", timeout=0.05)
        program.stdin.write("\n")
        program.stdin.flush()
        tables = cluster.scheduler.extensions["coordination"].tables
        poll_for(lambda: len(tables.waiters), BOUND_S)
        assert [queue.get(timeout=BOUND_S) for _ in range(4)] == [0, 1, 2, "behind"]
        assert program.wait(BOUND_S) == 0
    queue.close()


def use_alone():
    """Until the worker's client keeps the names; returns with the lock held."""
    lock, variable, queue = Lock("mine"), Variable("mine"), Queue("mine")
    homes = link_of(get_client()).homes
    while len(homes.by_place) < 3:
        with lock:
            variable.set("theirs")
            queue.put(variable.get())
            queue.get()
    queue.put("an item")
    assert lock.acquire()
    Event("in hand").set()
    Event("go on").wait()
    variable.set("changed")
    lock.release()


def test_a_lock_that_is_held_where_it_is_kept_is_waited_for(places):
    _, client = places
    task = client.submit(use_alone, pure=False)
    assert Event("in hand").wait(BOUND_S)
    assert Lock("mine").locked()
    assert not Lock("mine").acquire(timeout=0.1)
    assert not Lock("mine").acquire(blocking=False)
    assert Variable("mine").get(timeout=BOUND_S) == "theirs"
    assert Queue("mine").get(timeout=BOUND_S) == "an item"
    Event("go on").set()
    with Lock("mine"):
        assert Variable("mine").get() == "changed"
    task.result(timeout=BOUND_S)


def hold_what_is_kept():
    """Until the worker's client keeps both; returns with one lease of three, and both locks, in hand."""
    semaphore, several = Semaphore(3, "kept three"), MultiLock(["m", "n"])
    homes = link_of(get_client()).homes
    while len(homes.by_place) < 2 or not several.locked():
        if several.locked():
            semaphore.release()
            several.release()
        assert semaphore.acquire() and several.acquire()
    n_done = homes.n_done
    for _ in range(50):
        with Semaphore(3, "kept three"):
            assert Semaphore(3, "kept three").get_value() == 2
        several.release()
        assert several.acquire()
    if homes.n_done - n_done < 100:
        return f"hardly anything was done here: {homes.n_done - n_done}"
    Event("in hand 2").set()
    Event("go on 2").wait()
    semaphore.release()
    several.release()
    return "ok"


def test_leases_and_locks_of_several_are_right_for_everybody_else(places):
    cluster, client = places
    tables = cluster.scheduler.extensions["coordination"].tables
    task = client.submit(hold_what_is_kept, pure=False)
    until(lambda: Event("in hand 2").is_set() or task.done())
    semaphore = Semaphore(3, "kept three")
    until(lambda: tables.semaphores.metrics()["kept three"]["active_leases"] == 1)
    assert semaphore.get_value() == 1
    assert semaphore.acquire(timeout=0) and semaphore.acquire(timeout=0) and not semaphore.acquire(timeout=0)
    free = MultiLock(["o"])
    assert free.acquire(blocking=False)
    free.release()
    several = MultiLock(["n", "o"])
    assert not several.acquire(blocking=False)
    figures = tables.semaphores.metrics()["kept three"]
    assert figures["acquire_total"] - figures["release_total"] == 3
    Event("go on 2").set()
    assert task.result(timeout=BOUND_S) == "ok"
    assert MultiLock(["m", "n"]).acquire(timeout=BOUND_S)
    assert semaphore.get_value() == 2
    semaphore.close()
    Event("go on 2").clear()


def test_tasks_of_one_worker_share_what_its_client_keeps(places):
    """Threads of one client, all through the same names, and now and then another client."""
    _, client = places

    def count(n):
        lock, variable = Lock("count"), Variable("count")
        for _ in range(n):
            with lock:
                variable.set(variable.get() + 1)

    Variable("count").set(0)
    futures = client.map(count, [300] * 4, pure=False)
    for _ in range(50):
        with Lock("count"):
            Variable("count").set(Variable("count").get() + 1)
    client.gather(futures)
    assert Variable("count").get() == 4 * 300 + 50


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_keeper_that_does_not_answer(how):
    """What has left it by then is there; a lock, which it may hold, is free when its session or its lease is over."""
    config = {
        "distributed.scheduler.client-grace": "1s",
        "distributed.scheduler.locks.lease-timeout": "3s",
        "distributed.scheduler.locks.lease-validation-interval": "500ms",
    }
    with (
        a_cluster(**config) as (cluster, _),
        start(STUBBORN, cluster.scheduler_address, stdout=subprocess.PIPE) as program,
    ):
        try:
            last = int(program.stdout.readline())
            os.kill(program.pid, how)
            said = {*range(last + 1), 7}
            assert Variable("kept").get(timeout=BOUND_S) in said
            Event("kept").set()
            assert Event("kept").wait(timeout=BOUND_S)
            assert all(abs(item) in said for item in Queue("kept").get(batch=True))
            Queue("kept").put("new")
            assert Queue("kept").get(timeout=BOUND_S) == "new"
            assert Lock("kept").acquire(timeout=BOUND_S)
        finally:
            program.kill()


def test_coroutines_let_others_have_the_loop(places):
    """A loop of operations that never wait must not shut out the rest, nor the client that wants the name."""
    cluster, client = places
    program = """
import asyncio, sys
from distributed import Client, Event, Lock, Variable

async def main():
    async with Client(sys.argv[1], asynchronous=True) as client:
        lock, done = Lock("loop"), asyncio.Event()

        async def hog():
            n = 0
            while not done.is_set():
                async with lock:
                    n += 1
            return n

        hogging = asyncio.create_task(hog())
        await Event("hogging").set()
        await Event("enough").wait()
        done.set()
        assert await hogging > 10

asyncio.run(main())
"""
    with start(program, cluster.scheduler_address) as running:
        assert Event("hogging").wait(BOUND_S)
        for _ in range(20):
            assert ask(client, _take_turn)
        Event("enough").set()
        assert running.wait(BOUND_S) == 0


def _take_turn():
    with Lock("loop"):
        return True


def test_threads_of_one_client_and_one_queue(places):
    """Each item comes out once, though the queue goes to and fro between the client and the scheduler."""
    _, client = places

    def work(n):
        queue, results = Queue("threads"), []

        def move():
            for i in range(n):
                queue.put(i)
                results.append(queue.get())

        threads = [threading.Thread(target=move) for _ in range(3)]
        move()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    assert ask(client, work, 200) == sorted([*range(200)] * 4)
    assert Queue("threads").qsize() == 0
