"""Tasks that could run now, best priority first. Pure.

Most come in the order of their priority: these form a plain line. What comes out of turn lies in a binary heap beside
it. Both have lazy deletion: each entry has a ticket of its own, and counts as long as its task holds that ticket.
Leaving the queue therefore costs O(1); a queue that is mostly refuse is rebuilt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TypeAlias

from distributed.messages.scheduler_to_worker import Priority
from distributed.worker.state_machine.task import TaskState

Entry: TypeAlias = tuple[Priority, int, TaskState]  # the number is the ticket, which also keeps order of arrival


class ReadyQueue:
    """A queue of tasks. ``count`` is the number of live entries; ``tickets`` are shared by all queues of a worker."""

    __slots__ = ("_heap", "_line", "count", "tickets")

    def __init__(self, tickets: Iterator[int]) -> None:
        self._line: deque[Entry] = deque()
        self._heap: list[Entry] = []
        self.count = 0
        self.tickets = tickets

    def push(self, ts: TaskState) -> None:
        """Add a task."""
        ts.ticket = ticket = next(self.tickets)
        self.count += 1
        line = self._line
        priority = ts.priority
        if not line or line[-1][0] <= priority:
            line.append((priority, ticket, ts))
        else:
            heappush(self._heap, (priority, ticket, ts))

    def peek(self) -> TaskState | None:
        """The best task, or None."""
        line, heap = self._line, self._heap
        while line and line[0][2].ticket != line[0][1]:
            line.popleft()
        while heap and heap[0][2].ticket != heap[0][1]:
            heappop(heap)
        if heap and (not line or heap[0] < line[0]):
            return heap[0][2]
        return line[0][2] if line else None

    def pop(self) -> TaskState:
        """Take out the task that ``peek`` has just shown."""
        line, heap = self._line, self._heap
        ts = (heappop(heap) if heap and (not line or heap[0] < line[0]) else line.popleft())[2]
        ts.ticket = 0
        self.count -= 1
        return ts

    def discard(self, ts: TaskState) -> None:
        """Take out any task of the queue."""
        ts.ticket = 0
        self.count -= 1
        if self.n_entries > 64 + 2 * self.count:
            self._line = deque(sorted(self.live(), key=_rank))
            self._heap = []

    def live(self) -> list[Entry]:
        """All live entries, in no order."""
        return [entry for part in (self._line, self._heap) for entry in part if entry[2].ticket == entry[1]]

    def __iter__(self) -> Iterator[TaskState]:
        """The tasks, best first."""
        return iter([entry[2] for entry in sorted(self.live(), key=_rank)])

    @property
    def n_entries(self) -> int:
        """Live or not."""
        return len(self._line) + len(self._heap)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        """It is a queue, even an empty one."""
        return True

    def position(self, ts: TaskState) -> int:
        """How many tasks are ahead of this one, which is in this queue."""
        own = (ts.priority, ts.ticket)
        return sum(_rank(entry) < own for entry in self.live())


def _rank(entry: Entry) -> tuple[Priority, int]:
    return entry[:2]
