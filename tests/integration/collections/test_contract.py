"""What dask core expects of a client: its collections compute, persist and wait on the cluster, unchanged."""

from __future__ import annotations

import asyncio
import gc
import logging
import operator
import traceback
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.base import get_scheduler
from dask.delayed import delayed

from distributed import Client, Future, SchedulerPlugin, futures_of, get_client, wait, worker_client
from distributed.testing import gen_cluster, inc


def frame(n: int = 4) -> Any:
    return dd.from_pandas(pd.DataFrame({"a": range(20), "b": [i % 3 for i in range(20)]}), npartitions=n)


def test_get_is_a_bound_method_and_the_default_scheduler(client: Client) -> None:
    assert get_scheduler() == client.get
    assert get_scheduler().__self__ is client
    assert dask.config.get("scheduler") == "dask.distributed"
    assert get_scheduler(scheduler="dask.distributed") == client.get


def test_a_client_undoes_the_default_when_it_closes(client: Client) -> None:
    before = dask.config.get("scheduler")
    with Client(client.cluster) as second:
        assert get_scheduler() == second.get
    assert dask.config.get("scheduler") == before
    assert get_scheduler() == client.get
    with Client(client.cluster, set_as_default=False):
        assert get_scheduler() == client.get


def test_every_kind_of_collection_computes(client: Client) -> None:
    assert da.arange(100, chunks=10).sum().compute() == 4950
    assert frame().groupby("b").a.sum().compute().sort_index().tolist() == [63, 70, 57]
    assert db.range(100, npartitions=7).map(inc).sum().compute() == 5050
    assert delayed(sum)([delayed(inc)(i) for i in range(10)]).compute() == 55
    array, total, one, plain = dask.compute(da.ones(5, chunks=2), frame().a.sum(), delayed(inc)(0), 7)
    assert array.tolist() == [1] * 5 and (total, one, plain) == (190, 1, 7)


def test_client_compute_takes_nested_things_and_gives_futures(client: Client) -> None:
    x = da.ones(6, chunks=2)
    future = client.compute(x.sum())
    assert isinstance(future, Future) and future.result() == 6
    first, second, third = client.compute([x.sum(), {"y": [x.max()]}, 5])
    assert (first.result(), second.result(), third) == (6, {"y": [1]}, 5)
    assert client.compute(x.sum(), sync=True) == 6
    assert client.compute([], sync=True) == []


def test_persist_gives_the_same_collections_on_futures(client: Client) -> None:
    made = dask.persist(da.arange(6, chunks=2) + 1, frame() + 1, db.range(4, npartitions=2), delayed(inc)(1))
    assert [len(futures_of(part)) for part in made] == [3, 4, 2, 1]
    array, table, bag, value = dask.compute(*made)
    assert array.tolist() == [1, 2, 3, 4, 5, 6] and len(table) == 20 and list(bag) == [0, 1, 2, 3] and value == 2
    # ... and what is built on them finds their keys alive.
    assert (made[0][2:4] * made[0][0]).compute().tolist() == [3, 4]
    assert client.normalize_collection(made[0]).sum().compute() == 21


def test_persisted_data_is_released_without_the_collector(client: Client) -> None:
    gc.disable()
    try:
        x = client.persist(da.ones(10, chunks=5))
        wait(x)
        keys = [future.key for future in futures_of(x)]
        del x
        client.who_has()  # a question goes behind what was dropped before it
        assert not set(keys) & set(client.futures)
    finally:
        gc.enable()


def test_futures_inside_of_collections(client: Client) -> None:
    one = client.submit(inc, 0, key=("one", 1))
    array = da.from_delayed(delayed(client.submit(np.ones, 3)), (3,), dtype=float)
    assert (array.sum() + 0).compute() == 3
    assert delayed(sum)([one, delayed(inc)(one)]).compute() == 3
    assert client.get({"x": (sum, [one, one])}, "x") == 2
    lists = [client.submit(list, [1, 2]), client.submit(list, [3])]
    bag = db.from_delayed(lists)
    assert bag.sum().compute() == 6
    table = dd.from_delayed([client.submit(pd.DataFrame, {"a": [1, 2]})])
    assert table.a.sum().compute() == 3


