"""Handles in coroutines, on a whole cluster in one event loop."""

from __future__ import annotations

import asyncio
import logging
import pickle

import pytest

from distributed import Client, Event, Lock, MultiLock, Pub, Queue, Semaphore, Sub, Variable
from distributed.base.errors import CommClosedError
from distributed.scheduler.state_machine.events import ClientLeft
from distributed.testing import async_poll_for, gen_cluster, inc

SHORT_LEASES = {
    "distributed.scheduler.locks.lease-timeout": "300ms",
    "distributed.scheduler.locks.lease-validation-interval": "50ms",
}


def tables(s):
    return s.extensions["coordination"].tables


async def nothing_left(s):
    """All that the test has taken is given back."""
    t = tables(s)
    await async_poll_for(lambda: not len(t.waiters) and not len(t.leases) and not len(t.held), period=0.005)
    t.validate()


# ---------------------------------------------------------------- locks and semaphores


@gen_cluster(client=True, nthreads=[])
async def test_lock(c, s):
    lock, other = Lock("x"), Lock("x")
    assert not await lock.locked()
    assert await lock.acquire() is True
    assert await other.locked()
    assert await other.acquire(blocking=False) is False
    assert await other.acquire(timeout=0.01) is False
    assert await other.acquire(timeout="10ms") is False
    assert await lock.release() is True
    async with lock as entered:
        assert entered is lock
        assert await other.locked()
    assert not await lock.locked()
    await nothing_left(s)
    assert not tables(s).semaphores.by_name, "a lock that nobody uses takes no room"


@gen_cluster(client=True, nthreads=[])
async def test_first_come_first_served(c, s):
    lock = Lock("x")
    await lock.acquire()
    order = []

    async def one(i):
        async with Lock("x"):
            order.append(i)

    tasks = []
    for i in range(10):
        tasks.append(asyncio.create_task(one(i)))
        await async_poll_for(lambda i=i: len(tables(s).waiters) == i + 1, period=0.002)
    await lock.release()
    await asyncio.gather(*tasks)
    assert order == list(range(10))
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_a_cancelled_acquire_takes_nothing(c, s):
    lock = Lock("x")
    await lock.acquire()
    waiting = asyncio.create_task(Lock("x").acquire())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await async_poll_for(lambda: not len(tables(s).waiters), period=0.002)
    await lock.release()
    # Cancelled at every point of the way of a grant: it is never stuck with somebody who has given up.
    for n_turns in range(12):
        granted = asyncio.create_task(lock.acquire())
        for _ in range(n_turns):
            await asyncio.sleep(0)
        granted.cancel()
        (answer,) = await asyncio.gather(granted, return_exceptions=True)
        if answer is True:
            await lock.release()
        assert await Lock("x").acquire(timeout=30), n_turns
        for lease in tables(s).leases.all():
            tables(s).leases.drop(lease)
            lease.table.take_back(lease, 0)
        lock._link().leases.clear()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_semaphore(c, s):
    first = await Semaphore(2, "x")
    second = Semaphore(max_leases=2, name="x")
    assert await first.acquire() and await second.acquire()
    assert await first.get_value() == 2
    assert not await first.acquire(timeout=0.01)
    await first.release()
    assert await second.get_value() == 1
    assert await second.acquire(timeout=30)
    await second.release()
    await second.release()
    with pytest.raises(RuntimeError, match="released too often"):
        second.release()
    with pytest.raises(ValueError, match="'x' has max_leases=2, which cannot become 3"):
        await Semaphore(3, "x").acquire()
    with pytest.raises(ValueError, match="max_leases=2"):
        await Semaphore(3, "x")
    async with first:
        pass
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_close_a_semaphore_with_waiters(c, s):
    held = Semaphore(1, "x")
    await held.acquire()
    waiting = asyncio.create_task(Semaphore(1, "x").acquire())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    await held.close()
    with pytest.raises(RuntimeError, match="was closed while acquire"):
        await waiting
    with pytest.raises(RuntimeError, match="is not known"):
        await held.acquire()
    assert await held.release() is True
    assert await held.get_value() == 0
    await held.close()
    assert await Semaphore(5, "x").acquire(), "the name is free for another one"
    await Semaphore(5, "x").close()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[], config=SHORT_LEASES)
