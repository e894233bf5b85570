"""What ``concurrent.futures`` promises of an executor, asked of ``client.get_executor()`` with worker processes."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import operator
import os
import threading
import time
import weakref

import pytest

from distributed import Client, LocalCluster
from distributed.client import Future
from tests.integration.facts import until


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def executor(client):
    with client.get_executor() as executor:
        yield executor


def capture(*args, **kwargs):
    return args, kwargs


def wait_for_file(path, value=None):
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def touch(path):
    open(path, "w").close()


def test_submit(executor):
    assert executor.submit(pow, 2, 8).result() == 256
    assert executor.submit(capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    # Options of client.submit are arguments of the function here.
    assert executor.submit(capture, workers=1, key=2, timeout=3).result() == (
        (),
        {"workers": 1, "key": 2, "timeout": 3},
    )
    with pytest.raises(TypeError):
        executor.submit(fn=capture)
    with pytest.raises(TypeError):
        executor.submit()


def test_map(executor):
    assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == list(map(pow, range(10), range(10)))
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert (next(results), next(results)) == ((0, 1), (0, 1))
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(executor, tmp_path):
    results = []
    try:
        with pytest.raises(cf.TimeoutError):
            for value in executor.map(wait_for_file, [os.devnull, tmp_path / "go"], [1, 2], timeout=0.5):
                results.append(value)
    finally:
        touch(tmp_path / "go")
    assert results == [1]


def test_a_call_runs_although_nobody_keeps_its_future(executor, tmp_path):
    for i in range(20):
        executor.submit(touch, tmp_path / str(i))
        gc.collect()
    until(lambda: len(os.listdir(tmp_path)) == 20)


def test_shutdown_waits(client, tmp_path):
    executor = client.get_executor()
    for i in range(20):
        executor.submit(touch, tmp_path / str(i))
    executor.shutdown()
    assert len(os.listdir(tmp_path)) == 20
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(pow, 2, 5)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.map(pow, [2], [5])
    executor.shutdown()
    assert client.submit(pow, 2, 5).result() == 32  # the client goes on


def test_shutdown_cancels(client, tmp_path):
    executor = client.get_executor()
    running = [executor.submit(wait_for_file, tmp_path / "go", i) for i in range(4)]
    waiting = [executor.submit(capture, i) for i in range(50)]
    threading.Timer(0.05, touch, [tmp_path / "go"]).start()
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.cancelled() or future.done() for future in [*running, *waiting])


def test_references_are_let_go(executor):
    class Value:
        pass

    value = Value()
    gone = threading.Event()
    weakref.finalize(value, gone.set)
    executor.submit(capture, value).result()
    del value
    gc.collect()
    assert gone.wait(5)


def test_wait_for_the_first(executor, tmp_path):
    blocked = executor.submit(wait_for_file, tmp_path / "go")
    quick = executor.submit(operator.mul, 21, 2)
    done, rest = cf.wait([blocked, quick], return_when=cf.FIRST_COMPLETED)
    assert (done, rest) == ({quick}, {blocked})
    touch(tmp_path / "go")
    done, rest = cf.wait([blocked, quick], return_when=cf.ALL_COMPLETED)
    assert (done, rest) == ({blocked, quick}, set())


def test_wait_for_the_first_exception(executor, tmp_path):
    good = executor.submit(operator.mul, 2, 21)
    bad = executor.submit(operator.truediv, 1, 0)
    blocked = executor.submit(wait_for_file, tmp_path / "go")
    try:
        done, rest = cf.wait([good, bad, blocked], timeout=10, return_when=cf.FIRST_EXCEPTION)
        assert bad in done and blocked in rest
    finally:
        touch(tmp_path / "go")


def test_wait_with_a_timeout(executor, tmp_path):
    blocked = executor.submit(wait_for_file, tmp_path / "go")
    done, rest = cf.wait([blocked], timeout=0.05)
    assert (done, rest) == (set(), {blocked})
    touch(tmp_path / "go")
    assert cf.wait([blocked]).done == {blocked}


def test_as_completed(executor, tmp_path):
    futures = [executor.submit(operator.mul, i, 2) for i in range(10)]
    assert {future.result() for future in cf.as_completed(futures)} == set(range(0, 20, 2))
    blocked = executor.submit(wait_for_file, tmp_path / "go")
    try:
        with pytest.raises(cf.TimeoutError):
            list(cf.as_completed([blocked], timeout=0))
    finally:
        touch(tmp_path / "go")
    assert list(cf.as_completed([blocked, blocked])) == [blocked]


def test_states_and_callbacks(executor, tmp_path):
    future = executor.submit(wait_for_file, tmp_path / "go", 5)
    called = []
    future.add_done_callback(called.append)
    assert not future.done()
    with pytest.raises(cf.TimeoutError):
        future.result(timeout=0.01)
    touch(tmp_path / "go")
    assert future.result(timeout=10) == 5
    until(lambda: called == [future])
    assert future.exception() is None
    assert not future.cancel()
    assert isinstance(executor.submit(operator.truediv, 1, 0).exception(), ZeroDivisionError)


def test_cancel(executor, tmp_path):
    blocked = [executor.submit(wait_for_file, tmp_path / "go") for _ in range(4)]
    future = executor.submit(capture, "never")
    try:
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(cf.CancelledError):
            future.result()
        assert cf.wait([future], timeout=10).done == {future}
    finally:
        touch(tmp_path / "go")
    cf.wait(blocked)


def test_many_threads_submit(executor):
    found = []

    def work(n):
        found.append(executor.submit(pow, n, 2).result())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [n**2 for n in range(20)]


def test_unknown_options(client):
    with pytest.raises(TypeError, match="colour"):
        client.get_executor(colour="red")
    assert isinstance(client.get_executor(retries=1), cf.Executor)
    assert not isinstance(client.get_executor().submit(pow, 1, 1), Future)
