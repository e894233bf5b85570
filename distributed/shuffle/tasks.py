"""The functions that the tasks of a shuffle call. They find their worker, and hand over to its half."""

from __future__ import annotations

from typing import Any

from distributed.base import defaults


def shuffle_worker() -> Any:
    """The shuffle half of the worker that runs the calling task.

    Raises
    ------
    RuntimeError
        Outside of a worker: such a graph needs a cluster.
    """
    worker = defaults.current_worker.get()()
    if worker is None:
        raise RuntimeError(
            "a peer-to-peer shuffle runs on the workers of a cluster only; choose another method "
            '(dask.config.set({"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"}))'
        )
    return worker.extensions["shuffle"]


def transfer(data: Any, id: str, source: int) -> int:
    """Send input number ``source`` of shuffle ``id`` to the workers that hold its pieces."""
    run_id: int = shuffle_worker().transfer(data, id, source)
    return run_id


def p2p_barrier(id: str, *run_ids: int) -> int:
    """Follows all transfers of shuffle ``id``. Returns the run that they were for."""
    run_id: int = shuffle_worker().barrier(id, list(run_ids))
    return run_id


def unpack(id: str, partition: int, run_id: int) -> Any:
    """Output partition number ``partition`` of shuffle ``id``."""
    return shuffle_worker().unpack(id, partition, run_id)
