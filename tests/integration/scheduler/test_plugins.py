"""Plugins, extensions and custom operations of a scheduler."""

from __future__ import annotations

import itertools
import logging

import cloudpickle
import pytest

from distributed.messages.client_to_scheduler import ReleaseKeys, TaskOptions, TaskSpec, UpdateGraph
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.plugins import SchedulerPlugin
from distributed.rpc.pool import rpc
from distributed.scheduler import Scheduler
from tests.integration.comm.loops import on_uvloop, until
from tests.integration.scheduler.peers import INC, FakeClient, FakeWorker


class Everything(SchedulerPlugin):
    name = "everything"

    def __init__(self):
        self.calls = []
        self.transitions = []

    async def start(self, scheduler):
        self.calls.append("start")

    async def before_close(self):
        self.calls.append("before_close")

    async def close(self):
        self.calls.append("close")

    def update_graph(self, scheduler, *, client, keys, tasks, annotations, priority, stimulus_id, **kwargs):
        self.calls.append("update_graph")
        self.graph = (client, keys, tasks, annotations, priority, kwargs)

    def transition(self, key, start, finish, *args, stimulus_id, **kwargs):
        self.transitions.append((key, start, finish, kwargs))

    async def add_worker(self, scheduler, worker):
        assert worker in scheduler.workers
        self.calls.append("add_worker")

    def remove_worker(self, scheduler, worker, *, stimulus_id, **kwargs):
        assert worker not in scheduler.workers
        self.calls.append(("remove_worker", kwargs["expected"]))

    def add_client(self, scheduler, client):
        self.calls.append(("add_client", client))

    def remove_client(self, scheduler, client):
        self.calls.append(("remove_client", client))

    def restart(self, scheduler):
        self.calls.append("restart")

    def log_event(self, topic, msg):
        if topic == "mine":
            self.calls.append(("log_event", msg))

    def valid_workers_downscaling(self, scheduler, workers):
        return [ws for ws in workers if ws.name != "w1"]


@on_uvloop
async def test_hooks():
    plugin = Everything()
    async with Scheduler(plugins=[plugin], validate=True) as s:
        assert s.plugins == {"everything": plugin}
        async with FakeWorker(s) as w, FakeClient(s) as c:
            options = [TaskOptions(), TaskOptions(priority=3, annotations={"colour": "red"})]
            tasks = [
                TaskSpec("x", INC.digest, Payload(b"")),
                TaskSpec("y", INC.digest, Payload(b""), dependencies=("x",), options=1),
            ]
            c.send(UpdateGraph(1, tasks, [INC], options, ["y"]))
            await until(lambda: c.of(KeyInMemory))
            client, keys, tasks, annotations, priority, more = plugin.graph
            assert (client, keys, tasks) == ("client-1", {"y"}, ["x", "y"])
            assert annotations == {"priority": {"y": 3}, "colour": {"y": "red"}}
            assert priority["y"] < priority["x"]
            assert more["dependencies"]["y"] == {"x"}
            steps = [(start, finish) for key, start, finish, _ in plugin.transitions if key == "y"]
            assert steps[0] == ("released", "waiting")
            assert steps[-1] == ("processing", "memory")
            assert all(a[1] == b[0] for a, b in itertools.pairwise(steps))
            done = next(kwargs for key, _, finish, kwargs in plugin.transitions if (key, finish) == ("y", "memory"))
            assert done["worker"] == w.address
            assert done["nbytes"] == 10
            assert done["startstops"] == [{"action": "compute", "start": 1.0, "stop": 1.001}]
            s.log_event("mine", 1)
            assert s.workers_to_close(n=1) == []
            await s.restart(timeout=1)
        await until(lambda: ("remove_client", "client-1") in plugin.calls)
    assert plugin.calls[0] == "start"
    assert plugin.calls[-2:] == ["before_close", "close"]
    for call in (
        "update_graph",
        "add_worker",
        ("remove_worker", True),
        ("add_client", "client-1"),
        ("remove_client", "client-1"),
        ("log_event", 1),
        "restart",
    ):
        assert call in plugin.calls


