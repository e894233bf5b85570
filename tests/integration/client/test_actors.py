"""Actors: an object that lives on one worker, called from elsewhere."""

from __future__ import annotations

import time
from typing import Any

import pytest

from distributed import Client, Event, LocalCluster, Lock, get_client, wait


class Counter:
    n = 0

    def inc(self) -> int:
        self.n += 1
        return self.n

    def get(self) -> int:
        return self.n

    def set(self, n: int) -> None:
        time.sleep(0.02)  # long enough for the caller to leave its slot
        self.n = n

    def fail(self) -> None:
        raise ValueError("as asked")


@pytest.mark.parametrize("processes", [True, False])
def test_calls_attributes_and_errors(processes: bool) -> None:
    with Client(processes=processes, n_workers=1, dashboard_address=None) as client:
        counter: Any = client.submit(Counter, actor=True).result()
        assert counter.inc().result() == 1
        assert counter.inc().result() == 2
        assert counter.n == 2
        with pytest.raises(ValueError, match="as asked"):
            counter.fail().result()


def test_an_actor_speaks_through_the_client_that_asked_for_it() -> None:
    with LocalCluster(n_workers=1, dashboard_address=None) as cluster:
        with Client(cluster, set_as_default=False) as client:
            counter: Any = client.submit(Counter, actor=True).result()
            assert counter.inc().result() == 1
            (again,) = client.gather([client.submit(Counter, actor=True)])
            assert again.inc().result() == 1


def use(counter: Any) -> Any:
    return counter.inc().result()


def test_an_actor_is_an_argument_like_any_other() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        future = client.submit(Counter, actor=True)
        values = client.gather([client.submit(use, future, pure=False) for _ in range(6)])
        assert sorted(values) == [1, 2, 3, 4, 5, 6]


def add_one(i: int, counter: Any) -> None:
    with Lock("counter"):
        counter.set(counter.get().result() + 1).result()


async def add_one_async(i: int, counter: Any) -> None:
    async with Lock("counter"):
        await counter.set(await counter.get() + 1)


def add_one_over_a_nested_client(i: int, counter: Any) -> None:
    client = get_client()
    with Lock("counter", client=client):
        counter.set(counter.get().result() + 1).result()


@pytest.mark.parametrize("function", [add_one, add_one_over_a_nested_client, add_one_async])
@pytest.mark.parametrize("processes", [True, False])
def test_tasks_that_hold_a_lock_call_an_actor(function: Any, processes: bool) -> None:
    """Its holder leaves its slot while it waits for the actor; a task that waits for the lock does not keep it out."""
    with Client(processes=processes, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        counter = client.submit(Counter, actor=True)
        tasks = client.map(function, range(20), counter=counter, pure=False)
        wait(tasks, timeout=60)
        client.gather(tasks)
        assert counter.result().n == 20


def set_and_tell(counter: Any) -> None:
    counter.set(1).result()
    Event("done").set()


def wait_for_it() -> bool:
    return bool(Event("done").wait(20))


def test_a_task_in_the_only_slot_waits_for_one_that_has_left_it() -> None:
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        counter = client.submit(Counter, actor=True).result()
        first = client.submit(set_and_tell, counter)
        assert client.submit(wait_for_it).result(timeout=30)
        first.result(timeout=30)
