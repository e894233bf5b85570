"""A worker that has the keys of one and lies: about keys, runs and clients it was never given, about amounts; a second
worker with a name or an address that is taken. The scheduler's tables stay as they are, and sound."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from distributed.comm import registry
from distributed.messages import worker_to_scheduler as w
from distributed.messages.client_to_scheduler import DataScattered, ReplicaOnWorkers, TaskOptions, TaskSpec, UpdateGraph
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import WorkerProcessExited, WorkerVouched
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.frames import frame_buffers
from distributed.protocol.plain import loads_plain
from distributed.rpc.links import codec_for
from distributed.scheduler import Scheduler
from distributed.testing import gen_test
from tests.integration.comm.loops import until
from tests.integration.scheduler.peers import INC, FakeClient, FakeNanny, FakeWorker

pytestmark = pytest.mark.usefixtures("private_places")
NAN, INF = math.nan, math.inf


def tables(s: Scheduler) -> Any:
    state = s.state
    return (
        state.transition_counter,
        {ts.key: (ts.state, ts.run_id, ts.nbytes) for ts in state.tasks.values()},
        {ws.address: (ws.status_name, ws.nbytes, ws.occupancy, len(ws.processing)) for ws in state.workers.values()},
        {cs.client_key: sorted(map(str, cs.wants_what)) for cs in state.clients.values()},
    )


class Remote(FakeWorker):
    shortcuts = False


class RemoteClient(FakeClient):
    shortcuts = False


@gen_test()
async def test_c4_14_claims_about_what_it_was_never_given() -> None:
    async with Scheduler(port=0, validate=True) as s, Remote(s, 1, lazy=True) as honest, RemoteClient(s) as c:
        c.submit("x-1")
        await until(lambda: "x-1" in s.state.tasks and s.state.tasks["x-1"].processing_on)
        run = s.state.tasks["x-1"].run_id
        async with Remote(s, 2, lazy=True) as liar:
            before = tables(s)
            error = ErrorInfo("ValueError", "no")
            for key, run_id in (("x-1", run), ("x-1", run + 1), ("x-1", -1), ("unknown", run), ("unknown", 2**62)):
                liar.send(
                    w.TaskFinished(key, run_id, 10, 0.1),
                    w.TaskErred(key, run_id, error),
                    w.TaskRescheduled(key, run_id),
                    w.TaskLongRunning(key, run_id, 0.1),
                    w.StealResponse(key, run_id, True),
                    w.MissingData(key, honest.address),
                    w.Heartbeat({}, [(key, 5.0)]),
                )
            assert (await liar.ask("identity"))["type"] == "Scheduler"
            assert tables(s) == before
            assert s.state.n_ignored == 5 * 5, "seen at /metrics: worker_reports_ignored_total"
            s.validate_state()
            assert not liar.lost and s.state.tasks["x-1"].processing_on.address == honest.address


class Nanny(FakeNanny):
    shortcuts = False


@gen_test()
async def test_c4_14_a_nanny_that_speaks_of_a_worker_that_is_not_its_own() -> None:
    """Of one with another nanny, and of one without."""
    async with Scheduler(port=0, validate=True) as s, Nanny(s, "tcp://127.0.0.1:9") as own:
        async with (
            Remote(s, 1, info={"nanny": own.address}) as a,
            Remote(s, 2) as b,
            Nanny(s, "tcp://127.0.0.1:8") as liar,
        ):
            before = tables(s)
            for worker in (a, b):
                liar.send(
                    WorkerProcessExited(worker.address, 0, signal=9),
                    WorkerVouched(worker.address, 0, 9.0, "stopped", ()),
                )
            assert (await liar.ask("identity"))["n_workers"] == 2
            assert tables(s) == before and s.state.n_ignored == 4
            own.send(WorkerProcessExited(a.address, 0, signal=9))
            await until(lambda: len(s.workers) == 1)


@gen_test()
async def test_c4_14_a_second_worker_with_the_same_name_or_address() -> None:
    async with Scheduler(port=0, validate=True) as s, Remote(s, 1, name="alice", lazy=True):
        for second in (Remote(s, 2, name="alice"), Remote(s, 1, name="bob")):
            before = tables(s)
            try:
                async with second:
                    await until(lambda second=second: second.lost, 5)
            except Exception:
                pass
            assert second.lost and tables(s) == before, second.name


LIES = [
    w.TaskFinished("x-1", 1, -10, 0.1),
    w.TaskFinished("x-1", 1, 10, NAN),
    w.TaskFinished("x-1", 1, 10, -1.0),
    w.TaskFinished("x-1", 1, 10, INF),
    w.TaskLongRunning("x-1", 1, NAN),
    w.ReplicasAdded([("x-1", -5)]),
    w.Heartbeat({}, [("x-1", NAN)]),
    w.Heartbeat({}, [("x-1", INF)]),
    w.Heartbeat({}, [], -1),
    w.Heartbeat({}, [], 0, -1),
    w.Heartbeat({}, [], 0, 0, -1),
]


@pytest.mark.parametrize("lie", LIES, ids=repr)
def test_c4_12_amounts_that_are_none(lie: Any) -> None:
    """The connection ends as for any message that is none; nothing of it is in the tables."""

    @gen_test()
    async def test() -> None:
        async with Scheduler(port=0, validate=True) as s, Remote(s, 1, lazy=True) as liar, RemoteClient(s) as c:
            c.submit("x-1")
            await until(lambda: "x-1" in s.state.tasks and s.state.tasks["x-1"].processing_on)
            if hasattr(lie, "run_id"):
                lie.run_id = s.state.tasks["x-1"].run_id
            liar.send(lie)
            await until(lambda: liar.lost, 5)
            await until(lambda: not s.state.workers, 5)
            s.validate_state()
            assert s.state.tasks["x-1"].state in ("no-worker", "queued", "waiting")

    test()


@pytest.mark.parametrize(
    "message",
    [
        UpdateGraph(1, [TaskSpec("y-1", INC.digest)], [INC], [TaskOptions(priority=NAN)]),
        UpdateGraph(1, [TaskSpec("y-1", INC.digest)], [INC], [TaskOptions(retries=-1)]),
        UpdateGraph(1, [TaskSpec("y-1", INC.digest)], [INC], [TaskOptions(resources={"GPU": NAN})]),
        UpdateGraph(1, [TaskSpec("y-1", INC.digest)], [INC], [TaskOptions(resources={"GPU": -1.0})]),
        DataScattered([ReplicaOnWorkers("y-1", ("tcp://127.0.0.1:1",), -5)]),
    ],
    ids=["priority", "retries", "resources NaN", "resources", "scattered"],
)
def test_c4_12_wishes_that_are_none(message: Any) -> None:
    @gen_test()
    async def test() -> None:
        async with Scheduler(port=0, validate=True) as s, Remote(s, 1, lazy=True), RemoteClient(s) as c:
            c.send(message)
            await until(lambda: c.lost, 5)
            assert not s.state.tasks
            s.validate_state()

    test()


@pytest.mark.parametrize("info", [{"resources": {"GPU": NAN}}, {"resources": {"GPU": -1.0}}], ids=repr)
def test_c4_12_a_worker_with_amounts_that_are_none(info: Any) -> None:
    @gen_test()
    async def test() -> None:
        async with Scheduler(port=0, validate=True) as s:
            one = Remote(s, 1, info=info)
            with pytest.raises(Exception):
                async with one:
                    assert one.lost
                    raise ConnectionError
            assert not s.state.workers

    test()


@gen_test()
async def test_c4_10_a_key_twice_in_a_table() -> None:
    """The last one counts, as everywhere: there is one decoder, so no two parts of the engine read it differently."""
    message = RegisterWorker("tcp://10.0.0.9:1", "x", "10.0.0.9", 1, resources={"GPU": 1.0, "FPU": 2.0})
    (segment,) = codec_for("worker", "scheduler").encode([message])
    twice = bytes(segment).replace(b"FPU", b"GPU")
    async with Scheduler(port=0, host="127.0.0.1", validate=True) as s:
        comm = await registry.connect(s.address, 5, role="worker", shortcuts=False)
        comm.start(lambda batch: None, lambda error: None, codec_for("worker", "scheduler"))
        comm._sock.sendall(b"".join(frame_buffers([twice], 0)[0]))
        await until(lambda: s.state.workers, 5)
        assert s.state.workers["tcp://10.0.0.9:1"].resources == {"GPU": 2.0}
        s.validate_state()
        comm.abort()
    assert loads_plain(Payload(msgspec.msgpack.encode({"a": 1, "b": 2}).replace(b"b", b"a")), False) == {"a": 2}


def test_the_registration_of_a_worker_has_these_fields() -> None:
    assert {"nthreads", "memory_limit", "resources"} <= set(RegisterWorker.__struct_fields__)
