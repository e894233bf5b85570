"""``distributed.worker_state_machine``: the worker's core."""

from distributed.worker.state_machine import WorkerState
from distributed.worker.state_machine.task import TaskState

__all__ = ["TaskState", "WorkerState"]
