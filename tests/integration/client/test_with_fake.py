"""The client alone: its peer is a small fake, which can be held, asked what it was sent, and made to fail."""

from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import pickle
import threading
import time
import weakref
from operator import add

import numpy as np
import pytest

from distributed import CancelledError, Client, Future, as_completed, fire_and_forget, futures_of, get_client, wait
from distributed.base.errors import FutureCancelledError
from distributed.client import ClosedClientError, default_client
from distributed.client import session as session_module
from distributed.messages.client_to_scheduler import FireAndForget, ReleaseKeys, UpdateGraph
from distributed.messages.scheduler_to_client import KeysLost
from distributed.protocol.serialize import loads
from tests.integration.client.fake_cluster import fake_cluster


def inc(x):
    return x + 1


def div(x, y):
    return x / y


def until(condition, timeout=5.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.005)


def test_submit(client):
    future = client.submit(inc, 1)
    assert future.result() == 2
    assert future.status == "finished" and future.done() and future.type is int
    assert repr(future) == f"<Future: finished, type: int, key: {future.key}>"
    assert client.submit(inc, 1).key == future.key
    assert client.submit(inc, 1, pure=False).key != future.key
    assert client.submit(inc, 1, key="own").key == "own"
    assert client.submit(inc, 1, key=("x", 0)).result() == 2
    assert client.submit(inc, 1, key=b"bytes").key == b"bytes"
    assert future.exception() is None and future.traceback() is None


def test_futures_as_arguments(client):
    a, b = client.submit(inc, 1), client.submit(inc, 2)
    assert client.submit(add, a, b).result() == 5
    assert client.submit(sum, [a, b, 1]).result() == 6
    assert client.submit(lambda d: d["k"][0] + d["v"], {"k": (a,), "v": b}).result() == 5
    assert client.submit(sorted, {a, b}).result() == [2, 3]
    assert client.submit(add, a, b).key == client.submit(add, a, b).key != client.submit(add, b, a).key


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


def test_what_cannot_be_pickled_is_the_error_of_that_future(client):
    if client.session.live:
        pytest.skip("nothing is pickled")
    lock = threading.Lock()

    class Model:
        def __init__(self):
            self.lock = lock

    future = client.submit(inc, Model())
    with pytest.raises(TypeError, match="lock"):
        future.result(timeout=30)
    assert client.submit(inc, future).status == "error"  # what needs it fails, too
    assert client.submit(lambda: lock).status == "error"
    futures = client.map(inc, [1, lock, 3])
    assert [f.status for f in wait(futures).done] and futures[1].status == "error"
    assert client.gather(futures, errors="skip") == [2, 4]
    value = client.submit(threading.Lock)
    with pytest.raises(TypeError):
        value.result(timeout=5)
    with pytest.raises(TypeError):
        client.scatter(lock)


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
    until(lambda: key in fake.released)
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
    until(lambda: len(fake.released) == 6)
    (message,) = [m for m in fake.messages if isinstance(m, ReleaseKeys)]
    assert message.keys == keys


def test_released_and_submitted_again_at_once(client):
    for _ in range(300):
        assert client.submit(inc, 7).result() == 8


def test_release(fake, client):
    future = client.submit(inc, 1)
    future.result()
    future.release()
    until(lambda: future.key in fake.released)
    future.release()


def test_map(client):
    assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
    assert client.gather(client.map(add, [1, 2, 3], [10, 20])) == [11, 22]
    assert client.gather(client.map(add, [1, 2], (i for i in itertools.count(5)))) == [6, 8]
    futures = client.map(inc, [1, 2], key="pre")
    assert [f.key.startswith("pre-") for f in futures] == [True, True]
    assert [f.key for f in client.map(inc, [1, 2], key=["a", ("b", 1)])] == ["a", ("b", 1)]
    assert client.map(inc, [1])[0].key == client.submit(inc, 1).key
    assert len({f.key for f in client.map(inc, [1, 1], pure=False)}) == 2
    assert client.gather(client.map(inc, client.map(inc, range(3)))) == [2, 3, 4]
    assert client.gather(client.map(pow, [1, 2, 3], exp=2)) == [1, 4, 9]
    assert client.gather(client.map(inc, range(10), batch_size=3)) == list(range(1, 11))
    assert client.map(inc, []) == []
    with pytest.raises(ValueError, match="1 keys for 2 calls"):
        client.map(inc, [1, 2], key=["a"])


def test_map_sends_options_and_large_keyword_arguments_once(fake, client):
    big = np.arange(50_000)
    futures = client.map(lambda x, data: int(data[x]), range(20), data=big, priority=3)
    assert client.gather(futures) == list(range(20))
    graphs = [m for m in fake.messages if isinstance(m, UpdateGraph)]
    assert sum(len(m.tasks) for m in graphs) == 21
    many = [m for m in graphs if len(m.tasks) > 1]
    assert all(m.options[task.options].priority == 3 for m in many for task in m.tasks)


