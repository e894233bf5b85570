"""Clients and workers in processes of their own, some of which are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from distributed import Client, Event, LocalCluster, Lock, MultiLock, Queue, Semaphore, Variable
from distributed.testing import poll_for
from distributed.testing.environment import config_for_cluster_tests

BOUND_S = 20.0

CLIENT = """
import sys, time
from distributed import Client, Lock, Queue

with Client(sys.argv[1]) as client:
    lock, queue = Lock("turns"), Queue("turns")
    for i in range(int(sys.argv[3])):
        with lock:
            queue.put((sys.argv[2], "in"))
            queue.put((sys.argv[2], "out"))
"""

HOLDER = """
import sys, time
from distributed import Client, Lock, Queue

client = Client(sys.argv[1])
Lock("held").acquire()
print("held", flush=True)
sys.stdin.read()
"""

TELLER = """
import sys
import pytest
from distributed import Client, Event, Lock, Queue, Variable, get_client
from distributed.coordination.link import MAX_TOLD, link_of


def may_go_on():
    return link_of(get_client()).may_go_on()


client = Client(sys.argv[1])
assert may_go_on(), "the only client of a process, far from the scheduler"
assert not client.submit(may_go_on).result(), "a task's end goes another way"
with Client(sys.argv[1], set_as_default=False):
    assert not may_go_on(), "the other one could ask at once"

# What is told stays in order with what is asked.
lock, event, variable, queue = Lock("told"), Event("told"), Variable("told"), Queue("told")
for i in range(50):
    assert lock.acquire() and lock.release() is True
    assert not Lock("told").locked()
    assert event.set() is None and event.is_set()
    assert event.clear() is None and not event.is_set()
    assert variable.set(i) is None and variable.get() == i
n = 3 * MAX_TOLD
for i in range(n):
    assert queue.put(i) is None
assert queue.qsize() == n
assert queue.get(batch=True) == list(range(n))
assert client.submit(lambda: Variable("told").get(timeout=30)).result() == 49

# A queue that somebody limits later: one put has gone on already, the next one waits.
queue.put("in")
assert Queue("told", maxsize=1).qsize() == 1
queue.put("in line")
with pytest.raises(TimeoutError, match="was full"):
    queue.put("not in", timeout=0.05)
assert queue.get() == "in"
assert queue.get() == "in line"

# What fails after the caller has gone on is raised by the next call, once.
other = Queue("told-2")
other.put(1)
Queue("told-2", maxsize=1).qsize()
other.put(2)
Queue("told-2").close()
with pytest.raises(RuntimeError, match="closed while put"):
    other.qsize()
assert other.qsize() == 0

