"""Worker to scheduler: facts."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.amounts import Count, Nbytes, Seconds
from distributed.messages.payload import ErrorInfo, Payload


class TaskFinished(Struct, tag="task-finished", array_like=True, omit_defaults=True):
    """The value is in this worker's memory. ``started`` is wall-clock seconds (for pictures), ``duration_s`` monotonic.

    ``unshippable`` says why the value cannot be pickled: it stays here, and so must the tasks that need it.
    """

    key: Key
    run_id: int
    nbytes: Nbytes
    duration_s: Seconds
    type_name: str = ""
    inline: Payload | None = None
    started: float = 0.0
    thread: int = 0
    unshippable: ErrorInfo | None = None
    metadata: dict[str, Any] | None = None


class TaskErred(Struct, tag="task-erred", array_like=True, omit_defaults=True):
    """The task raised, or its payload or an input could not be opened (``retriable`` False: a rerun would fail too)."""

    key: Key
    run_id: int
    error: ErrorInfo
    duration_s: Seconds = 0.0
    started: float = 0.0
    thread: int = 0
    retriable: bool = True


class TaskRescheduled(Struct, tag="task-rescheduled", array_like=True):
    """The task raised ``Reschedule``: run it somewhere else."""

    key: Key
    run_id: int


class TaskLongRunning(Struct, tag="task-long-running", array_like=True):
    """The task has seceded: it goes on without holding a thread."""

    key: Key
    run_id: int
    duration_s: Seconds


class StealResponse(Struct, tag="steal-response", array_like=True):
    """``given``: the task was not started here and will not be."""

    key: Key
    run_id: int
    given: bool


class ReplicasAdded(Struct, tag="replicas-added", array_like=True):
    """Copies of these (key, bytes) have arrived here."""

    keys: list[tuple[Key, Nbytes]]


class DataReceived(Struct, tag="data-received", array_like=True):
    """A client has put values of these keys here. It tells the scheduler so itself, unless it ends before."""

    keys: list[Key]


class ReplicasDropped(Struct, tag="replicas-dropped", array_like=True, omit_defaults=True):
    """These are no longer here. ``as_ordered``: the scheduler has said so, maybe before it asked for new copies."""

    keys: list[Key]
    as_ordered: bool = False


class MissingData(Struct, tag="missing-data", array_like=True, omit_defaults=True):
    """``holder`` was said to hold this and does not, or (``unreached``) did not answer."""

    key: Key
    holder: str
    reason: str = ""
    unreached: bool = False


class WhoHas(Struct, tag="who-has", array_like=True):
    """Nobody known here holds these any more; answered by HoldersChanged, or by FreeKeys."""

    keys: list[Key]


class WorkerStatus(Struct, tag="worker-status", array_like=True):
    """The worker is now ``running``, ``paused`` or ``closing_gracefully``."""

    status: str


class Heartbeat(Struct, tag="heartbeat", array_like=True, omit_defaults=True):
    """Sign of life. ``metrics`` is plain data; ``executing`` holds (key, seconds since it started); ``held_slots`` is
    how many slots are held by runs that nobody wants any more."""

    metrics: dict[str, Any]
    executing: list[tuple[Key, Seconds]] = []
    managed_bytes: Nbytes = 0
    process_bytes: Nbytes = 0
    spilled_bytes: Nbytes = 0
    held_slots: Count = 0


class WorkerClosing(Struct, tag="worker-closing", array_like=True, omit_defaults=True):
    """Orderly end: what ran here runs elsewhere, and nobody is blamed."""

    reason: str = ""


class WorkerLogEvent(Struct, tag="worker-log-event", array_like=True):
    """``worker.log_event(topic, msg)``; ``msg`` is plain data."""

    topics: tuple[str, ...]
    msg: Any


WorkerToScheduler = (
    TaskFinished
    | TaskErred
    | TaskRescheduled
    | TaskLongRunning
    | StealResponse
    | ReplicasAdded
    | DataReceived
    | ReplicasDropped
    | MissingData
    | WhoHas
    | WorkerStatus
    | Heartbeat
    | WorkerClosing
    | WorkerLogEvent
)