async def test_leases_are_renewed(c, s):
    lock = Lock("x")
    await lock.acquire()
    assert not await Lock("x").acquire(timeout=1)
    await lock.release()


@gen_cluster(client=True, nthreads=[], config=SHORT_LEASES)
async def test_a_holder_that_is_not_heard_of_loses_its_lease(c, s, caplog):
    lock, next_one = Lock("x"), Lock("x")
    await lock.acquire()
    lock._link().leases.clear()  # as if the program hung
    with caplog.at_level(logging.WARNING, "distributed.coordination"):
        assert await next_one.acquire(timeout=10)
        assert await lock.release() is True
    assert "has ended" in caplog.text and "others may have held it" in caplog.text
    assert await Lock("x").locked(), "the late release has freed nothing"
    await next_one.release()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[], config=SHORT_LEASES)
async def test_the_holder_hears_of_a_lost_lease(c, s, caplog):
    lock = Lock("x")
    await lock.acquire()
    (lease,) = tables(s).leases.all()
    tables(s).leases.drop(lease)
    lease.table.take_back(lease, 0)
    with caplog.at_level(logging.WARNING, "distributed.coordination"):
        await async_poll_for(lambda: "has lost a lease" in caplog.text, period=0.01)
    assert not lock._link().leases


@gen_cluster(client=True, nthreads=[])
async def test_what_a_closed_client_held_is_free(c, s):
    async with Client(s.address, asynchronous=True, set_as_default=False) as other:
        lock, several = Lock("x", client=other), MultiLock(["a", "b"], client=other)
        await lock.acquire()
        await several.acquire()
        waiting = asyncio.create_task(Lock("x", client=c).acquire())
        waiting_too = asyncio.create_task(MultiLock(["b"], client=c).acquire())
        behind = asyncio.create_task(Event("never", client=other).wait())
        await async_poll_for(lambda: len(tables(s).waiters) == 3, period=0.002)
    assert await waiting and await waiting_too
    with pytest.raises(Exception, match="closed"):
        await behind
    assert {lease.client for lease in tables(s).leases.all()} == {c.id}


@gen_cluster(client=True, nthreads=[])
async def test_a_broken_connection_loses_nothing(c, s):
    """Who waits goes on waiting, who holds goes on holding, and no item is lost or doubled."""
    other = await Client(s.address, asynchronous=True, set_as_default=False)
    lock, queue = Lock("x", client=other), Queue("q", client=other)
    await lock.acquire()
    first = asyncio.create_task(Lock("x", client=c).acquire())
    getting = asyncio.create_task(Queue("q", client=c).get())
    await async_poll_for(lambda: len(tables(s).waiters) == 2, period=0.002)
    for i in range(5):
        putting = asyncio.create_task(queue.put(i))
        c.session.connection.abort()
        await asyncio.sleep(0)
        other.session.connection.abort()
        await putting
    assert await getting == 0
    assert await Queue("q", client=c).get(batch=True) == [1, 2, 3, 4]
    assert not first.done()
    await lock.release()
    assert await first is True
    assert not await lock.acquire(timeout=0.01)
    await other.close()


@gen_cluster(client=True, nthreads=[])
async def test_a_session_that_is_over(c, s, caplog):
    """The scheduler gives the client up: requests fail, leases are lost, and handles go on in the new session."""
    semaphore = Semaphore(2, "x")
    await semaphore.acquire()
    waiting = asyncio.create_task(Event("never").wait())
    await async_poll_for(lambda: len(tables(s).waiters) == 1, period=0.002)
    with caplog.at_level(logging.WARNING, "distributed.coordination"):
        s.shell.apply(ClientLeft(c.id, "test"))
        with pytest.raises(CommClosedError, match="the session with the scheduler ended before it answered"):
            await waiting
        assert "has lost a lease" in caplog.text
        assert await semaphore.release() is True
    assert await semaphore.acquire(timeout=10)
    await semaphore.close()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_a_scheduler_that_does_not_answer(c, s, monkeypatch):
    monkeypatch.setattr("distributed.coordination.link._SLACK_S", 0.1)
    monkeypatch.setattr(s.shell, "on_requests", lambda client, requests: None)
    with pytest.raises(TimeoutError, match="the scheduler does not answer"):
        await Lock("x").acquire(timeout=0.05)
    monkeypatch.undo()
    assert await Lock("x").acquire(timeout=5)


