"""The names by which dask builds the graph of a shuffle."""

from __future__ import annotations

from distributed.shuffle.barrier_task import P2PBarrierTask
from distributed.shuffle.names import ShuffleId, barrier_key, id_from_key
from distributed.shuffle.spec import ShuffleSpec
from distributed.shuffle.tasks import p2p_barrier

__all__ = ["P2PBarrierTask", "ShuffleId", "ShuffleSpec", "barrier_key", "id_from_key", "p2p_barrier"]
