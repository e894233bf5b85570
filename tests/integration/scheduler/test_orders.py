"""Questions and orders: what clients ask of a scheduler besides tasks."""

from __future__ import annotations

import asyncio
import contextlib
import pickle

import cloudpickle
import pytest

from distributed.base.errors import CommClosedError
from distributed.messages.client_to_scheduler import ClientLogEvent
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_client import ClusterRestarted, EventLogged, KeyInMemory
from distributed.messages.scheduler_to_worker import AcquireReplicas, CloseWorkerOrder, ComputeTask, RemoveReplicas
from distributed.messages.worker_to_scheduler import ReplicasAdded, ReplicasDropped, TaskErred, WorkerLogEvent
from distributed.protocol.serialize import unpack_error
from distributed.rpc.pool import rpc
from distributed.scheduler import Scheduler
from tests.integration.comm.loops import on_uvloop, until
from tests.integration.scheduler.peers import FakeClient, FakeNanny, FakeWorker, Peer


def scheduler(**kwargs):
    return Scheduler(**{"validate": True, **kwargs})


async def in_memory(client, *keys):
    client.submit(*keys)
    await until(lambda: {m.key for m in client.of(KeyInMemory)} >= set(keys))


@on_uvloop
async def test_identity():
    async with (
        scheduler() as s,
        FakeWorker(s, nthreads=2, info={"pid": 5, "extra": {"zone": "b"}}) as w,
        rpc(s.address) as r,
    ):
        found = await r.identity()
        assert found == {**s.identity(), "workers": found["workers"]}
        assert found["type"] == "Scheduler"
        assert found["address"] == s.address
        assert found["n_workers"] == 1
        assert found["total_threads"] == 2
        assert found["total_memory"] == 1000
        info = found["workers"][w.address]
        assert info["nthreads"] == 2
        assert info["name"] == w.name
        assert info["status"] == "running"
        assert info["pid"] == 5
        assert info["zone"] == "b"
        assert info["memory_limit"] == 1000
        assert {"host", "local_directory", "services", "nanny", "metrics", "last_seen", "resources"} <= set(info)
        assert (await r.identity(n_workers=0))["workers"] == {}


@on_uvloop
async def test_questions_about_data():
    async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
        await in_memory(c, "x-1", "x-2", ("\0bytes", "raw"))
        assert await c.ask("who_has", keys=["x-1", "no", b"raw"]) == {"x-1": [w.address], "no": [], b"raw": [w.address]}
        assert set(await c.ask("who_has")) == {"x-1", "x-2", b"raw"}
        assert set((await c.ask("has_what"))[w.address]) == {"x-1", "x-2", b"raw"}
        assert await c.ask("has_what", workers=[w.name, "nobody"]) == {w.address: ["x-1", "x-2", b"raw"], "nobody": []}
        assert await c.ask("ncores") == await c.ask("nthreads") == {w.address: 1}
        assert (await c.ask("nbytes"))["x"] == 20
        assert await c.ask("nbytes", keys=["x-1"], summary=False) == {"x-1": 10}
        assert await c.ask("processing") == {w.address: []}
        assert [step[2] for step in await c.ask("story", keys=["x-1"])][-1] == "memory"
        explanation = await c.ask("explain", key="x-1")
        assert explanation["state"] == "memory"
        assert w.address in explanation["text"]
        assert (await c.ask("explain", key="no"))["state"] == "forgotten"
        assert s.story("x-1")
        assert s.transition_log