def test_map_streams(fake, client):
    started = []

    def source():
        for i in range(30_000):
            if not started and any(isinstance(m, UpdateGraph) for m in fake.messages):
                started.append(i)
            yield i

    futures = client.map(inc, source(), pure=False)
    assert len(futures) == 30_000
    assert started and started[0] < 25_000, "the first task was there before the last ones were made"
    parts = [m for m in fake.messages if isinstance(m, UpdateGraph)]
    until(lambda: sum(len(m.tasks) for m in fake.messages if isinstance(m, UpdateGraph)) == 30_000)
    assert max(len(m.tasks) for m in parts) <= 1000
    ranks = [m.first_rank for m in fake.messages if isinstance(m, UpdateGraph) and m.tasks]
    assert ranks == sorted(ranks)


def test_functions_are_sent_once(fake, client):
    for i in range(5):
        client.submit(inc, i).result()
    client.gather(client.map(inc, range(3000)))
    sent = [blob.digest for m in fake.messages if isinstance(m, UpdateGraph) for blob in m.functions]
    assert len(sent) == len(set(sent)) == 1


def test_functions_by_value_take_along_what_is_true_now(client):
    box = [1]
    func = lambda: box[0]
    assert client.submit(func, pure=False).result() == 1
    box[0] = 2
    assert client.submit(func, pure=False).result() == 2


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
        until(lambda: futures[0].status == "lost")
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
    until(lambda: seen == [2])
    future.add_done_callback(lambda f: seen.append(f.status))
    until(lambda: seen == [2, "finished"])
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


def test_many_threads(client):
    results: dict[int, list[int]] = {}

    def work(number):
        futures = [client.submit(inc, i % 50) for i in range(200)]
        results[number] = client.gather(futures)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(results[i] == [j % 50 + 1 for j in range(200)] for i in range(8))


def test_get(client):
    dsk = {"x": 1, "y": (inc, "x"), ("z", 0): (sum, ["x", "y"]), "a": "y", "w": (inc, (inc, "y"))}
    assert client.get(dsk, "y") == 2
    assert client.get(dsk, ["y", [("z", 0), ["x"]], "a", "w"]) == [2, [3, [1]], 2, 4]
    futures = client.get({"p": (inc, 1), "q": (inc, "p")}, ["p", ["q"]], sync=False)
    assert futures[1][0].result() == 3
    held = client.submit(inc, 1)
    assert client.get({"u": (inc, held)}, "u") == 3
    with pytest.raises(CancelledError):
        client.get({"x": 1}, "nowhere")
    with pytest.raises(ZeroDivisionError):
        client.get({"bad": (div, 1, 0)}, "bad")
    with pytest.raises(TypeError):
        client.get(5, "x")


def test_delayed(client):
    dask = pytest.importorskip("dask")
    total = dask.delayed(sum)([dask.delayed(inc)(i) for i in range(5)])
    assert total.compute() == 15
    future = client.compute(total)
    assert isinstance(future, Future) and future.result() == 15
    assert client.compute([total, 5])[1] == 5
    persisted = client.persist(total)
    assert futures_of(persisted) and persisted.compute() == 15


def test_fire_and_forget(fake, client):
    fire_and_forget(client.submit(inc, 1))
    until(lambda: any(isinstance(m, FireAndForget) for m in fake.messages))
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


def test_current_clients(fake):
    with pytest.raises(ValueError):
        default_client()
    import dask

    before = dask.config.get("scheduler", None)
    with Client(fake.address) as first:
        assert default_client() is get_client() is Client.current() is first
        assert dask.config.get("scheduler") == "dask.distributed"
        with Client(fake.address, set_as_default=False) as second:
            assert default_client() is first
            with second.as_current():
                assert default_client() is get_client() is Client.current() is second
                assert dask.base.get_scheduler() == second.get
            assert default_client(second) is second
            assert dask.base.get_scheduler() == first.get
    assert dask.config.get("scheduler", None) == before
    with pytest.raises(ValueError):
        Client.current()
    with pytest.raises(ValueError):
        get_client()


