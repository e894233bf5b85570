"""The queue against a sorted list."""

from __future__ import annotations

import itertools
import random

import pytest

from distributed.worker.state_machine.ready_queue import ReadyQueue
from distributed.worker.state_machine.task import TaskState


def task(priority: float) -> TaskState:
    ts = TaskState(f"x-{priority}")
    ts.priority = (0.0, priority, 0)
    return ts


@pytest.mark.parametrize("seed", range(20))
def test_best_first_whatever_the_order_of_arrival(seed: int) -> None:
    rng = random.Random(seed)
    queue = ReadyQueue(itertools.count(1))
    wanted: list[TaskState] = []
    rising = itertools.count()
    for _ in range(2000):
        choice = rng.random()
        if choice < 0.5:
            ts = task(next(rising) if rng.random() < 0.7 else rng.randrange(50))
            queue.push(ts)
            wanted.append(ts)
            wanted.sort(key=lambda ts: (ts.priority, ts.ticket))
        elif wanted and choice < 0.7:
            queue.discard(wanted.pop(rng.randrange(len(wanted))))
        elif wanted:
            assert queue.peek() is wanted[0] and queue.pop() is wanted.pop(0)
        assert len(queue) == len(wanted) and queue.peek() is (wanted[0] if wanted else None)
    assert list(queue) == wanted
    assert [queue.position(ts) for ts in wanted] == list(range(len(wanted)))


@pytest.mark.parametrize("rises", [True, False])
def test_tasks_that_have_left_take_no_room(rises: bool) -> None:
    queue = ReadyQueue(itertools.count(1))
    first = task(-1 if rises else 20_000)
    queue.push(first)
    for i in range(10_000):
        ts = task(i if rises else -i)
        queue.push(ts)
        queue.discard(ts)
    assert queue.n_entries < 100 and list(queue) == [first]
