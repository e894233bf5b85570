"""Scheduler to worker: orders."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.payload import Arguments, FunctionBlob
from distributed.messages.rules import RunRules

# Compared as tuples, the smaller runs first: (-user priority, generation, rank in the submission).
Priority: TypeAlias = tuple[float, float, int]


class TaskNeed(Struct, array_like=True, omit_defaults=True):
    """One dependency: its size in bytes (-1 unknown), and who holds it (empty: this very worker, or will say so)."""

    key: Key
    holders: tuple[str, ...] = ()
    nbytes: int = -1


class DefineFunction(Struct, tag="define-function", array_like=True):
    """Comes once per worker, before the first task that names it."""

    blob: FunctionBlob


class SharedNeeds(Struct, tag="shared-needs", array_like=True):
    """The dependencies of those of the following tasks that are marked ``shared``, until the next message like this."""

    needs: tuple[TaskNeed, ...]


class ComputeTask(Struct, tag="compute-task", array_like=True, omit_defaults=True):
    """Run this and keep the value. The answer names ``run_id``; see TaskSpec for ``function``, ``payload``, ``alias``.

    ``duration_s`` is what the scheduler expects it to take (-1 unknown). ``wanted``: a client waits, so a small value
    comes back with the report. ``shared``: the needs are those of the last :class:`SharedNeeds`.
    """

    key: Key
    run_id: int
    priority: Priority
    function: bytes = b""
    payload: Arguments | None = None
    needs: tuple[TaskNeed, ...] = ()
    duration_s: float = -1.0
    wanted: bool = False
    resources: dict[str, float] | None = None
    executor: str | None = None
    actor: bool = False
    alias: bool = False
    annotations: dict[str, Any] | None = None
    stimulus_id: str = ""
    shared: bool = False
    rules: RunRules | None = None


class FreeKeys(Struct, tag="free-keys", array_like=True, omit_defaults=True):
    """Forget these: drop the value, or do not start the task; one that runs already finishes and is not reported."""

    keys: list[Key]
    stimulus_id: str = ""


class StopRuns(Struct, tag="stop-runs", array_like=True, omit_defaults=True):
    """Forget these tasks if these (key, run id) are their newest runs, and end the runs: a client has cancelled
    them."""

    runs: list[tuple[Key, int]]
    reason: str = ""


class RemoveReplicas(Struct, tag="remove-replicas", array_like=True, omit_defaults=True):
    """Drop these copies if no task here needs them; answered by ReplicasDropped, or by ReplicasAdded when kept."""

    keys: list[Key]
    stimulus_id: str = ""


class AcquireReplicas(Struct, tag="acquire-replicas", array_like=True, omit_defaults=True):
    """Fetch copies of these."""

    needs: list[TaskNeed]
    stimulus_id: str = ""


class StealRequest(Struct, tag="steal-request", array_like=True, omit_defaults=True):
    """Give this task back if it has not started; answered by StealResponse."""

    key: Key
    run_id: int
    stimulus_id: str = ""


class HoldersChanged(Struct, tag="holders-changed", array_like=True):
    """Fresh answer to WhoHas, or news: who holds these now."""

    needs: list[TaskNeed]


class SetStatus(Struct, tag="set-status", array_like=True):
    """``running``, ``paused`` or ``closing_gracefully``."""

    status: str


class CloseWorkerOrder(Struct, tag="close-worker", array_like=True, omit_defaults=True):
    """End in order. ``restart``: the nanny starts a new process."""

    reason: str = ""
    restart: bool = False


class PeerLost(Struct, tag="peer-lost", array_like=True):
    """Another worker was given up although its connections stand: give up what is being fetched from it. Clients hear
    it too."""

    worker: str
    reason: str = ""


SchedulerToWorker = (
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
    | PeerLost
)
