"""Wrong input to public calls: one clear error, soon, at the call or at that one future; the cluster goes on."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from distributed import CancelledError, Client, LocalCluster, SerializationError, as_completed, wait
from distributed.testing import inc
from tests.integration.bad_input.conftest import OPTIONS, soon

# -- Client and LocalCluster -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "keywords", "error", "words"),
    [
        ((5,), {}, TypeError, "cluster object"),
        ((["tcp://127.0.0.1:1"],), {}, TypeError, "cluster object"),
        (("",), {}, ValueError, "no port"),
        (("127.0.0.1",), {}, ValueError, "no port"),
        (("127.0.0.1:99999",), {}, ValueError, "99999"),
        (("foo://127.0.0.1:1",), {}, ValueError, "foo.*tcp"),
        (("127.0.0.1:1",), {"nonsense": 1}, TypeError, "nonsense"),
        (("127.0.0.1:1",), {"timeout": "soon"}, ValueError, "soon"),
        (("127.0.0.1:1",), {"timeout": []}, TypeError, "timeout"),
        (("127.0.0.1:1",), {"asynchronous": "yes"}, TypeError, "asynchronous"),
        ((), {"n_wrokers": 1}, TypeError, "did you mean 'n_workers'"),
    ],
)
def test_client_arguments(args: Any, keywords: dict[str, Any], error: type[Exception], words: str) -> None:
    with soon(), pytest.raises(error, match=words):
        Client(*args, **keywords)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"n_workers": -1}, ValueError, "n_workers.*-1"),
        ({"n_workers": "2"}, TypeError, "n_workers.*'2'"),
        ({"n_workers": 1.5}, TypeError, "n_workers.*1.5"),
        ({"threads_per_worker": 0}, ValueError, "threads_per_worker"),
        ({"scheduler_port": "x"}, TypeError, "scheduler_port"),
        ({"scheduler_port": 70000}, RuntimeError, "70000"),
        ({"nthread": 2}, TypeError, "nthread.*did you mean 'nthreads'"),
        ({"memory_limit": "a lot"}, ValueError, "a lot"),
        ({"dashboard_address": []}, TypeError, "dashboard_address"),
        ({"dashboard_address": "here:there"}, RuntimeError, "here:there"),
        ({"protocol": "foo://"}, RuntimeError, "foo.*tcp"),
        ({"interface": "nope0"}, RuntimeError, "nope0.*lo"),
        ({"worker_class": "Worker"}, TypeError, "worker_class"),
        ({"scheduler_kwargs": {"nonsense": 1}}, RuntimeError, "nonsense"),
        ({"resources": "GPU"}, RuntimeError, "failed to start"),
        ({"local_directory": 5}, RuntimeError, "int"),
    ],
)
def test_cluster_arguments(keywords: dict[str, Any], error: type[Exception], words: str) -> None:
    with soon(), pytest.raises(error, match=words):
        LocalCluster(**{"n_workers": 1, **OPTIONS, **keywords}).close()


def test_refused_and_silent_addresses() -> None:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        address = "tcp://{}:{}".format(*sock.getsockname())
        with soon(), pytest.raises(OSError, match="refused") as caught:
            Client(address)
        assert address in str(caught.value)
        sock.listen()
        for timeout, limit in ((0.4, 0.4), ("600ms", 0.6)):
            begin = time.monotonic()
            with pytest.raises(TimeoutError, match=address):
                Client(address, timeout=timeout)
            assert limit * 0.9 <= time.monotonic() - begin < limit + 4
    with soon(), pytest.raises(OSError, match=r"no\.such\.host\.invalid"):
        Client("tcp://no.such.host.invalid:8786", timeout=2)


# -- submit, map, gather, scatter, wait, as_completed ------------------------------------------------------------------

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"workers": [[]]}, TypeError),
    ({"resources": ["GPU"]}, TypeError),
    ({"resources": {"GPU": "one"}}, TypeError),
    ({"resources": {"GPU": -1}}, ValueError),
    ({"retries": -1}, ValueError),
    ({"retries": "a"}, TypeError),
    ({"priority": "high"}, TypeError),
    ({"priority": math.nan}, ValueError),
    ({"allow_other_workers": "x"}, TypeError),
    ({"fifo_timeout": "x"}, ValueError),
    ({"key": object()}, TypeError),
    ({"key": (1, [2])}, TypeError),
]


@pytest.mark.parametrize(("options", "error"), BAD_OPTIONS)
def test_task_options(client: Client, options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    calls: list[Callable[[], Any]] = [
        lambda: client.submit(inc, 1, **options),
        lambda: client.map(inc, [1, 2], **options),
    ]
    for call in calls:
        with soon(), pytest.raises(error, match=f"key|{name}|duration"):
            call()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: c.submit(5), TypeError, "callable"),
        (lambda c: c.submit(), TypeError, "func"),
        (lambda c: c.submit(inc, 1, nonsense=2).result(timeout=5), TypeError, "nonsense"),
        (lambda c: c.submit(inc, 1, 2, 3).result(timeout=5), TypeError, "argument"),
        (lambda c: c.map("inc", [1]), TypeError, "callable"),
        (lambda c: c.map(inc, 5), TypeError, "iterable"),
        (lambda c: c.map(inc), TypeError, "iterable"),
        (lambda c: c.map(inc, [1, 2], key=["a"]), ValueError, "1 keys for 2"),
        (lambda c: c.map(inc, [1, 2], batch_size="3"), ValueError, "batch_size"),
        (lambda c: c.gather([c.submit(inc, 1)], errors="hide"), ValueError, "errors"),
        (lambda c: c.gather([], nonsense=1), TypeError, "nonsense"),
        (lambda c: c.scatter(iter([1])), TypeError, "iterator"),
        (lambda c: c.scatter([1], broadcast="x"), ValueError, "x"),
        (lambda c: c.scatter([1], timeout="x"), ValueError, "duration"),
        (lambda c: c.scatter({object(): 1}), TypeError, "key"),
        (lambda c: c.scatter([1], workers="nowhere:1", timeout=0.2), TimeoutError, "nowhere:1"),
        (lambda c: c.scatter([1], nonsense=1), TypeError, "nonsense"),
        (lambda c: wait([c.submit(inc, 1)], return_when="SOME"), NotImplementedError, "return_when"),
        (lambda c: wait([c.submit(inc, 1)], timeout="x"), ValueError, "duration"),
        (lambda c: wait(c.submit(inc, 1), c.submit(inc, 2)), TypeError, "timeout"),
        (lambda c: wait([], nonsense=1), TypeError, "nonsense"),
        (lambda c: as_completed(5), TypeError, "iterable"),
        (lambda c: as_completed([5]), TypeError, "future"),
        (lambda c: as_completed([], timeout="x"), ValueError, "duration"),
        (lambda c: as_completed([], nonsense=1), TypeError, "nonsense"),
        (lambda c: c.get(5, "a"), TypeError, "graph"),
        (lambda c: c.get({"a": 1}, "b"), CancelledError, "b"),
        (lambda c: c.run(5), TypeError, "callable"),
        (lambda c: c.wait_for_workers("two"), ValueError, "n_workers"),
    ],
)
def test_calls(client: Client, call: Callable[[Client], Any], error: type[Exception], words: str) -> None:
    with soon(), pytest.raises(error, match=words):
        call(client)


def test_a_key_used_again_with_other_dependencies(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    first = client.submit(inc, 1, key="used-twice")
    assert first.result(timeout=5) == 2
    other = client.submit(inc, 100)
    with Client(client.cluster, set_as_default=False) as second_client, caplog.at_level(logging.WARNING):
        ten = second_client.submit(inc, 10)
        second = second_client.submit(inc, ten, key="used-twice")
        assert second.result(timeout=5) == 2
    assert first.result(timeout=5) == 2
    assert other.result(timeout=5) == 101
    assert "used-twice" in caplog.text and "other dependencies" in caplog.text


# -- futures and clients that are not the right ones -------------------------------------------------------------------


def test_futures_of_another_cluster(client: Client) -> None:
    with LocalCluster(1, processes=False, **OPTIONS) as cluster, Client(cluster, set_as_default=False) as stranger:
        future = stranger.submit(inc, 1)
        for call in (
            lambda: client.submit(inc, future),
            lambda: client.submit(sum, [[future]]),
            lambda: client.submit(inc, x={"a": future}),
            lambda: client.map(inc, [future]),
            lambda: client.gather([future]),
        ):
            with soon(), pytest.raises(ValueError, match="another client"):
                call()
        assert future.result(timeout=5) == 2


def test_a_closed_client_and_its_futures(client: Client) -> None:
    closed = Client(client.cluster, set_as_default=False)
    future = closed.submit(inc, 5)
    assert future.result(timeout=5) == 6
    closed.close()
    closed.close()
    with soon():
        with pytest.raises(ValueError, match="closed"):
            client.submit(inc, future)
        assert future.status == "cancelled"
        for cancelled in (future.result, lambda: closed.gather(future), lambda: wait(future, timeout=2)):
            with pytest.raises(CancelledError, match="closed"):
                cancelled()
        for call in (
            lambda: closed.submit(inc, 1),
            lambda: closed.map(inc, [1]),
            lambda: closed.scatter([1]),
            lambda: closed.get({"a": 1}, "a"),
            lambda: closed.run(inc, 1),
            lambda: closed.who_has(),
            lambda: closed.wait_for_workers(1),
            future.retry,
        ):
            with pytest.raises(RuntimeError, match="closed"):
                call()
        assert "Client" in repr(closed)


# -- what cannot be pickled --------------------------------------------------------------------------------------------


class Inner:
    def __init__(self) -> None:
        self.model = {"lock": threading.Lock()}


class Explodes:
    """Can be pickled, cannot be unpickled."""

    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> None:
    raise RuntimeError("exploded while unpickling")


def return_lock() -> Any:
    return {"a": [1, threading.Lock()]}


def raise_lock() -> None:
    error = ValueError("the text of it")
    error.held = threading.Lock()  # type: ignore[attr-defined]
    raise error


def function_with_lock() -> Callable[[], Any]:
    lock = threading.Lock()
    return lambda: lock


@pytest.mark.parametrize(
    ("submit", "error", "words"),
    [
        (lambda c: c.submit(function_with_lock()), TypeError, r"lambda.*<closure>\.lock.*_thread\.lock"),
        (lambda c: c.submit(id, Inner()), TypeError, r"args\[0\]\.model\['lock'\].*_thread\.lock"),
        (lambda c: c.submit(dict, x=[1, Inner()]), TypeError, r"kwargs\['x'\]\[1\]\.model\['lock'\]"),
        (lambda c: c.map(id, [1, Inner()])[1], TypeError, r"args\[0\]\.model\['lock'\]"),
        (lambda c: c.submit(return_lock), TypeError, r"result\['a'\]\[1\].*_thread\.lock"),
        (lambda c: c.submit(raise_lock), Exception, r"ValueError: the text of it(?s:.*)exception\.held.*_thread\.lock"),
        (lambda c: c.submit(id, Explodes()), RuntimeError, "arguments.*exploded while unpickling"),
        (lambda c: c.submit(Explodes), RuntimeError, "exploded while unpickling"),
    ],
    ids=["function", "argument", "keyword", "map", "result", "exception", "argument-explodes", "result-explodes"],
)
def test_unpicklable(client: Client, submit: Callable[[Client], Any], error: type[Exception], words: str) -> None:
    with soon():
        future = submit(client)
        with pytest.raises(error, match=words):
            future.result(timeout=5)
        with pytest.raises(error, match=words):
            client.gather([future])
    assert future.status in ("error", "finished")


def test_a_bad_result_is_still_of_use_to_its_dependents(client: Client) -> None:
    future = client.submit(return_lock)
    error = future.exception(timeout=5)
    assert future.status == "error" and isinstance(error, SerializationError)
    (worker,) = client.who_has(wait(future, timeout=5).done)[future.key]
    assert client.submit(len, future, workers=worker).result(timeout=5) == 1
