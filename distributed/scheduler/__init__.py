"""The scheduler: a pure core in ``state_machine/``, and around it the shell that talks to clients, workers and nannies.

Names are loaded when first used, so that the core can be had (by the simulator, by tests) without the shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_names

if TYPE_CHECKING:
    from distributed.base.errors import KilledWorker
    from distributed.plugins.scheduler import SchedulerPlugin
    from distributed.scheduler.server import Scheduler
    from distributed.scheduler.state_machine import ClientState, SchedulerState, TaskState, WorkerState
    from distributed.scheduler.state_machine.groups import TaskGroup, TaskPrefix

__all__ = [
    "ClientState",
    "KilledWorker",
    "Scheduler",
    "SchedulerPlugin",
    "SchedulerState",
    "TaskGroup",
    "TaskPrefix",
    "TaskState",
    "WorkerState",
]

_HOMES = {
    "ClientState": "distributed.scheduler.state_machine",
    "CollectTaskMetaDataPlugin": "distributed.plugins.task_metadata",
    "KilledWorker": "distributed.base.errors",
    "NoValidWorkerError": "distributed.base.errors",
    "NoWorkerError": "distributed.base.errors",
    "Scheduler": "distributed.scheduler.server",
    "SchedulerPlugin": "distributed.plugins.scheduler",
    "SchedulerState": "distributed.scheduler.state_machine",
    "TaskGroup": "distributed.scheduler.state_machine.groups",
    "TaskPrefix": "distributed.scheduler.state_machine.groups",
    "TaskState": "distributed.scheduler.state_machine",
    "WorkerState": "distributed.scheduler.state_machine",
    "logger": "distributed.scheduler.server",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
