"""Joins of dataframes, as dask writes them into graphs: two shuffles whose partitions meet."""

from __future__ import annotations

from typing import Any

from distributed.shuffle import tasks


def merge_transfer(input: Any, id: str, input_partition: int) -> int:
    """Task: send the rows of an input of one side to the workers that hold their partitions."""
    return tasks.transfer(input, id, input_partition)


def merge_unpack(
    shuffle_id_left: str,
    shuffle_id_right: str,
    output_partition: int,
    barrier_left: int,
    barrier_right: int,
    how: str,
    left_on: Any,
    right_on: Any,
    result_meta: Any,
    suffixes: Any,
    left_index: bool,
    right_index: bool,
    indicator: bool = False,
) -> Any:
    """Task: join a partition of the left side with that of the right one; the options are those of ``pd.merge``."""
    from dask.dataframe.multi import merge_chunk

    left = tasks.unpack(shuffle_id_left, output_partition, barrier_left)
    right = tasks.unpack(shuffle_id_right, output_partition, barrier_right)
    return merge_chunk(
        left,
        right,
        how=how,
        result_meta=result_meta,
        left_on=left_on,
        right_on=right_on,
        suffixes=suffixes,
        left_index=left_index,
        right_index=right_index,
        indicator=indicator,
    )


merge_unpack.__partition_argument__ = 2  # type: ignore[attr-defined]
