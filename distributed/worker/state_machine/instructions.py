"""What the worker's state machine decides: a small, closed set, performed by ``worker/effects.py`` and nobody else.

``WorkerState.outbox.take()`` gives them in the order in which they must be performed. The messages to the scheduler
come last, in one ``SendToScheduler``: first act, then tell. Data only, no behaviour. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.payload import Arguments
from distributed.messages.rules import RunRules
from distributed.messages.scheduler_to_worker import Priority
from distributed.messages.worker_to_scheduler import WorkerToScheduler


class Execute(Struct, eq=False):
    """Hand this to the executor, in this order; exactly one terminal event must come back.

    ``dependencies`` are the keys whose values the payload's ``TaskInput(i)`` stand for: the shell takes hold of the
    values now, since a later ``Evict`` may drop them from the store. ``alias``: there is nothing to call, the result
    is the value of the only dependency. ``wanted``: a client waits, so a small value goes into the report.
    ``after``: the run, handed over before, whose value is the one dependency that is not here yet; this one begins when
    that has returned, and is skipped (``ExecuteSkipped``) when it ends in any other way.
    """

    key: Key
    run_id: int
    function: bytes
    payload: Arguments | None
    dependencies: Sequence[Key]
    wanted: bool = False
    executor: str | None = None
    actor: bool = False
    alias: bool = False
    annotations: dict[str, Any] | None = None
    priority: Priority = (0.0, 0.0, 0)
    rules: RunRules | None = None
    after: int = -1


class CancelExecute(Struct, eq=False):
    """Take this run back if it has not begun (answer ``ExecuteSkipped``); else its end is awaited. What it returns will
    not be stored."""

    run_id: int
    key: Key


class StopExecute(Struct, eq=False):
    """Make this run end, if it has begun: tell the task, cancel the coroutine, kill the process; with ``interrupt``,
    which comes later, throw an exception into its thread. Its end is awaited."""

    run_id: int
    key: Key
    reason: str = ""
    interrupt: bool = False


class StoreResult(Struct, eq=False):
    """Keep the value that this run has returned (``ExecuteSuccess``) under its key; without this it is dropped."""

    key: Key
    run_id: int


class StoreFetched(Struct, eq=False):
    """Keep these of the values that ``worker`` has sent (``GatherDepSuccess``); drop the rest."""

    worker: str
    keys: list[Key]


class Evict(Struct, eq=False):
    """Drop these values from the data store."""

    keys: list[Key]


class Spill(Struct, eq=False):
    """Write these values to disk, and then let them go from memory: exactly one ``SpillEnded`` must come back for each,
    with this number. Until then they are in memory."""

    keys: list[Key]
    number: int


class Unload(Struct, eq=False):
    """Let these values go from memory; they have files. There is no answer."""

    keys: list[Key]


class RemoveFiles(Struct, eq=False):
    """Remove the files of these values, which are in memory too, or are read by runs that have been handed over."""

    keys: list[Key]


class GatherDep(Struct, eq=False):
    """Fetch these from ``worker`` in one request; exactly one answer event must come back."""

    worker: str
    keys: list[Key]
    total_nbytes: int


class AbortGather(Struct, eq=False):
    """Wait no longer for what was asked from ``worker``; its answer is a ``GatherDepFailure``, unless it is there by
    now."""

    worker: str
    reason: str


class SendToScheduler(Struct, eq=False):
    """Send these, in this order: at once, or with what comes next within ``patience_s``."""

    messages: list[WorkerToScheduler]
    patience_s: float = 0.0


Instruction: TypeAlias = (
    Execute
    | CancelExecute
    | StopExecute
    | StoreResult
    | StoreFetched
    | Evict
    | Spill
    | Unload
    | RemoveFiles
    | GatherDep
    | AbortGather
    | SendToScheduler
)
