"""Clusters made from a specification."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from distributed import Client, Nanny, Scheduler, Status, Worker
from distributed.deploy.spec import NoOpAwaitable, ProcessInterface, SpecCluster, run_spec
from distributed.testing import async_poll_for, gen_test, inc, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")

SCHEDULER: dict[str, Any] = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
WORKER: dict[str, Any] = {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1"}}


@gen_test()
async def test_named_workers() -> None:
    workers = {
        "a": {"cls": Worker, "options": {"nthreads": 3, "host": "127.0.0.1"}},
        "b": {"cls": "distributed.Nanny", "options": {"nthreads": 2, "host": "127.0.0.1"}},
        5: WORKER,
    }
    async with SpecCluster(workers=workers, scheduler=SCHEDULER, asynchronous=True) as cluster:
        assert set(cluster.workers) == {"a", "b", 5}
        assert isinstance(cluster.workers["a"], Worker)
        assert isinstance(cluster.workers["b"], Nanny)
        assert cluster.plan == cluster.requested == cluster.observed == {"a", "b", 5}
        async with Client(cluster, asynchronous=True) as client:
            assert sorted((await client.nthreads()).values()) == [1, 2, 3]
            assert await client.submit(inc, 1, workers="b") == 2
        with pytest.raises(ValueError, match="worker="):
            cluster.scale(5)
        assert not cluster._supports_scaling


def test_from_plain_code() -> None:
    with SpecCluster(workers={0: WORKER}, scheduler=SCHEDULER, worker=WORKER) as cluster, Client(cluster) as client:
        assert client.submit(inc, 1).result() == 2
        cluster.scale(2)
        client.wait_for_workers(2, timeout=10)
        cluster.scale_down([0])
        poll_for(lambda: set(cluster.workers) == {1})
        assert cluster.observed == {1}


@gen_test()
async def test_scaling_outlives_who_waits_for_it() -> None:
    nanny = {"cls": Nanny, "options": {"nthreads": 1, "host": "127.0.0.1"}}
    async with SpecCluster(scheduler=SCHEDULER, worker=nanny, asynchronous=True) as cluster:
        waiting = asyncio.ensure_future(_wait_for(cluster.scale(1)))
        await async_poll_for(lambda: 0 in cluster.workers and cluster.workers[0].pid)
        waiting.cancel()
        await async_poll_for(lambda: cluster.observed == {0}, timeout=30)
        await async_poll_for(lambda: cluster.workers[0].status is Status.running)


@pytest.mark.parametrize("cls", [Worker, Nanny])
@gen_test()
async def test_a_member_that_lost_its_scheduler_is_replaced(cls: Any) -> None:
    spec = {"cls": cls, "options": {"nthreads": 1, "host": "127.0.0.1"}}
    async with SpecCluster(workers={0: spec}, scheduler=SCHEDULER, asynchronous=True) as cluster:
        first = cluster.workers[0]
        streams = cluster.scheduler.shell.streams
        for connection in streams.connections(streams.workers if cls is Worker else streams.nannies).values():
            connection.abort()
        await async_poll_for(lambda: cluster.workers.get(0) not in (None, first), timeout=30)
        await async_poll_for(lambda: cluster.observed == {0}, timeout=30)
        assert first.status is Status.closed


@gen_test()
async def test_a_member_that_was_told_to_close_is_not_replaced() -> None:
    async with SpecCluster(workers={0: WORKER, 1: WORKER}, scheduler=SCHEDULER, asynchronous=True) as cluster:
        await cluster.workers[0].close()
        await async_poll_for(lambda: set(cluster.workers) == {1})
        assert set(cluster.worker_spec) == {1}


async def _wait_for(awaitable: Any) -> None:
    await awaitable


@gen_test()
async def test_default_scheduler() -> None:
    async with SpecCluster(worker=WORKER, asynchronous=True) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        await cluster.scale(1)
        assert len(cluster.observed) == 1


@gen_test()
async def test_worker_that_does_not_start() -> None:
    class Broken(Worker):
        def __await__(self) -> Any:
            async def fail() -> None:
                raise ValueError("no luck")

            return fail().__await__()

    cluster = SpecCluster(workers={0: WORKER, 1: {"cls": Broken}}, scheduler=SCHEDULER, asynchronous=True)
    with pytest.raises(ValueError, match="no luck"):
        await cluster
    assert cluster.status == Status.failed
    assert cluster.scheduler.status == Status.closed
    await cluster.close()


class Job(ProcessInterface):
    """A batch job that holds ``processes`` workers; here: they run in this very process."""

    jobs: list[Job] = []

    def __init__(self, scheduler: Any = None, name: Any = None, processes: int = 1) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self.scheduler_address = scheduler
        self.name = name
        self.processes = processes
        self.members: list[Worker] = []
        self.jobs.append(self)

    async def start(self) -> None:
        names = [self.name] if self.processes == 1 else [f"{self.name}-{i}" for i in range(self.processes)]
        self.members = [Worker(self.scheduler_address, name=name, nthreads=1, host="127.0.0.1") for name in names]
        for worker in self.members:
            await worker
        await super().start()

    async def close(self) -> None:
        await asyncio.gather(*[worker.close() for worker in self.members])
        await super().close()


@gen_test()
async def test_groups_of_workers() -> None:
    template = {"cls": Job, "options": {"processes": 2}, "group": ["-0", "-1"]}
    async with SpecCluster(worker=template, scheduler=SCHEDULER, asynchronous=True) as cluster:
        await cluster.scale(2)
        assert set(cluster.workers) == {0, 1}
        assert cluster.plan == {"0-0", "0-1", "1-0", "1-1"}
        await async_poll_for(lambda: cluster.observed == cluster.plan)
        await cluster.scale_down(["0-1"])
        assert set(cluster.workers) == {1}
        await async_poll_for(lambda: cluster.observed == {"1-0", "1-1"})


@gen_test()
async def test_process_interface() -> None:
    job = ProcessInterface(name="x")
    assert job.status == Status.created
    async with job:
        assert job.status == Status.running
        finished = asyncio.ensure_future(job.finished())
        await asyncio.sleep(0)
        assert not finished.done()
        assert "running" in repr(job)
    await finished
    assert job.status == Status.closed

    class Lazy(ProcessInterface):
        async def start(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="not started"):
        await Lazy()
    await NoOpAwaitable()


@gen_test()
async def test_new_worker_spec_can_be_chosen() -> None:
    class Coloured(SpecCluster):
        def _new_worker_name(self, worker_number: int) -> Any:
            return f"red-{worker_number}"

        def new_worker_spec(self) -> dict[Any, Any]:
            ((name, spec),) = super().new_worker_spec().items()
            return {name: {**spec, "options": {**spec["options"], "nthreads": 2}}}

    async with Coloured(worker=WORKER, scheduler=SCHEDULER, asynchronous=True) as cluster:
        cluster.scale(2)
        await cluster
        assert cluster.observed == {"red-0", "red-1"}
        assert {info["nthreads"] for info in cluster.scheduler_info["workers"].values()} == {2}


class RemoteScheduler(ProcessInterface):
    """A scheduler that the cluster object knows only by its address."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Scheduler(host="127.0.0.1", port=0, dashboard=False)

    async def start(self) -> None:
        await self.inner
        self.address = self.inner.address
        await super().start()

    async def close(self) -> None:
        await self.inner.close()
        await super().close()