@on_uvloop
async def test_gather_and_scatter_through_the_scheduler():
    async with scheduler() as s, FakeWorker(s, 1) as a, FakeWorker(s, 2) as b, FakeClient(s) as c:
        await in_memory(c, "x-1", "x-2")
        answer = await c.ask("gather", keys=["x-1", "x-2"])
        assert answer == {
            "status": "OK",
            "data": {"x-1": Payload(b"value of x-1"), "x-2": Payload(b"value of x-2")},
            "keys": [],
        }
        answer = await c.ask("gather", keys=["x-1", "lost"])
        assert answer["status"] == "error"
        assert answer["keys"] == ["lost"]
        assert list(answer["data"]) == ["x-1"]
        payload = Payload(b"pickle")
        assert await c.ask("scatter", data={"d": payload}, broadcast=True) == ["d"]
        assert a.data["d"] == b.data["d"] == payload
        assert set((await c.ask("who_has", keys=["d"]))["d"]) == {a.address, b.address}
        assert await c.ask("scatter_plan", workers=[a.name]) == {a.address: (1, None)}
        await c.ask("proxy", worker=b.name, msg={"op": "update_data", "data": {"e": payload}})
        assert b.data["e"] == payload


@on_uvloop
async def test_scatter_waits_for_a_worker():
    async with scheduler() as s, FakeClient(s) as c:
        with pytest.raises(TimeoutError):
            await c.ask("scatter_plan", timeout=0.05)
        plan = asyncio.ensure_future(c.ask("scatter_plan"))
        await asyncio.sleep(0)
        async with FakeWorker(s) as w:
            assert await plan == {w.address: (1, None)}


@on_uvloop
async def test_gather_from_a_worker_that_fails_over():
    def refuse(keys, who=""):
        raise CommClosedError("no")

    async with scheduler() as s, FakeWorker(s, 1, get_data=refuse), FakeWorker(s, 2), FakeClient(s) as c:
        await c.ask("scatter", data={"d": Payload(b"v")}, broadcast=True)
        assert (await c.ask("gather", keys=["d"]))["data"] == {"d": Payload(b"v")}


class TestBroadcast:
    @on_uvloop
    async def test_answers(self):
        handlers = {"double": lambda x: 2 * x}
        async with (
            scheduler() as s,
            FakeWorker(s, 1, **handlers) as a,
            FakeWorker(s, 2, **handlers) as b,
            FakeClient(s) as c,
        ):
            msg = {"op": "double", "x": 4}
            assert await c.ask("broadcast", msg=msg) == {a.address: 8, b.address: 8}
            assert await c.ask("broadcast", msg=msg, workers=[b.name]) == {b.address: 8}
            assert await c.ask("broadcast", msg=msg, hosts=["127.0.0.1"]) == {a.address: 8, b.address: 8}
            assert await s.broadcast(msg=msg) == {a.address: 8, b.address: 8}

    @pytest.mark.parametrize("shortcuts", [True, False])
    @on_uvloop
    async def test_errors_arrive_as_they_were(self, shortcuts, monkeypatch):
        """The scheduler cannot know the worker's exception, and does not have to."""

        monkeypatch.setattr(Peer, "shortcuts", shortcuts)

        def fail():
            raise ZeroDivisionError("by worker 2")

        async with (
            scheduler() as s,
            FakeWorker(s, 1, f=lambda: 1) as a,
            FakeWorker(s, 2, f=fail) as b,
            FakeClient(s) as c,
        ):
            with pytest.raises(ZeroDivisionError, match="by worker 2"):
                await c.ask("broadcast", msg={"op": "f"})
            assert await c.ask("broadcast", msg={"op": "f"}, on_error="ignore") == {a.address: 1}
            answer = await c.ask("broadcast", msg={"op": "f"}, on_error="return_pickle")
            assert isinstance(answer[b.address], ErrorInfo)
            assert isinstance(unpack_error(answer[b.address])[0], ZeroDivisionError)
            answer = await c.ask("broadcast", msg={"op": "f"}, on_error="return")
            assert isinstance(answer[b.address], ZeroDivisionError)
            with pytest.raises(ZeroDivisionError):
                await c.ask("proxy", worker=b.address, msg={"op": "f"})
            with pytest.raises(ValueError, match="on_error"):
                await c.ask("broadcast", msg={"op": "f"}, on_error="explode")
            with pytest.raises(CommClosedError, match="nobody"):
                await c.ask("broadcast", msg={"op": "f"}, workers=["nobody"])
            with pytest.raises(ValueError, match="operation"):
                await c.ask("broadcast", msg={"x": 1})

    @on_uvloop
    async def test_worker_dies_before_it_answers(self):
        async with scheduler() as s, FakeClient(s) as c:
            asked, go_on = asyncio.Event(), asyncio.Event()

            async def slow():
                asked.set()
                await go_on.wait()

            async with FakeWorker(s, f=slow) as w:
                asking = asyncio.ensure_future(c.ask("broadcast", msg={"op": "f"}))
                await asked.wait()
                w.connection.abort()
                with pytest.raises(CommClosedError):
                    await asking
                go_on.set()

    @on_uvloop
    async def test_nannies(self):
        nanny = "tcp://127.0.0.1:900"
        async with scheduler() as s, FakeNanny(s, nanny, f=lambda: "n") as n, FakeWorker(s, info={"nanny": nanny}) as w:
            assert n.got
            assert await s.broadcast(msg={"op": "f"}, nanny=True) == {w.address: "n"}


