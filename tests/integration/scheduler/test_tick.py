"""Tasks through a real scheduler, with workers and clients that are bare connections."""

from __future__ import annotations

import asyncio
import logging

import dask
import pytest

from distributed.messages.client_to_scheduler import ClientClosing, ReleaseKeys, UpdateGraph
from distributed.messages.control import Refused, Registered
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import KeyInMemory, KeysCancelled
from distributed.messages.scheduler_to_worker import ComputeTask, DefineFunction, FreeKeys
from distributed.messages.worker_to_scheduler import Heartbeat, TaskFinished
from distributed.scheduler import Scheduler, streams
from tests.integration.comm.loops import on_both_loops, on_uvloop, until
from tests.integration.scheduler.peers import FakeClient, FakeWorker


def scheduler(**kwargs):
    return Scheduler(**{"validate": True, **kwargs})


@on_both_loops
async def test_one_task():
    async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
        c.submit("x-1")
        await until(lambda: c.of(KeyInMemory))
        (done,) = c.of(KeyInMemory)
        assert done.key == "x-1"
        assert done.inline == Payload(b"value of x-1")
        assert done.holders == (w.address,)
        assert s.tasks["x-1"].state == "memory"
        c.send(ReleaseKeys(["x-1"]))
        await until(lambda: w.of(FreeKeys))
        assert not s.tasks
        s.validate_state()


@on_uvloop
async def test_what_is_only_to_be_forgotten_goes_along_with_the_next_task(monkeypatch):
    monkeypatch.setattr(streams, "FREE_AFTER_S", 60.0)
    async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
        c.submit("x-1")
        await until(lambda: c.of(KeyInMemory))
        c.send(ReleaseKeys(["x-1"]))
        await until(lambda: not s.tasks)
        assert not w.of(FreeKeys)
        c.submit("x-2")
        await until(lambda: len(c.of(KeyInMemory)) == 2)
        kinds = [type(message) for message in w.got]
        assert kinds.index(FreeKeys) < len(kinds) - 1 - kinds[::-1].index(ComputeTask)


@pytest.mark.parametrize("protocol", ["tcp://", "inproc://"])
@on_uvloop
async def test_protocols(protocol):
    async with scheduler(protocol=protocol) as s, FakeWorker(s), FakeClient(s) as c:
        assert s.address.startswith(protocol)
        c.submit("x-1")
        await until(lambda: c.of(KeyInMemory))


@on_uvloop
async def test_function_comes_once_and_before_its_tasks():
    async with scheduler() as s, FakeWorker(s) as a, FakeWorker(s, 2) as b, FakeClient(s) as c:
        for i in range(5):
            c.submit(*[f"x-{i}-{j}" for j in range(20)])
        await until(lambda: len(c.of(KeyInMemory)) == 100)
        for worker in (a, b):
            kinds = [type(m) for m in worker.got if type(m) in (DefineFunction, ComputeTask)]
            assert kinds[0] is DefineFunction
            assert kinds.count(DefineFunction) == 1


@on_uvloop
async def test_one_batch_for_each_peer():
    """A submission of many tasks reaches a worker with many threads as one batch, not one by one."""
    async with scheduler() as s, FakeWorker(s, nthreads=100, lazy=True) as w, FakeClient(s) as c:
        w.batches.clear()
        c.submit(*[f"x-{i}" for i in range(100)])
        await until(lambda: len(w.of(ComputeTask)) == 100)
        assert len(w.batches) <= 2


@on_uvloop
async def test_late_worker_gets_waiting_tasks():
    async with scheduler() as s, FakeClient(s) as c:
        c.submit("x-1")
        await until(lambda: "x-1" in s.tasks and s.tasks["x-1"].state in ("queued", "no-worker"))
        async with FakeWorker(s):
            await until(lambda: c.of(KeyInMemory))


