"""The client with real workers in processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from operator import add

import numpy as np
import pytest

from distributed import (
    Client,
    KilledWorker,
    LocalCluster,
    as_completed,
    fire_and_forget,
    get_client,
    get_worker,
    rejoin,
    secede,
    wait,
    worker_client,
)
from distributed.base.errors import WorkerStartTimeoutError


def inc(x):
    return x + 1


def div(x, y):
    return x / y


def until(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def test_the_basics(client, cluster):
    assert client.cluster is cluster and client.loop is cluster.loop
    assert repr(client).startswith(f"<Client: {cluster.scheduler_address!r} processes=2 threads=2, memory=")
    assert client.submit(inc, 1).result() == 2
    assert client.gather(client.map(inc, range(500))) == list(range(1, 501))
    assert client.submit(sum, client.map(inc, range(10))).result() == 55
    with pytest.raises(ZeroDivisionError) as info:
        client.submit(div, 1, 0).result()
    assert "div" in [entry.name for entry in info.traceback]


def test_large_values_both_ways(client):
    array = np.arange(2_000_000)
    future = client.submit(lambda n: np.arange(n), 2_000_000)
    np.testing.assert_array_equal(future.result(), array)
    np.testing.assert_array_equal(client.gather(future, direct=False), array)
    placed = client.scatter(array, broadcast=True)
    assert len(client.who_has(placed)[placed.key]) == 2
    sums = client.map(lambda i, a: int(a.sum()) + i, range(4), a=placed)
    assert client.gather(sums) == [int(array.sum()) + i for i in range(4)]
    parts = client.scatter([np.ones(10) * i for i in range(6)])
    assert {len(keys) > 0 for keys in client.has_what().values()} == {True}
    assert client.submit(lambda parts: float(sum(p.sum() for p in parts)), parts).result() == 150
    assert client.gather(client.scatter({"a": 1, "b": 2}, direct=False)) == {"a": 1, "b": 2}


def test_restrictions(client):
    _, second = client.nthreads()
    futures = client.map(lambda x: get_worker().address, range(6), workers=[second], pure=False)
    assert set(client.gather(futures)) == {second}
    future = client.submit(inc, 1, resources={"GPU": 1}, pure=False)
    until(lambda: client.why(future)["state"] == "no-worker")
    assert "GPU" in client.why(future)["text"]
    future.cancel()


def test_retries_and_retry(client, tmp_path):
    path = tmp_path / "count"

    def flaky(times):
        with path.open("a") as file:
            file.write("x")
        if len(path.read_text()) < times:
            raise ValueError(f"call {len(path.read_text())}")
        return "done"

    assert client.submit(flaky, 3, retries=5).result() == "done"
    path.write_text("")
    future = client.submit(flaky, 2, pure=False)
    assert isinstance(future.exception(), ValueError)
    future.retry()
    assert future.result(timeout=10) == "done"


def test_killed_worker_names_the_cause(client):
    with pytest.raises(KilledWorker, match="exit code 5") as info:
        client.submit(os._exit, 5, pure=False).result(timeout=60)
    assert len(info.value.attempts) >= 1
    client.wait_for_workers(2, timeout=30)
    assert client.submit(inc, 1).result(timeout=10) == 2


def test_tasks_that_submit_tasks(client):
    def fib(n):
        if n < 2:
            return n
        inner = get_client()
        a, b = inner.submit(fib, n - 1), inner.submit(fib, n - 2)
        return inner.submit(add, a, b).result()

    assert client.submit(fib, 7).result(timeout=60) == 13

    def total(n):
        with worker_client() as inner:
            assert get_client() is inner
            return sum(future.result() for future in as_completed(inner.map(inc, range(n))))

    assert client.submit(total, 5).result(timeout=30) == 15

    def leaves():
        secede()
        value = get_client().submit(inc, 1).result()
        rejoin()
        return value

    assert client.submit(leaves).result(timeout=30) == 2

    async def coroutine():
        return await get_client().submit(inc, 10)

    assert client.submit(coroutine).result(timeout=30) == 11


def test_futures_hidden_in_objects(client):
    class Box:
        def __init__(self, future):
            self.future = future

    inner = client.submit(inc, 1)
    assert client.submit(lambda box: box.future.result(), Box(inner)).result(timeout=30) == 2


def test_a_pure_call_runs_again_once_its_future_has_died(client):
    assert len({client.submit(os.urandom, 16).result() for _ in range(20)}) == 20
    future = client.submit(os.urandom, 16)
    assert client.submit(os.urandom, 16).result() == future.result()


def test_run(client):
    addresses = set(client.nthreads())
    assert client.run(inc, 1) == dict.fromkeys(addresses, 2)
    assert client.run(lambda dask_worker: dask_worker.address) == {a: a for a in addresses}
    one = sorted(addresses)[0]
    assert client.run(os.getpid, workers=[one]).keys() == {one}
    with pytest.raises(ZeroDivisionError):
        client.run(div, 1, 0)
    assert {type(e) for e in client.run(div, 1, 0, on_error="return").values()} == {ZeroDivisionError}
    assert client.run(div, 1, 0, on_error="ignore") == {}
    assert client.run(inc, 1, wait=False) is None
    assert client.run(dict, status="OK") == {a: {"status": "OK"} for a in addresses}

    async def later():
        await asyncio.sleep(0)
        return 5

    assert set(client.run(later).values()) == {5}
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address) == client.scheduler.address
    assert client.run_on_scheduler(inc, 1) == 2
    with pytest.raises(ZeroDivisionError):
        client.run_on_scheduler(div, 1, 0)


def test_questions(client):
    future = client.submit(inc, 41)
    wait(future)
    [holder] = client.who_has(future)[future.key]
    assert future.key in client.has_what()[holder] and future.key in client.has_what([holder])[holder]
    assert client.ncores() == client.nthreads() and set(client.nthreads().values()) == {1}
    assert client.nbytes()["inc"] > 0 and client.nbytes(summary=False)[future.key] > 0
    assert client.processing() == dict.fromkeys(client.nthreads(), ())
    assert [entry[2] for entry in client.story(future)][-1] == "memory"
    assert client.why(future)["state"] == "memory"
    info = client.scheduler_info()
    assert info["address"] == client.scheduler.address and len(info["workers"]) == 2
    assert len(client.scheduler_info(n_workers=1)["workers"]) == 1
    client.set_metadata("x", 1)
    client.set_metadata(["a", "b"], 2)
    assert client.get_metadata("x") == 1 and client.get_metadata(["a"]) == {"b": 2}
    assert client.get_metadata("none", default=3) == 3
    with pytest.raises(KeyError):
        client.get_metadata("none")
    versions = client.get_versions(check=True)
    assert versions["client"]["packages"].keys() == next(iter(versions["workers"].values()))["packages"].keys()
    client.log_event("topic", {"a": 1})
    until(lambda: client.get_events("topic"))


def test_wait_for_workers(client):
    client.wait_for_workers(2, timeout=10)
    with pytest.raises(WorkerStartTimeoutError, match="2/5"):
        client.wait_for_workers(5, timeout=0.1)


def test_upload_file(client, tmp_path):
    path = tmp_path / "uploaded_module.py"
    path.write_text("value = 123\n")
    client.upload_file(str(path))

    def use():
        import uploaded_module

        return uploaded_module.value

    assert client.submit(use, pure=False).result(timeout=10) == 123


def test_fire_and_forget(client, tmp_path):
    path = tmp_path / "made"
    fire_and_forget(client.submit(path.write_text, "x"))
    until(path.exists)


def test_what_cannot_be_pickled(client):
    start = time.monotonic()
    with pytest.raises(TypeError, match="lock"):
        client.submit(inc, threading.Lock()).result(timeout=30)
    with pytest.raises(TypeError, match="lock"):
        client.submit(threading.Lock, pure=False).result(timeout=30)
    assert time.monotonic() - start < 25


def test_restart(client):
    future = client.submit(inc, 1)
    future.result()
    pids = client.run(os.getpid)
    client.restart(timeout=60)
    assert future.status == "cancelled"
    assert not set(pids.values()) & set(client.run(os.getpid).values())
    assert client.submit(inc, 1).result(timeout=20) == 2


def test_executor(client):
    with client.get_executor(retries=1) as executor:
        assert list(executor.map(pow, range(5), range(5))) == [1, 1, 4, 27, 256]


def test_asynchronous_client_makes_its_cluster():
    async def main():
        async with Client(processes=False, n_workers=1, dashboard_address=None, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
            assert len(client.scheduler_info()["workers"]) == 1
            assert await client.run(inc, 1)
            cluster = client.cluster
        assert cluster.status.name == "closed"

    asyncio.run(main())


def run_script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)


def test_a_script_that_forgets_to_close(tmp_path):
    done = run_script(
        tmp_path,
        """
        from distributed import Client

        if __name__ == "__main__":
            client = Client(n_workers=1, dashboard_address=None)
            future = client.submit(lambda x: x + 1, 1)
            print(future.result())
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2\n" and done.stderr == ""


def test_shutdown():
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None)
    client = Client(cluster)
    client.submit(inc, 1).result()
    client.shutdown()
    assert client.status == "closed" and cluster.status.name == "closed"
