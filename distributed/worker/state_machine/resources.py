"""Named capacities of a worker, and the tasks that wait for some. Pure.

Tasks with equal demands share a queue, so a task that waits for a GPU never hides one that needs only memory. Within
one queue the best priority goes first, and nothing overtakes it: a large demand cannot starve behind small ones of the
same kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from distributed.worker.state_machine.ready_queue import ReadyQueue
from distributed.worker.state_machine.task import TaskState

Demand: TypeAlias = tuple[tuple[str, float], ...]

# Demands are fractions at times: three thirds must fit into one.
TOLERANCE = 1e-9


class Resources:
    """``total`` and ``available`` capacities, and a queue per demand."""

    __slots__ = ("available", "holding", "queues", "tickets", "total")

    def __init__(self, total: dict[str, float], tickets: Iterator[int]) -> None:
        self.total = dict(total)
        self.available = dict(total)
        self.holding = 0
        self.tickets = tickets
        self.queues: dict[Demand, ReadyQueue] = {}

    def push(self, ts: TaskState) -> None:
        """Let a task (state *constrained*) wait for its resources."""
        demand = demand_of(ts)
        queue = self.queues.get(demand)
        if queue is None:
            queue = self.queues[demand] = ReadyQueue(self.tickets)
        queue.push(ts)

    def discard(self, ts: TaskState) -> None:
        """A task has left *constrained*."""
        demand = demand_of(ts)
        self.queues[demand].discard(ts)
        self._shrink(demand)

    def best(self) -> TaskState | None:
        """The best task whose demand can be met now."""
        best: TaskState | None = None
        for demand, queue in self.queues.items():
            if self._fits(demand):
                ts = queue.peek()
                if ts is not None and (best is None or ts.priority < best.priority):
                    best = ts
        return best

    def start(self, ts: TaskState) -> None:
        """Take out the task that ``best`` has just shown, and give it its resources."""
        demand = demand_of(ts)
        self.queues[demand].pop()
        self._shrink(demand)
        self.holding += 1
        for name, amount in demand:
            self.available[name] = self.available.get(name, 0.0) - amount

    def release(self, resources: dict[str, float]) -> None:
        """A task that held these has ended."""
        self.holding -= 1
        if not self.holding:
            self.available.update(self.total)  # sheds the rounding of many additions
            return
        for name, amount in resources.items():
            self.available[name] = self.available.get(name, 0.0) + amount

    def unsatisfied(self, ts: TaskState) -> dict[str, str]:
        """Which demands of a task are not met now, each with the reason."""
        reasons: dict[str, str] = {}
        for name, amount in demand_of(ts):
            total = self.total.get(name, 0)
            if amount > total + TOLERANCE:
                reasons[name] = f"needs {amount:g}, this worker has {total:g} in all"
            elif amount > self.available.get(name, 0) + TOLERANCE:
                reasons[name] = f"needs {amount:g}, {self.available.get(name, 0):g} of {total:g} free"
        return reasons

    def position(self, ts: TaskState) -> int:
        """How many tasks with the same demand are ahead of this one."""
        return self.queues[demand_of(ts)].position(ts)

    @property
    def waiting(self) -> int:
        """Number of tasks that wait for resources."""
        return sum(queue.count for queue in self.queues.values())

    def _fits(self, demand: Demand) -> bool:
        available = self.available
        return all(amount <= available.get(name, 0) + TOLERANCE for name, amount in demand)

    def _shrink(self, demand: Demand) -> None:
        if not self.queues[demand].count:
            del self.queues[demand]


def demand_of(ts: TaskState) -> Demand:
    """What a task needs, in a form that equal demands share."""
    resources = ts.spec.resources if ts.spec is not None else None
    return tuple(sorted(resources.items())) if resources else ()