@gen_cluster(client=True, nthreads=[])
async def test_awaited_after_the_client_has_closed(c, s):
    other = await Client(s.address, asynchronous=True, set_as_default=False)
    acquiring = Lock("x", client=other).acquire()
    sub = Sub("x", client=other)
    await other.close()
    with pytest.raises(RuntimeError, match="closed"):
        await acquiring
    with pytest.raises(RuntimeError, match="closed"):
        Pub("x", client=other).put(1)
    with pytest.raises(RuntimeError, match="closed"):
        await sub.get()
    sub.close()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_a_subscription_ends_with_its_object(c, s):
    sub = Sub("x")
    assert len(await Pub("x").subscribers) == 1
    del sub
    await async_poll_for(lambda: not tables(s).pubsub.topics, period=0.005)


@gen_cluster(client=True, nthreads=[])
async def test_the_wrong_kind_of_with(c, s):
    for handle in (Lock("x"), Semaphore(1, "y"), MultiLock(["z"])):
        with pytest.raises(TypeError, match="'async with'"), handle:
            pass
    sub = Sub("x")
    with pytest.raises(TypeError, match="'async for'"):
        next(sub)
    sub.close()
    await nothing_left(s)


# ---------------------------------------------------------------- multi-locks


@gen_cluster(client=True, nthreads=[])
async def test_multi_lock(c, s):
    ab, bc, d = MultiLock(["a", "b"]), MultiLock(["b", "c"], c), MultiLock(names=["d"], client=c)
    assert await ab.acquire() is True
    assert ab.locked() and not bc.locked()
    assert not await bc.acquire(timeout=0.01)
    assert not await bc.acquire(blocking=False)
    assert await d.acquire()
    assert await bc.acquire(num_locks=1)
    with pytest.raises(RuntimeError, match="holds its locks already"):
        bc.acquire()
    await bc.release()
    with pytest.raises(ValueError, match="is not acquired"):
        bc.release()
    waiting = asyncio.create_task(bc.acquire())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    await ab.release()
    assert await waiting
    await bc.release()
    await d.release()
    async with MultiLock(["b", "a"]) as both:
        assert both.locked()
    await nothing_left(s)


# ---------------------------------------------------------------- events


@gen_cluster(client=True, nthreads=[])
async def test_event(c, s):
    event = await Event("x")
    assert not await event.is_set()
    assert await event.wait(timeout=0.01) is False
    waits = [asyncio.create_task(Event("x").wait()) for _ in range(5)]
    await async_poll_for(lambda: len(tables(s).waiters) == 5, period=0.002)
    await event.set()
    assert await asyncio.gather(*waits) == [True] * 5
    assert await event.wait() is True and await event.is_set()
    await event.clear()
    assert not await event.is_set()
    await nothing_left(s)


# ---------------------------------------------------------------- queues and variables


@gen_cluster(client=True, nthreads=[])
async def test_queue(c, s):
    queue = await Queue("x", maxsize=2)
    await queue.put({"a": {1, 2}})
    await queue.put(b"b")
    with pytest.raises(TimeoutError, match="was full"):
        await queue.put(3, timeout=0.01)
    assert await queue.qsize() == 2
    waiting = asyncio.create_task(queue.put(3))
    assert await queue.get() == {"a": {1, 2}}
    await waiting
    assert await queue.get(batch=True) == [b"b", 3]
    assert await queue.get(batch=True) == []
    with pytest.raises(TimeoutError, match="too little"):
        await queue.get(timeout="10ms")
    two = asyncio.create_task(queue.get(batch=2))
    await queue.put(4)
    await queue.put(5)
    assert await two == [4, 5]
    await queue.close()
    await nothing_left(s)


@gen_cluster(client=True, nthreads=[])
async def test_close_a_queue_with_waiters(c, s):
    queue = Queue("x")
    waiting = asyncio.create_task(queue.get())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    await queue.close()
    with pytest.raises(RuntimeError, match="'x' was closed while get"):
        await waiting
    await queue.put(1)
    assert await queue.get() == 1, "it begins anew"