@on_uvloop
async def test_lost_worker():
    async with scheduler() as s, FakeClient(s) as c, FakeWorker(s, 1, lazy=True) as a:
        c.submit("x-1")
        await until(lambda: a.of(ComputeTask))
        async with FakeWorker(s, 2) as b:
            a.connection.abort()
            await until(lambda: c.of(KeyInMemory))
            assert c.of(KeyInMemory)[0].holders == (b.address,)
            assert list(s.workers) == [b.address]
            removed = [e for _, e in s.get_events("all") if e["action"] == "remove-worker"]
            assert removed[0]["worker"] == a.address
            assert not removed[0]["expected"]


@on_uvloop
async def test_late_answer_of_an_older_run_changes_nothing():
    async with scheduler() as s, FakeClient(s) as c, FakeWorker(s, lazy=True) as w:
        c.submit("x-1")
        await until(lambda: w.of(ComputeTask))
        (task,) = w.of(ComputeTask)
        w.send(TaskFinished("x-1", task.run_id + 7, 1, 0.0))
        w.send(Heartbeat({"cpu": 1.0}))
        await until(lambda: s.workers[w.address].metrics)
        assert s.tasks["x-1"].state == "processing"
        w.finish(task)
        await until(lambda: c.of(KeyInMemory))


@on_uvloop
async def test_a_client_that_is_gone_releases_its_keys():
    async with scheduler() as s, FakeWorker(s):
        async with FakeClient(s) as c:
            c.submit("x-1")
            await until(lambda: c.of(KeyInMemory))
        await until(lambda: not s.tasks)
        assert "client-1" not in s.clients
        async with FakeClient(s) as c:
            c.submit("x-1")
            c.send(ClientClosing())
            await until(lambda: "client-1" not in s.clients)
        assert not s.tasks


@on_uvloop
async def test_a_lost_client_releases_its_keys_after_the_grace():
    with dask.config.set({"distributed.scheduler.client-grace": "200ms"}):
        async with scheduler() as s, FakeWorker(s), FakeClient(s) as c:
            c.submit("x-1")
            await until(lambda: c.of(KeyInMemory))
            begin = asyncio.get_running_loop().time()
            c.connection.abort()
            await until(lambda: not s.tasks)
            assert asyncio.get_running_loop().time() - begin > 0.19  # the loop counts whole milliseconds
            assert "client-1" not in s.clients
            assert [e["action"] for _, e in s.get_events("client-1")] == ["add-client", "client-lost", "remove-client"]


@on_uvloop
async def test_a_client_that_is_back_gets_what_it_missed():
    async with scheduler() as s, FakeWorker(s, lazy=True) as w, FakeClient(s) as c:
        c.submit("x-1", "x-2")
        await until(lambda: w.of(ComputeTask))
        c.connection.abort()
        c.link.detach()
        await until(lambda: s.shell.streams.clients["client-1"].connection is None)
        for task in w.of(ComputeTask):
            w.finish(task)
        await until(lambda: s.tasks["x-1"].state == "memory")
        again = FakeClient(s, session=c.link.id, applied=c.link.end.applied)
        again.link = c.link
        async with again:
            await until(lambda: again.of(KeyInMemory))
            (registered,) = again.of(Registered)
            assert registered.applied == c.link.end.sent == 1


@on_uvloop
async def test_a_client_is_never_given_another_session_than_its_own():
    """Also when the numbers would fit: it had a session here, lost it, and the answer that said so was lost, too."""
    async with scheduler() as s, FakeClient(s, session="an earlier one") as c:
        (registered,) = c.of(Registered)
        assert registered.session == c.link.id != "an earlier one"
        assert "does not know it" in registered.ended
        async with FakeClient(s, session="an earlier one") as again:
            assert again.of(Registered)[0].session not in ("an earlier one", c.link.id)
            await until(lambda: c.lost)


@on_uvloop
async def test_client_that_comes_again():
    """A client whose broken connection was not noticed registers under the same id."""
    async with scheduler() as s, FakeClient(s) as one:
        async with FakeClient(s) as two:
            assert one.name == two.name
            await until(lambda: one.lost)
            two.submit("x-1")
            async with FakeWorker(s):
                await until(lambda: two.of(KeyInMemory))