class TestRunFunction:
    @on_uvloop
    async def test_runs_here(self):
        async with scheduler() as s, rpc(s.address) as r:

            def who(suffix, dask_scheduler, more=""):
                return dask_scheduler.id + suffix + more

            async def later(x):
                return x + 1

            answer = await r.run_function(function=who, args=["-a"], kwargs={"more": "-b"})
            assert answer == {"status": "OK", "result": f"{s.id}-a-b"}
            assert (await r.run_function(function=cloudpickle.dumps(later), args=[1]))["result"] == 2
            packed = {"function": Payload(pickle.dumps(len)), "args": Payload(pickle.dumps(([1, 2],)))}
            assert (await r.run_function(**packed))["result"] == 2
            with pytest.raises(ZeroDivisionError):
                await r.run_function(function=lambda: 1 / 0)

    @on_uvloop
    async def test_only_clients_may(self):
        async with scheduler() as s, FakeWorker(s) as w:
            for op in ("run_function", "restart", "terminate", "register_scheduler_plugin", "broadcast", "upload_file"):
                with pytest.raises(PermissionError, match="worker"):
                    await w.ask(op, function=b"")
            assert s.status.name == "running"

    @on_uvloop
    async def test_blocked(self):
        async with scheduler(blocked_handlers=["feed", "run_function"]) as s, rpc(s.address) as r:
            for op in ("feed", "run_function"):
                with pytest.raises(ValueError, match=op):
                    await getattr(r, op)(function=len)
            assert await r.identity()

    @on_uvloop
    async def test_arguments_of_others_are_not_opened(self, monkeypatch):
        monkeypatch.setattr(Peer, "shortcuts", False)

        class Bomb:
            def __reduce__(self):
                return (_explode, ())

        async with scheduler() as s, FakeWorker(s) as w:
            await w.ask("set_metadata", keys=["a", "b"], value=Bomb())
            await w.ask("log_event", topic="t", msg=Bomb())
            assert not exploded
            with pytest.raises(Exception, match="boom"):
                await w.ask("get_metadata", keys=["a", "b"])
            assert exploded
            exploded.clear()


exploded: list[int] = []


def _explode():
    exploded.append(1)
    raise RuntimeError("boom")


@on_uvloop
async def test_metadata():
    async with scheduler() as s, FakeClient(s) as c:
        await c.ask("set_metadata", keys=["a", "b"], value=1)
        await c.ask("set_metadata", keys="c", value={"d": 2})
        assert await c.ask("get_metadata", keys=["a"]) == {"b": 1}
        assert await c.ask("get_metadata", keys=["c", "d"]) == 2
        assert await c.ask("get_metadata", keys=["no"], default=None) is None
        with pytest.raises(KeyError):
            await c.ask("get_metadata", keys=["no"])
        assert s.task_metadata["a"]["b"] == 1


