"""What programs written for dask.distributed expect of clients and futures, found by running both side by side."""

from __future__ import annotations

import asyncio
import gc
import traceback
from typing import Any

import pytest

from distributed import CancelledError, Client, WorkerPlugin
from distributed.base.errors import WorkerStartTimeoutError
from distributed.testing import div, gen_cluster, inc
from tests.integration.comm.loops import until


class Picky(Exception):
    """Its ``args`` do not suffice to make it again."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code)
        self.detail = detail


async def _until_gone(s: Any, key: str) -> None:
    await until(lambda: key not in s.tasks)


@gen_cluster(client=True)
async def test_an_exception_in_hand_keeps_no_task_alive(c: Any, s: Any, a: Any, b: Any) -> None:
    gc.disable()
    try:
        future = c.submit(div, 1, 0, key="bad")
        error, tb = await future.exception(), await future.traceback()
        del future
        await _until_gone(s, "bad")
        assert isinstance(error, ZeroDivisionError)
        assert traceback.extract_tb(tb)[-1].name == "div"
    finally:
        gc.enable()


@gen_cluster(client=True)
async def test_exceptions_with_their_own_init_keep_their_type(c: Any, s: Any, a: Any, b: Any) -> None:
    def fail() -> None:
        raise Picky(3, "because")

    error = await c.submit(fail).exception()
    assert type(error).__name__ == "Picky" and error.args == (3,) and error.detail == "because"


@gen_cluster(client=True)
async def test_a_released_future_is_cancelled(c: Any, s: Any, a: Any, b: Any) -> None:
    future = c.submit(inc, 1, key="x")
    await future
    future.release()
    await _until_gone(s, "x")
    assert future.status == "cancelled"
    with pytest.raises(CancelledError):
        await future


@gen_cluster(client=True)
async def test_the_scheduler_knows_of_scattered_data_at_once(c: Any, s: Any, a: Any, b: Any) -> None:
    future = await c.scatter(7, broadcast=True)
    assert len(s.tasks[future.key].who_has) == 2


@gen_cluster(client=True)
async def test_datasets_outlive_their_client(c: Any, s: Any, a: Any, b: Any) -> None:
    async with Client(s.address, asynchronous=True, set_as_default=False) as publisher:
        await publisher.publish_dataset(x=[publisher.submit(inc, 1, key="kept")])
        with pytest.raises(KeyError, match="x"):
            await publisher.publish_dataset(x=1)
        await publisher.publish_dataset(2, name=("y", 0), override=True)
    assert await c.list_datasets() == (("y", 0), "x")
    [future] = await c.get_dataset("x")
    assert future.client is c and await future == 2
    assert [name async for name in c.datasets] == [("y", 0), "x"]
    del future
    await c.unpublish_dataset("x")
    await _until_gone(s, "kept")
    assert await c.get_dataset("x", default=5) == 5
    with pytest.raises(KeyError):
        await c.get_dataset("x")
    with pytest.raises(TypeError, match="asynchronous"):
        len(c.datasets)


@gen_cluster(client=True)
async def test_shutdown_returns_when_the_scheduler_has_closed(c: Any, s: Any, a: Any, b: Any) -> None:
    await c.shutdown()
    assert s.status.name == "closed" and c.status == "closed"


@gen_cluster(client=True)
async def test_plugins_that_fail_raise(c: Any, s: Any, a: Any, b: Any) -> None:
    class Bad(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            raise RuntimeError("cannot set up")

    with pytest.raises(RuntimeError, match="cannot set up"):
        await c.register_plugin(Bad())


@gen_cluster(client=True)
async def test_worker_callbacks(c: Any, s: Any, a: Any, b: Any) -> None:
    def mark(dask_worker: Any) -> None:
        dask_worker.marked = True

    await c.register_worker_callbacks(mark)
    assert a.marked and b.marked


@gen_cluster(client=True)
async def test_small_ones(c: Any, s: Any, a: Any, b: Any) -> None:
    with pytest.raises(ValueError, match="allow_other_workers"):
        c.submit(inc, 1, allow_other_workers=True)
    with pytest.raises(ValueError):
        await c.replicate([c.submit(inc, 1)], n=0)
    assert await c.rebalance() is None
    with pytest.raises(WorkerStartTimeoutError, match=r"2/10.*1 ms$"):
        await c.wait_for_workers(10, timeout="1 ms")
    a.log_event("topic", {"x": 1})
    while not (events := await c.get_events("topic")):
        await asyncio.sleep(0.01)
    assert events[0][1] == {"x": 1, "worker": a.address}


@gen_cluster(client=True, nthreads=[])
async def test_repr_without_workers(c: Any, s: Any) -> None:
    assert "processes=0 threads=0, memory=0 B" in repr(c)