def test_a_closed_client_says_so(fake):
    client = Client(fake.address)
    done, fresh = client.submit(inc, 1), None
    done.result()
    fake.hold.clear()
    pending = client.submit(inc, 2)
    waiter = []
    thread = threading.Thread(target=lambda: waiter.append(pending.exception()))
    thread.start()
    client.close()
    thread.join(5)
    assert not thread.is_alive(), "nothing waits for ever"
    assert pending.status == "cancelled"
    with pytest.raises(CancelledError):
        pending.result()
    for call in (
        lambda: client.submit(inc, 1),
        lambda: client.map(inc, [1]),
        lambda: client.scatter(1),
        lambda: client.who_has(),
        lambda: client.get({"x": 1}, "x"),
        lambda: client.cancel(done),
        lambda: client.run(inc, 1),
        lambda: client.scheduler_info(),
    ):
        start = time.monotonic()
        with pytest.raises(ClosedClientError):
            call()
        assert time.monotonic() - start < 20
    client.close()
    assert client.status == "closed" and "No scheduler" in repr(client) and fresh is None
    with Client(fake.address) as other:
        with pytest.raises(ValueError, match="closed"):
            other.submit(inc, done)


def test_futures_of_siblings(fake, client):
    with Client(fake.address, set_as_default=False) as sibling:
        theirs = sibling.submit(inc, 1)
        assert client.submit(inc, theirs).result() == 3
        with pytest.raises(ValueError, match="another client"):
            client.gather([theirs])
    with fake_cluster("inproc://") as elsewhere, Client(elsewhere.address, set_as_default=False) as stranger:
        with pytest.raises(ValueError, match="another client"):
            client.submit(inc, stranger.submit(inc, 1))


def test_bad_arguments(client):
    with pytest.raises(TypeError, match="callable"):
        client.submit(1)
    with pytest.raises(TypeError, match="callable"):
        client.map(1, [1])
    with pytest.raises(TypeError):
        client.map(inc)
    with pytest.raises(TypeError):
        client.map(inc, 5)
    with pytest.raises(TypeError, match="key"):
        client.submit(inc, 1, key=[1])
    with pytest.raises(TypeError, match="allow_other_workers"):
        client.submit(inc, 1, allow_other_workers="x")
    with pytest.raises(ValueError, match="workers="):
        client.map(inc, [1], allow_other_workers=True)
    with pytest.raises(ValueError, match="on_error"):
        client.run(inc, 1, on_error="x")
    for wrong in (0, -1, "x", None, 1.5, True):
        with pytest.raises(ValueError, match="above zero"):
            client.wait_for_workers(wrong)
    with pytest.raises(FileNotFoundError):
        client.upload_file("/no/such/file.py")
    with pytest.raises(TypeError, match="foo"):
        Client(client.scheduler_address, foo=1)
    with pytest.raises(TypeError, match="cluster object"):
        Client(5)
    with pytest.raises(ValueError, match="scheme"):
        Client("foo://bar")
    with pytest.raises(ValueError):
        Client(client.scheduler_address, timeout="soon")
    assert default_client() is client


