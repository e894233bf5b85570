"""What is done with a client on its event loop before the connection stands: it waits there, and fails with it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from distributed import Client, FutureCancelledError, Lock, get_client
from distributed.client.session import ClosedClientError
from distributed.testing import gen_cluster, gen_test, inc, open_port

ONE = [("127.0.0.1", 8)]


async def by_future(i):
    return await get_client().submit(inc, i)


async def by_gather(i):
    client = get_client()
    return sum(await client.gather(client.map(inc, [i, -1])))


async def by_question(i):
    client = get_client()
    (future,) = await client.scatter([i + 1])
    assert list(await client.who_has([future])) == [future.key]
    return await future


async def by_lock(i):
    async with Lock("one at a time"):
        return await get_client().submit(inc, i)


def by_thread(i):
    return get_client().submit(inc, i).result()


def by_lock_in_thread(i):
    with Lock("one at a time"):
        return get_client().gather(get_client().submit(inc, i))


ASKED = threading.Event()


def ask_in_thread():
    ASKED.set()
    return get_client().submit(inc, 1).result()


async def ask_in_coroutine():
    ASKED.wait(10)
    for _ in range(100):
        client = get_client()
        await asyncio.sleep(0)
    return await client.submit(inc, 2)


WAYS = [by_future, by_gather, by_question, by_lock, by_thread, by_lock_in_thread]


@pytest.mark.parametrize("way", WAYS[:4])
@gen_cluster(client=True, nthreads=ONE)
async def test_the_first_task_that_asks_for_a_client(c, s, a, way):
    assert await asyncio.wait_for(c.submit(way, 1).result(), 20) == 2


@gen_cluster(client=True, nthreads=ONE)
async def test_all_ask_at_once_from_threads_and_coroutines(c, s, a):
    futures = [c.submit(way, i, pure=False) for i in range(3) for way in WAYS]
    assert await asyncio.wait_for(c.gather(futures), 30) == [i + 1 for i in range(3) for _ in WAYS]
    assert len([cs for cs in s.clients.values() if not cs.mute]) == 2, "the tasks share one"


@gen_cluster(client=True, nthreads=ONE)
async def test_a_thread_waits_for_the_loop_while_a_coroutine_asks(c, s, a):
    """Neither stops the other: the loop is held up until the thread is on its way to make the client."""
    ASKED.clear()
    futures = [c.submit(ask_in_thread), c.submit(ask_in_coroutine)]
    assert await asyncio.wait_for(c.gather(futures), 20) == [2, 3]


class Asker:
    async def ask(self, i):
        return await get_client().submit(inc, i)

    async def hand_out(self, i):
        return [get_client().submit(inc, i)]


@gen_cluster(client=True, nthreads=ONE)
async def test_the_coroutines_of_an_actor(c, s, a):
    asker = await c.submit(Asker, actor=True)
    assert await asyncio.wait_for(asyncio.gather(*[_answer(asker.ask(i)) for i in range(3)]), 20) == [1, 2, 3]


@gen_cluster(client=True, nthreads=ONE)
async def test_an_actor_hands_out_futures_before_its_client_is_connected(c, s, a):
    asker = await c.submit(Asker, actor=True)
    (future,) = await asker.hand_out(5)
    assert await asyncio.wait_for(future.result(), 20) == 6


async def _answer(call):
    return await call


@gen_cluster(nthreads=ONE)
async def test_a_client_that_nobody_has_awaited(s, a):
    client = Client(s.address, asynchronous=True)
    future = client.submit(inc, 1)
    gathered = client.gather([future])
    assert await gathered == [2]
    assert await future == 2
    await client.close()


@gen_test()
async def test_what_was_submitted_fails_with_the_connection():
    client = Client(f"tcp://127.0.0.1:{open_port()}", asynchronous=True, timeout=0.5, set_as_default=False)
    future = client.submit(inc, 1)
    question = asyncio.ensure_future(client.who_has())
    with pytest.raises(OSError):
        await client
    with pytest.raises(FutureCancelledError, match="could not connect"):
        await future.result()
    with pytest.raises(ClosedClientError):
        await question
    with pytest.raises(ClosedClientError):
        client.submit(inc, 2)


@gen_cluster(nthreads=[])
async def test_a_client_that_is_closed_before_it_is_connected(s):
    client = Client(s.address, asynchronous=True, set_as_default=False)
    future = client.submit(inc, 1)
    question = asyncio.ensure_future(client.who_has())
    await client.close()
    assert future.status == "cancelled"
    with pytest.raises(ClosedClientError):
        await asyncio.wait_for(question, 10)
