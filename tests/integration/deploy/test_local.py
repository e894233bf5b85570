"""LocalCluster with real processes and threads: starting, scaling, closing, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tornado import gen

from distributed import Client, LocalCluster, Nanny, Status, Worker
from distributed.base import garbage
from distributed.deploy.utils import CPU_COUNT, MEMORY_LIMIT
from distributed.testing import async_poll_for, gen_test, inc, open_port, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")

QUIET: dict[str, Any] = {"dashboard_address": None}


def listening_addresses(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        for connection in psutil.Process(pid).net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


def test_garbage_is_looked_for_less_often_while_it_runs() -> None:
    before = gc.get_threshold()
    with LocalCluster(n_workers=1, processes=False, **QUIET), LocalCluster(n_workers=1, processes=False, **QUIET):
        assert gc.get_threshold() == garbage.SELDOM
    assert gc.get_threshold() == before
    with (
        pytest.raises(RuntimeError),
        LocalCluster(n_workers=1, processes=False, scheduler_port=1, host="192.0.2.77", **QUIET),
    ):
        pass
    assert gc.get_threshold() == before


def test_default_is_one_single_thread_process_per_core() -> None:
    with LocalCluster(**QUIET) as cluster:
        assert len(cluster.workers) == CPU_COUNT
        info = cluster.scheduler_info["workers"]
        assert len(info) == CPU_COUNT
        assert all(worker["nthreads"] == 1 for worker in info.values())
        assert all(isinstance(worker, Nanny) for worker in cluster.workers.values())
        assert sum(worker["memory_limit"] for worker in info.values()) <= MEMORY_LIMIT
        with Client(cluster) as client:
            pids = client.run(os.getpid)
            assert len(set(pids.values())) == CPU_COUNT
            assert os.getpid() not in pids.values()
            assert client.submit(inc, 1).result() == 2


def test_processes_false_is_one_worker_with_all_cores() -> None:
    with LocalCluster(processes=False, **QUIET) as cluster:
        assert cluster.scheduler_address.startswith("inproc://")
        (worker,) = cluster.workers.values()
        assert isinstance(worker, Worker)
        assert worker.state.nthreads == CPU_COUNT
        with Client(cluster) as client:
            assert client.submit(os.getpid).result() == os.getpid()


def test_everything_ends_quickly_and_nothing_is_left(tmp_path: Path) -> None:
    me = psutil.Process()
    children = {child.pid for child in me.children(recursive=True)}
    threads = set(threading.enumerate())
    fds = me.num_fds()
    with LocalCluster(n_workers=2, local_directory=str(tmp_path), **QUIET) as cluster, Client(cluster) as client:
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
        started = {child.pid for child in me.children(recursive=True)} - children
        assert len(started) >= 2
        address = cluster.scheduler_address
        begin = time.monotonic()
    assert time.monotonic() - begin < 3
    assert cluster.status == Status.closed
    assert not started & {child.pid for child in me.children(recursive=True)}
    poll_for(lambda: set(threading.enumerate()) <= threads, timeout=5)
    assert me.num_fds() <= fds + 2
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith("global.lock")] == []
    host, port = address.removeprefix("tcp://").split(":")
    with pytest.raises(OSError):
        socket.create_connection((host, int(port)), timeout=1)


def test_sockets_listen_on_loopback_only() -> None:
    with LocalCluster(n_workers=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        pids = [os.getpid(), *client.run(os.getpid).values()]
        assert listening_addresses(pids) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "keywords", [{"host": "127.0.0.1"}, {"ip": "127.0.0.1"}, {"interface": "lo"}, {"protocol": "tcp"}]
)
def test_threads_with_a_tcp_address(keywords: dict[str, Any]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with LocalCluster(processes=False, **keywords, **QUIET) as cluster, Client(cluster) as client:
            assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
            assert client.submit(inc, 1).result() == 2


def test_old_keywords() -> None:
    with (
        pytest.warns(FutureWarning, match="host"),
        LocalCluster(0, ip="127.0.0.1", processes=False, **QUIET) as cluster,
    ):
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
    with pytest.warns(FutureWarning, match="dashboard_address"):
        with LocalCluster(0, processes=False, diagnostics_port=0) as cluster:
            assert cluster.scheduler.status == Status.running
    with pytest.warns(DeprecationWarning, match="start"), LocalCluster(0, start=True, processes=False, **QUIET):
        pass
    options: dict[str, Any] = {
        "services": {},
        "worker_services": {},
        "service_kwargs": {},
        "security": None,
        "loop": None,
    }
    with LocalCluster(1, 1, False, **options, **QUIET) as cluster:
        assert len(cluster.workers) == 1


def test_scheduler_port() -> None:
    port = open_port("127.0.0.1")
    with LocalCluster(0, scheduler_port=port, processes=False, **QUIET) as cluster:
        assert cluster.scheduler_address == f"tcp://127.0.0.1:{port}"
        with pytest.raises(RuntimeError, match="failed to start"):
            LocalCluster(0, scheduler_port=port, processes=False, **QUIET)


def test_scaling_up_and_down() -> None:
    with LocalCluster(1, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        data = client.submit(inc, 1)
        assert data.result() == 2
        cluster.scale(3)
        client.wait_for_workers(3, timeout=20)
        assert sorted(cluster.workers) == [0, 1, 2]
        assert cluster.plan == cluster.requested == cluster.observed == {0, 1, 2}
        cluster.scale(1)
        poll_for(lambda: len(cluster.scheduler_info["workers"]) == 1 and len(cluster.workers) == 1)
        assert data.result() == 2
        assert client.submit(inc, data).result() == 3
        cluster.scale(0)
        poll_for(lambda: not cluster.workers)


def test_scale_by_cores_and_memory() -> None:
    with LocalCluster(0, threads_per_worker=2, processes=False, memory_limit="2GB", **QUIET) as cluster:
        cluster.scale(cores=5)
        assert len(cluster.plan) == 3
        cluster.scale(memory="2.5GB")
        assert len(cluster.plan) == 2
        for bad in (-1, 1.5, "3"):
            with pytest.raises((TypeError, ValueError)):
                cluster.scale(bad)  # type: ignore[arg-type]


def test_add_and_remove_worker() -> None:
    with LocalCluster(1, processes=False, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        worker = cluster.add_worker()
        assert len(cluster.workers) == 2
        assert len(cluster.scheduler_info["workers"]) == 2
        big = cluster.add_worker(nthreads=3, name="big")
        assert client.nthreads()[big.address] == 3
        with pytest.raises(ValueError, match="big"):
            cluster.add_worker(name="big")
        with pytest.raises(TypeError, match="nthread"):
            cluster.add_worker(nthread=3)
        cluster.remove_worker(worker)
        cluster.remove_worker("big")
        assert list(cluster.workers) == [0]
        with pytest.raises(ValueError, match="no worker"):
            cluster.remove_worker(worker)
        third = cluster.start_worker()
        cluster.stop_worker(third)
        assert list(cluster.workers) == [0]


def test_workers_are_a_mapping_and_a_list() -> None:
    with LocalCluster(2, processes=False, threads_per_worker=1, **QUIET) as cluster:
        assert list(cluster.workers) == [0, 1]
        assert cluster.workers[0] is next(iter(cluster.workers.values()))
        assert cluster.workers[-1] is cluster.workers[1]
        assert cluster.workers[:1] == [cluster.workers[0]]
        assert len(cluster.workers) == 2
        with pytest.raises(KeyError):
            cluster.workers[5]
        cluster.remove_worker(0)
        assert list(cluster.workers) == [1]
        assert cluster.workers[0] is cluster.workers[1]


def test_repr() -> None:
    with LocalCluster(2, processes=False, threads_per_worker=3, memory_limit="1GiB", name="alice", **QUIET) as cluster:
        text = repr(cluster)
        assert text.startswith(f"LocalCluster(alice, {cluster.scheduler_address!r}, workers=2, threads=6, memory=")
        assert "2.00 GiB" in text
        assert cluster.name == "alice"
        page = cluster._repr_html_()
        assert cluster.scheduler_address in page
        assert "alice" in page
    repr(cluster)


def test_wait_for_workers_gives_up() -> None:
    from distributed import WorkerStartTimeoutError

    with LocalCluster(0, processes=False, **QUIET) as cluster:
        with pytest.raises(WorkerStartTimeoutError):
            cluster.wait_for_workers(1, timeout="50ms")
        for bad in (0, -1, 1.5, "1", True):
            with pytest.raises(ValueError, match="n_workers"):
                cluster.wait_for_workers(bad)  # type: ignore[arg-type]
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=10)


def test_blocked_handlers() -> None:
    with (
        LocalCluster(1, processes=False, blocked_handlers=["run_function"], **QUIET) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(inc, 1).result() == 2
        with pytest.raises(Exception, match=r"run_function|blocked|not allowed"):
            client.run_on_scheduler(os.getpid)


def test_silence_logs() -> None:
    root = logging.getLogger("distributed")
    before = root.level
    with LocalCluster(0, processes=False, silence_logs=logging.CRITICAL, **QUIET):
        assert root.level == logging.CRITICAL
    assert root.level == before
    with LocalCluster(0, processes=False, silence_logs=False, **QUIET):
        assert root.level == before
    with LocalCluster(0, processes=False, silence_logs="error", **QUIET):
        assert root.level == logging.ERROR
    assert root.level == before


def test_worker_class_and_options() -> None:
    class MyWorker(Worker):
        pass

    with LocalCluster(1, worker_class=MyWorker, resources={"GPU": 2}, threads_per_worker=1, **QUIET) as cluster:
        assert isinstance(cluster.workers[0], MyWorker)
        (info,) = cluster.scheduler_info["workers"].values()
        assert info["resources"] == {"GPU": 2}


def test_get_client_and_logs() -> None:
    with LocalCluster(1, processes=False, **QUIET) as cluster:
        with cluster.get_client() as client:
            assert client.submit(inc, 1).result() == 2
        logs = cluster.get_logs()
        assert {"Cluster", "Scheduler"} <= set(logs)
        assert set(cluster.get_logs(cluster=True, scheduler=False, workers=False)) == {"Cluster"}


def test_client_owns_the_cluster_it_made() -> None:
    client = Client(n_workers=1, processes=False, dashboard_address=None)
    cluster = client.cluster
    assert isinstance(cluster, LocalCluster)
    client.close()
    assert cluster.status == Status.closed


def test_client_positional_workers_and_unknown_keyword() -> None:
    with pytest.raises(TypeError, match="n_worker"):
        Client(n_worker=1)


def test_close_twice_and_use_after() -> None:
    cluster = LocalCluster(1, processes=False, **QUIET)
    cluster.close()
    cluster.close()
    cluster.scale(3)
    assert cluster.status == Status.closed
    repr(cluster)


def test_bad_worker_option_value_is_an_error_at_once() -> None:
    begin = time.monotonic()
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        LocalCluster(1, processes=False, memory_limit="much", **QUIET)
    assert time.monotonic() - begin < 5


@gen_test()
async def test_asynchronous() -> None:
    async with LocalCluster(1, processes=False, asynchronous=True, **QUIET) as cluster:
        assert cluster.asynchronous
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
            await cluster.scale(2)
            assert len(cluster.workers) == 2
            await cluster.wait_for_workers(2)
            worker = await cluster.add_worker()
            await cluster.remove_worker(worker)
            assert len(cluster.workers) == 2
        with pytest.raises(TypeError, match="async with"):
            with cluster:
                pass
    assert cluster.status == Status.closed


@gen_test()
async def test_await_and_close() -> None:
    cluster = await LocalCluster(1, processes=False, asynchronous=True, **QUIET)
    assert await cluster is cluster
    await asyncio.gather(cluster.close(), cluster.close())
    assert cluster.status == Status.closed


def test_tornado_coroutine() -> None:
    from tornado.ioloop import IOLoop

    @gen.coroutine
    def work() -> Any:
        cluster = yield LocalCluster(1, processes=False, asynchronous=True, **QUIET)
        client = yield Client(cluster, asynchronous=True)
        result = yield client.submit(inc, 1)
        yield client.close()
        yield cluster.close()
        return result

    loop = IOLoop(make_current=False)
    try:
        assert loop.run_sync(work) == 2
    finally:
        loop.close()


@gen_test()
async def test_processes_asynchronously() -> None:
    async with LocalCluster(2, asynchronous=True, **QUIET) as cluster, Client(cluster, asynchronous=True) as client:
        assert await client.gather(client.map(inc, range(5))) == [1, 2, 3, 4, 5]


def test_killed_worker_comes_back() -> None:
    with LocalCluster(1, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        (pid,) = client.run(os.getpid).values()
        psutil.Process(pid).kill()

        def is_back() -> bool:
            try:
                return pid not in client.run(os.getpid).values() and bool(cluster.scheduler_info["workers"])
            except Exception:
                return False

        poll_for(is_back, timeout=20)
        assert client.submit(inc, 1).result() == 2


@pytest.mark.parametrize("ending", ["", "cluster.close()", "raise SystemExit(0)"])
def test_script_without_main_guard(tmp_path: Path, ending: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from distributed import Client, LocalCluster

            def f(x):
                return x + 1

            cluster = LocalCluster(n_workers=1, dashboard_address=None)
            client = Client(cluster)
            print(client.submit(f, 1).result())
            {ending}
            """
        )
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 30
    assert {path.name for path in tmp_path.iterdir()} <= {"script.py", "dask-scratch-space"}


def test_adapt() -> None:
    with LocalCluster(0, threads_per_worker=1, processes=False, **QUIET) as cluster, Client(cluster) as client:
        adaptive = cluster.adapt(minimum=1, maximum=2, interval="10ms", wait_count=2)
        assert (adaptive.minimum, adaptive.maximum) == (1, 2)
        client.wait_for_workers(1, timeout=10)
        futures = client.map(lambda x: time.sleep(0.2) or x, range(20))
        poll_for(lambda: len(cluster.workers) == 2)
        client.cancel(futures)
        del futures
        poll_for(lambda: len(cluster.workers) == 1)


@gen_test()
async def test_adapt_asynchronously() -> None:
    async with LocalCluster(0, processes=False, asynchronous=True, **QUIET) as cluster:
        first = cluster.adapt(minimum=0, maximum=2, interval="10ms")
        second = cluster.adapt(minimum=2, maximum=2, interval="10ms")
        assert first.state == "stopped"
        await async_poll_for(lambda: len(cluster.workers) == 2)
        second.stop()
