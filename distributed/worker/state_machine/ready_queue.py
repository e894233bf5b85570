"""Tasks that could run now, best priority first. Pure.

A binary heap with lazy deletion: each entry has a ticket of its own, and counts as long as its task holds that ticket.
Leaving the queue therefore costs O(1); a heap that is mostly refuse is rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from distributed.messages.scheduler_to_worker import Priority
from distributed.worker.state_machine.task import TaskState

Entry: TypeAlias = tuple[Priority, int, TaskState]  # the number is the ticket, which also keeps order of arrival


class ReadyQueue:
    """A queue of tasks. ``count`` is the number of live entries; ``tickets`` are shared by all queues of a worker."""

    __slots__ = ("count", "heap", "tickets")

    def __init__(self, tickets: Iterator[int]) -> None:
        self.heap: list[Entry] = []
        self.count = 0
        self.tickets = tickets

    def push(self, ts: TaskState) -> None:
        """Add a task."""
        ts.ticket = ticket = next(self.tickets)
        self.count += 1
        heappush(self.heap, (ts.priority, ticket, ts))

    def peek(self) -> TaskState | None:
        """The best task, or None."""
        heap = self.heap
        while heap:
            _, ticket, ts = heap[0]
            if ts.ticket == ticket:
                return ts
            heappop(heap)
        return None

    def pop(self) -> TaskState:
        """Take out the task that ``peek`` has just shown."""
        ts = heappop(self.heap)[2]
        ts.ticket = 0
        self.count -= 1
        return ts

    def discard(self, ts: TaskState) -> None:
        """Take out any task of the queue."""
        ts.ticket = 0
        self.count -= 1
        if len(self.heap) > 64 + 2 * self.count:
            self.heap = self.live()
            heapify(self.heap)

    def live(self) -> list[Entry]:
        """All live entries, in no order."""
        return [entry for entry in self.heap if entry[2].ticket == entry[1]]

    def __iter__(self) -> Iterator[TaskState]:
        """The tasks, best first."""
        return iter([entry[2] for entry in sorted(self.live(), key=lambda entry: entry[:2])])

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        """It is a queue, even an empty one."""
        return True

    def position(self, ts: TaskState) -> int:
        """How many tasks are ahead of this one, which is in this queue."""
        own = (ts.priority, ts.ticket)
        return sum(entry[:2] < own for entry in self.live())