@gen_cluster(client=True, nthreads=[])
async def test_a_cancelled_get_loses_nothing(c, s):
    queue = Queue("x")
    for n_turns in range(12):
        await queue.put(n_turns)
        getting = asyncio.create_task(queue.get())
        for _ in range(n_turns):
            await asyncio.sleep(0)
        getting.cancel()
        (answer,) = await asyncio.gather(getting, return_exceptions=True)
        if isinstance(answer, asyncio.CancelledError):
            answer = await queue.get(timeout=5)
        assert answer == n_turns
        assert await queue.qsize() == 0
    await nothing_left(s)


@gen_cluster(client=True)
async def test_a_queue_keeps_its_futures_alive(c, s, a, b):
    queue, future = Queue("x"), c.submit(inc, 1)
    key = future.key
    await queue.put({"deep": [future]})
    del future
    await asyncio.sleep(0)
    assert await c.who_has() is not None  # a question, so that the release has gone up
    assert key in s.tasks
    assert await (await queue.get())["deep"][0] == 2
    await async_poll_for(lambda: key not in s.tasks, period=0.005)
    await nothing_left(s)


@gen_cluster(client=True)
async def test_futures_go_from_client_to_client(c, s, a, b):
    async with Client(s.address, asynchronous=True, set_as_default=False) as other:
        futures = c.map(inc, range(5))
        for future in futures:
            await Queue("x", client=c).put(future)
        keys = [future.key for future in futures]
        del futures, future
        got = [await Queue("x", client=other).get() for _ in range(5)]
        assert all(future.client is other for future in got)
        assert [future.key for future in got] == keys
        assert await other.gather(got) == [1, 2, 3, 4, 5]
        await nothing_left(s)
        del got
        await async_poll_for(lambda: not s.tasks, period=0.005)


@gen_cluster(client=True)
async def test_a_future_of_another_client_is_put(c, s, a, b):
    async with Client(s.address, asynchronous=True, set_as_default=False) as other:
        future = other.submit(inc, 1)
        await future
        await Variable("x", client=c).set(future)
        del future
        await other.who_has()
        assert await (await Variable("x", client=c).get()) == 2
        await Variable("x", client=c).delete()


@gen_cluster(client=True)
async def test_variable(c, s, a, b):
    variable = Variable("x")
    with pytest.raises(TimeoutError, match="has had no value"):
        await variable.get(timeout=0.01)
    waiting = asyncio.create_task(Variable("x").get())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    future = c.submit(inc, 1)
    key = future.key
    await variable.set(future, timeout="5s")
    assert (await waiting).key == key
    del future, waiting
    assert await (await variable.get()) == 2
    await c.who_has()
    assert key in s.tasks
    await variable.set([1, None])
    assert await variable.get() == [1, None]
    await async_poll_for(lambda: key not in s.tasks, period=0.005)
    await variable.delete()
    waiting = asyncio.create_task(variable.get())
    await async_poll_for(lambda: len(tables(s).waiters), period=0.002)
    await variable.delete()
    with pytest.raises(RuntimeError, match="was deleted while get"):
        await waiting
    await nothing_left(s)


@gen_cluster(client=True)
async def test_a_task_that_was_cancelled_and_submitted_again(c, s, a, b):
    """The variable holds the new task, although it has held one of this key before."""
    variable = Variable("x")
    await variable.set(c.submit(inc, 1, key="again"))
    await c.cancel(await variable.get(), force=True)
    await async_poll_for(lambda: "again" not in s.tasks, period=0.005)
    await variable.set(c.submit(inc, 2, key="again"))
    await c.who_has()
    assert await (await variable.get()) == 3
    await variable.delete()


@gen_cluster(client=True)
async def test_an_erred_future_in_a_variable(c, s, a, b):
    def fail():
        raise KeyError("gone")

    await Variable("x").set(c.submit(fail))
    with pytest.raises(KeyError, match="gone"):
        await (await Variable("x").get())
    await Variable("x").delete()


