"""Data that goes from every input to every output, straight from worker to worker: shuffles, joins, rechunks."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ShuffleFailedError": "distributed.shuffle.errors",
        "ShuffleSchedulerPlugin": "distributed.shuffle.scheduler_half",
        "ShuffleWorkerPlugin": "distributed.shuffle.worker_half",
        "rechunk_p2p": "distributed.shuffle._rechunk",
    },
)
