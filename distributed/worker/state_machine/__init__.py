"""The worker's state machine: what to run next, what to fetch from whom, what to tell the scheduler. Pure.

Read ``task.py`` (states and their table), ``events.py`` and ``instructions.py`` (what goes in and comes out), then
``state.py``. No clock, I/O, logging, thread, configuration or dask in this folder; values never come here, only keys
and sizes.
"""

from __future__ import annotations

from distributed.worker.state_machine.explain import Explanation
from distributed.worker.state_machine.state import WorkerState
from distributed.worker.state_machine.tables import WorkerSettings
from distributed.worker.state_machine.task import TaskState
from distributed.worker.state_machine.validate import InvalidState

__all__ = ["Explanation", "InvalidState", "TaskState", "WorkerSettings", "WorkerState"]