@gen_test(config={"distributed.deploy.lost-worker-timeout": "50ms"})
async def test_lost_job_is_dropped_and_started_anew() -> None:
    Job.jobs.clear()
    scheduler = {"cls": RemoteScheduler, "options": {}}
    async with SpecCluster(
        worker={"cls": Job}, scheduler=scheduler, scheduler_sync_interval=0.02, asynchronous=True
    ) as cluster:
        await cluster.scale(1)
        await cluster.wait_for_workers(1)
        await async_poll_for(lambda: cluster.observed == {0})
        await Job.jobs[0].members[0].close()
        await async_poll_for(lambda: 0 not in cluster.workers)
        assert 0 in cluster.worker_spec
        await async_poll_for(lambda: Job.jobs[0].status == Status.closed)
        await cluster.scale(1)
        await cluster._correct_state()
        await async_poll_for(lambda: cluster.observed == {0})
        assert len(Job.jobs) == 2


@gen_test()
async def test_run_spec() -> None:
    async with Scheduler(**SCHEDULER["options"]) as scheduler:
        spec = {
            "a": {"cls": "distributed.Worker", "opts": {"nthreads": 3}},
            "b": {"cls": Worker, "opts": {"nthreads": 1}},
        }
        workers = await run_spec(spec, scheduler.address)
        assert {ws.name: ws.nthreads for ws in scheduler.workers.values()} == {"a": 3, "b": 1}
        for worker in workers.values():
            await worker.close()
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            await run_spec({"c": {"cls": Worker, "opts": {"interface": "nowhere0"}}, **spec}, scheduler.address)
        await async_poll_for(lambda: not scheduler.workers)
