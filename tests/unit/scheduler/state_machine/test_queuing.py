"""The queue by itself: order, ties, removal, sweeping."""

from __future__ import annotations

from random import Random

import pytest

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.scheduler.state_machine.entities import Policy, TaskState
from distributed.scheduler.state_machine.groups import GroupTable
from distributed.scheduler.state_machine.queuing import TaskQueue

GROUPS = GroupTable(0.5, {})
POLICY = Policy(TaskOptions())


def queued(key: int, *priority: float) -> TaskState:
    high, generation, rank = priority
    return TaskState(key, None, POLICY, GROUPS.group_of("x-1"), (high, generation, int(rank)), "queued")


def take(queue: TaskQueue) -> TaskState:
    ts = queue.pop()
    ts.state = "processing"
    return ts


def test_pops_in_order_of_priority_whatever_the_order_of_pushes() -> None:
    rng = Random(1)
    tasks = [queued(i, rng.choice([-1, 0]), rng.choice([1, 2]), rng.randrange(50)) for i in range(500)]
    queue = TaskQueue()
    for ts in tasks:
        queue.push(ts)
    assert [ts.priority for ts in queue] == sorted(ts.priority for ts in tasks)
    assert [take(queue).priority for _ in tasks] == sorted(ts.priority for ts in tasks)
    with pytest.raises(IndexError):
        queue.pop()


def test_equals_go_in_the_order_in_which_they_came() -> None:
    queue = TaskQueue()
    for i in range(20):
        queue.push(queued(i, 0, 1, 0))
    assert [take(queue).key for _ in range(20)] == list(range(20))


def test_what_left_otherwise_is_skipped() -> None:
    queue = TaskQueue()
    tasks = [queued(i, 0, 1, i) for i in range(5000)]
    for ts in tasks:
        queue.push(ts)
    for ts in tasks[:-3]:
        queue.remove(ts)
        ts.state = "released"
    assert len(queue) == 3 and queue.peek() is tasks[-3] and queue.position(tasks[-1]) == 2
    assert queue._n_entries < 2000, "left-overs are swept now and then"
    assert [take(queue) for _ in range(3)] == tasks[-3:]


@pytest.mark.parametrize("seed", range(5))
def test_position_is_the_place_in_the_order(seed: int) -> None:
    rng = Random(seed)
    queue = TaskQueue()
    tasks = [queued(i, rng.choice([-1, 0]), rng.choice([1, 2]), rng.randrange(30)) for i in range(200)]
    for ts in tasks:
        queue.push(ts)
    for ts in rng.sample(tasks, 60):  # some leave, some of these come back and leave a dead entry behind
        queue.remove(ts)
        ts.state = "released"
        if rng.random() < 0.5:
            ts.state = "queued"
            queue.push(ts)
    order = list(queue)
    assert [queue.position(ts) for ts in order] == list(range(len(order)))
