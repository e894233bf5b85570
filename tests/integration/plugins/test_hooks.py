"""Every hook of the three kinds of plugins: called, also for who joins later; one that raises is logged, and all else
goes on. Handlers and extensions that programs bring along."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest

from distributed import Client, Nanny, NannyPlugin, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from distributed.testing import gen_cluster, gen_test, inc
from tests.integration.comm.loops import until

OF_SCHEDULERS = [
    "start",
    "before_close",
    "close",
    "update_graph",
    "transition",
    "restart",
    "add_worker",
    "remove_worker",
    "add_client",
    "remove_client",
    "valid_workers_downscaling",
    "log_event",
]


def broken(base: type, hook: str) -> Any:
    """A plugin that raises in one hook."""

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError(f"in {hook}")

    return type("Broken", (base,), {"name": "broken", hook: fail})()


def broken_later(hook: str) -> Any:
    """A scheduler plugin whose hook is a coroutine function that raises."""

    async def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError(f"in {hook}")

    return type("Broken", (SchedulerPlugin,), {"name": "broken", hook: fail})()


@contextlib.asynccontextmanager
async def used(plugin: Any, caplog: Any) -> Any:
    """A scheduler with this plugin, on which everything happens that hooks are told of; it works to the end."""
    with caplog.at_level(logging.ERROR, "distributed.scheduler"):
        async with Scheduler(port=0, plugins=[plugin], validate=True) as s, Worker(s.address) as w:
            async with Client(s.address, asynchronous=True, set_as_default=False) as c:
                assert await c.submit(inc, 1) == 2
                s.log_event("topic", 1)
                async with Worker(s.address):
                    assert len(s.workers_to_close(n=1)) == 1
                    assert await c.gather(c.map(inc, range(5))) == [1, 2, 3, 4, 5]
                await until(lambda: list(s.workers) == [w.address])
                await s.restart(wait_for_workers=False)
            await until(lambda: not [client for client in s.clients if client.startswith("Client-")])
            yield s


@pytest.mark.parametrize("hook", OF_SCHEDULERS)
def test_a_scheduler_plugin_that_raises(hook: str, caplog: Any) -> None:
    @gen_test()
    async def check() -> None:
        async with used(broken(SchedulerPlugin, hook), caplog):
            pass
        assert f"Plugin 'broken' has failed in {hook}" in caplog.text and f"in {hook}" in caplog.text

    check()


@pytest.mark.parametrize("hook", ["start", "before_close", "close", "add_worker"])
def test_a_coroutine_of_a_scheduler_plugin_that_raises(hook: str, caplog: Any) -> None:
    @gen_test()
    async def check() -> None:
        async with used(broken_later(hook), caplog):
            pass
        assert f"Plugin 'broken' has failed in {hook}" in caplog.text

    check()


@pytest.mark.parametrize("hook", ["setup", "teardown", "transition"])
def test_a_worker_plugin_that_raises(hook: str, caplog: Any) -> None:
    @gen_test()
    async def check() -> None:
        with caplog.at_level(logging.ERROR, "distributed.worker"):
            async with Scheduler(port=0) as s, Client(s.address, asynchronous=True, set_as_default=False) as c:
                await c.register_plugin(broken(WorkerPlugin, hook))
                async with Worker(s.address) as w:
                    assert await c.submit(inc, 1) == 2
                    assert hook == "setup" or "broken" in w.plugins
        assert f"in {hook}" in caplog.text and "broken" in caplog.text.lower()

    check()


class Lives(WorkerPlugin):
    """Notes on the worker what it is told."""

    name = "lives"

    def __init__(self, generation: int = 1, idempotent: bool = False) -> None:
        self.generation = generation
        self.idempotent = idempotent

    def setup(self, worker: Any) -> None:
        worker.told = [*getattr(worker, "told", []), ("setup", self.generation)]

    def teardown(self, worker: Any) -> None:
        worker.told.append(("teardown", self.generation))

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        if key == "x" and finish == "memory":
            get_told().append((start, finish))


def get_told() -> list[Any]:
    return next(iter(Worker._instances)).told  # type: ignore[attr-defined, no-any-return]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_worker_plugins_by_name(c: Any, s: Any, a: Any) -> None:
    await c.register_plugin(Lives())
    await c.submit(inc, 1, key="x")
    assert a.told == [("setup", 1), ("executing", "memory")]
    await c.register_plugin(Lives(2, idempotent=True))
    assert a.told[2:] == []
    await c.register_plugin(Lives(3))
    assert a.told[2:] == [("teardown", 1), ("setup", 3)]
    async with Worker(s.address) as late:
        assert late.told == [("setup", 3)]
        await c.unregister_worker_plugin("lives")
        assert late.told[1:] == a.told[4:] == [("teardown", 3)]
    with pytest.raises(ValueError, match="'lives'"):
        await c.unregister_worker_plugin("lives")
    with pytest.raises(ValueError, match="'lives'"):
        await c.unregister_scheduler_plugin("lives")


class OfNannies(NannyPlugin):
    def __init__(self, name: str, fails_in: str = "") -> None:
        self.name = name
        self.fails_in = fails_in

    def setup(self, nanny: Any) -> None:
        self.note(nanny, "setup")

    def teardown(self, nanny: Any) -> None:
        self.note(nanny, "teardown")

    def note(self, nanny: Any, hook: str) -> None:
        nanny.told = [*getattr(nanny, "told", []), (self.name, hook)]
        if hook == self.fails_in:
            raise ZeroDivisionError(f"in {hook}")


@gen_test()
async def test_nanny_plugins_of_late_comers_that_raise_or_not() -> None:
    async with Scheduler(port=0) as s, Client(s.address, asynchronous=True, set_as_default=False) as c:
        await c.register_plugin(OfNannies("good"))
        await c.register_plugin(OfNannies("bad-1", "setup"))
        await c.register_plugin(OfNannies("bad-2", "teardown"))
        async with Nanny(s.address, nthreads=1) as nanny:
            assert await c.submit(inc, 1) == 2
            assert nanny.told == [("good", "setup"), ("bad-1", "setup"), ("bad-2", "setup")]
            await c.unregister_worker_plugin("good", nanny=True)
            assert nanny.told[3:] == [("good", "teardown")]
            with pytest.raises(ValueError, match="'good'"):
                await c.unregister_worker_plugin("good", nanny=True)
        assert ("bad-2", "teardown") in nanny.told


class Store:
    """An extension of a scheduler as other packages make it: handlers, which clients ask by name."""

    def __init__(self, scheduler: Any) -> None:
        self.values: dict[str, Any] = {}
        scheduler.handlers.update({"store_put": self.put, "store_get": self.get})
        scheduler.stream_handlers.update({"store_clear": self.clear})
        scheduler.extensions["store"] = self

    def put(self, comm: Any = None, name: str = "", value: Any = None) -> None:
        self.values[name] = value

    async def get(self, comm: Any = None, name: str = "") -> Any:
        return self.values[name]

    def clear(self, **kwargs: Any) -> None:
        self.values.clear()


class OfWorkers:
    def __init__(self, worker: Any) -> None:
        worker.handlers["double"] = self.double

    def double(self, x: int) -> int:
        return 2 * x


class OfClients:
    def __init__(self, client: Any) -> None:
        self.client = client


@gen_test()
async def test_handlers_and_extensions() -> None:
    async with (
        Scheduler(port=0) as s,
        Worker(s.address, extensions={"doubler": OfWorkers}) as w,
        Client(s.address, asynchronous=True, extensions={"mine": OfClients}, set_as_default=False) as c,
    ):
        assert c.extensions["mine"].client is c

        def install(dask_scheduler: Any) -> None:
            Store(dask_scheduler)

        await c.run_on_scheduler(install)
        await c.scheduler.store_put(name="a", value={"b": [1, 2]})
        assert await c.scheduler.store_get(name="a") == {"b": [1, 2]} == s.extensions["store"].values["a"]
        with pytest.raises(KeyError, match="nothing"):
            await c.scheduler.store_get(name="nothing")
        await c.scheduler.store_clear()
        assert s.extensions["store"].values == {}
        assert isinstance(w.extensions["doubler"], OfWorkers)
        assert await s.broadcast(msg={"op": "double", "x": 4}) == {w.address: 8}
        with pytest.raises(ValueError, match="store_drop"):
            await c.scheduler.store_drop()
