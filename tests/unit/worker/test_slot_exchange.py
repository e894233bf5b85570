"""Tasks leave their slot, lend it while they are blocked, and get one back."""

from __future__ import annotations

import asyncio
import threading

import pytest

from distributed.worker.runtime import lend_slot, rejoin, secede
from distributed.worker.state_machine.events import (
    ExecuteLongRunning,
    ExecuteSuccess,
)
from tests.unit.worker.bench import Bench, Gate, inc, run_test, serialize_by_reference


def test_secede_frees_the_slot_and_rejoin_takes_one_again() -> None:
    gate, order = threading.Event(), []
    serialize_by_reference(gate)
    Gate.known[1] = order

    def long() -> str:
        secede()
        gate.wait(5)
        rejoin()
        return threading.current_thread().name

    async def test(b: Bench) -> None:
        first = b.submit(long)
        assert isinstance(await b.run(inc, 1), ExecuteSuccess)
        assert any(isinstance(e, ExecuteLongRunning) and e.run_id == first for e in b.events)
        gate.set()
        assert isinstance(await b.end(first), ExecuteSuccess)
        for i in range(3):
            await b.run(inc, i)
        await asyncio.sleep(0.01)
        assert len(b.executor.threads) == 1

    run_test(test)


def test_a_task_that_secedes_hands_its_slot_to_one_that_waits_to_rejoin() -> None:
    come_back, leave, end = threading.Event(), threading.Event(), threading.Event()
    for gate in (come_back, leave, end):
        serialize_by_reference(gate)

    def wants_back() -> None:
        secede()
        come_back.wait(5)
        rejoin()

    def leaves() -> None:
        leave.wait(5)
        secede()
        end.wait(5)

    async def test(b: Bench) -> None:
        first, second = b.submit(wants_back), b.submit(leaves)
        async with asyncio.timeout(5):
            while b.executor.queued:  # `leaves` holds the only slot
                await asyncio.sleep(0.001)
            come_back.set()
            while b.executor._queue.empty():  # the wish to come back is all that is queued
                await asyncio.sleep(0.001)
            leave.set()
            assert isinstance(await b.end(first), ExecuteSuccess)
        end.set()
        assert isinstance(await b.end(second), ExecuteSuccess)

    run_test(test)


def test_a_blocked_task_lends_its_slot_to_one_that_wants_to_rejoin_and_waits_for_it_behind() -> None:
    come_back, blocked, unblock, end = (threading.Event() for _ in range(4))
    order: list[str] = []
    for gate in (come_back, blocked, unblock, end):
        serialize_by_reference(gate)
    Gate.known[1] = order

    def wants_back() -> None:
        secede()
        come_back.wait(5)
        rejoin()
        Gate.known[1].append("back")
        end.wait(5)
        Gate.known[1].append("first over")

    def blocks() -> None:
        take_back = lend_slot()
        assert take_back is not None
        blocked.set()
        unblock.wait(5)
        take_back()
        Gate.known[1].append("second goes on")

    async def test(b: Bench) -> None:
        first, second = b.submit(wants_back), b.submit(blocks)
        await asyncio.to_thread(blocked.wait, 5)
        come_back.set()
        async with asyncio.timeout(5):
            while not order:
                await asyncio.sleep(0.001)
        unblock.set()
        end.set()
        assert isinstance(await b.end(first), ExecuteSuccess)
        assert isinstance(await b.end(second), ExecuteSuccess)
        assert order == ["back", "first over", "second goes on"]
        assert isinstance(await b.run(inc, 1), ExecuteSuccess)
        assert b.executor._slots == 1

    run_test(test)


def test_secede_outside_of_tasks() -> None:
    with pytest.raises(ValueError, match="outside of a task"):
        secede()