def test_keys_keep_their_type(client: Client) -> None:
    keys = ["text", ("a", 1), 5, b"raw", ("deep", ("b", 2.5))]
    graph = {key: (inc, number) for number, key in enumerate(keys)}
    futures = client.get(graph, keys, sync=False)
    assert [future.key for future in futures] == keys
    assert client.gather(futures) == [1, 2, 3, 4, 5]
    assert client.get(graph, [[keys[0]], [keys[1], [keys[2]]]]) == [[1], [2, [3]]]


def test_every_kind_of_node(client: Client) -> None:
    graph = {
        "data": DataNode("data", {"x": 1}),
        "alias": Alias("alias", "data"),
        "task": Task("task", operator.getitem, TaskRef("alias"), "x"),
        "legacy": (operator.add, "task", (inc, "task")),
        "plain": 7,
        "list": (sum, ["plain", ["legacy"][0], 1]),
    }
    assert client.get(graph, ["alias", "task", "legacy", "plain", "list"]) == [{"x": 1}, 1, 3, 7, 11]


class Pair:
    """A collection of two expressions, as xarray makes them."""

    __dask_optimize__ = None
    __dask_scheduler__ = staticmethod(dask.threaded.get)

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __dask_exprs__(self) -> tuple[Any, ...]:
        return tuple([part.expr for part in self.parts])

    def __dask_rebuild_from_exprs__(self, exprs: Any) -> Pair:
        return Pair(*[dask._collections.new_collection(expr) for expr in exprs])

    def __dask_graph__(self) -> dict[Any, Any]:
        return {key: node for part in self.parts for key, node in part.__dask_graph__().items()}

    def __dask_keys__(self) -> list[Any]:
        return [part.__dask_keys__() for part in self.parts]

    def __dask_layers__(self) -> tuple[Any, ...]:
        return tuple([part.expr._name for part in self.parts])

    def __dask_tokenize__(self) -> Any:
        return [part.expr._name for part in self.parts]

    def __dask_postcompute__(self) -> Any:
        return (lambda results: [pd.concat(parts) for parts in results]), ()

    def __dask_postpersist__(self) -> Any:
        raise AssertionError("its parts are rebuilt one by one")


def test_composite_collections(client: Client) -> None:
    pair = Pair(frame().a + 1, frame(2).b)
    (computed,) = dask.compute(pair)
    assert computed[0].sum() == 210 and computed[1].sum() == 19
    kept = client.persist(pair)
    assert isinstance(kept, Pair)
    assert [part.sum().compute() for part in kept.parts] == [210, 19]
    assert len(futures_of(kept.parts[0])) == 4


def test_collections_inside_of_tasks(client: Client) -> None:
    def inner(n: int) -> Any:
        with worker_client():
            return da.ones(n, chunks=3).sum().compute()

    def other(n: int) -> Any:
        return get_client().compute(da.ones(n, chunks=2).sum()).result()

    assert client.gather([client.submit(inner, 7), client.submit(other, 6)]) == [7, 6]
    assert delayed(inner)(4).compute() == 4


def test_a_task_of_a_collection_runs_again_here(client: Client) -> None:
    future = client.compute(delayed(inc)(delayed(inc)(1)))
    assert client.recreate_task_locally(future) == 3


def test_delayed_with_names_of_the_user(client: Client) -> None:
    value = delayed(inc)(1, dask_key_name="my-own-name")
    future = client.compute(value)
    assert future.key == "my-own-name" and future.result() == 2
    assert delayed([1, 2, value], name="named").compute() == [1, 2, 2]


def test_errors_of_optimisation_and_materialisation_are_those_of_the_futures(client: Client) -> None:
    def refuse(dsk: Any, keys: Any) -> Any:
        raise RuntimeError("this graph cannot be optimised")

    class Refused(dask.delayed(inc)(1).__class__):  # type: ignore[misc]
        __dask_optimize__ = staticmethod(refuse)

    plain = delayed(inc)(1)
    broken = Refused(plain.key, plain.dask)
    future = client.compute(broken)
    assert future.status == "error"
    with pytest.raises(RuntimeError, match="cannot be optimised"):
        future.result()
    with pytest.raises(RuntimeError, match="cannot be optimised"):
        broken.compute()
    with pytest.raises(TypeError, match="a graph must be"):
        client.get(5, "x")


