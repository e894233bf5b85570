"""Tasks that could run now, best priority first. Pure.

A binary heap with lazy deletion: an entry counts only while its task is still in the queue's state under the same run
id. Leaving the queue therefore costs O(1); a heap that is mostly refuse is rebuilt.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TypeAlias

from distributed.messages.scheduler_to_worker import Priority
from distributed.worker.state_machine.task import TaskState

Entry: TypeAlias = tuple[Priority, int, int, TaskState]  # the second: order of arrival; the third: run id


class ReadyQueue:
    """A queue of tasks in ``state``. ``count`` is the number of live entries; whoever changes a task's state away
    from ``state`` other than by ``pop`` calls ``discard``."""

    __slots__ = ("_serial", "count", "heap", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.heap: list[Entry] = []
        self.count = 0
        self._serial = 0

    def push(self, ts: TaskState) -> None:
        """Add a task, which is in the queue's state already."""
        self._serial = serial = self._serial + 1
        self.count += 1
        heappush(self.heap, (ts.priority, serial, ts.run_id, ts))

    def peek(self) -> TaskState | None:
        """The best task, or None."""
        heap, state = self.heap, self.state
        while heap:
            _, _, run_id, ts = heap[0]
            if ts.state is state and ts.run_id == run_id:
                return ts
            heappop(heap)
        return None

    def pop(self) -> TaskState:
        """Take out the task that ``peek`` has just shown."""
        self.count -= 1
        return heappop(self.heap)[3]

    def discard(self) -> None:
        """A task has left the state: its entry is refuse now."""
        self.count -= 1
        if len(self.heap) > 64 + 2 * self.count:
            self.heap = self.live()
            heapify(self.heap)

    def live(self) -> list[Entry]:
        """All live entries, in no order."""
        state = self.state
        return [entry for entry in self.heap if entry[3].state is state and entry[3].run_id == entry[2]]

    def position(self, ts: TaskState) -> int:
        """How many tasks are ahead of this one."""
        own = next((entry[:2] for entry in self.live() if entry[3] is ts), None)
        return 0 if own is None else sum(entry[:2] < own for entry in self.live())
