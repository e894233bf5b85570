"""Where the parts of old chunks lie in new ones. Pure, and of no library.

A dimension is the tuple of its chunks' sizes. Where old and new boundaries coincide, a rechunk falls into parts that
have nothing to do with each other; :func:`independent_parts` finds them. A dimension of unknown sizes (NaN) cannot
change, so each of its chunks is a part of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

Sizes: TypeAlias = tuple[float, ...]
"""Sizes of the chunks along one dimension; whole numbers, or NaN where they are not known."""


class Overlap(NamedTuple):
    """What an old and a new chunk of one dimension have in common.

    ``old_start`` and ``old_stop`` delimit it in the old chunk (``old_stop`` None: all of it, however long),
    ``new_start`` is its place in the new one; ``rank`` counts the overlaps of the new chunk.
    """

    old: int
    new: int
    old_start: int
    old_stop: int | None
    new_start: int
    rank: int


class Part(NamedTuple):
    """A range of old chunks and one of new chunks of a dimension that cover the same elements."""

    old_start: int
    old_stop: int
    new_start: int
    new_stop: int


def is_unknown(sizes: Sequence[float]) -> bool:
    """Whether some chunk's size is not known."""
    return any(math.isnan(size) for size in sizes)


def check(old: Sequence[Sizes], new: Sequence[Sizes]) -> None:
    """Raise ``ValueError`` when arrays of these chunks cannot have the same shape."""
    if len(old) != len(new):
        raise ValueError(f"an array of {len(old)} dimensions cannot get chunks for {len(new)}")
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        if is_unknown(before) or is_unknown(after):
            if len(before) != len(after) or not all(map(_same, before, after)):
                raise ValueError(
                    f"dimension {axis} has chunks of unknown size, so it cannot be rechunked: call "
                    "compute_chunk_sizes() on the array first"
                )
        elif sum(before) != sum(after):
            raise ValueError(f"chunks of dimension {axis} add up to {sum(after)}, not to {sum(before)}")


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def overlaps(old: Sizes, new: Sizes) -> list[Overlap]:
    """All overlaps along one dimension, in order; empty chunks have none."""
    if is_unknown(old):
        return [Overlap(i, i, 0, None, 0, 0) for i in range(len(old))]
    found: list[Overlap] = []
    i = 0
    old_begin = position = 0
    for j, size in enumerate(new):
        begin = position
        end = begin + int(size)
        rank = 0
        while position < end:
            while position >= old_begin + int(old[i]):
                old_begin += int(old[i])
                i += 1
            stop = min(end, old_begin + int(old[i]))
            found.append(Overlap(i, j, position - old_begin, stop - old_begin, position - begin, rank))
            rank += 1
            position = stop
    return found


def independent_parts(old: Sizes, new: Sizes) -> list[Part]:
    """The smallest parts of a dimension that do not depend on each other, in order. Empty chunks join a neighbour."""
    if is_unknown(old):
        return [Part(i, i + 1, i, i + 1) for i in range(len(old))]
    parts: list[Part] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start = (i, j)
        total_old = total_new = 0
        while True:
            if i < len(old) and (total_old <= total_new or j >= len(new)):
                total_old += int(old[i])
                i += 1
            else:
                total_new += int(new[j])
                j += 1
            if total_old == total_new and i > start[0] and j > start[1]:
                break
        if not any(old[i:]) and not any(new[j:]):
            i, j = len(old), len(new)
        parts.append(Part(start[0], i, start[1], j))
    return parts


class Grid:
    """Chunks of several dimensions, numbered in C order."""

    def __init__(self, chunks: Sequence[Sizes]) -> None:
        self.chunks = tuple(chunks)
        self.shape = tuple([len(sizes) for sizes in chunks])

    def __len__(self) -> int:
        return math.prod(self.shape)

    def number(self, index: Sequence[int]) -> int:
        """The number of the chunk at ``index``."""
        number = 0
        for i, n in zip(index, self.shape, strict=True):
            number = number * n + i
        return number

    def index(self, number: int) -> tuple[int, ...]:
        """The inverse of :meth:`number`."""
        index = []
        for n in reversed(self.shape):
            number, i = divmod(number, n)
            index.append(i)
        return tuple(reversed(index))

    def chunk_shape(self, index: Sequence[int]) -> tuple[float, ...]:
        """Shape of the chunk at ``index``."""
        return tuple([sizes[i] for sizes, i in zip(self.chunks, index, strict=True)])

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*[range(n) for n in self.shape])


class Rechunk:
    """All overlaps of a change of chunks, by old chunk and by new chunk."""

    def __init__(self, old: Sequence[Sizes], new: Sequence[Sizes]) -> None:
        check(old, new)
        self.old = Grid(old)
        self.new = Grid(new)
        self._by_old: list[list[list[Overlap]]] = []
        self._by_new: list[list[list[Overlap]]] = []
        for before, after in zip(old, new, strict=True):
            by_old: list[list[Overlap]] = [[] for _ in before]
            by_new: list[list[Overlap]] = [[] for _ in after]
            for overlap in overlaps(before, after):
                by_old[overlap.old].append(overlap)
                by_new[overlap.new].append(overlap)
            self._by_old.append(by_old)
            self._by_new.append(by_new)

    def of_old(self, index: Sequence[int]) -> Iterator[tuple[Overlap, ...]]:
        """The overlaps of an old chunk with new ones: one per dimension, for each new chunk that it meets."""
        return itertools.product(*[by[i] for by, i in zip(self._by_old, index, strict=True)])

    def of_new(self, index: Sequence[int]) -> tuple[tuple[int, ...], list[list[Overlap]]]:
        """The overlaps of a new chunk along each dimension, and how many there are along each."""
        along = [by[i] for by, i in zip(self._by_new, index, strict=True)]
        return tuple([len(overlaps) for overlaps in along]), along
