"""S1-S41: the pages on LocalCluster and on a single machine, statement by statement."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import dask
import pytest
from tornado import gen
from tornado.ioloop import IOLoop

from distributed import Client, LocalCluster
from distributed.comm import web_access
from distributed.deploy.utils import CPU_COUNT
from distributed.testing import inc, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_s1_s2_s3_s4_s35_the_first_snippet() -> None:
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster())
        assert repr(cluster).startswith("LocalCluster(")
        assert f"workers={CPU_COUNT}, threads={CPU_COUNT}" in repr(cluster)
        assert cluster.scheduler_address in repr(cluster)
        client = stack.enter_context(Client(cluster))
        assert cluster.scheduler_address in repr(client)
        assert f"processes={CPU_COUNT}" in repr(client)
        assert set(client.nthreads().values()) == {1}
        assert client.run_on_scheduler(os.getpid) == os.getpid()
        assert os.getpid() not in client.run(os.getpid).values()

        # S5, S6
        worker = cluster.add_worker()
        assert len(client.nthreads()) == CPU_COUNT + 1
        cluster.remove_worker(worker)
        assert len(client.nthreads()) == CPU_COUNT

        # S32
        cluster.scale(3)
        poll_for(lambda: len(cluster.workers) == 3)
        client.wait_for_workers(3, timeout=20)


def test_s7_client_makes_a_cluster() -> None:
    from distributed import Client

    client = Client(n_workers=1, dashboard_address=":0")
    try:
        assert isinstance(client.cluster, LocalCluster)
        assert client.submit(inc, 1).result() == 2
        assert "processes=1" in repr(client)
    finally:
        client.close()


def test_s8_script_with_a_main_block(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from distributed import Client, LocalCluster

            def double(x):
                return 2 * x

            if __name__ == '__main__':
                cluster = LocalCluster(n_workers=1, dashboard_address=":0")
                client = Client(cluster)
                # Your code follows here
                print(client.submit(double, 21).result())
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42\n"
    assert "Traceback" not in done.stderr


def test_s9_s34_addresses_of_the_class() -> None:
    import dask.distributed

    import distributed
    import distributed.deploy.local

    assert distributed.deploy.local.LocalCluster is distributed.LocalCluster
    assert dask.distributed.LocalCluster is distributed.LocalCluster
    assert dask.distributed.Client is distributed.Client


def test_s10_to_s31_the_signature() -> None:
    shown = """n_workers threads_per_worker processes loop start host ip scheduler_port silence_logs dashboard_address
    worker_dashboard_address diagnostics_port services worker_services service_kwargs asynchronous security protocol
    blocked_handlers interface worker_class""".split()
    parameters = list(inspect.signature(LocalCluster).parameters)
    assert parameters[: len(shown)] == shown
    assert inspect.signature(LocalCluster).parameters["worker_kwargs"].kind is inspect.Parameter.VAR_KEYWORD


def test_s10_s11_s12_s13_positional() -> None:
    with LocalCluster(2, 1, False) as cluster:
        assert len(cluster.workers) == 2
        assert all(worker.state.nthreads == 1 for worker in cluster.workers.values())
        assert cluster.scheduler_address.startswith("inproc://")


def test_s14_loop(loop: IOLoop) -> None:
    with LocalCluster(1, 1, False, loop=loop, dashboard_address=None) as cluster:
        assert cluster.loop is loop
        with Client(cluster, loop=loop) as client:
            assert client.submit(inc, 1).result() == 2


@pytest.mark.parametrize("keywords", [{"host": "127.0.0.1"}, {"ip": "127.0.0.1"}, {"interface": "lo"}])
@pytest.mark.parametrize("processes", [True, False])
def test_s16_s17_s29_host_ip_interface(keywords: dict[str, Any], processes: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with LocalCluster(1, 1, processes, dashboard_address=None, **keywords) as cluster, Client(cluster) as client:
            assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
            assert client.submit(inc, 1).result() == 2


def test_s18_random_port() -> None:
    with LocalCluster(0, dashboard_address=None) as one, LocalCluster(0, dashboard_address=None) as two:
        assert one.scheduler_address != two.scheduler_address


@pytest.mark.parametrize("quiet", [None, False, 30, 10])
def test_s19_silence_logs(quiet: Any) -> None:
    with LocalCluster(0, processes=False, silence_logs=quiet, dashboard_address=None):
        pass


def test_s20_s39_dashboard_address() -> None:
    with LocalCluster(1, 1, False, dashboard_address=":0") as cluster:
        link = cluster.dashboard_link
        assert link.startswith("http://127.0.0.1:")
        assert web_access.shown_link(link).endswith("/status")
        assert "<html" in get(link).lower()
        assert json.loads(get(cluster.dashboard_link.replace("/status", "/json/counts.json")))["workers"] == 1
        port = int(link.split(":")[2].split("/")[0])
        # a busy port: another one is taken
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with LocalCluster(0, processes=False, dashboard_address=f":{port}") as second:
                assert second.dashboard_link.startswith("http://127.0.0.1:")
                assert f":{port}/" not in second.dashboard_link
                assert "<html" in get(second.dashboard_link).lower()
    with LocalCluster(0, processes=False, dashboard_address=None) as cluster:
        assert cluster.scheduler_info["services"].get("dashboard") is None
    with LocalCluster(0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        assert cluster.dashboard_link


def test_s21_s22_s23_further_services() -> None:
    with LocalCluster(1, 1, False, worker_dashboard_address=":0", services={}, worker_services={}) as cluster:
        assert cluster.workers[0].status.name == "running"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with LocalCluster(0, processes=False, diagnostics_port=0) as cluster:
            assert cluster.dashboard_link
        with LocalCluster(0, processes=False, diagnostics_port=None) as cluster:
            pass


def test_s24_s33_prefix() -> None:
    with LocalCluster(
        0, processes=False, dashboard_address=":0", service_kwargs={"dashboard": {"prefix": "/foo"}}
    ) as cluster:
        assert "/foo/status" in cluster.dashboard_link
        assert "<html" in get(cluster.dashboard_link).lower()


def test_s25_asynchronous_in_a_tornado_coroutine() -> None:
    @gen.coroutine
    def work() -> Any:
        cluster = yield LocalCluster(1, 1, False, asynchronous=True, dashboard_address=None)
        client = yield Client(cluster, asynchronous=True)
        answer = yield client.submit(inc, 1)
        yield client.close()
        yield cluster.close()
        return answer

    loop = IOLoop(make_current=False)
    try:
        assert loop.run_sync(work) == 2
    finally:
        loop.close()


@pytest.mark.parametrize("protocol", ["tcp://", "inproc://"])
def test_s26_s27_protocol(protocol: str) -> None:
    with LocalCluster(1, 1, False, protocol=protocol, security=None, dashboard_address=None) as cluster:
        assert cluster.scheduler_address.startswith(protocol)
        with Client(cluster) as client:
            assert client.submit(inc, 1).result() == 2


def test_s28_blocked_handlers() -> None:
    with LocalCluster(1, 1, False, blocked_handlers=["feed", "run_function"], dashboard_address=None) as cluster:
        with Client(cluster) as client:
            assert client.submit(inc, 1).result() == 2
            with pytest.raises(Exception, match="run_function"):
                client.run_on_scheduler(os.getpid)


def test_s30_s31_worker_class_and_options() -> None:
    from distributed import Nanny, Worker

    class Mine(Worker):
        pass

    with LocalCluster(1, 1, False, worker_class=Mine, resources={"R": 1}, dashboard_address=None) as cluster:
        assert type(cluster.workers[0]) is Mine
    with LocalCluster(1, 1, worker_class=Nanny, memory_limit="300MB", dashboard_address=None) as cluster:
        (info,) = cluster.scheduler_info["workers"].values()
        assert info["memory_limit"] == 300_000_000


def test_s36_the_client_is_the_default_scheduler() -> None:
    before = dask.config.get("scheduler", None)
    with Client(n_workers=1, processes=False, dashboard_address=None) as client:
        assert dask.base.get_scheduler() == client.get
    assert dask.config.get("scheduler", None) == before


def test_s37_s38_client_passes_keywords_on() -> None:
    with Client(processes=False, dashboard_address=None) as client:
        assert client.scheduler.address.startswith("inproc://")
        assert client.submit(os.getpid).result() == os.getpid()
    with Client(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        assert list(client.nthreads().values()) == [2, 2]


def test_s41_scheduler_and_list_of_workers() -> None:
    import threading

    from distributed import LocalCluster

    c = LocalCluster(processes=False)
    try:
        assert c.scheduler.address == c.scheduler_address
        assert c.workers[0].address in c.scheduler_info["workers"]
        assert len(c.workers) == 1
        assert isinstance(c.loop, IOLoop)
        assert any(thread.name == "IO loop" for thread in threading.enumerate())
    finally:
        c.close()
