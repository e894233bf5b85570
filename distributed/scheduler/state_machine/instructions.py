"""What the core asks of its shell besides sending messages. A small, closed set. Pure data."""

from __future__ import annotations

from typing import Any, NamedTuple

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import DeathRecord


class Transitioned(NamedTuple):
    """A task went from one state to another (for plugins, in order). ``event`` is the message that caused it."""

    key: Key
    start: str
    finish: str
    stimulus_id: str
    worker: str
    event: Any


class WorkerRemoved(NamedTuple):
    """The worker is no longer in the tables; its connection, if it still stands, should be closed.

    ``expected``: it closed in order. Of the tasks assigned to it ``n_rerun`` were being executed and run again, and
    ``n_requeued`` had (as far as is known) not begun; ``n_recomputed`` tasks run again for values that only it held.
    ``death`` is what else is known of an end that was not expected.
    """

    address: str
    name: str
    cause: str
    expected: bool
    n_rerun: int = 0
    n_requeued: int = 0
    n_recomputed: int = 0
    death: DeathRecord | None = None


class WorkerSuspected(NamedTuple):
    """No heartbeat for ``silent_s``: no new task goes there. ``known``: what is known of its process."""

    address: str
    name: str
    silent_s: float
    known: str


class WorkerAnswered(NamedTuple):
    """A suspect has spoken again. ``holders`` were being executed while its loop was kept from moving and its process
    was not stopped (one of them held the interpreter lock); none when that is not what it was."""

    address: str
    name: str
    silent_s: float
    holders: tuple[Key, ...]


class WorkerRefused(NamedTuple):
    """The worker may not come in."""

    address: str
    reason: str


class RetirementEnded(NamedTuple):
    """``retired``: all it held is elsewhere (and it was told to close, if wished). Else ``reason`` why it stays."""

    address: str
    retired: bool
    reason: str
    n_left: int


class TasksUnrunnable(NamedTuple):
    """``n_tasks`` (``keys`` are a few) have had no worker for up to ``since_s``, all for one ``reason``. Clients that
    wait for them are told by a message."""

    reason: str
    keys: tuple[Key, ...]
    n_tasks: int
    since_s: float


class ClientRemoved(NamedTuple):
    """The client is no longer in the tables, nor is what only it wanted. ``expected``: it closed in order."""

    client: str
    cause: str
    expected: bool


class LogWarning(NamedTuple):
    """For the log and the ``warn`` topic."""

    message: str


Instruction = (
    WorkerRemoved
    | WorkerSuspected
    | WorkerAnswered
    | WorkerRefused
    | RetirementEnded
    | TasksUnrunnable
    | ClientRemoved
    | LogWarning
)
