"""``distributed.utils_test`` as other people's test suites use it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import dask.config
import distributed.utils_test as surface
import pytest
from distributed.utils_test import (
    async_poll_for,
    captured_logger,
    check_thread_leak,
    cluster,
    gen_cluster,
    gen_test,
    inc,
    map_varying,
    new_config,
    new_config_file,
    poll_for,
    popen,
    raises_with_cause,
    validate_state,
    varying,
    wait_for_log_line,
    wait_for_state,
)

from distributed import Client, Nanny, Scheduler, Status, Worker


@gen_cluster(client=True)
async def test_default_cluster(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    assert isinstance(c, Client)
    assert isinstance(s, Scheduler)
    assert (a.state.nthreads, b.state.nthreads) == (1, 2)
    assert (a.name, b.name) == (0, 1)
    assert {a.address, b.address} == set(s.workers)
    future = c.submit(inc, 1, workers=[a.address], key="x")
    assert await future == 2
    assert "x" in s.tasks
    assert "x" in a.data
    assert "x" not in b.data
    await wait_for_state("x", "memory", s)
    await wait_for_state("x", "memory", a)
    assert a.address.startswith("tcp://127.0.0.1:")
    validate_state(s, a, b)


@gen_cluster()
async def test_without_client(s: Scheduler, a: Worker, b: Worker) -> None:
    assert not s.clients or all(not client.tasks for client in s.clients.values() if hasattr(client, "tasks"))
    assert a.scheduler.address == s.address


@gen_cluster(nthreads=[], client=True, scheduler_kwargs={"allowed_failures": 7}, client_kwargs={"name": "me"})
async def test_no_workers(c: Client, s: Scheduler) -> None:
    assert not s.workers
    assert s.allowed_failures == 7
    assert "me" in c.id


@gen_cluster(
    nthreads=[("127.0.0.1", 1, {"resources": {"A": 1}}), ("127.0.0.1", 4)], worker_kwargs={"memory_limit": "1GB"}
)
async def test_options_of_workers(s: Scheduler, a: Worker, b: Worker) -> None:
    infos = s.identity()["workers"]
    assert infos[a.address]["resources"] == {"A": 1}
    assert infos[b.address]["nthreads"] == 4
    assert {info["memory_limit"] for info in infos.values()} == {10**9}


@gen_cluster(nthreads=[("127.0.0.1", 1)], Worker=Nanny, client=True)
async def test_nannies(c: Client, s: Scheduler, n: Nanny) -> None:
    assert isinstance(n, Nanny)
    assert await c.submit(os.getpid) == n.pid


@pytest.mark.parametrize("x", [1, 2])
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_parametrize_above(c: Client, s: Scheduler, a: Worker, x: int, tmp_path: Path) -> None:
    assert await c.submit(inc, x) == x + 1
    assert tmp_path.exists()


@gen_cluster(nthreads=[("127.0.0.1", 1)], config={"distributed.scheduler.allowed-failures": 5})
@pytest.mark.parametrize("x", [1, 2])
async def test_parametrize_below(s: Scheduler, a: Worker, x: int) -> None:
    assert x in (1, 2)
    assert dask.config.get("distributed.scheduler.allowed-failures") == 5


SIGNATURES = {
    "async_poll_for": "predicate timeout=15 fail_func=None period=0.05",
    "captured_logger": "logger level=20 propagate=None",
    "check_thread_leak": "",
    "cluster": "nworkers=2 nanny=False worker_kwargs=None active_rpc_timeout=10 scheduler_kwargs=None config=None",
    "gen_cluster": "nthreads=None scheduler='127.0.0.1' timeout=30 security=None Worker client=False "
    "scheduler_kwargs=None worker_kwargs=None client_kwargs=None active_rpc_timeout=1 config=None clean_kwargs=None "
    "allow_unclosed=True",
    "gen_test": "timeout=30 config=None clean_kwargs=None",
    "popen": "args capture_output=False terminate_timeout=10 kill_timeout=5",
    "raises_with_cause": "expected_exception match expected_cause match_cause more_causes",
    "varying": "items",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_in_the_order_that_others_use(name: str) -> None:
    """More may follow; none may stand between."""
    parameters = inspect.signature(getattr(surface, name)).parameters.values()
    known = [p.name if p.default in (p.empty, Worker) else f"{p.name}={p.default!r}" for p in parameters]
    wanted = SIGNATURES[name].split()
    assert known[: len(wanted)] == wanted


def test_signature_shows_what_pytest_must_fill() -> None:
    async def f(c: Any, s: Any, a: Any, b: Any, tmp_path: Any, *, x: int = 1) -> None: ...

    assert list(inspect.signature(gen_cluster(client=True)(f)).parameters) == ["tmp_path", "x"]


def test_failures_come_through() -> None:
    @gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
    async def fails(c: Client, s: Scheduler, a: Worker) -> None:
        raise ZeroDivisionError("from the test")

    with pytest.raises(ZeroDivisionError, match="from the test"):
        fails()

    @gen_cluster(nthreads=[], timeout=0.1)
    async def hangs(s: Scheduler) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"not done in 0\.1 s[\s\S]*hangs"):
        hangs()

    @gen_test(timeout=0.1)
    async def hangs_too() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match="hangs_too"):
        hangs_too()
    for decorator in (gen_test, gen_cluster):
        with pytest.raises(TypeError):
            decorator()(lambda: None)
        with pytest.raises(TypeError, match="parentheses"):
            decorator(hangs)


def test_client_under_its_short_name(c: Client, s: dict[str, Any]) -> None:
    assert c.scheduler.address == s["address"]
    assert c.submit(inc, 1).result() == 2


def test_fixtures(client: Client, s: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> None:
    assert client.submit(inc, 1).result() == 2
    assert set(client.scheduler_info()["workers"]) == {a["address"], b["address"]}
    assert client.scheduler.address == s["address"]
    assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 2


def test_cluster_of_processes(loop: Any) -> None:
    with cluster(nworkers=1, worker_kwargs={"nthreads": 3}, scheduler_kwargs={"allowed_failures": 1}) as (s, [a]):
        with Client(s["address"], loop=loop) as client:
            assert list(client.nthreads().values()) == [3]
            assert a["proc"]().is_alive()
            future = client.submit(inc, 1)
            assert future.result() == 2
            a["proc"]().terminate()
            poll_for(lambda: not client.nthreads())


def test_cluster_with_nannies(loop: Any) -> None:
    with cluster(nworkers=1, nanny=True) as (s, [_]), Client(s["address"], loop=loop) as client:
        assert client.submit(inc, 1).result() == 2


def test_cluster_that_does_not_start() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        with cluster(nworkers=1, worker_kwargs={"memory_limit": "lots"}):
            pass


def test_popen() -> None:
    with popen(["dask-scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", ":0"], True) as process:
        line = wait_for_log_line(rb"Scheduler at:", process.stdout, max_lines=20)
        with Client(line.split()[-1].decode()) as client:
            assert client.nthreads() == {}
    assert process.returncode == 128 + signal.SIGINT
    with pytest.raises(FileNotFoundError), popen(["no-such-program"]):
        pass


def test_varying() -> None:
    function = varying([1, ZeroDivisionError("two"), 3])
    assert function() == 1
    with pytest.raises(ZeroDivisionError, match="two"):
        function()
    assert function() == 3
    with pytest.raises(IndexError):
        function()
    call, functions = map_varying([[1, 2], [3]])
    assert [call(f) for f in functions] == [1, 3]
    assert call(functions[0]) == 2


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_varying_and_retries(c: Client, s: Scheduler, a: Worker) -> None:
    assert await c.submit(varying([ZeroDivisionError("one"), 2]), retries=1) == 2


def test_captured_logger() -> None:
    with captured_logger("distributed.some.place", level=logging.WARNING) as text:
        logging.getLogger("distributed.some.place").info("no")
        logging.getLogger("distributed.some.place").warning("yes")
    assert text.getvalue() == "yes\n"


def test_thread_leak_is_found() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    with pytest.raises(pytest.fail.Exception, match="1 threads are left"):
        with check_thread_leak(timeout=0.05):
            thread.start()
    stop.set()
    thread.join()


def test_configuration() -> None:
    with new_config({"a": {"b": 1}}):
        assert dask.config.get("a.b") == 1
    assert dask.config.get("a.b", None) is None
    with new_config_file({"a": 2}):
        assert Path(os.environ["DASK_CONFIG"]).read_text() == "a: 2\n"
    assert surface.original_config["distributed"]


def test_reset_config_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(surface, "reset_config", lambda: calls.append(1))

    @gen_test()
    async def nothing() -> None:
        pass

    nothing()
    assert calls


def test_raises_with_cause() -> None:
    with raises_with_cause(RuntimeError, "outer", ValueError, "inner"):
        try:
            raise ValueError("inner")
        except ValueError as e:
            raise RuntimeError("outer") from e
    with pytest.raises(AssertionError):
        with raises_with_cause(RuntimeError, "outer", ValueError, None):
            raise RuntimeError("outer")


@gen_test()
async def test_async_poll_for() -> None:
    await async_poll_for(lambda: True)
    with pytest.raises(pytest.fail.Exception):
        await async_poll_for(lambda: False, timeout=0.05)


@gen_test()
async def test_loops_are_ours() -> None:
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        assert scheduler.status == Status.running
