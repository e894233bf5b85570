"""What the worker's state machine is told: orders of the scheduler, and facts from the worker's own shell.

Orders are the wire messages themselves (``messages/scheduler_to_worker.py``). The facts below are made by the shell:
its executor, its fetches from peers, its memory monitor. Data only, no behaviour. Pure.

The executor owes exactly one *terminal* event for each ``Execute``: ``ExecuteSuccess``, ``ExecuteFailure``,
``ExecuteRescheduled`` or ``ExecuteSkipped``. A fetch owes exactly one of ``GatherDepSuccess`` and
``GatherDepFailure`` for each ``GatherDep``. Times are seconds; ``duration_s`` is monotonic, ``started`` wall-clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.control import Unsendable
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    CloseWorkerOrder,
    ComputeTask,
    DefineFunction,
    FreeKeys,
    HoldersChanged,
    PeerLost,
    RemoveReplicas,
    SetStatus,
    SharedNeeds,
    StealRequest,
    StopRuns,
)


class ExecuteSuccess(Struct, eq=False):
    """Terminal. The task returned; the shell holds the value aside until ``StoreResult`` of this run says to keep it.

    ``inline`` is the small value itself, for a client that waits; ``unshippable`` says why it cannot be pickled.
    """

    key: Key
    run_id: int
    nbytes: int
    type_name: str = ""
    duration_s: float = 0.0
    inline: Payload | None = None
    unshippable: ErrorInfo | None = None
    started: float = 0.0
    thread: int = 0
    metadata: dict[str, Any] | None = None


class ExecuteFailure(Struct, eq=False):
    """Terminal. The task raised, or its payload or an input could not be opened (then ``retriable`` is False)."""

    key: Key
    run_id: int
    error: ErrorInfo
    duration_s: float = 0.0
    started: float = 0.0
    thread: int = 0
    retriable: bool = True


class ExecuteRescheduled(Struct, eq=False):
    """Terminal. The task raised ``Reschedule``."""

    key: Key
    run_id: int


class ExecuteSkipped(Struct, eq=False):
    """Terminal. The run was taken back (``CancelExecute``) before it had begun."""

    run_id: int


class ExecuteLongRunning(Struct, eq=False):
    """The task has seceded: it goes on without a slot. Its terminal event still comes."""

    key: Key
    run_id: int
    duration_s: float = 0.0


class GatherDepSuccess(Struct, eq=False):
    """``worker`` has answered the fetch: ``nbytes`` of each key that came.

    Asked keys that are not in it were not there. ``unreadable`` holds the keys whose value cannot be pickled there or
    opened here: asking again would not help, so the tasks that need them fail with that error. The shell keeps the
    values aside until ``StoreFetched`` says which to keep.
    """

    worker: str
    nbytes: Mapping[Key, int]
    unreadable: Mapping[Key, ErrorInfo] = {}


class GatherDepFailure(Struct, eq=False):
    """The fetch of ``keys`` from ``worker`` brought nothing: refused, cut, timed out; ``error`` says how.

    ``missing`` names those of the keys that the peer said it does not hold (usually none: nobody answered).
    """

    worker: str
    keys: Sequence[Key]
    missing: Sequence[Key] = ()
    error: str = ""


class DataUpdated(Struct, eq=False):
    """Values were put into the data store from outside (scatter, or a plugin); ``nbytes`` of each.

    ``report``: nobody else tells the scheduler, so it is told from here. ``placed``: a client tells it, unless it ends
    before.
    """

    nbytes: Mapping[Key, int]
    report: bool = False
    placed: bool = False


class DataLost(Struct, eq=False):
    """The data store has lost these values (a file of spilled data is gone or damaged). The scheduler is told."""

    keys: Sequence[Key]
    reason: str = ""


class SpillEnded(Struct, eq=False):
    """The answer to a ``Spill`` for one key: a file of ``nbytes``, and the value is in memory no more; or, with
    ``error``, it is as before. ``lasting``: trying again is of no use, the value cannot be pickled."""

    key: Key
    number: int
    nbytes: int = 0
    error: str = ""
    lasting: bool = False


class MemoryHigh(Struct, eq=False):
    """The process takes too much memory: ``nbytes`` of values should go to disk, whatever the target says."""

    nbytes: int


class Pause(Struct, eq=False):
    """Memory is short: start nothing more, fetch little. The scheduler is told."""


class Unpause(Struct, eq=False):
    """Memory is there again. The scheduler is told."""


class Deadline(Struct, eq=False):
    """The time ``WorkerState.next_deadline()`` has come; the same as calling ``handle_deadline(now)``."""


SchedulerOrder: TypeAlias = (
    DefineFunction
    | SharedNeeds
    | ComputeTask
    | FreeKeys
    | StopRuns
    | RemoveReplicas
    | AcquireReplicas
    | StealRequest
    | HoldersChanged
    | SetStatus
    | CloseWorkerOrder
    | Unsendable
    | PeerLost
)

ShellFact: TypeAlias = (
    ExecuteSuccess
    | ExecuteFailure
    | ExecuteRescheduled
    | ExecuteSkipped
    | ExecuteLongRunning
    | GatherDepSuccess
    | GatherDepFailure
    | DataUpdated
    | DataLost
    | SpillEnded
    | MemoryHigh
    | Pause
    | Unpause
    | Deadline
)

WorkerEvent: TypeAlias = SchedulerOrder | ShellFact
