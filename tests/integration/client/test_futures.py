"""Futures of a client whose peer is a fake, which can be held and made to lose values: waiting, fetching, giving up."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref

import numpy as np
import pytest

from distributed import CancelledError, Future, as_completed, fire_and_forget, wait
from distributed.base.errors import FutureCancelledError
from distributed.client import session as session_module
from distributed.messages.client_to_scheduler import FireAndForget, ReleaseKeys
from distributed.messages.scheduler_to_client import KeysLost
from distributed.protocol.serialize import loads
from distributed.testing import div, inc, poll_for


def test_errors_come_with_the_traceback_of_the_worker(client):
    future = client.submit(div, 1, 0)
    with pytest.raises(ZeroDivisionError) as info:
        future.result()
    assert "div" in [entry.name for entry in info.traceback]
    assert isinstance(future.exception(), ZeroDivisionError)
    assert future.traceback() is not None
    assert future.status == "error" and "error" in repr(future)
    with pytest.raises(ZeroDivisionError):
        client.submit(inc, future).result()


def test_timeouts(fake, client):
    fake.hold.clear()
    future = client.submit(inc, 1)
    for timeout in (0.05, "50ms"):
        with pytest.raises(TimeoutError, match=r"timed out after 0.05 s"):
            future.result(timeout=timeout)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.01)
    with pytest.raises(TimeoutError):
        wait(future, timeout=0.01)
    with pytest.raises(TimeoutError):
        list(as_completed([future], timeout=0.01))
    with pytest.raises(TypeError):
        future.result(timeout=object())
    assert not future.done() and future.status == "pending"
    fake.hold.set()
    assert future.result(timeout=5) == 2


def test_dropping_the_last_future_releases_the_key(fake, client):
    future = client.submit(inc, 1)
    other = client.submit(inc, 1)
    key = future.key
    assert future.result() == 2
    del future
    client.submit(inc, 2).result()
    assert key not in fake.released
    del other
    poll_for(lambda: key in fake.released)
    assert client.submit(inc, 1).result() == 2
    future = client.submit(inc, 5)
    reference = weakref.ref(future)
    gc.disable()
    try:
        future.result()
        del future
        assert reference() is None
    finally:
        gc.enable()


def test_small_values_are_given_up_together_and_large_ones_with_the_next_message(fake, client, monkeypatch):
    monkeypatch.setattr(session_module, "RELEASE_AFTER_S", 60.0)
    keys = []
    for i in range(5):
        future = client.submit(inc, i, pure=False)
        assert future.result() == i + 1
        keys.append(future.key)
        del future
    assert not fake.released
    future = client.submit(inc, 5)
    future.result()
    future._state.nbytes = session_module.RELEASE_SOON_NBYTES
    keys.append(future.key)
    del future
    assert client.submit(inc, 6).result() == 7
    poll_for(lambda: len(fake.released) == 6)
    (message,) = [m for m in fake.messages if isinstance(m, ReleaseKeys)]
    assert message.keys == keys


def test_release(fake, client):
    future = client.submit(inc, 1)
    future.result()
    future.release()
    poll_for(lambda: future.key in fake.released)
    future.release()


def test_release_comes_after_the_graph_that_needs_the_key(fake, client):
    def use():
        held = client.submit(inc, 1)
        return client.submit(inc, held)

    assert use().result() == 3
    poll_for(lambda: any(isinstance(m, ReleaseKeys) for m in fake.messages))


def test_gather_keeps_the_nesting(client):
    a, b = client.map(inc, [1, 2])
    assert client.gather({"x": [a, (b, {a})], "y": 5}) == {"x": [2, (3, {2})], "y": 5}
    assert client.gather(a) == 2
    assert client.gather((a, b)) == (2, 3)
    assert client.gather(f for f in [a, b]) == [2, 3]
    bad = client.submit(div, 1, 0)
    with pytest.raises(ZeroDivisionError):
        client.gather([a, bad])
    assert client.gather([a, bad], errors="skip") == [2]
    assert client.gather({"a": bad, "b": a}, errors="skip") == {"a": None, "b": 2}
    with pytest.raises(ValueError, match="errors="):
        client.gather([a], errors="what")
    assert client.gather([]) == []


def test_a_failed_task_ends_the_wait_of_gather(fake, client):
    bad = client.submit(div, 1, 0)
    wait(bad)
    fake.hold.clear()
    slow = client.submit(inc, 1)
    with pytest.raises(ZeroDivisionError):
        client.gather([slow, bad])


def test_large_values_come_from_their_holders(fake, client):
    if client.session.live:
        pytest.skip("all values are at hand")
    futures = client.map(bytes, [10_000, 20_000])
    assert [len(value) for value in client.gather(futures)] == [10_000, 20_000]
    asked = [keys for worker in fake.workers for keys in worker.asked]
    assert sorted(key for keys in asked for key in keys) == sorted(f.key for f in futures)
    assert client.gather(futures, direct=False)[0] == bytes(10_000)
    assert len(futures[0].result()) == 10_000


def test_a_dead_holder_costs_a_try_at_the_next(fake, client):
    if client.session.live:
        pytest.skip("all values are at hand")
    future = client.submit(bytes, 10_000)
    wait(future)
    for worker in fake.workers[:1]:
        client.sync(_elsewhere, fake, worker.close)
    for _ in range(5):
        assert len(future.result(timeout=5)) == 10_000
    fake.workers[1].data.clear()  # nobody has it: the scheduler does
    assert len(future.result(timeout=5)) == 10_000


async def _elsewhere(server, func):
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(func(), server.asyncio_loop))


def test_a_lost_value_is_waited_for(fake, client):
    if client.session.live:
        pytest.skip("all values are at hand")
    futures = client.map(bytes, [10_000, 20_000])
    wait(futures)
    for ask in (futures[0].result, lambda: client.gather(futures)[0], lambda: fetched(client, futures[0])):
        fake.asyncio_loop.call_soon_threadsafe(fake.tell, KeysLost([futures[0].key]))
        poll_for(lambda: futures[0].status == "lost")
        assert not futures[0].done()
        fake.asyncio_loop.call_soon_threadsafe(fake.asyncio_loop.call_later, 0.05, fake.report, futures[0].key)
        assert ask() == bytes(10_000)


def fetched(client, future):
    """What a caller does whose future was done when it looked first, and is lost now."""
    here, absent = client.gatherer.at_hand([future._bound()])
    assert here == {} and absent == [future._bound()]
    return loads(client.sync(client.gatherer.fetch, absent, None)[future.key])


def test_a_value_in_hand_outlives_its_holder(fake, client):
    future = client.submit(inc, 1)
    wait(future)
    fake.asyncio_loop.call_soon_threadsafe(fake.tell, KeysLost([future.key]))
    client.sync(client.session.call, "who_has", keys=[])  # comes after it
    assert future.done() and future.result() == 2


def test_scatter(fake, client):
    assert client.gather(client.scatter([1, 2])) == [1, 2]
    future = client.scatter("text")
    assert future.status == "finished" and future.result() == "text" and future.type is str
    assert future.key.startswith("str-")
    assert client.gather(client.scatter({"a": 1, ("b", 0): 2})) == {"a": 1, ("b", 0): 2}
    assert isinstance(client.scatter((1, 2)), tuple) and isinstance(client.scatter({1, 2}), set)
    assert client.scatter(5).key == client.scatter(5).key != client.scatter(5, hash=False).key
    assert client.submit(inc, client.scatter(5)).result() == 6
    assert client.scatter([]) == []
    target = fake.workers[1].address
    future = client.scatter(np.arange(1000), workers=[target])
    assert future.key in fake.workers[1].data and future.key not in fake.workers[0].data
    everywhere = client.scatter(np.arange(10), broadcast=True)
    assert all(everywhere.key in worker.data for worker in fake.workers)
    assert client.gather(client.scatter(7, direct=False)) == 7
    with pytest.raises(TypeError):
        client.scatter(iter([1]))
    with pytest.raises(TimeoutError, match="No valid workers"):
        client.scatter(1, workers="nobody", timeout=0.1)


def test_cancel(fake, client):
    fake.hold.clear()
    future = client.submit(inc, 1)
    future.cancel(reason="because", msg="so")
    assert future.status == "cancelled" and future.cancelled() and future.done()
    with pytest.raises(FutureCancelledError, match="because"):
        future.result()
    with pytest.raises(CancelledError):
        client.gather([future])
    with pytest.raises(CancelledError):
        wait(future)
    assert client.gather([future], errors="skip") == []
    assert future.exception() is None
    fake.hold.set()
    assert client.submit(inc, 1).result() == 2
    client.cancel([])


def test_retry(client):
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 2:
            raise ValueError("not yet")
        return len(calls)

    future = client.submit(flaky)
    wait(future)
    assert future.status == "error"
    future.retry()
    if client.session.live:
        assert future.result(timeout=5) == 2
    else:
        wait(future)


def test_callbacks(client):
    seen = []
    future = client.submit(inc, 1)
    future.add_done_callback(lambda f: seen.append(f.result()))
    future.result()
    poll_for(lambda: seen == [2])
    future.add_done_callback(lambda f: seen.append(f.status))
    poll_for(lambda: seen == [2, "finished"])
    with pytest.raises(TypeError):
        future.add_done_callback(5)


def test_as_completed(client):
    futures = client.map(inc, range(10))
    assert {f.result() for f in as_completed(futures)} == set(range(1, 11))
    assert sorted(r for _, r in as_completed(futures, with_results=True)) == list(range(1, 11))
    bad = client.submit(div, 1, 0)
    [(future, (kind, error, traceback))] = as_completed([bad], with_results=True, raise_errors=False)
    assert future is bad and kind is ZeroDivisionError and isinstance(error, kind) and traceback is not None
    with pytest.raises(ZeroDivisionError):
        list(as_completed([bad], with_results=True))
    with pytest.raises(TypeError, match="takes futures"):
        as_completed([1])
    ac = as_completed()
    assert ac.is_empty() and not ac.has_ready() and ac.count() == 0 and list(ac) == []
    ac.add(futures[0])
    assert ac.count() == 1 and ac.next() is futures[0]
    ac.update(futures[:3])
    assert set(ac.next_batch(block=True)) <= set(futures[:3])
    ac.clear()
    assert ac.next_batch(block=False) == [] and ac.is_empty()
    ac.update([futures[0], futures[0]])
    assert list(ac) == [futures[0], futures[0]]
    ac.update(futures)
    assert sum(len(batch) for batch in ac.batches()) == 10
    with ac.lock:
        ac.futures.clear()
        while not ac.queue.empty():
            ac.queue.get()


def test_futures_can_be_added_while_iterating(client):
    ac = as_completed([client.submit(inc, 0)])
    seen = []
    for future in ac:
        seen.append(future.result())
        if len(seen) < 5:
            ac.add(client.submit(inc, future))
    assert seen == [1, 2, 3, 4, 5]


def test_wait(fake, client):
    a, b = client.map(inc, [1, 2])
    done, not_done = wait([a, [b]])
    assert done == {a, b} and not not_done
    fake.hold.clear()
    slow = client.submit(inc, 10)
    done, not_done = wait([a, slow], return_when="FIRST_COMPLETED")
    assert done == {a} and not_done == {slow}
    with pytest.raises(ValueError, match="return_when"):
        wait([a], return_when="SOME")
    assert wait([]).done == set()


def test_fire_and_forget(fake, client):
    fire_and_forget(client.submit(inc, 1))
    poll_for(lambda: any(isinstance(m, FireAndForget) for m in fake.messages))
    fire_and_forget([])


def test_pickled_futures_bind_again(client):
    future = client.submit(inc, 1)
    again = pickle.loads(pickle.dumps(future))
    assert again.client is client and again.result() == 2 and again.key == future.key
    assert Future(future.key).result() == 2
    with pytest.raises(CancelledError):
        Future("unknown").result(timeout=5)
    future.extra = 1  # users may
    assert future != again and len({future, again}) == 2
    from dask._task_spec import TaskRef
    from dask.tokenize import tokenize

    assert isinstance(future, TaskRef) and tokenize(future) == tokenize(again)


def test_progress(client, capsys):
    from distributed import progress

    progress(client.map(inc, range(10)))
    assert "100% Completed" in capsys.readouterr().out
