"""The memory manager of replicas: its policies, those of users, and clients that start and stop it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    RetireWorker,
)

from distributed import Client, Event, Scheduler, Worker
from distributed.testing import gen_cluster, inc
from tests.integration.comm.loops import until

BY_HAND = {"distributed.scheduler.active-memory-manager.start": False}
FAST = {"distributed.scheduler.active-memory-manager.interval": "20ms"}
THREE = [("127.0.0.1", 1)] * 3


async def spread(c: Any, workers: Any) -> Any:
    """A value that has a copy on each worker, because tasks there have used it."""
    x = c.submit(inc, 0, key="x", workers=[workers[0].address])
    await c.gather([c.submit(inc, x, workers=[w.address], pure=False) for w in workers])
    return x


def holders(s: Any, key: str) -> int:
    return len(s.tasks[key].who_has)


@gen_cluster(client=True, nthreads=THREE, config=BY_HAND)
async def test_started_stopped_and_run_by_a_client(c: Any, s: Any, *workers: Any) -> None:
    assert not await c.amm.running()
    x = await spread(c, workers)
    assert s.replicated_tasks == {s.tasks["x"]} and holders(s, "x") == 3
    await c.amm.run_once()
    await until(lambda: sum("x" in w.data for w in workers) == 1)
    assert holders(s, "x") == 1 and s.replicated_tasks == set()
    await c.amm.start()
    await c.amm.start()
    assert await c.amm.running() and s.extensions["amm"].running
    await c.amm.stop()
    await c.amm.stop()
    assert not await c.amm.running()
    with pytest.raises(ValueError, match="'sing'"):
        await c.scheduler.amm_handler(method="sing")
    assert await x == 1


@gen_cluster(client=True, nthreads=THREE, config=FAST)
async def test_it_runs_by_itself(c: Any, s: Any, *workers: Any) -> None:
    x = await spread(c, workers)
    await until(lambda: holders(s, "x") == 1)
    assert await x == 1


@gen_cluster(client=True, nthreads=THREE, config=BY_HAND)
async def test_a_copy_that_a_task_is_to_use_stays(c: Any, s: Any, *workers: Any) -> None:
    x = await spread(c, workers)
    y = c.submit(_hold, x, key="y", workers=[workers[0].address])
    z = c.submit(_hold, x, key="z", workers=[workers[1].address])
    await until(lambda: all(len(s.workers[w.address].processing) == 1 for w in workers[:2]))
    s.extensions["amm"].run_once()
    await until(lambda: "x" not in workers[2].data)
    assert s.tasks["x"].who_has == {s.workers[w.address] for w in workers[:2]}
    await Event("used").set()
    assert await c.gather([y, z]) == [1, 1]


@gen_cluster(client=True, nthreads=THREE, config=BY_HAND)
async def test_copies_that_were_asked_for_stay(c: Any, s: Any, *workers: Any) -> None:
    x = await spread(c, workers)
    [y] = await c.scatter([{"b": 1}], broadcast=2)
    await c.submit(len, y, workers=[next(w.address for w in workers if y.key not in w.data)])
    await c.replicate(x, n=2)
    z = c.submit(inc, 5, key="z")
    await c.replicate(z, n=3)
    amm = s.extensions["amm"]
    assert (holders(s, "x"), holders(s, y.key), holders(s, "z")) == (2, 3, 3)
    amm.run_once()
    assert (holders(s, "x"), holders(s, y.key), holders(s, "z")) == (2, 2, 3)
    await c.replicate([x, z], n=1)
    await until(lambda: not amm.run_once() and (holders(s, "x"), holders(s, "z")) == (1, 1))
    assert await c.gather([x, z]) == [1, 6]


def _hold(x: int) -> int:
    assert Event("used").wait(20)
    return x


class Script(ActiveMemoryManagerPolicy):
    """Yields what it is given, and keeps what came of it."""

    def __init__(self, *suggestions: Any) -> None:
        self.suggestions = suggestions
        self.answers: list[Any] = []

    def run(self) -> Any:
        for suggestion in self.suggestions:
            self.answers.append((yield suggestion))


@gen_cluster(client=True, nthreads=THREE, config=BY_HAND)
async def test_policies_of_users(c: Any, s: Any, *workers: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[workers[0].address])
    await x
    first, second, third = [s.workers[w.address] for w in workers]
    ts = s.tasks["x"]
    amm = ActiveMemoryManagerExtension(s, policies=[], start=False, register=False)
    script = Script(
        ("drop", ts),  # the last copy
        ("replicate", ts, {first}),  # has it
        ("replicate", ts, {second}),
        ("replicate", ts, {second}),  # will have it
        ("replicate", ts, None),
        ("drop", ts, {first}),
        ("drop", ts, {first}),  # will have dropped it
    )
    amm.add_policy(script)
    assert script.manager is amm
    amm.run_once()
    assert script.answers == [None, None, second, None, third, first, None]
    assert amm.pending == {ts: ({second, third}, {first})}
    await until(lambda: ts.who_has == {second, third} and "x" not in workers[0].data)
    assert await c.gather(x) == 2


class Broken(ActiveMemoryManagerPolicy):
    def __init__(self, suggestion: Any) -> None:
        self.suggestion = suggestion

    def run(self) -> Any:
        yield self.suggestion
        raise ZeroDivisionError("in a policy")


@gen_cluster(client=True, config=BY_HAND)
async def test_a_policy_that_fails_is_logged_and_the_others_run(c: Any, s: Any, a: Any, b: Any, caplog: Any) -> None:
    await c.submit(inc, 1, key="x", workers=[a.address], pure=False)
    future = c.submit(inc, 1, key="y", workers=[a.address])
    await future
    ts = s.tasks["y"]
    amm = ActiveMemoryManagerExtension(
        s, [Broken(("replicate", ts)), Broken(("shuffle", ts)), Script()], register=False, start=False
    )
    with caplog.at_level(logging.ERROR, "distributed.scheduler"):
        amm.run_once()
    await until(lambda: holders(s, "y") == 2)
    assert caplog.text.count("has failed") == 2 and "in a policy" in caplog.text and "'shuffle'" in caplog.text


@gen_cluster(client=True, nthreads=THREE, config=BY_HAND)
async def test_emptying_a_worker(c: Any, s: Any, *workers: Any) -> None:
    a = workers[0]
    futures = c.map(inc, range(10), workers=[a.address])
    await c.gather(futures)
    policy = RetireWorker(a.address)
    amm = s.extensions["amm"]
    amm.add_policy(policy)
    assert not policy.done()
    await until(lambda: (amm.run_once(), policy.done())[1])
    amm.run_once()
    amm.run_once()
    await until(lambda: not a.data)
    assert policy not in amm.policies and not policy.no_recipients
    assert await c.gather(futures) == list(range(1, 11))


@gen_cluster(client=True, nthreads=THREE[:1], config=BY_HAND)
async def test_emptying_the_only_worker_is_given_up(c: Any, s: Any, a: Any) -> None:
    future = c.submit(inc, 1)
    await future
    policy = RetireWorker(a.address)
    s.extensions["amm"].add_policy(policy)
    s.extensions["amm"].run_once()
    assert policy.no_recipients and not policy.done() and policy not in s.extensions["amm"].policies
    gone = RetireWorker("tcp://nowhere:1")
    s.extensions["amm"].add_policy(gone)
    s.extensions["amm"].run_once()
    assert gone.done() and gone not in s.extensions["amm"].policies


def test_wrong_arguments(monkeypatch: Any) -> None:
    async def check() -> None:
        async with Scheduler(port=0) as s:
            assert [type(policy) for policy in s.extensions["amm"].policies] == [ReduceReplicas]
            with pytest.raises(ValueError, match="'weight'"):
                ActiveMemoryManagerExtension(s, measure="weight", register=False)
            with pytest.raises(ValueError, match="interval"):
                ActiveMemoryManagerExtension(s, interval=0, register=False)
            with pytest.raises(TypeError, match="ActiveMemoryManagerPolicy"):
                s.extensions["amm"].add_policy(object())

    asyncio.run(check())


def test_from_plain_code() -> None:
    async def serve() -> tuple[Any, Any]:
        s = await Scheduler(port=0)
        return s, await Worker(s.address)

    async def main() -> None:
        s, w = await serve()

        def use() -> tuple[bool, bool]:
            with Client(s.address, set_as_default=False) as client:
                before = client.amm.running()
                client.amm.stop()
                client.amm.run_once()
                return before, client.amm.running()

        assert await asyncio.to_thread(use) == (True, False)
        await w.close()
        await s.close()

    asyncio.run(main())
