"""DataFrames in pieces: rows go to the partition that a column names, as Arrow record batches. Pure.

A record batch travels without its schema, which follows from the frame's meta. An input whose types are not those of
the meta, or that has a column for which Arrow has no exact place (objects, categories that are not known beforehand,
periods), travels as pickles of its parts instead: what comes out is always what went in.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from distributed.shuffle.pieces import ARROW, PICKLE, Piece, as_bytes

_NUMPY_KINDS = frozenset("biufmM")
_MASKED = (
    pd.BooleanDtype,
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
    *(pd.Float32Dtype, pd.Float64Dtype),
)


class FrameCodec:
    """Splits and joins frames of one meta.

    Parameters
    ----------
    meta : pd.DataFrame
        Empty, with the types of the inputs, ``column`` included.
    column
        Holds the number of each row's partition.
    npartitions
        How many partitions there are.
    drop_column
        Whether ``column`` is left out of the output.
    """

    def __init__(self, meta: pd.DataFrame, column: Any, npartitions: int, drop_column: bool = True) -> None:
        self.column = column
        self.npartitions = npartitions
        self.drop_column = drop_column
        self.meta = _without(meta.iloc[:0], column) if drop_column else meta.iloc[:0]
        self.schema = self._make_schema()

    def _make_schema(self) -> Any:
        """The types of record batches: one field for each column, then one for the index. None: all by pickle."""
        if isinstance(self.meta.index, pd.MultiIndex):
            return None
        fields = []
        for i, values in enumerate(_columns(self.meta)):
            if not _has_arrow_form(values.dtype):
                return None
            fields.append((str(i), _encode(values).type))
        return pa.schema(fields)

    # ---------------------------------------------------------------- split

    def split(self, frame: pd.DataFrame, source: int, wanted: frozenset[int] | None = None) -> Iterator[Piece]:
        """One piece for each partition that has rows of this frame (and is wanted; None: all are)."""
        if not len(frame):
            return
        partitions = self._partitions(frame)
        if self.drop_column:
            frame = _without(frame, self.column)
        order = np.argsort(partitions, kind="stable")
        frame = frame.take(order)
        partitions = partitions[order]
        starts = np.flatnonzero(np.r_[True, partitions[1:] != partitions[:-1]])
        stops = np.r_[starts[1:], len(partitions)]
        batch = self._batch(frame)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            partition = int(partitions[start])
            if wanted is not None and partition not in wanted:
                continue
            if batch is not None:
                data, kind = batch.slice(start, stop - start).serialize(), ARROW
            else:
                data, kind = pickle.dumps(frame.iloc[start:stop], 5), PICKLE
            yield Piece(partition, source, 0, kind, as_bytes(data))

    def _partitions(self, frame: pd.DataFrame) -> Any:
        column = frame[self.column]
        if column.isna().any():
            raise ValueError(f"column {self.column!r} names no partition for some rows (nulls)")
        partitions = column.to_numpy(dtype="int64")
        low, high = partitions.min(), partitions.max()
        if low < 0 or high >= self.npartitions:
            raise ValueError(
                f"column {self.column!r} names partitions {low} to {high}, but there are only {self.npartitions}"
            )
        return partitions

    def _batch(self, frame: pd.DataFrame) -> Any:
        """The frame as a record batch, or None when it does not fit the schema."""
        if self.schema is None or not self._is_like_meta(frame):
            return None
        arrays = []
        for values, field in zip(_columns(frame), self.schema, strict=True):
            array = _encode(values)
            arrays.append(array if array.type == field.type else array.cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _is_like_meta(self, frame: pd.DataFrame) -> bool:
        meta = self.meta
        if isinstance(frame.index, pd.MultiIndex) or frame.index.name != meta.index.name:
            return False
        if not frame.columns.equals(meta.columns) or frame.columns.names != meta.columns.names:
            return False
        return all(_same_type(a.dtype, b.dtype) for a, b in zip(_columns(frame), _columns(meta), strict=True))

    # ---------------------------------------------------------------- join

    def join(self, pieces: list[Piece]) -> pd.DataFrame:
        """The frame that consists of these pieces, in this order."""
        frames: list[pd.DataFrame] = []
        batches: list[Any] = []
        for piece in pieces:
            if piece.kind == ARROW:
                batches.append(pa.ipc.read_record_batch(pa.py_buffer(piece.data), self.schema))
                continue
            if batches:
                frames.append(self._frame(batches))
                batches = []
            frames.append(pickle.loads(piece.data))
        if batches:
            frames.append(self._frame(batches))
        if not frames:
            return self.meta.copy()
        if len(frames) == 1:
            return frames[0]
        from dask.dataframe.core import _concat

        return _concat(frames)

    def _frame(self, batches: list[Any]) -> pd.DataFrame:
        *columns, index = [
            _decode([batch.column(i) for batch in batches], values.dtype)
            for i, values in enumerate(_columns(self.meta))
        ]
        found = pd.Index(index, name=self.meta.index.name)
        frame = pd.DataFrame(dict(enumerate(columns)), index=found, copy=False)
        frame.columns = self.meta.columns
        return frame


def _without(frame: pd.DataFrame, column: Any) -> pd.DataFrame:
    return frame.loc[:, frame.columns != column]


def _columns(frame: pd.DataFrame) -> list[Any]:
    """The values of each column, by place (names may repeat), then those of the index."""
    found = [*(frame.iloc[:, i].array for i in range(frame.shape[1])), frame.index.array]
    return [values.to_numpy() if type(values) is pd.arrays.NumpyExtensionArray else values for values in found]


def _same_type(a: Any, b: Any) -> bool:
    if isinstance(a, pd.CategoricalDtype) and isinstance(b, pd.CategoricalDtype):
        # Codes are sent: the order of categories matters, even where it does not for equality.
        return bool(
            a.ordered == b.ordered and a.categories.equals(b.categories) and a.categories.dtype == b.categories.dtype
        )
    return bool(a == b)


def _has_arrow_form(dtype: Any) -> bool:
    """Whether values of this type come back from Arrow exactly as they were."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in _NUMPY_KINDS and dtype.itemsize <= 8
    if isinstance(dtype, (pd.DatetimeTZDtype, pd.CategoricalDtype, pd.StringDtype, *_MASKED)):
        return True
    if isinstance(dtype, pd.ArrowDtype):
        # Dictionaries do not travel with a record batch.
        text = str(dtype.pyarrow_dtype)
        return "dictionary" not in text and "extension" not in text
    return False


def _encode(values: Any) -> Any:
    """A column as an Arrow array."""
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pa.array(values.asi8)
    if isinstance(dtype, pd.CategoricalDtype):
        return pa.array(values.codes)
    array = pa.array(np.asarray(values) if isinstance(dtype, np.dtype) else values)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _decode(arrays: list[Any], dtype: Any) -> Any:
    """The inverse of :func:`_encode` for arrays that follow each other."""
    if isinstance(dtype, (np.dtype, pd.DatetimeTZDtype, pd.CategoricalDtype)):
        values = np.concatenate([array.to_numpy(zero_copy_only=False) for array in arrays])
        if isinstance(dtype, pd.DatetimeTZDtype):
            return pd.DatetimeIndex(values.view(f"M8[{dtype.unit}]"), tz="UTC").tz_convert(dtype.tz).array
        if isinstance(dtype, pd.CategoricalDtype):
            return pd.Categorical.from_codes(values, dtype=dtype)
        return values if values.dtype == dtype else values.astype(dtype)
    return dtype.__from_arrow__(pa.chunked_array([pa.concat_arrays(arrays)]))
