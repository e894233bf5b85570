"""What ``concurrent.futures`` promises of an executor, asked of ``client.get_executor()`` with worker processes."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import logging
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
            for value in executor.map(wait_for_file, [os.devnull, tmp_path / "go"], [1, 2], timeout=2):
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
    assert gone.wait(30)


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


def test_map_of_nothing_and_of_unequal_lengths(executor):
    assert list(executor.map(abs)) == []
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(pow, [1, 2, 3], [2, 2])) == [1, 4]


def test_map_runs_although_nobody_looks(executor, tmp_path):
    executor.map(touch, [tmp_path / str(i) for i in range(10)])
    gc.collect()
    until(lambda: len(os.listdir(tmp_path)) == 10)


def test_map_takes_no_more_than_the_time_it_was_given(executor, tmp_path):
    results = executor.map(wait_for_file, [tmp_path / "go"] * 2, timeout=0)
    try:
        with pytest.raises(cf.TimeoutError):
            next(results)
    finally:
        touch(tmp_path / "go")


def test_callbacks(executor, tmp_path, caplog):
    future = executor.submit(wait_for_file, tmp_path / "go", 5)
    called = []

    def fail(done):
        called.append("fail")
        raise ZeroDivisionError("in a callback")

    future.add_done_callback(fail)
    future.add_done_callback(lambda done: called.append(done.result()))
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        touch(tmp_path / "go")
        assert future.result(timeout=10) == 5
        until(lambda: len(called) == 2)
    assert called == ["fail", 5] and "in a callback" in caplog.text
    future.add_done_callback(lambda done: called.append("late"))  # at once
    assert called[-1] == "late"
    cancelled = executor.submit(wait_for_file, tmp_path / "never")
    cancelled.add_done_callback(lambda done: called.append(done.cancelled()))
    assert cancelled.cancel() and cancelled.cancel()
    until(lambda: called[-1] is True)
    with pytest.raises(cf.CancelledError):
        cancelled.exception(timeout=10)


class OwnError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


def fail(code):
    raise OwnError(code, "as asked")


def test_exceptions_are_those_of_the_call(executor):
    future = executor.submit(fail, 7)
    error = future.exception(timeout=10)
    assert isinstance(error, OwnError) and error.code == 7 and error.args == (7, "as asked")
    with pytest.raises(OwnError) as caught:
        future.result()
    assert "fail" in [entry.name for entry in caught.traceback]  # where it was raised, there
    with pytest.raises(OwnError):
        list(executor.map(fail, [1, 2]))


def test_what_cannot_be_pickled_is_an_error_of_its_own_call(executor):
    for call in (lambda: executor.submit(capture, threading.Lock()), lambda: executor.submit(threading.Lock)):
        with pytest.raises(Exception, match="lock"):
            call().result(timeout=10)
    assert executor.submit(pow, 2, 3).result(timeout=10) == 8


def test_the_time_to_wait_is_that_of_the_wait(executor, tmp_path):
    future = executor.submit(wait_for_file, tmp_path / "go", 1)
    for wait in (future.result, future.exception):
        with pytest.raises(cf.TimeoutError):
            wait(timeout=0.01)
    done = executor.submit(pow, 1, 1)
    assert done.result(timeout=10) == 1
    assert cf.wait([done, done, future], timeout=0.01) == ({done}, {future})
    found = cf.as_completed([done, future], timeout=0.05)
    assert next(found) is done
    with pytest.raises(cf.TimeoutError):
        next(found)
    touch(tmp_path / "go")
    assert next(cf.as_completed([future])).result() == 1


def test_shutdown_without_waiting(client, tmp_path):
    executor = client.get_executor()
    futures = [executor.submit(wait_for_file, tmp_path / "never") for _ in range(6)]
    executor.shutdown(wait=False)
    assert cf.wait(futures, timeout=10).not_done == set()
    assert all(future.cancelled() for future in futures)
    assert client.submit(pow, 2, 4).result(timeout=10) == 16


def test_an_error_in_the_with_block_waits_too(client, tmp_path):
    with pytest.raises(ZeroDivisionError), client.get_executor() as executor:
        executor.submit(touch, tmp_path / "there")
        raise ZeroDivisionError
    assert os.path.exists(tmp_path / "there")


def test_for_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        both = [loop.run_in_executor(executor, pow, 2, 5), asyncio.wrap_future(executor.submit(pow, 2, 6))]
        return await asyncio.gather(*both)

    assert asyncio.run(main()) == [32, 64]


def test_many_calls(executor):
    futures = [executor.submit(operator.neg, i) for i in range(500)]
    assert sorted(future.result() for future in cf.as_completed(futures, timeout=60)) == list(range(-499, 1))
