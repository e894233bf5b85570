"""What a client sends: tasks, functions, arguments, options, graphs. The peer is a fake, asked what came."""

from __future__ import annotations

import itertools
import operator
import threading
from operator import add

import numpy as np
import pytest

from distributed import CancelledError, Client, Future, futures_of, wait
from distributed.client import default_client
from distributed.messages.client_to_scheduler import UpdateGraph
from distributed.testing import div, inc, poll_for


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


def test_released_and_submitted_again_at_once(client):
    for _ in range(300):
        assert client.submit(inc, 7).result() == 8


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
    poll_for(lambda: sum(len(m.tasks) for m in fake.messages if isinstance(m, UpdateGraph)) == 30_000)
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