def test_a_graph_that_cannot_be_pickled_fails_all_that_is_asked_of_it(client: Client) -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            raise ValueError("not this one")

    graph: dict[Any, Any] = {("x", i): (inc, i) for i in range(200)}
    graph["bad"] = (str, Unpicklable())
    graph["all"] = (len, [*graph])
    futures = client.get(graph, [("x", 0), "all"], sync=False)
    for future in futures:
        assert "not this one" in str(future.exception())
    # The same keys are new tasks afterwards, and nothing of the first try is left.
    assert client.get({("x", 0): (inc, 41)}, ("x", 0)) in (42, 1)
    del futures, future


def test_tracebacks_are_short(client: Client) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        delayed(operator.truediv)(1, 0).compute()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not any("/distributed/client/" in name or "/distributed/protocol/" in name for name in files[:-1])


def test_logging_a_sequence_of_graphs_harms_nothing(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="distributed"):
        assert dask.compute(da.ones(3, chunks=1).sum(), delayed(inc)(1)) == (3, 2)


class Seen(SchedulerPlugin):
    """Keeps the annotations of every graph."""

    def __init__(self) -> None:
        self.annotations: list[Any] = []

    def update_graph(self, scheduler: Any, *, annotations: Any = None, **kwargs: Any) -> None:
        self.annotations.append(annotations)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_annotations(c: Any, s: Any, a: Any, b: Any) -> None:
    plugin = Seen()
    s.add_plugin(plugin)
    with dask.annotate(workers=[a.address], allow_other_workers=False, priority=7, retries=3, mine="yes"):
        x = delayed(inc)(1, dask_key_name="on-a")
    with dask.annotate(resources={"GPU": 1}):
        y = delayed(inc)(1, dask_key_name="needs-gpu")
    first, second = c.compute([x, y])
    assert await first == 2
    assert next(iter(s.tasks["on-a"].who_has)).address == a.address
    assert s.tasks["on-a"].annotations["priority"] == 7 and s.tasks["on-a"].annotations["retries"] == 3
    assert any(found and "mine" in found for found in plugin.annotations)
    assert s.tasks["needs-gpu"].state == "no-worker"
    del first, second


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_callables_in_annotations_are_asked_for_each_key(c: Any, s: Any, a: Any, b: Any) -> None:
    def place(key: Any) -> list[str]:
        return [a.address if key[-1] == 0 else b.address]

    calls = {"retries": lambda key: 2, "priority": lambda key: 10}
    with dask.annotate(**calls):  # around the call
        assert await c.compute((da.ones(4, chunks=2) + 1 + 1).sum()) == 12
    with dask.annotate(**calls):  # in layers that dask fuses
        x = da.ones(4, chunks=2) + 1 + 1
    assert await c.compute(x.sum()) == 12
    with dask.annotate(workers=place, resources={"CPU": 0}):
        y = da.ones(4, chunks=2) + 3
    kept = c.persist(y, optimize_graph=False)  # dask's optimisation of arrays drops what layers are annotated with
    await wait(kept)
    for key in y.__dask_keys__():
        assert [ws.address for ws in s.tasks[key].who_has] == place(key)


@gen_cluster(client=True)
async def test_collections_are_awaited(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.persist(da.ones(10, chunks=5) + 1)
    x = await x
    assert all(future.done() for future in futures_of(x))
    assert await c.compute(x.sum()) == 20
    with pytest.warns(UserWarning, match="asynchronous"), dask.config.set({"admin.async-client-fallback": "sync"}):
        assert da.ones(3, chunks=1).sum().compute() == 3
    with pytest.raises(RuntimeError, match=r"[Aa]synchronous"):
        da.ones(3, chunks=1).sum().compute()
    assert await asyncio.wait_for(c.get({"x": (inc, 1)}, "x", asynchronous=True), 10) == 2