def test_dead_addresses():
    start = time.monotonic()
    with pytest.raises(OSError):
        Client("tcp://127.0.0.1:1", timeout=10)
    assert time.monotonic() - start < 9
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises((OSError, TimeoutError)):
            Client(f"tcp://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - start < 20
    with pytest.raises(ValueError):
        default_client()


def test_nothing_is_left_behind(fake):
    def threads():
        return {t for t in threading.enumerate() if t.name.startswith(("IO loop", "Future"))}

    before = threads()
    client = Client(fake.address)
    future = client.submit(inc, 1)
    future.add_done_callback(lambda f: None)
    future.result()
    client.close()
    until(lambda: threads() <= before)
    reference = weakref.ref(client)
    del client, future
    gc.collect()
    assert reference() is None


def test_asynchronous(fake):
    async def main():
        async with Client(fake.address, asynchronous=True) as client:
            assert client.asynchronous
            with pytest.raises(TypeError, match="async with"):
                client.__enter__()
            future = client.submit(inc, 1)
            assert await future == 2
            assert await future.result() == 2
            assert await client.gather([future, client.submit(inc, 2)]) == [2, 3]
            assert (await wait([future])).done == {future}
            assert await client.gather(await client.scatter([1, 2])) == [1, 2]
            assert isinstance(await client.submit(div, 1, 0).exception(), ZeroDivisionError)
            seen = [f async for f in as_completed(client.map(inc, range(5)))]
            assert len(seen) == 5
            pairs = [pair async for pair in as_completed(client.map(inc, range(5)), with_results=True)]
            assert sorted(value for _, value in pairs) == [1, 2, 3, 4, 5]
            async for batch in as_completed(client.map(inc, range(5))).batches():
                assert batch
            with pytest.raises(TimeoutError):
                fake.hold.clear()
                try:
                    await client.submit(inc, 100).result(timeout=0.05)
                finally:
                    fake.hold.set()
            assert await client.get({"x": (inc, 1)}, "x") == 2
            assert await client.sync(asyncio.sleep, 0, 5) == 5
            await client.cancel(future)
            # From another thread the same client is synchronous.
            assert await asyncio.to_thread(lambda: client.submit(inc, 5).result()) == 6
        assert client.status == "closed"
        client = await Client(fake.address, asynchronous=True)
        closing = client.close()
        await closing

    asyncio.run(main())


def test_joblib_uses_a_sync_client_on_its_loop(fake, client):
    seen = []
    done = threading.Event()
    ac = as_completed([], loop=client.loop, with_results=True, raise_errors=False)

    async def collect():
        assert client.asynchronous
        data = await client.scatter([5], asynchronous=True, hash=False)
        ac.add(client.submit(inc, data[0], pure=False))
        async for _, result in ac:
            seen.append(result)
        done.set()

    client.loop.add_callback(collect)
    assert done.wait(5) and seen == [6]
    assert client.sync(asyncio.sleep, 0, 1) == 1


def test_executor(client):
    with client.get_executor() as executor:
        assert executor.submit(inc, 1).result(5) == 2
        assert list(executor.map(inc, range(5))) == [1, 2, 3, 4, 5]
        with pytest.raises(ZeroDivisionError):
            executor.submit(div, 1, 0).result(5)
        assert executor.submit(operator.methodcaller("upper"), "a").result(5) == "A"
    with pytest.raises(RuntimeError):
        executor.submit(inc, 1)
    with pytest.raises(TypeError, match="foo"):
        client.get_executor(foo=1)


def break_connections(fake):
    for connection in list(fake.connections):
        fake.asyncio_loop.call_soon_threadsafe(connection.abort)


def test_a_broken_connection_is_made_again(fake, client):
    done = client.submit(inc, 1)
    done.result()
    fake.hold.clear()
    pending = client.submit(inc, 2)
    client.run_on_scheduler  # what was submitted leaves before the break or after it
    break_connections(fake)
    until(lambda: client.session.link.counts["resumed"] == 1)
    until(lambda: client.status == "running")
    fake.hold.set()
    assert pending.result(timeout=5) == 3
    assert done.status == "finished"
    assert client.submit(inc, 4).result(timeout=5) == 5


def test_a_scheduler_that_forgot_us_cancels_and_goes_on(fake, client):
    future = client.submit(inc, 1)
    future.result()
    fake.forgetful = True
    break_connections(fake)
    until(lambda: future.status == "cancelled")
    with pytest.raises(CancelledError, match="session with the scheduler is over"):
        future.result()
    until(lambda: client.status == "running")
    assert client.submit(inc, 1).result(timeout=5) == 2


def test_scheduler_file(tmp_path, fake):
    import json

    path = tmp_path / "scheduler.json"
    with pytest.raises(TimeoutError, match="scheduler file"):
        Client(scheduler_file=str(path), timeout=0.1)
    threading.Timer(0.2, lambda: path.write_text("{")).start()
    threading.Timer(0.4, lambda: path.write_text(json.dumps({"address": fake.address}))).start()
    with Client(scheduler_file=str(path), timeout=10) as client:
        assert client.submit(inc, 1).result() == 2


def test_annotations(fake, client):
    import dask

    with dask.annotate(priority=7, retries=2, colour="red"):
        client.submit(inc, 1).result()
    [graph] = [m for m in fake.messages if isinstance(m, UpdateGraph)]
    options = graph.options[graph.tasks[0].options]
    assert options.priority == 7 and options.retries == 2 and options.annotations == {"colour": "red"}


def test_annotations_that_cannot_be_sent(client):
    import dask

    with dask.annotate(lock=threading.Lock()), pytest.raises(TypeError, match=r"annotations must be .*lock"):
        client.submit(inc, 1)


def test_restart(fake, client):
    future = client.submit(inc, 1)
    future.result()
    client.restart()
    assert future.status == "cancelled"


def test_arguments_may_be_changed_after_submitting(fake, client):
    fake.hold.clear()
    items, array = [1, 2], np.ones(2000)
    total = client.submit(sum, items)
    if not client.session.live:
        other = client.submit(lambda a: float(a.sum()), array)
    items.append(100)
    array[:] = 0
    fake.hold.set()
    assert total.result() == 3
    if not client.session.live:
        assert other.result() == 2000


def test_large_graphs_warn(client):
    with pytest.warns(UserWarning, match="of arguments go along"):
        client.submit(len, b"x" * 11_000_000).result()


def test_release_comes_after_the_graph_that_needs_the_key(fake, client):
    def use():
        held = client.submit(inc, 1)
        return client.submit(inc, held)

    assert use().result() == 3
    until(lambda: any(isinstance(m, ReleaseKeys) for m in fake.messages))


def test_progress(client, capsys):
    from distributed import progress

    progress(client.map(inc, range(10)))
    assert "100% Completed" in capsys.readouterr().out
