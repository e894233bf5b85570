"""Tasks that wait for each other while they hold slots and locks: nothing hangs, ``why`` says what each waits for."""

from __future__ import annotations

import time

import pytest

from distributed import Client, Event, LocalCluster, Lock, Queue, Semaphore, Variable, get_client, get_worker, wait
from distributed.testing import poll_for
from distributed.testing.environment import config_for_cluster_tests
from distributed.worker.runtime import rejoin, secede

BOUND_S = 60.0


@pytest.fixture(scope="module")
def client():
    with (
        config_for_cluster_tests(),
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def one(x):
    return x + 1


def test_the_holder_of_a_lock_waits_for_a_child_behind_tasks_that_wait_for_the_lock(client):
    def parent(i):
        with Lock("family"):
            return get_client().submit(one, i, pure=False).result()

    assert client.gather(client.map(parent, range(8), pure=False)) == [i + 1 for i in range(8)]


@pytest.mark.parametrize("kind", ["semaphore", "event", "queue", "full queue", "variable"])
def test_the_task_that_all_slots_wait_for_is_begun(client, kind):
    name = f"awaited-{kind}"

    def waits(i):
        if kind == "semaphore":
            with Semaphore(2, name):
                return Event(name).wait()
        if kind == "event":
            return Event(name).wait()
        if kind == "queue":
            return Queue(name).get()
        if kind == "full queue":
            return Queue(name, maxsize=1).put(i)
        return Variable(name).get()

    def provides():
        Event(name).set()
        if kind == "full queue":
            Queue(name, maxsize=1).get(batch=4, timeout=BOUND_S)
        else:
            for i in range(4):
                Queue(name).put(i)
        Variable(name).set(1)

    waiting = client.map(waits, range(4), pure=False)
    poll_for(lambda: sum("it waits for the" in said(client, future) for future in waiting) >= 2, BOUND_S)
    provider = client.submit(provides, pure=False)
    wait([*waiting, provider], timeout=BOUND_S)
    client.gather(waiting)


def test_coroutine_tasks_give_their_slots_up_as_well(client):
    async def waits():
        return await Event("coroutines").wait()

    waiting = [client.submit(waits, pure=False) for _ in range(2)]
    poll_for(lambda: all("event 'coroutines'" in said(client, future) for future in waiting), BOUND_S)
    client.submit(Event("coroutines").set, pure=False).result(timeout=BOUND_S)
    assert client.gather(waiting) == [True, True]


def said(client, future):
    there = client.why(future).get("there") or {}
    return there.get("text", "")


def test_why_names_what_a_task_waits_for(client):
    def waits():
        with Lock("named"):
            return 1

    lock = Lock("named")
    lock.acquire()
    waiting = client.submit(waits, pure=False)
    poll_for(lambda: "it waits for the lock 'named'" in said(client, waiting), BOUND_S)
    lock.release()
    assert waiting.result(timeout=BOUND_S) == 1


def test_who_waits_to_rejoin_does_not_wait_for_ever(client):
    """The tasks in the slots wait for the one that is out, in a way that nobody can see."""
    flags = get_flags

    def is_out():
        secede()
        Event("is out").set()
        Event("come back").wait()
        rejoin()
        flags().append(1)

    def looks():
        while not flags():
            time.sleep(0.01)

    first = client.submit(is_out, pure=False)
    assert Event("is out").wait(timeout=BOUND_S)
    others = [client.submit(looks, pure=False) for _ in range(2)]
    poll_for(lambda: sum("executing since" in said(client, future) for future in others) == 2, BOUND_S)
    Event("come back").set()
    poll_for(lambda: "it waits for a slot, to rejoin" in said(client, first), BOUND_S)
    client.gather([first, *others])
    # The slots are as many as before.
    assert client.gather(client.map(one, range(10), pure=False)) == [*range(1, 11)]
    poll_for(lambda: client.run(lambda dask_worker: dask_worker.executor._slots <= 2).popitem()[1], BOUND_S)


def get_flags():
    worker = get_worker()
    if not hasattr(worker, "flags"):
        worker.flags = []
    return worker.flags


def test_not_every_waiting_task_of_a_map_gets_a_thread(client):
    lock = Lock("long")
    lock.acquire()

    def waits(i):
        with Lock("long"):
            return i

    waiting = client.map(waits, range(200), pure=False)
    poll_for(lambda: sum("it waits for the lock" in said(client, future) for future in waiting[:5]) >= 3, BOUND_S)
    n_threads = client.run(lambda dask_worker: len(dask_worker.executor.threads)).popitem()[1]
    assert n_threads < 20
    lock.release()
    assert client.gather(waiting) == [*range(200)]
