"""The scheduler's decisions, as a pure state machine; ``state.py`` tells its theory.

Synchronous, no clock, no random source of its own, no I/O, no logging, no configuration, no plugin: the same state,
event and ``now`` give the same instructions.
"""

from distributed.scheduler.state_machine.entities import (
    ClientState,
    DeathRecord,
    TaskState,
    WorkerState,
)
from distributed.scheduler.state_machine.settings import SchedulerSettings
from distributed.scheduler.state_machine.state import SchedulerState
from distributed.scheduler.state_machine.validate import InvalidState

__all__ = [
    "ClientState",
    "DeathRecord",
    "InvalidState",
    "SchedulerSettings",
    "SchedulerState",
    "TaskState",
    "WorkerState",
]
