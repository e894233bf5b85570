"""``distributed.collections``: containers that other packages take from there."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableSet
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(OrderedDict[K, V], Generic[K, V]):
    """A dict of at most ``maxsize`` items: a new one takes the place of the one used longest ago."""

    def __init__(self, maxsize: float) -> None:
        super().__init__()
        self.maxsize = maxsize

    def __getitem__(self, key: K) -> V:
        value = super().__getitem__(key)
        self.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.maxsize:
            del self[next(iter(self))]


class HeapSet(MutableSet[T], Generic[T]):
    """A set whose smallest member, by ``key``, is always at hand; equals leave in the order in which they came.

    >>> names = HeapSet(key=len)
    >>> names.add("abc"); names.add("a")
    >>> names.pop()
    'a'
    """

    def __init__(self, *, key: Callable[[T], Any]) -> None:
        self.key = key
        self._entries: dict[T, tuple[Any, int, T]] = {}
        self._heap: list[tuple[Any, int, T]] = []
        self._count = itertools.count()

    def __contains__(self, value: object) -> bool:
        return value in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<HeapSet: {len(self)} items>"

    def add(self, value: T) -> None:
        """Take it in, unless it is there."""
        if value not in self._entries:
            entry = (self.key(value), next(self._count), value)
            self._entries[value] = entry
            heapq.heappush(self._heap, entry)

    def discard(self, value: T) -> None:
        """Take it out, if it is there."""
        self._entries.pop(value, None)

    def _clean(self) -> None:
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)

    def peek(self) -> T:
        """The smallest. Raises ``KeyError`` when empty."""
        self._clean()
        if not self._heap:
            raise KeyError("peek into an empty set")
        return self._heap[0][2]

    def peekn(self, n: int) -> Iterator[T]:
        """The ``n`` smallest, in order."""
        return (entry[2] for entry in heapq.nsmallest(n, self._entries.values(), key=lambda e: e[:2]))

    def pop(self) -> T:
        """Take out the smallest. Raises ``KeyError`` when empty."""
        value = self.peek()
        heapq.heappop(self._heap)
        del self._entries[value]
        return value

    def sorted(self) -> Iterator[T]:
        """All, in order."""
        return self.peekn(len(self))

    def clear(self) -> None:
        """Take out all."""
        self._entries.clear()
        self._heap.clear()


def sum_mappings(ds: Iterable[Mapping[K, Any] | Iterable[tuple[K, Any]]], /) -> dict[K, Any]:
    """The sum of the values of each key over all mappings.

    >>> sum_mappings([{"a": 1}, {"a": 2, "b": 3}])
    {'a': 3, 'b': 3}
    """
    total: dict[K, Any] = {}
    for each in ds:
        for key, value in each.items() if isinstance(each, Mapping) else each:
            total[key] = total[key] + value if key in total else value
    return total
