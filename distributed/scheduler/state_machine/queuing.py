"""The queue of ready tasks that no worker has room for yet. Pure.

Theory: tasks of one submission come in the order of their priority, so the queue keeps one FIFO for each (user
priority, generation) and a heap of those few; push and pop are O(1). What comes out of order (a task that returns
from a dead worker, a second submission of the same generation) goes to a small heap beside the FIFO. Removal only
counts: an entry whose task is no longer in state ``queued`` is skipped when its turn comes.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter

from distributed.messages.scheduler_to_worker import Priority
from distributed.scheduler.state_machine.entities import TaskState

_by_priority = attrgetter("priority")


class _Wave:
    """The queued tasks of one generation."""

    __slots__ = ("fifo", "last_rank", "others")

    def __init__(self) -> None:
        self.fifo: deque[TaskState] = deque()
        self.last_rank = -1
        self.others: list[tuple[Priority, int, TaskState]] = []


class TaskQueue:
    """Tasks in state ``queued``, by priority; tasks of equal priority in the order in which they came."""

    __slots__ = ("_waves", "_order", "n", "_n_entries", "_ticket", "_wave", "_wave_key")

    def __init__(self) -> None:
        self._ticket = 0
        self._clear()

    def _clear(self) -> None:
        self._waves: dict[tuple[float, float], _Wave] = {}
        self._order: list[tuple[float, float]] = []
        self.n = 0
        self._n_entries = 0
        self._wave: _Wave | None = None
        self._wave_key: tuple[float, float] = (0, 0)

    def __len__(self) -> int:
        return self.n

    def __contains__(self, ts: TaskState) -> bool:
        return ts.state == "queued"

    def __iter__(self) -> Iterator[TaskState]:
        """In the order in which they will go."""
        seen: dict[TaskState, None] = {}
        for key in sorted(self._order):
            wave = self._waves[key]
            tasks = [*wave.fifo]
            for entry in sorted(wave.others, key=lambda e: e[:2]):
                insort(tasks, entry[2], key=_by_priority)
            seen.update(dict.fromkeys([ts for ts in tasks if ts.state == "queued"]))
        return iter(seen)

    def push(self, ts: TaskState) -> None:
        """Add a task that has just got the state ``queued``."""
        high, generation, rank = ts.priority
        wave = self._wave
        if wave is None or self._wave_key[1] != generation or self._wave_key[0] != high:
            wave = self._wave_of(high, generation)
        if rank >= wave.last_rank or not wave.fifo:
            wave.fifo.append(ts)
            wave.last_rank = rank
        else:
            self._ticket += 1
            heappush(wave.others, (ts.priority, self._ticket, ts))
        self.n += 1
        self._n_entries += 1

    def _wave_of(self, high: float, generation: float) -> _Wave:
        key = (high, generation)
        wave = self._waves.get(key)
        if wave is None:
            wave = self._waves[key] = _Wave()
            heappush(self._order, key)
        self._wave = wave
        self._wave_key = key
        return wave

    def pop(self) -> TaskState:
        """The next task; the caller gives it another state at once. IndexError when there is none."""
        while self._order:
            wave = self._waves[self._order[0]]
            fifo = wave.fifo
            others = wave.others
            while fifo or others:
                self._n_entries -= 1
                if others and (not fifo or others[0][0] < fifo[0].priority):
                    ts = heappop(others)[2]
                else:
                    ts = fifo.popleft()
                if ts.state == "queued":
                    self.n -= 1
                    return ts
            self._forget_first()
        raise IndexError("the queue is empty")

    def peek(self) -> TaskState | None:
        """The next task, left where it is."""
        while self._order:
            wave = self._waves[self._order[0]]
            fifo = wave.fifo
            others = wave.others
            while fifo and fifo[0].state != "queued":
                fifo.popleft()
                self._n_entries -= 1
            while others and others[0][2].state != "queued":
                heappop(others)
                self._n_entries -= 1
            if others and (not fifo or others[0][0] < fifo[0].priority):
                return others[0][2]
            if fifo:
                return fifo[0]
            self._forget_first()
        return None

    def _forget_first(self) -> None:
        key = heappop(self._order)
        del self._waves[key]
        self._wave = None

    def remove(self, ts: TaskState) -> None:
        """A queued task leaves by another way than ``pop``; called while its state is still ``queued``."""
        self.n -= 1
        if self._n_entries > 2 * self.n + 1000:
            self._sweep(ts)

    def _sweep(self, leaving: TaskState) -> None:
        tasks = [ts for ts in self if ts is not leaving]
        self._clear()
        for ts in tasks:
            self.push(ts)

    def position(self, ts: TaskState) -> int:
        """How many tasks go before this one. O(n), some 0.1 us each: for explanations."""
        mine = ts.priority[:2]
        before: set[TaskState] = set()  # counted, never iterated; a task may have a dead entry besides its own
        for key, wave in self._waves.items():
            if key < mine:
                before.update([other for other in wave.fifo if other.state == "queued"])
                before.update([entry[2] for entry in wave.others if entry[2].state == "queued"])
        wave = self._waves[mine]
        fifo: Iterable[TaskState]
        if ts in wave.fifo:
            fifo = islice(wave.fifo, wave.fifo.index(ts))
            limit = (ts.priority, -1)
        else:
            fifo = [other for other in wave.fifo if other.priority <= ts.priority]
            limit = min([entry[:2] for entry in wave.others if entry[2] is ts])
        before.update([other for other in fifo if other.state == "queued"])
        before.update([entry[2] for entry in wave.others if entry[:2] < limit and entry[2].state == "queued"])
        before.discard(ts)
        return len(before)


def sort_by_priority(tasks: list[TaskState]) -> None:
    """In place; tasks of equal priority keep their order."""
    tasks.sort(key=_by_priority)