@on_uvloop
async def test_events():
    async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
        await c.ask("subscribe_topic", topic="news")
        c.send(ClientLogEvent(("news", "other"), {"x": 1}))
        w.send(WorkerLogEvent(("news",), "from a worker"))
        await until(lambda: len(c.of(EventLogged)) == 2)
        assert {m.topic for m in c.of(EventLogged)} == {"news"}
        assert [e for _, e in await c.ask("events", topic="other")] == [{"x": 1}]
        assert {e["action"] for _, e in (await c.ask("get_events"))["all"]} >= {"add-worker", "add-client"}
        await c.ask("unsubscribe_topic", topic="news")
        s.log_event(["news"], 3)
        assert [e for _, e in s.get_events("news")][-1] == 3
        assert len(c.of(EventLogged)) == 2
        async with rpc(s.address) as r:
            with pytest.raises(ValueError, match="registered"):
                await r.subscribe_topic(topic="news")


class TestRetire:
    @on_uvloop
    async def test_data_moves_first(self):
        async with scheduler() as s, FakeWorker(s, 1) as a, FakeClient(s) as c:
            await in_memory(c, "x-1")

            async with FakeWorker(s, 2) as b:
                retiring = asyncio.ensure_future(c.ask("retire_workers", workers=[a.address], close_workers=True))
                await until(lambda: b.of(AcquireReplicas))
                assert not retiring.done()
                assert not a.of(CloseWorkerOrder)
                b.send(ReplicasAdded([("x-1", 10)]))
                retired = await retiring
                assert list(retired) == [a.address]
                assert retired[a.address]["name"] == a.name
                assert a.of(CloseWorkerOrder)
                assert list(s.workers) == [b.address]
                assert (await c.ask("who_has", keys=["x-1"])) == {"x-1": [b.address]}

    @on_uvloop
    async def test_not_closed_by_default(self):
        async with scheduler() as s, FakeWorker(s, 1) as a, FakeWorker(s, 2):
            assert list(await s.retire_workers(names=["w1"])) == [a.address]
            assert not a.of(CloseWorkerOrder)
            assert s.workers[a.address].status_name == "closing_gracefully"
            assert await s.retire_workers([]) == {}
            with pytest.raises(TypeError):
                await s.retire_workers(workers=[], names=[])

    @on_uvloop
    async def test_nobody_to_take_the_data(self):
        async with scheduler() as s, FakeWorker(s, 1) as a, FakeClient(s) as c:
            await in_memory(c, "x-1")
            assert await c.ask("retire_workers", workers=[a.address], close_workers=True) == {}
            assert s.workers[a.address].status_name == "running"

    @on_uvloop
    async def test_worker_dies_meanwhile(self):
        async with scheduler() as s, FakeWorker(s, 1) as a, FakeWorker(s, 2), FakeClient(s) as c:
            await in_memory(c, "x-1", "x-2", "x-3", "x-4")
            retiring = asyncio.ensure_future(c.ask("retire_workers", workers=[a.address]))
            await until(lambda: s.workers[a.address].status_name != "running")
            a.connection.abort()
            await retiring

    @on_uvloop
    async def test_disobedient_worker_is_removed(self, monkeypatch):
        from distributed.scheduler import data_movement

        monkeypatch.setattr(data_movement, "REMOVAL_S", 0.05)
        async with scheduler() as s, FakeWorker(s, 1, obedient=False) as a, FakeWorker(s, 2):
            assert list(await s.retire_workers([a.address], close_workers=True)) == [a.address]
            assert a.address not in s.workers
            await until(lambda: a.lost)


def obey(worker):
    """It copies and drops what it is told to."""

    def react(message):
        FakeWorker.react(worker, message)
        if type(message) is AcquireReplicas:
            worker.send(ReplicasAdded([(need.key, need.nbytes) for need in message.needs]))
        elif type(message) is RemoveReplicas:
            worker.send(ReplicasDropped(message.keys))

    worker.react = react