@on_uvloop
async def test_errors_are_contained(caplog):
    class Broken(SchedulerPlugin):
        name = "broken"

        def __getattribute__(self, hook):
            if hook in ("transition", "add_worker", "add_client", "update_graph", "log_event", "start", "close"):

                def fail(*args, **kwargs):
                    raise RuntimeError(f"bad {hook}")

                return fail
            return super().__getattribute__(hook)

    with caplog.at_level(logging.ERROR, "distributed.scheduler"):
        async with Scheduler(plugins=[Broken()], validate=True) as s, FakeWorker(s), FakeClient(s) as c:
            c.submit("x-1")
            await until(lambda: c.of(KeyInMemory))
    for hook in ("start", "add_worker", "add_client", "update_graph", "transition", "close"):
        assert f"bad {hook}" in caplog.text


@on_uvloop
async def test_transitions_are_recorded_only_while_somebody_listens():
    plugin = Everything()
    async with Scheduler(validate=True) as s, FakeWorker(s), FakeClient(s) as c:
        assert not s.state.record
        s.add_plugin(SchedulerPlugin(), name="idle")
        assert not s.state.record
        s.add_plugin(plugin)
        assert s.state.record
        c.submit("x-1")
        await until(lambda: c.of(KeyInMemory))
        assert plugin.transitions
        s.remove_plugin("everything")
        assert not s.state.record
        plugin.transitions.clear()
        c.send(ReleaseKeys(["x-1"]))
        await until(lambda: not s.tasks)
        assert not plugin.transitions


@on_uvloop
async def test_names():
    async with Scheduler() as s:
        s.add_plugin(Everything(), name="a")
        s.add_plugin(Everything(), name="a", idempotent=True)
        with pytest.warns(UserWarning, match="named 'a' was there already"):
            s.add_plugin(Everything(), name="a")

        class Nameless(SchedulerPlugin):
            pass

        s.add_plugin(Nameless())
        assert any(name.startswith("Nameless-") for name in s.plugins)
        plugin = s.plugins["a"]
        s.remove_plugin(plugin=plugin)
        with pytest.raises(ValueError, match="no plugin named"):
            s.remove_plugin("a")
        with pytest.raises(TypeError, match="must be an object"):
            s.add_plugin(Everything)


@on_uvloop
async def test_registered_by_a_client():
    class Late(SchedulerPlugin):
        name = "late"

        async def start(self, scheduler):
            scheduler.late_started = True
            scheduler.handlers["late_op"] = self.op

        def op(self, x):
            return {"custom": x, "object": complex(1, x)}

    async with Scheduler() as s, rpc(s.address) as r:
        await r.register_scheduler_plugin(plugin=cloudpickle.dumps(Late()), name="late", idempotent=True)
        assert s.late_started
        assert await r.late_op(x=2) == {"custom": 2, "object": 1 + 2j}
        await r.unregister_scheduler_plugin(name="late")
        assert "late" not in s.plugins


@on_uvloop
async def test_old_fashioned_plugin():
    """The one of the seed documents: no call of super().__init__, few keywords, duck-typed."""

    class MyPlugin(SchedulerPlugin):
        def __init__(self, print_count):
            self.print_count = print_count
            self.seen = []

        def add_worker(self, scheduler=None, worker=None, **kwargs):
            self.seen.append(("Added a new worker at:", worker, len(scheduler.workers)))

        def remove_worker(self, scheduler, worker):
            self.seen.append(("gone", worker))

    class Duck:
        def __init__(self):
            self.seen = []

        def transition(self, key, start, finish, *args, **kwargs):
            self.seen.append(finish)

    plugin, duck = MyPlugin(True), Duck()
    async with Scheduler() as s:
        s.add_plugin(plugin)
        s.add_plugin(duck)
        async with FakeWorker(s) as w, FakeClient(s) as c:
            c.submit("x")
            await until(lambda: c.of(KeyInMemory))
        await until(lambda: not s.workers)
    assert plugin.seen == [("Added a new worker at:", w.address, 1), ("gone", w.address)]
    assert "memory" in duck.seen


@on_uvloop
async def test_extensions_and_custom_operations():
    class Extension:
        def __init__(self, scheduler):
            self.scheduler = scheduler
            scheduler.handlers["ext_ask"] = self.ask
            scheduler.stream_handlers["ext_tell"] = self.tell
            self.told = []

        async def ask(self, x):
            return x * 2

        def tell(self, x):
            self.told.append(x)

    async with Scheduler(extensions={"ext": Extension}) as s, rpc(s.address) as r:
        assert await r.ext_ask(x=4) == 8
        await r.ext_tell(x=5)
        assert s.extensions["ext"].told == [5]
        assert "ext_tell" in s.stream_handlers
