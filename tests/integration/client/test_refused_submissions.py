"""A submission that the scheduler cannot take in ends as errors of its futures: nobody waits for what will not come."""

from __future__ import annotations

import asyncio

import pytest

from distributed import Future
from distributed.base.errors import DataLostError, RemoteError
from distributed.client import outgoing
from distributed.messages.client_to_scheduler import UpdateGraph
from distributed.scheduler.state_machine import state as scheduler_state
from distributed.testing import gen_cluster, inc

MANY = 20


def add_all(numbers, i):
    return sum(numbers) + i


async def ends_with(future: Future, text: str) -> None:
    with pytest.raises(RemoteError, match=text):
        await asyncio.wait_for(future.result(), 20)


@gen_cluster(client=True)
async def test_dependencies_that_all_share_for_a_task_that_did_not_come(c, s, a, b, monkeypatch):
    right = outgoing.shared_dependencies

    def mistake(tasks):
        shared = right(tasks)
        for one in shared:
            one.tasks.append(len(tasks))
        return shared

    numbers = c.map(inc, range(MANY))
    await c.gather(numbers)
    with monkeypatch.context() as patched:
        patched.setattr(outgoing, "shared_dependencies", mistake)
        sums = [c.submit(add_all, numbers, 0), *c.map(lambda i, n: add_all(n, i), range(MANY), n=numbers)]
        later = c.submit(inc, sums[-1])
        await ends_with(sums[-1], "could not take in what was submitted: ValueError: dependencies are for task number")
    for future in sums[1:]:
        await ends_with(future, "dependencies are for task number")
    with pytest.raises(DataLostError, match="lost dependencies: 'lambda"):
        await asyncio.wait_for(later.result(), 20)
    assert await sums[0] == sum(range(1, MANY + 1)), "what came in another message is not concerned"
    again = c.map(lambda i, n: add_all(n, i), range(MANY), n=numbers)
    assert await asyncio.wait_for(c.gather(again), 20) == [sum(range(1, MANY + 1)) + i for i in range(MANY)]
    s.shell.state.validate()


@gen_cluster(client=True)
async def test_a_fault_of_the_core(c, s, a, b, monkeypatch, caplog):
    def fail(state, event, source):
        raise KeyError("a fault of the core")

    monkeypatch.setitem(scheduler_state.HANDLERS, UpdateGraph, fail)
    await ends_with(c.submit(inc, 1), "could not take in what was submitted: KeyError: 'a fault of the core'")
    assert "Error in the scheduler's core" in caplog.text
    monkeypatch.undo()
    assert await asyncio.wait_for(c.submit(inc, 2).result(), 20) == 3
