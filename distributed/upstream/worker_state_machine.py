"""``distributed.worker_state_machine``: the worker's core."""

from distributed.worker.state_machine import WorkerState

__all__ = ["WorkerState"]