@pytest.mark.parametrize(("factor", "sources"), [(1, [1, 2, 2]), (3, [1, 1, 1])])
@on_uvloop
async def test_copies_are_made_from_copies(factor, sources):
    """Of each round: from how many holders a new copy may be taken."""
    async with scheduler() as s, FakeClient(s) as c, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(FakeWorker(s, 1))
        await in_memory(c, "x-1")
        others = [await stack.enter_async_context(FakeWorker(s, i)) for i in (2, 3, 4)]
        for worker in (first, *others):
            obey(worker)
        await c.ask("replicate", keys=["x-1"], branching_factor=factor)
        assert len((await c.ask("who_has", keys=["x-1"]))["x-1"]) == 4
        asked = [len(need.holders) for worker in others for order in worker.of(AcquireReplicas) for need in order.needs]
        assert sorted(asked) == sources


@on_uvloop
async def test_replicate_and_rebalance():
    async with scheduler() as s, FakeWorker(s, 1) as a, FakeClient(s) as c:
        obey(a)
        await in_memory(c, *[f"x-{i}" for i in range(10)])
        async with FakeWorker(s, 2) as b:
            obey(b)
            await c.ask("replicate", keys=["x-1"])
            assert set((await c.ask("who_has", keys=["x-1"]))["x-1"]) == {a.address, b.address}
            await c.ask("replicate", keys=["x-1"], n=1)
            assert len((await c.ask("who_has", keys=["x-1"]))["x-1"]) == 1
            assert (await c.ask("rebalance"))["status"] == "OK"
            assert 3 <= len(s.workers[b.address].has_what) <= 7
            assert (await c.ask("rebalance", keys=["no"]))["status"] == "partial-fail"


class TestRestart:
    @on_uvloop
    async def test_workers_come_back(self):
        nanny = {"nanny": "tcp://127.0.0.1:900"}
        async with scheduler() as s, FakeClient(s) as c, FakeWorker(s, 1, lazy=True, info={**nanny, "pid": 1}) as a:
            c.submit("x-1")
            await until(lambda: a.of(ComputeTask))
            restarting = asyncio.ensure_future(c.ask("restart", timeout=5))
            await until(lambda: a.of(CloseWorkerOrder))
            assert a.of(CloseWorkerOrder)[0].restart
            assert not s.tasks
            assert c.of(ClusterRestarted)
            async with FakeWorker(s, 1, info={**nanny, "pid": 2}):
                await restarting
                assert len(s.workers) == 1

    @on_uvloop
    async def test_too_late(self):
        async with scheduler() as s, FakeClient(s) as c, FakeWorker(s, info={"nanny": "tcp://127.0.0.1:900"}):
            with pytest.raises(TimeoutError, match="1 worker"):
                await c.ask("restart", timeout=0.1)

    @on_uvloop
    async def test_without_nanny(self):
        async with scheduler() as s, FakeClient(s) as c, FakeWorker(s) as w:
            await c.ask("restart", timeout=5)
            assert not s.workers
            assert w.of(CloseWorkerOrder)

    @on_uvloop
    async def test_some_workers(self):
        asked = []

        def restart(timeout=None, reason=""):
            asked.append(reason)
            return "OK"

        nanny = "tcp://127.0.0.1:900"
        async with scheduler() as s, FakeNanny(s, nanny, restart=restart), FakeWorker(s, 1, info={"nanny": nanny}) as a:
            async with FakeWorker(s, 2) as b, FakeClient(s) as c:
                assert await c.ask("restart_workers", workers=[a.name]) == {a.address: "OK"}
                assert asked
                with pytest.raises(ValueError, match="nanny"):
                    await c.ask("restart_workers", workers=[b.address])


@on_uvloop
async def test_scaling():
    async with scheduler() as s, FakeWorker(s, 1) as a, FakeWorker(s, 2) as b, FakeClient(s) as c:
        assert await c.ask("workers_to_close", n=1, attribute="name") in (["w1"], ["w2"])
        assert set(await c.ask("workers_to_close", target=0)) == {a.address, b.address}
        assert await c.ask("adaptive_target", target_duration="1s") == 0
        assert isinstance(await c.ask("check_idle"), (float, type(None)))


