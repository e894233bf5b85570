"""A graph is prepared on the client, off its loop, and streams: its first tasks run while later ones are being made."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import dask
import dask._task_spec as spec
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode
from dask.delayed import delayed

from distributed import Client
from distributed.client.graph_tasks import TaskMaker
from distributed.testing import async_poll_for, gen_cluster, inc

N = 20_000


class WaitsForFile:
    """Is pickled only when a task has made the file: what comes before it must have left by then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        deadline = time.monotonic() + 60
        while not self.path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("no task of the graph had run when its last one was made")
            time.sleep(0.005)  # looks for a fact in another process
        return str, ("the first task ran before the last was sent",)


def touch(path: str) -> int:
    Path(path).touch()
    return 0


def first(found: Any, text: str) -> str:
    return text


def test_the_first_tasks_run_before_a_large_graph_is_through(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a-task-has-run"
    graph: dict[Any, Any] = {("x", 0): (touch, str(path))}
    graph |= {("x", i): (inc, ("x", i - 1)) for i in range(1, N)}
    graph["last"] = (first, ("x", N - 1), WaitsForFile(path))
    assert client.get(graph, "last") == "the first task ran before the last was sent"


class Graph:
    """An expression that tells in which thread it was materialised."""

    threads: ClassVar[list[int]] = []

    def __init__(self, graph: dict[Any, Any]) -> None:
        self.graph = graph

    def __dask_graph__(self) -> Any:
        self.threads.append(threading.get_ident())
        return self.graph


@gen_cluster(client=True)
async def test_graphs_are_prepared_off_the_loop_and_in_order(c: Any, s: Any, a: Any, b: Any) -> None:
    gate = threading.Event()

    class Slow(Graph):
        def __dask_graph__(self) -> Any:
            assert gate.wait(30)
            return super().__dask_graph__()

    graph = Slow({"x": (inc, 1), "y": (inc, "x")})
    future = c.get(graph, "y", sync=False)
    # The loop is free; what needs the graph waits for it, and is not lost.
    later = c.submit(inc, future, key="later")
    other = c.get({"z": spec.Task("z", inc, spec.TaskRef("y"))}, "z", sync=False)
    assert await c.scheduler.identity()
    assert "y" not in s.tasks and "later" not in s.tasks
    gate.set()
    assert await c.gather([future, later, other]) == [3, 4, 4]
    assert Graph.threads and Graph.threads[-1] != threading.get_ident()


@gen_cluster(client=True)
async def test_a_graph_may_compute_while_it_is_prepared(c: Any, s: Any, a: Any, b: Any) -> None:
    class Nested(Graph):
        def __dask_graph__(self) -> Any:
            number = c.get({"inner": (inc, 1)}, "inner", asynchronous=False)
            return {"outer": (inc, number)}

    assert await c.get(Nested({"outer": 1}), "outer", sync=False) == 3


@gen_cluster(client=True)
async def test_what_goes_wrong_off_the_loop_is_the_error_of_the_futures(c: Any, s: Any, a: Any, b: Any) -> None:
    class Bad(Graph):
        def __dask_graph__(self) -> Any:
            raise ArithmeticError("no such graph")

    futures = c.get(Bad({"x": 1, "y": 2}), ["x", "y"], sync=False)
    for future in futures:
        with pytest.raises(ArithmeticError, match="no such graph"):
            await future
    # The keys are free for tasks that work, also while the failed futures live.
    assert await c.get({"x": (inc, 1)}, "x", sync=False) == 2


@gen_cluster(client=True)
async def test_released_and_cancelled_while_prepared(c: Any, s: Any, a: Any, b: Any) -> None:
    gate = threading.Event()

    class Slow(Graph):
        def __dask_graph__(self) -> Any:
            assert gate.wait(30)
            return super().__dask_graph__()

    dropped = c.get(Slow({"dropped": (inc, 1)}), "dropped", sync=False)
    cancelled = c.get(Slow({"cancelled": (inc, 1)}), "cancelled", sync=False)
    del dropped
    await c.cancel(cancelled)
    gate.set()
    assert cancelled.cancelled()
    assert await c.submit(inc, 1, key="after") == 2
    assert "cancelled" not in s.tasks
    await async_poll_for(lambda: "dropped" not in s.tasks, 5)


def nbytes_of(array: Any, _: int) -> int:
    return int(array.nbytes)


def test_a_large_constant_of_many_tasks_is_sent_once(client: Client) -> None:
    data = np.random.default_rng(0).random(250_000)
    graph: dict[Any, Any] = {("size", i): (nbytes_of, data, i) for i in range(50)}
    graph["all"] = (set, list(graph))
    future = client.get(graph, "all", sync=False)
    assert future.result() == {data.nbytes}
    # Again, from an equal array: the same name, so the scheduler would know it.
    first, second = [_name_of_constant(client, array) for array in (data, data.copy())]
    assert first == second and first.startswith("ndarray-")


def _name_of_constant(client: Client, array: Any) -> str:
    nodes = {i: spec.Task(i, nbytes_of, array, i) for i in range(3)}
    maker = TaskMaker(client.submitter, spec, nodes)
    (task,) = maker.large_constants
    assert maker.task(0).dependencies == (task.key,)
    return str(task.key)


def test_a_large_graph_names_what_is_large(client: Client) -> None:
    measurements = np.ones(2_000_000)
    with pytest.warns(UserWarning, match=r"'measurements', a numpy.ndarray of 15\.26 MiB in task"):
        assert client.get({"x": (np.sum, DataNode(None, measurements))}, "x") == 2_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert da.ones(2_000_000, chunks=1_000_000).sum().compute() == 2_000_000


def test_thousands_of_delayed_calls_are_not_culled_by_the_square(client: Client, monkeypatch: Any) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("culled layer by layer")

    total = delayed(sum)([delayed(inc, pure=False)(i) for i in range(100)])
    other = delayed(inc)(1)
    monkeypatch.setattr("dask.highlevelgraph.HighLevelGraph.cull", refuse)
    assert dask.compute(total, other) == (5050, 2)