Queue("last words").put(client.submit(pow, 2, 3, key="last"))
client.close()
"""


@contextlib.contextmanager
def a_cluster(grace):
    """Two workers in processes of their own; clients that vanish may come back for so long."""
    with (
        config_for_cluster_tests(**{"distributed.scheduler.client-grace": grace}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def cluster():
    with a_cluster("60s") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def start(code, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", code, *args], text=True, **kwargs)


def tables(cluster):
    return cluster.scheduler.extensions["coordination"].tables


def test_two_clients_take_turns(cluster, client):
    programs = [start(CLIENT, cluster.scheduler_address, name, "30") for name in "ab"]
    try:
        assert [program.wait(60) for program in programs] == [0, 0]
    finally:
        for program in programs:
            program.kill()
            program.wait()
    turns = Queue("turns").get(batch=True)
    assert len(turns) == 120
    for entering, leaving in zip(turns[::2], turns[1::2], strict=True):
        assert entering[0] == leaving[0] and (entering[1], leaving[1]) == ("in", "out"), "two were inside"
    assert not Lock("turns").locked()


def test_who_need_not_wait_goes_on(cluster, client):
    program = start(TELLER, cluster.scheduler_address, stderr=subprocess.PIPE)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    assert "queue_put has failed, after its caller had gone on" in errors
    assert Queue("last words").get(timeout=BOUND_S).result(timeout=BOUND_S) == 8


def test_the_lock_of_a_killed_client_goes_on():
    with (
        a_cluster("200ms") as cluster,
        Client(cluster) as client,
        start(HOLDER, cluster.scheduler_address, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program,
    ):
        assert program.stdout.readline().strip() == "held"
        assert not Lock("held").acquire(timeout=0.05)
        program.kill()
        assert Lock("held").acquire(timeout=BOUND_S)
        assert client.submit(lambda: Lock("held").locked()).result(BOUND_S) is True
        assert len(tables(cluster).leases) == 1


def test_the_locks_of_a_killed_worker_go_on():
    """At once, not only when the client that its tasks shared could have come back; and also when it is restarted."""

    def hold(event):
        Lock("x").acquire()
        MultiLock(["a", "b"]).acquire()
        Semaphore(1, "s").acquire()
        event.set()
        Event("never").wait()

    def take(i):
        with Lock("x"), MultiLock(["b"]), Semaphore(1, "s"):
            return os.getpid()

    with a_cluster("60s") as cluster, Client(cluster) as client:
        first, second = list(cluster.scheduler_info["workers"])
        held = Event("held")
        holding = client.submit(hold, held, workers=[first])
        assert held.wait(timeout=BOUND_S)
        pid = client.run(os.getpid, workers=[first])[first]
        taking = client.map(take, range(3), workers=[second])
        poll_for(lambda: len(tables(cluster).waiters) >= 2, period=0.01)
        assert not Lock("x").acquire(timeout=0.05)
        holding.cancel()
        os.kill(pid, signal.SIGKILL)
        pids = set(client.gather(taking))
        assert len(pids) == 1 and pid not in pids
        poll_for(lambda: not len(tables(cluster).leases), period=0.01)
        tables(cluster).validate()

        client.wait_for_workers(2, timeout=BOUND_S)
        client.submit(lambda: Lock("y").acquire()).result(BOUND_S)
        assert Lock("y").locked()
        client.restart(timeout=BOUND_S)
        assert Lock("y").acquire(timeout=BOUND_S)


def test_tasks_on_two_workers_share_everything(cluster, client):
    def work(i):
        with Semaphore(2, "s"):
            Event("go").wait(timeout=30)
            with Lock("counter"):
                variable = Variable("counter")
                variable.set(variable.get(timeout=30) + i)
            Queue("done").put(i)

    Variable("counter").set(0)
    futures = client.map(work, range(20))
    Event("go").set()
    client.gather(futures)
    assert Variable("counter").get() == sum(range(20))
    assert sorted(Queue("done").get(batch=20, timeout=30)) == list(range(20))
    Variable("counter").delete()
    Event("go").clear()
    poll_for(lambda: not len(tables(cluster).leases) and not len(tables(cluster).waiters), period=0.01)


def test_an_interrupted_thread_takes_nothing(cluster, client):
    """Ctrl-C in the main thread while it waits."""
    Lock("x").acquire()
    other = Lock("x")
    with pytest.raises(KeyboardInterrupt):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            other.acquire()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
    poll_for(lambda: not len(tables(cluster).waiters), period=0.01)


def test_futures_in_queues_between_tasks(cluster, client):
    def produce(n):
        from distributed import get_client

        for i in range(n):
            Queue("futures").put(get_client().submit(pow, i, 2))

    producing = client.submit(produce, 10)
    futures = Queue("futures").get(batch=10, timeout=60)
    assert client.gather(futures) == [i**2 for i in range(10)]
    producing.result(30)


def test_the_wrong_kind_of_with(cluster, client):
    async def use(handle):
        async with handle:
            pass

    for handle in (Lock("x"), Semaphore(1, "y"), MultiLock(["z"])):
        with pytest.raises(TypeError, match="write 'with'"):
            asyncio.run(use(handle))
        with handle:
            pass


def test_threads_of_one_client(cluster, client):
    """Many threads and one lock object each, or one for all."""
    inside, shared, seen = [], Semaphore(1, "shared"), []

    def work(handle):
        for _ in range(20):
            with handle:
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    for handles in ([Lock("one") for _ in range(5)], [shared] * 5):
        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert seen == [1] * 200


def test_without_a_client():
    handle = Lock("x")
    with pytest.raises(ValueError, match="client"):
        handle.acquire()


def test_a_closed_client(cluster):
    with Client(cluster, set_as_default=False) as closed:
        lock = Lock("x", client=closed)
        lock.acquire()
    with pytest.raises(RuntimeError, match="closed"):
        lock.acquire()
    with Client(cluster) as again:
        assert Lock("x", client=again).acquire(timeout=BOUND_S)
