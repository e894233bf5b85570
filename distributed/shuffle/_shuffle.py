"""Shuffles of dataframes, as dask writes them into graphs: the description, and the functions of its tasks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distributed.shuffle import tasks
from distributed.shuffle._arrow import check_minimal_arrow_version
from distributed.shuffle.pieces import Piece


@dataclass(frozen=True)
class DataFrameShuffleSpec:
    """A shuffle of a dataframe.

    Parameters
    ----------
    id : str
        Its name.
    npartitions : int
        How many partitions come out.
    column
        Holds the number of each row's partition.
    meta : pd.DataFrame
        Empty, with the types of the inputs.
    parts_out : int or iterable of int
        The partitions that are wanted; a number: so many, from 0 on.
    disk : bool
        Whether pieces may go to disk.
    drop_column : bool
        Whether ``column`` is left out of the output.
    """

    id: str
    npartitions: int
    column: Any
    meta: Any
    parts_out: Any
    disk: bool = True
    drop_column: bool = True

    @functools.cached_property
    def _codec(self) -> Any:
        check_minimal_arrow_version()
        from distributed.shuffle.frames import FrameCodec

        return FrameCodec(self.meta, self.column, self.npartitions, self.drop_column)

    @functools.cached_property
    def _wanted(self) -> frozenset[int] | None:
        if isinstance(self.parts_out, int):
            return None if self.parts_out >= self.npartitions else frozenset(range(self.parts_out))
        return frozenset(self.parts_out)

    def split(self, data: Any, source: int) -> Iterator[Piece]:
        """The pieces of one input."""
        pieces: Iterator[Piece] = self._codec.split(data, source, self._wanted)
        return pieces

    def join(self, partition: int, pieces: list[Piece]) -> Any:
        """An output partition."""
        return self._codec.join(pieces)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def shuffle_transfer(input: Any, id: str, input_partition: int) -> int:
    """Task: send the rows of an input to the workers that hold their partitions."""
    return tasks.transfer(input, id, input_partition)


def shuffle_unpack(id: str, output_partition: int, barrier_run_id: int) -> Any:
    """Task: an output partition."""
    return tasks.unpack(id, output_partition, barrier_run_id)


shuffle_unpack.__partition_argument__ = 1  # type: ignore[attr-defined]