@on_uvloop
async def test_upload_and_plugins_for_workers():
    uploads, added, removed = [], [], []
    handlers = {
        "upload_file": lambda filename, data, load: uploads.append((filename, data, load)),
        "plugin_add": lambda plugin, name: added.append((plugin, name)),
        "plugin_remove": lambda name: removed.append(name),
    }
    async with scheduler() as s, FakeWorker(s, 1, **handlers), FakeClient(s) as c:
        await c.ask("upload_file", filename="dir/mod.py", data=b"x = 1", load=True)
        assert uploads == [("mod.py", b"x = 1", True)]
        await c.ask("register_worker_plugin", plugin=Payload(b"pickle"), name="p")
        assert added == [(Payload(b"pickle"), "p")]
        await c.ask("register_worker_plugin", plugin=Payload(b"other"), name="p", idempotent=True)
        assert len(added) == 1
        async with FakeWorker(s, 2) as late:
            plugins = dict(late.got[0].plugins)
            assert list(plugins) == ["upload-file-mod.py", "p"]
            assert pickle.loads(plugins["upload-file-mod.py"].data).data == b"x = 1"
        await s.unregister_worker_plugin(name="p")
        assert removed == ["p"]
        with pytest.raises(ValueError, match="no worker plugin is named"):
            await c.ask("unregister_worker_plugin", name="p")
        with pytest.raises(ValueError, match="name"):
            await c.ask("register_worker_plugin", plugin=b"pickle")
        # As dask's own code calls it.
        await s.register_worker_plugin(None, b"pickle", name="q", idempotent=False)
        assert added[-1] == (Payload(b"pickle"), "q")


@on_uvloop
async def test_nanny_plugins():
    added = []
    async with scheduler() as s:
        async with FakeNanny(s, plugin_add=lambda plugin, name: added.append(name)), FakeClient(s) as c:
            await c.ask("register_nanny_plugin", plugin=Payload(b"p"), name="n")
            assert added == ["n"]
        async with FakeNanny(s, "tcp://127.0.0.1:901") as late:
            assert late.got[0].plugins == [("n", Payload(b"p"))]


@on_uvloop
async def test_erred_task_and_logs():
    async with (
        scheduler() as s,
        FakeWorker(s, lazy=True, get_logs=lambda n: [("INFO", "line")]) as w,
        FakeClient(s) as c,
    ):
        c.submit("x-1")
        await until(lambda: w.of(ComputeTask))
        w.send(TaskErred("x-1", w.of(ComputeTask)[0].run_id, ErrorInfo("ValueError", "bad")))
        await until(lambda: s.tasks["x-1"].state == "erred")
        assert "bad" in (await c.ask("explain", key="x-1"))["text"]
        assert await c.ask("worker_logs") == {w.address: [("INFO", "line")]}
        assert await c.ask("get_logs") == await c.ask("logs")
        assert await c.ask("get_logs", n=0) == []


@on_uvloop
async def test_call_stack():
    asked = []

    def call_stack(keys=None):
        asked.append(keys)
        return {"x-1": ["frame"]}

    async with scheduler() as s, FakeWorker(s, lazy=True, call_stack=call_stack) as w, FakeClient(s) as c:
        c.submit("x-1")
        await until(lambda: w.of(ComputeTask))
        assert await c.ask("call_stack") == {w.address: {"x-1": ["frame"]}}
        assert await c.ask("call_stack", keys=["x-1", "other"]) == {w.address: {"x-1": ["frame"]}}
        assert asked == [None, ["x-1"]]


@on_uvloop
async def test_wrong_questions():
    async with scheduler() as s, rpc(s.address) as r:
        with pytest.raises(ValueError, match="unknown operation"):
            await r.no_such_thing()
        with pytest.raises(TypeError):
            await r.who_has(kyes=[])
        with pytest.raises(TypeError, match="key"):
            await r.explain(key={"a": 1})
        assert await r.ping() == "pong"