@on_uvloop
async def test_unknown_dependency_is_told():
    async with scheduler() as s, FakeWorker(s), FakeClient(s) as c:
        from distributed.messages.client_to_scheduler import TaskSpec

        c.send(UpdateGraph(1, [TaskSpec("y", b"", Payload(b"z"), dependencies=("nowhere",))]))
        await until(lambda: c.of(KeysCancelled))
        assert c.of(KeysCancelled)[0].keys == ["y"]


@on_uvloop
async def test_error_in_the_core_harms_only_its_message(caplog):
    async with scheduler() as s, FakeWorker(s), FakeClient(s) as c:
        await until(lambda: s.workers)
        from distributed.scheduler.state_machine import state as core

        def broken(*args):
            raise RuntimeError("a defect")

        old = core.HANDLERS[ReleaseKeys]
        core.HANDLERS[ReleaseKeys] = broken
        try:
            with caplog.at_level(logging.ERROR, "distributed.scheduler"):
                c.send(ReleaseKeys(["a"]))
                c.submit("x-1")
                await until(lambda: c.of(KeyInMemory))
            assert "a defect" in caplog.text
        finally:
            core.HANDLERS[ReleaseKeys] = old


class TestRegistration:
    @on_uvloop
    async def test_registered(self):
        async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
            for peer in (w, c):
                (answer,) = peer.of(Registered)
                assert answer.scheduler == s.address
                assert answer.scheduler_id == s.id
                assert answer.heartbeat_interval_s > 0
                assert not answer.warning

    @on_uvloop
    async def test_name_taken(self):
        async with scheduler() as s, FakeWorker(s, 1, "alice"), FakeWorker(s, 2, "alice") as second:
            (refused,) = second.of(Refused)
            assert "alice" in refused.reason
            assert "taken" in refused.reason
            await until(lambda: second.lost)
            assert list(s.workers) == ["tcp://127.0.0.1:1"]

    @on_uvloop
    async def test_address_taken(self):
        async with scheduler() as s, FakeWorker(s, 1, "a") as first, FakeWorker(s, 1, "b") as second:
            assert "taken" in second.of(Refused)[0].reason
            assert not first.lost
            assert s.workers[first.address].name == "a"

    @on_uvloop
    async def test_address_free_again_after_a_loss(self):
        async with scheduler() as s, FakeWorker(s, 1, info={"nanny": "tcp://127.0.0.1:900"}) as first:
            first.connection.abort()
            async with FakeWorker(s, 1, info={"nanny": "tcp://127.0.0.1:900"}) as again:
                assert again.of(Registered)
                assert s.workers[again.address].alive
                async with FakeClient(s) as c:
                    c.submit("x-1")
                    await until(lambda: c.of(KeyInMemory))

    @on_uvloop
    async def test_role_must_fit(self):
        class Liar(FakeWorker):
            role = "client"

        async with scheduler() as s, Liar(s) as liar:
            assert "register as a worker" in liar.of(Refused)[0].reason
            assert not s.workers

    @on_uvloop
    async def test_versions_that_differ(self):
        versions = {"packages": {"python": "2.7.1", "dask": "0.1"}}
        async with scheduler() as s, FakeWorker(s, info={"versions": versions}) as w:
            warning = w.of(Registered)[0].warning
            assert "2.7.1" in warning
            assert w.address in warning
        async with scheduler() as s, FakeClient(s, versions=versions) as c:
            assert "2.7.1" in c.of(Registered)[0].warning

    @on_uvloop
    async def test_numbers_as_names(self):
        async with scheduler() as s, FakeWorker(s, 1, "7", info={"name_is_int": True}) as w:
            assert s.workers[w.address].name == 7
            assert s.identity()["workers"][w.address]["name"] == 7
            assert s.coerce_address(7) == w.address


@on_both_loops
async def test_deadline_that_has_passed_already():
    """uvloop makes a bare handle of a timer that is due: the next beat must do without its ``when``."""
    async with scheduler() as s, FakeWorker(s) as w, FakeClient(s) as c:
        s.shell.state.next_look = 0.0
        s.shell._arm()
        s.shell._arm()
        s.shell.beat()
        c.submit("x-1")
        await until(lambda: c.of(KeyInMemory))
        await until(lambda: s.shell.state.next_look > 0)
        assert not w.lost