@gen_cluster(client=True, nthreads=[])
async def test_what_cannot_be_pickled_is_an_error_at_the_caller(c, s):
    import threading

    for bad in (lambda: Queue("x").put(threading.Lock()), lambda: Variable("x").set(threading.Lock())):
        with pytest.raises(Exception, match="pickle"):
            await bad()
    assert await Queue("x").qsize() == 0


@gen_cluster(client=True, nthreads=[])
async def test_large_values_share_no_memory(c, s):
    np = pytest.importorskip("numpy")
    queue, variable = Queue("x"), Variable("x")
    for array in (np.arange(300_000), np.asfortranarray(np.arange(300_000).reshape(300, 1000))):
        expected = array.copy()
        await queue.put(array)
        await variable.set([array])
        array[:] = -1
        got, first, second = await queue.get(), (await variable.get())[0], (await variable.get())[0]
        for one in (got, first, second):
            assert (one == expected).all()
            one[:] = -2
    await variable.delete()


# ---------------------------------------------------------------- topics


@gen_cluster(client=True, nthreads=[])
async def test_publish_and_subscribe(c, s):
    first, second, pub = Sub("x"), Sub("x"), Pub("x")
    assert len(await pub.subscribers) == 2
    for i in range(3):
        pub.put(i)
    assert [await first.get() for _ in range(3)] == [0, 1, 2]
    async for value in second:
        if value == 2:
            break
    with pytest.raises(TimeoutError, match="nothing was published on 'x'"):
        await first.get(timeout=0.01)
    first.close()
    second.close()
    await async_poll_for(lambda: not tables(s).pubsub.topics, period=0.005)


# ---------------------------------------------------------------- on workers


@gen_cluster(client=True, nthreads=[("", 1)] * 3)
async def test_one_at_a_time_in_tasks(c, s, *workers):
    def critical(i):
        with Lock("x"):
            variable = Variable("inside")
            assert variable.get(timeout=5) == 0
            variable.set(i)
            variable.set(0)
        return i

    await Variable("inside").set(0)
    assert await c.gather(c.map(critical, range(1, 20))) == list(range(1, 20))
    await Variable("inside").delete()
    await nothing_left(s)


@gen_cluster(client=True)
async def test_handles_travel(c, s, a, b):
    lock, semaphore, event, queue, variable = (
        Lock("l"),
        Semaphore(2, "s"),
        Event("e"),
        Queue("q", maxsize=7),
        Variable(),
    )

    def use(lock, semaphore, event, queue, variable):
        with lock, semaphore:
            event.set()
            queue.put((lock.name, semaphore.max_leases, queue.maxsize))
            variable.set(semaphore.get_value())

    await c.submit(use, lock, semaphore, event, queue, variable)
    assert await event.is_set()
    assert await queue.get() == ("l", 2, 7)
    assert await variable.get() == 1
    for handle in (lock, semaphore, event, queue, variable, MultiLock(["a"]), Pub("t")):
        again = pickle.loads(pickle.dumps(handle))
        assert type(again) is type(handle)
        assert again.name == handle.name or type(handle) is MultiLock
    await event.clear()


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_coroutine_tasks(c, s, a):
    async def use(i):
        async with Lock("x"):
            await Queue("q").put(i)
        return i

    assert sorted(await c.gather(c.map(use, range(5)))) == list(range(5))
    assert sorted(await Queue("q").get(batch=True)) == list(range(5))


@gen_cluster(client=True)
async def test_what_a_closed_worker_held_is_free(c, s, a, b):
    def hold():
        assert Lock("x").acquire()

    await c.submit(hold, workers=[a.address])
    assert await Lock("x").locked()
    await a.close()
    assert await Lock("x").acquire(timeout=10)


@gen_cluster(client=True, nthreads=[])
async def test_known_names_of_extensions(c, s):
    assert {"semaphores", "multi_locks", "events", "queues", "variables", "pubsub"} <= set(s.extensions)
    with pytest.raises(ValueError, match="unknown operation 'queue_jump'"):
        await Queue("x")._ask("queue_jump", {})
    with pytest.raises(TypeError, match="nonsense"):
        await Queue("x")._ask("queue_put", {"nonsense": 1})
    assert await Semaphore(1, "x", scheduler_rpc=c.scheduler).acquire()
    assert await Semaphore(1, "x", scheduler_rpc=c).get_value() == 1
