"""Wrong input to actors, cancelled futures, topics, logs, copies, plugins, datasets: one clear error, soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from distributed import CancelledError, Client, WorkerPlugin, as_completed, wait
from distributed.testing import inc
from tests.integration.bad_input.conftest import soon


class Counter:
    n = 0

    def inc(self) -> int:
        self.n += 1
        return self.n

    def set_to(self, n: int) -> None:
        self.n = n


def test_actors(client: Client) -> None:
    actor: Any = client.submit(Counter, actor=True, pure=False).result(timeout=10)
    call_in_time = actor.inc()
    for call, error, words in (
        (lambda: actor.decrease(), AttributeError, "'Counter' object has no attribute 'decrease'"),
        (lambda: actor.size, AttributeError, "'Counter' object has no attribute 'size'"),
        (lambda: actor._n, AttributeError, "'_n'.*underscore"),
        (lambda: setattr(actor, "n", 5), AttributeError, "'n'.*cannot be set from here"),
        (lambda: actor.inc(1).result(timeout=5), TypeError, "inc.*positional argument"),
        (lambda: call_in_time.result(timeout="x"), ValueError, "duration"),
        (lambda: client.submit(Counter, actor="yes"), TypeError, "actor= takes True or False"),
        (lambda: client.submit(Counter, actors=5), TypeError, "actors= takes True or False"),  # type: ignore[arg-type]
        (lambda: client.map(Counter, [1], actor="yes"), TypeError, "actor= takes True or False"),
        (lambda: client.submit(Counter, max_restarts=1), ValueError, "max_restarts"),
        (lambda: client.submit(Counter, actor=True, max_restarts=-1), ValueError, "max_restarts"),
    ):
        with soon(), pytest.raises(error, match=words):
            call()
    assert call_in_time.result(timeout=10) == actor.n == 1  # only its time limit was wrong
    actor.set_to(7).result(timeout=5)
    assert actor.n == 7


def cancelled(client: Client) -> Any:
    future = client.submit(inc, 1, pure=False)
    client.cancel([future], reason="no-need", msg="it is late")
    return future


@pytest.mark.parametrize(
    "use",
    [
        lambda c, f: f.result(),
        lambda c, f: c.gather([f]),
        lambda c, f: c.gather({"a": f}),
        lambda c, f: wait([f], timeout=5),
        lambda c, f: c.submit(inc, f).result(timeout=5),
        lambda c, f: c.submit(sum, [[f]]).result(timeout=5),
        lambda c, f: c.gather(c.map(inc, [f])),
        lambda c, f: next(as_completed([f], timeout=5)).result(),
        lambda c, f: c.get({"a": (inc, f)}, "a"),
    ],
    ids=["result", "gather", "gather-dict", "wait", "argument", "nested", "map", "as_completed", "graph"],
)
def test_a_cancelled_future(client: Client, use: Callable[[Client, Any], Any]) -> None:
    future = cancelled(client)
    with soon(5), pytest.raises(CancelledError) as caught:
        use(client, future)
    assert future.key in str(caught.value)


def test_a_cancelled_future_is_left_out_where_that_was_asked_for(client: Client) -> None:
    future, good = cancelled(client), client.submit(inc, 1, pure=False)
    assert client.gather([future, good], errors="skip") == [2]
    assert future.status == "cancelled" and future.done() and future.cancelled()
    with pytest.raises(CancelledError, match="no-need"):
        future.result()


def test_a_cancelled_future_awaited(client: Client) -> None:
    async def main() -> None:
        async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as own:
            future = own.submit(inc, 1, pure=False)
            await own.cancel(future)
            with pytest.raises(CancelledError, match=future.key):
                await asyncio.wait_for(asyncio.ensure_future(future.result()), 30)
            with pytest.raises(CancelledError, match=future.key):
                await own.submit(inc, future)
            endless = own.submit(asyncio.sleep, 600, pure=False)
            never = own.submit(inc, endless)
            waiting = asyncio.ensure_future(never.result())
            await asyncio.sleep(0)
            await own.cancel([endless, never])
            with pytest.raises(CancelledError, match=never.key):
                await asyncio.wait_for(waiting, 30)

    asyncio.run(main())


class NotAPlugin:
    name = "x"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: c.log_event(None, 1), TypeError, "name of a topic.*None"),
        (lambda c: c.log_event(["a", 5], 1), TypeError, "name of a topic.*5"),
        (lambda c: c.get_events(object()), TypeError, "name of a topic"),
        (lambda c: c.subscribe_topic("x", 5), TypeError, "callable"),
        (lambda c: c.subscribe_topic([], print), TypeError, "name of a topic"),
        (lambda c: c.unsubscribe_topic("never"), ValueError, "'never'"),
        (lambda c: c.forward_logging(5), TypeError, "name of a logger.*5"),
        (lambda c: c.forward_logging("x", level="LOUD"), ValueError, "LOUD"),
        (lambda c: c.unforward_logging("x"), ValueError, "x"),
        (lambda c: c.get_worker_logs(n="x"), TypeError, "n=.*'x'"),
        (lambda c: c.get_scheduler_logs(n=-1), TypeError, "n=.*-1"),
        (lambda c: c.replicate([c.scatter(1)], n=0), ValueError, "at least 1"),
        (lambda c: c.replicate([c.scatter(1)], n="x"), TypeError, "n=.*'x'"),
        (lambda c: c.replicate([c.scatter(1)], branching_factor=0), ValueError, "branching_factor.*at least 1"),
        (lambda c: c.replicate([c.scatter(1)], branching_factor="2"), TypeError, "branching_factor.*'2'"),
        (lambda c: c.rebalance(["nothing"]), KeyError, "nothing"),
        (lambda c: c.retire_workers([None]), TypeError, "workers.*None"),
        (lambda c: c.restart_workers(["nowhere"]), ValueError, "nowhere"),
        (lambda c: c.run(inc, 1, workers=["nowhere"]), OSError, "nowhere"),
        (lambda c: c.run(inc, 1, on_error="hide"), ValueError, "on_error.*'hide'"),
        (lambda c: c.run_on_scheduler(5), TypeError, "callable"),
        (lambda c: c.upload_file("/no/such/file.py"), FileNotFoundError, "file.py"),
        (lambda c: c.upload_file(5), TypeError, "path"),
        (lambda c: c.register_worker_callbacks(5), TypeError, "5"),
        (lambda c: c.register_plugin(NotAPlugin()), TypeError, "NotAPlugin"),
        (lambda c: c.register_plugin(WorkerPlugin), TypeError, "object, not its class"),
        (lambda c: c.unregister_worker_plugin("x"), ValueError, "'x'"),
        (lambda c: c.unregister_scheduler_plugin("x"), ValueError, "'x'"),
        (lambda c: c.publish_dataset(1, 2), ValueError, "name="),
        (lambda c: (c.publish_dataset(twice=1), c.publish_dataset(twice=2)), KeyError, "twice"),
        (lambda c: c.get_dataset("nothing"), KeyError, "nothing"),
        (lambda c: c.datasets["nothing"], KeyError, "nothing"),
        (lambda c: c.get_metadata(["a", "nothing"]), KeyError, "nothing|a"),
        (lambda c: c.set_metadata([], 1), ValueError, "at least one key"),
        (lambda c: c.set_metadata(object(), 1), TypeError, "key"),
        (lambda c: c.profile(start="x"), ValueError, "duration"),
        (lambda c: c.get_task_stream(start=object()), TypeError, "time"),
        (lambda c: c.recreate_task_locally("no future"), TypeError, "future"),
        (lambda c: c.get_executor(colour=1), TypeError, "colour"),
        (lambda c: c.sync(c.scheduler.no_such_operation), ValueError, "no_such_operation"),
    ],
)
def test_calls(client: Client, call: Callable[[Client], Any], error: type[Exception], words: str) -> None:
    with soon(), pytest.raises(error, match=words):
        call(client)


def test_a_handler_of_events_that_raises(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def handler(event: Any) -> None:
        heard.append(event[1])
        raise ZeroDivisionError("in the handler")

    client.subscribe_topic("raises", handler)
    with caplog.at_level(logging.ERROR, "distributed.client"):
        for i in range(3):
            client.log_event("raises", i)
        assert len(client.get_events("raises")) == 3  # an answer to this client comes behind its events
    client.unsubscribe_topic("raises")
    assert heard == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == ["Error in the handler of topic 'raises'"] * 3
