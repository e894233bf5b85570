"""Rechunks of arrays: the graph, the description that its barriers carry, and the functions of its tasks."""

from __future__ import annotations

import functools
import itertools
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distributed.shuffle import geometry, tasks
from distributed.shuffle.barrier_task import P2PBarrierTask
from distributed.shuffle.names import barrier_key
from distributed.shuffle.pieces import PICKLE, RAW, Piece, as_bytes
from distributed.shuffle.tasks import p2p_barrier


@dataclass(frozen=True)
class ArrayRechunkSpec:
    """A change of chunks.

    Parameters
    ----------
    id : str
        Its name.
    old, new : tuple of tuple of int
        Chunks before and after. A dimension of unknown sizes (NaN) must be the same in both.
    dtype : np.dtype
        What the array's elements are said to be.
    disk : bool
        Whether pieces may go to disk.
    """

    id: str
    old: tuple[geometry.Sizes, ...]
    new: tuple[geometry.Sizes, ...]
    dtype: Any
    disk: bool = True

    @functools.cached_property
    def _rechunk(self) -> geometry.Rechunk:
        return geometry.Rechunk(self.old, self.new)

    def split(self, data: Any, source: int) -> Iterator[Piece]:
        """The pieces of old chunk number ``source``."""
        rechunk = self._rechunk
        index = rechunk.old.index(source)
        expected = rechunk.old.chunk_shape(index)
        if len(data.shape) != len(expected) or any(
            n != m for n, m in zip(data.shape, expected, strict=True) if not math.isnan(m)
        ):
            raise ValueError(
                f"chunk {index} of the array has shape {data.shape}, but the array's chunks say {expected}; an earlier "
                "step changed the shape of blocks without telling dask (see map_blocks(chunks=...))"
            )
        raw = type(data) is np.ndarray and data.dtype == self.dtype and not data.dtype.hasobject
        for overlaps in rechunk.of_old(index):
            new = [overlap.new for overlap in overlaps]
            part = data[tuple([slice(o.old_start, o.old_stop) for o in overlaps])]
            counts, _ = rechunk.of_new(new)
            number = 0
            for overlap, count in zip(overlaps, counts, strict=True):
                number = number * count + overlap.rank
            if raw:
                content = as_bytes(np.ascontiguousarray(part).reshape(-1).view("u1"))
            else:
                content = as_bytes(pickle.dumps(part, 5))
            yield Piece(rechunk.new.number(new), source, number, RAW if raw else PICKLE, content)

    def join(self, partition: int, pieces: list[Piece]) -> Any:
        """New chunk number ``partition``."""
        rechunk = self._rechunk
        index = rechunk.new.index(partition)
        shape = rechunk.new.chunk_shape(index)
        counts, along = rechunk.of_new(index)
        if len(pieces) != math.prod(counts):
            raise RuntimeError(f"chunk {index} consists of {math.prod(counts)} pieces, but {len(pieces)} have come")
        if not pieces:
            return np.empty([0 if math.isnan(n) else int(n) for n in shape], self.dtype)
        by_number = {piece.number: piece for piece in pieces}
        if any(piece.kind != RAW for piece in pieces) or any(map(math.isnan, shape)):
            return self._concatenate(counts, along, by_number)
        chunk = np.empty([int(n) for n in shape], self.dtype)
        for number, overlaps in enumerate(itertools.product(*along)):
            sizes = [_extent(o) for o in overlaps]
            place = tuple([slice(o.new_start, o.new_start + n) for o, n in zip(overlaps, sizes, strict=True)])
            chunk[place] = np.frombuffer(by_number[number].data, self.dtype).reshape(sizes)
        return chunk

    def _concatenate(
        self, counts: tuple[int, ...], along: list[list[geometry.Overlap]], by_number: dict[int, Piece]
    ) -> Any:
        """Put pieces together whose type or shape is known by themselves only."""
        from dask.array.core import concatenate3

        blocks: Any = np.empty(counts, dtype=object)
        for number, (place, overlaps) in enumerate(
            zip(itertools.product(*map(range, counts)), itertools.product(*along), strict=True)
        ):
            piece = by_number[number]
            if piece.kind == PICKLE:
                blocks[place] = pickle.loads(piece.data)
            else:
                known = [-1 if o.old_stop is None else _extent(o) for o in overlaps]
                blocks[place] = np.frombuffer(piece.data, self.dtype).reshape(known).copy()
        return concatenate3(blocks.tolist()) if blocks.size > 1 else blocks.flat[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _extent(overlap: geometry.Overlap) -> int:
    assert overlap.old_stop is not None
    return overlap.old_stop - overlap.old_start


def rechunk_p2p(
    x: Any,
    chunks: Any,
    *,
    threshold: int | None = None,
    block_size_limit: int | None = None,
    balance: bool = False,
) -> Any:
    """The array with other chunks; the data go straight from worker to worker.

    Parameters
    ----------
    x : dask.array.Array
    chunks : tuple of tuple of int
        The new chunks, normalised.
    threshold, block_size_limit, balance
        Of other methods; without effect here (``chunks`` are balanced already).

    Raises
    ------
    ValueError
        The chunks do not fit the array's shape, or a dimension of unknown sizes would change.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    geometry.check(x.chunks, chunks)
    if not math.prod([len(sizes) for sizes in x.chunks]) or chunks == x.chunks:
        return x
    token = tokenize(x, chunks, "p2p")
    name = f"rechunk-p2p-{token}"
    graph: dict[Any, Any] = {}
    parts = [geometry.independent_parts(old, new) for old, new in zip(x.chunks, chunks, strict=True)]
    for number, part in enumerate(itertools.product(*parts)):
        graph.update(_part_of_graph(x, chunks, name, f"{token}-{number}", part))
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[x])
    return da.Array(layers, name, chunks, meta=x)


def _part_of_graph(x: Any, chunks: Any, name: str, id: str, part: tuple[geometry.Part, ...]) -> dict[Any, Any]:
    """The tasks of one independent part; none of a shuffle where a chunk stays as it is."""
    from dask._task_spec import Alias, Task, TaskRef

    old = tuple([sizes[p.old_start : p.old_stop] for sizes, p in zip(x.chunks, part, strict=True)])
    new = tuple([sizes[p.new_start : p.new_stop] for sizes, p in zip(chunks, part, strict=True)])
    old_grid, new_grid = geometry.Grid(old), geometry.Grid(new)

    def old_key(index: tuple[int, ...]) -> Any:
        return (x.name, *[i + p.old_start for i, p in zip(index, part, strict=True)])

    def new_key(index: tuple[int, ...]) -> Any:
        return (name, *[i + p.new_start for i, p in zip(index, part, strict=True)])

    first = (0,) * len(part)
    if len(old_grid) == 1 and len(new_grid) == 1:
        return {new_key(first): Alias(new_key(first), old_key(first))}
    graph: dict[Any, Any] = {}
    transfers = []
    for source, index in enumerate(old_grid):
        key = (f"rechunk-transfer-{id}", *index)
        graph[key] = Task(key, rechunk_transfer, TaskRef(old_key(index)), id, source)
        transfers.append(TaskRef(key))
    spec = ArrayRechunkSpec(id, old, new, x.dtype)
    barrier = P2PBarrierTask(barrier_key(id), p2p_barrier, id, *transfers, spec=spec)
    graph[barrier.key] = barrier
    for partition, index in enumerate(new_grid):
        key = new_key(index)
        graph[key] = Task(key, rechunk_unpack, id, partition, barrier.ref())
    return graph


def rechunk_transfer(input: Any, id: str, input_chunk: int) -> int:
    """Task: send the parts of an old chunk to the workers that hold the new ones."""
    return tasks.transfer(input, id, input_chunk)


def rechunk_unpack(id: str, output_chunk: int, barrier_run_id: int) -> Any:
    """Task: a new chunk."""
    return tasks.unpack(id, output_chunk, barrier_run_id)


rechunk_unpack.__partition_argument__ = 1  # type: ignore[attr-defined]
