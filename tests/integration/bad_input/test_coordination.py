"""Wrong input to locks, semaphores, events, queues, variables and topics: one clear error at the call, nothing left."""

from __future__ import annotations

import concurrent.futures as cf
import threading
from collections.abc import Callable
from typing import Any

import pytest

from distributed import (
    CancelledError,
    Client,
    Event,
    LocalCluster,
    Lock,
    MultiLock,
    Pub,
    Queue,
    Semaphore,
    SerializationError,
    Sub,
    Variable,
    get_client,
)
from distributed.testing import inc
from tests.integration.bad_input.conftest import soon
from tests.integration.facts import until


def tables(cluster: LocalCluster) -> Any:
    return cluster.scheduler.extensions["coordination"].tables


@pytest.fixture(autouse=True)
def nothing_left(cluster: LocalCluster) -> Any:
    """No test leaves a request, a lease or a value on its way."""
    yield
    found = tables(cluster)
    assert not len(found.waiters) and not len(found.leases) and not found.held.n_in_transit


NAMED: list[Callable[..., Any]] = [Lock, Event, Queue, Variable, Pub, Sub, lambda name, **kw: Semaphore(1, name, **kw)]


@pytest.mark.parametrize("make", NAMED, ids=["Lock", "Event", "Queue", "Variable", "Pub", "Sub", "Semaphore"])
def test_names_and_clients(client: Client, make: Callable[..., Any]) -> None:
    for name in (["list"], {}, object(), float("nan"), ("a", [])):
        with soon(), pytest.raises(TypeError, match="must be text, bytes, a number or a tuple"):
            make(name, client=client)
    for other in (5, "tcp://127.0.0.1:1"):
        with soon(), pytest.raises(TypeError, match="expected a Client"):
            make("x", client=other)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: Lock("x", 5), TypeError, "expected a Client"),
        (lambda c: Lock("x", client=c).acquire(blocking="no"), TypeError, "blocking"),
        (lambda c: Lock("x", client=c).acquire(blocking=False, timeout=1), ValueError, "timeout"),
        (lambda c: Lock("x", client=c).acquire(timeout=-1), ValueError, "negative"),
        (lambda c: Lock("x", client=c).acquire(timeout=float("nan")), ValueError, "nan"),
        (lambda c: Lock("x", client=c).acquire(timeout="soon"), ValueError, "soon"),
        (lambda c: Lock("x", client=c).acquire(timeout=True), TypeError, "timeout"),
        (lambda c: Lock("x", client=c).acquire(timeout=[1]), TypeError, "timeout"),
        (lambda c: Lock("x", client=c).release(), RuntimeError, "holds no lease"),
        (lambda c: Semaphore("2"), TypeError, "max_leases.*'2'"),
        (lambda c: Semaphore(True), TypeError, "max_leases"),
        (lambda c: Semaphore(None), TypeError, "max_leases"),  # type: ignore[arg-type]
        (lambda c: Semaphore(1.0), TypeError, "max_leases"),  # type: ignore[arg-type]
        (lambda c: Semaphore(0), ValueError, "max_leases.*at least 1, not 0"),
        (lambda c: Semaphore(-1), ValueError, "max_leases.*at least 1, not -1"),
        (lambda c: Semaphore(1, "x", c).release(), RuntimeError, "holds no lease"),
        (lambda c: MultiLock(5), TypeError, "names.*5"),
        (lambda c: MultiLock(b"ab"), TypeError, "names"),
        (lambda c: MultiLock([["x"]]), TypeError, "names"),
        (lambda c: MultiLock([None]), TypeError, "names"),
        (lambda c: MultiLock(["x"], client=5), TypeError, "expected a Client"),
        (lambda c: MultiLock(client=c).acquire(), ValueError, "0 of 0"),
        (lambda c: MultiLock(["x"], client=c).acquire(num_locks=2), ValueError, "2 of 1"),
        (lambda c: MultiLock(["x"], client=c).acquire(num_locks=0), ValueError, "0 of 1"),
        (lambda c: MultiLock(["x"], client=c).acquire(num_locks=-1), ValueError, "-1 of 1"),
        (lambda c: MultiLock(["x"], client=c).acquire(num_locks="1"), TypeError, "num_locks"),
        (lambda c: MultiLock(["x"], client=c).release(), ValueError, "not acquired"),
        (lambda c: Event("x", client=c).wait(timeout={}), TypeError, "timeout"),
        (lambda c: Queue("x", maxsize=1.5), TypeError, "maxsize.*1.5"),
        (lambda c: Queue("x", maxsize="1"), TypeError, "maxsize.*'1'"),
        (lambda c: Queue("x", maxsize=None), TypeError, "maxsize"),
        (lambda c: Queue("x", client=c).get(batch="all"), TypeError, "batch"),
        (lambda c: Queue("x", client=c).get(batch=0), ValueError, "batch"),
        (lambda c: Queue("x", client=c).put(1, timeout="x"), ValueError, "duration"),
        (lambda c: Queue("x", client=c).put(threading.Lock()), SerializationError, "lock"),
        (lambda c: Variable("x", client=c).set(1, timeout=object()), TypeError, "timeout"),
        (lambda c: Variable("x", client=c).set(threading.Lock()), SerializationError, "lock"),
        (lambda c: Variable("x", client=c).get(timeout=0), TimeoutError, "no value"),
        (lambda c: Pub(None), TypeError, "needs a name"),
        (lambda c: Sub(None), TypeError, "needs a name"),
        (lambda c: Pub("x", client=c).put(threading.Lock()), SerializationError, "lock"),
        (lambda c: Sub("x", client=c).get(timeout=-1), ValueError, "negative"),
    ],
)
def test_calls(client: Client, call: Callable[[Client], Any], error: type[Exception], words: str) -> None:
    with soon(), pytest.raises(error, match=words):
        call(client)


