"""Tasks that wait for tasks of their own, on one thread: each leaves its slot while it waits, so that all end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from distributed import Client, as_completed, get_client, wait, worker_client
from tests.integration.faults.small_cluster import SHORT_S, poll, small_cluster


@pytest.fixture(scope="module")
def single() -> Iterator[Client]:
    """The client of one worker process with one thread."""
    with small_cluster(1) as client:
        yield client


def fib_results(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    one, other = client.submit(fib_results, n - 1), client.submit(fib_results, n - 2)
    return one.result() + other.result()


def fib_gather(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    return sum(client.gather(client.map(fib_gather, [n - 1, n - 2], pure=False)))


def fib_wait(n: int) -> int:
    if n < 2:
        return n
    futures = get_client().map(fib_wait, [n - 1, n - 2], pure=False)
    wait(futures)
    return sum(future.result() for future in futures)


def fib_as_completed(n: int) -> int:
    if n < 2:
        return n
    futures = get_client().map(fib_as_completed, [n - 1, n - 2], pure=False)
    return sum(value for _, value in as_completed(futures, with_results=True))


def fib_worker_client(n: int) -> int:
    if n < 2:
        return n
    with worker_client() as client:
        return sum(client.gather(client.map(fib_worker_client, [n - 1, n - 2], pure=False)))


async def fib_await(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    one, other = client.map(fib_await, [n - 1, n - 2], pure=False)
    return await one + await other


async def fib_async_gather(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    return sum(await client.gather(client.map(fib_async_gather, [n - 1, n - 2], pure=False)))


async def fib_async_as_completed(n: int) -> int:
    if n < 2:
        return n
    futures = get_client().map(fib_async_as_completed, [n - 1, n - 2], pure=False)
    return sum([value async for _, value in as_completed(futures, with_results=True)])


def test_fib_12_on_one_thread(single: Client) -> None:
    """25 tasks of distinct keys wait for each other, each twice: slots are left and taken again in any order."""
    assert single.submit(fib_results, 12).result(SHORT_S) == 144


@pytest.mark.parametrize(
    "fib",
    [
        fib_gather,
        fib_wait,
        fib_as_completed,
        fib_worker_client,
        fib_await,
        fib_async_gather,
        fib_async_as_completed,
    ],
    ids=lambda fib: fib.__name__,
)
def test_every_way_of_waiting_leaves_the_slot(single: Client, fib: Any) -> None:
    assert single.submit(fib, 7).result(SHORT_S) == 13


def test_all_slots_wait_at_once(single: Client) -> None:
    """Many parents are begun before any child can: no thread of theirs is left when they are done."""

    def parent(i: int) -> int:
        return get_client().submit(abs, -i, pure=False).result()

    assert single.gather(single.map(parent, range(20))) == list(range(20))
    poll(lambda: next(iter(single.run(n_slot_threads).values())) <= 1)


def n_slot_threads() -> int:
    return sum("Default-Threads" in thread.name for thread in threading.enumerate())