def test_what_looks_wrong_and_is_not(client: Client) -> None:
    queue = Queue("endless", client=client, maxsize=-1)
    for i in range(5):
        queue.put(i)
    assert queue.get(batch=True) == [0, 1, 2, 3, 4]
    assert MultiLock("ab", client=client).names == "ab"  # two names, as any text is a list of texts


def test_what_another_has_acquired(client: Client, cluster: LocalCluster) -> None:
    """Neither another object, nor another client, nor a task gives back what somebody else holds."""
    with Client(cluster, set_as_default=False) as second:
        cases: list[tuple[Callable[[Any], Any], type[Exception]]] = [
            (lambda c: Lock("held", client=c), RuntimeError),
            (lambda c: Semaphore(1, "held-2", c), RuntimeError),
            (lambda c: MultiLock(["held-3"], client=c), ValueError),
        ]
        for make, error in cases:
            holder = make(client)
            assert holder.acquire(timeout=30)
            for other in (make(client), make(second)):
                with soon(), pytest.raises(error, match="nly the object"):
                    other.release()
                assert not other.acquire(timeout=0)

            def in_task(make: Any = make) -> str:
                try:
                    make(get_client()).release()
                except (RuntimeError, ValueError) as e:
                    return str(e)
                return "released"

            assert "the object that has acquired" in client.submit(in_task, pure=False).result(timeout=30)
            holder.release()
            assert make(second).acquire(timeout=30)  # by an object that is garbage now; the lease ends with its client
    until(lambda: not len(tables(cluster).leases))


def test_a_number_of_leases_that_is_not_that_of_the_others(client: Client) -> None:
    with Semaphore(2, "pair", client):
        with soon(), pytest.raises(ValueError, match="max_leases=2, which cannot become 3"):
            Semaphore(3, "pair", client).acquire()
        assert Semaphore(2, "pair", client).get_value() == 1


def waiting_for(cluster: LocalCluster, pool: cf.Executor, call: Callable[[], Any]) -> cf.Future[Any]:
    found = pool.submit(call)
    until(lambda: len(tables(cluster).waiters))
    return found


def test_what_ends_while_somebody_waits(client: Client, cluster: LocalCluster) -> None:
    """From a thread: closed and deleted by another client."""
    full, held = Queue("full", client=client, maxsize=1), Semaphore(1, "closing", client)
    full.put(1)
    held.acquire()
    with cf.ThreadPoolExecutor(1) as pool, Client(cluster, set_as_default=False) as other:
        cases: list[tuple[Callable[[], Any], Callable[[], Any], str]] = [
            (Queue("empty", client=client).get, Queue("empty", client=other).close, "'empty' was closed while get"),
            (lambda: full.put(2), Queue("full", client=other).close, "'full' was closed while put"),
            (Variable("gone", client=client).get, Variable("gone", client=other).delete, "'gone' was deleted while"),
            (Semaphore(1, "closing", client).acquire, Semaphore(1, "closing", other).close, "'closing' was closed"),
        ]
        for wait, end, words in cases:
            waiting = waiting_for(cluster, pool, wait)
            end()
            with pytest.raises(RuntimeError, match=words):
                waiting.result(timeout=10)


def test_tasks_that_wait_for_what_ends(client: Client, cluster: LocalCluster) -> None:
    for wait, end, words in (
        (lambda: Queue("task-empty").get(), Queue("task-empty", client=client).close, "closed while get"),
        (lambda: Variable("task-gone").get(), Variable("task-gone", client=client).delete, "deleted while get"),
    ):
        future = client.submit(wait, pure=False)
        until(lambda: len(tables(cluster).waiters))
        end()
        with pytest.raises(RuntimeError, match=words):
            future.result(timeout=10)


@pytest.mark.parametrize("kind", ["queue", "variable"])
def test_a_cancelled_future_inside(client: Client, kind: str) -> None:
    """It travels; who gets it is told by that future, at once."""
    future = client.submit(inc, 1, pure=False)
    future.cancel()
    if kind == "queue":
        queue = Queue("cancelled", client=client)
        queue.put([future])
        (got,) = queue.get(timeout=5)
    else:
        variable = Variable("cancelled", client=client)
        variable.set({"a": future})
        got = variable.get(timeout=5)["a"]
        variable.delete()
    with soon(5), pytest.raises(CancelledError, match=future.key):
        got.result(timeout=5)
