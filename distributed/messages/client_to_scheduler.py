"""Client to scheduler: what is wanted, and what no longer is."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.amounts import Amount, Count, Nbytes, Number
from distributed.messages.payload import Arguments, FunctionBlob, Payload
from distributed.messages.rules import Backoff, RunRules

SHARED_FROM = 8
"""So many dependencies are sent once for all tasks of a message that have the very same."""


class TaskOptions(Struct, array_like=True, omit_defaults=True, frozen=True):
    """What the tasks of one submission share; tasks name it by its place in ``UpdateGraph.options`` (empty list: the
    defaults).

    ``workers`` holds addresses, worker names (as text) or host names, as the user gave them. ``annotations`` holds
    the keys that the engine does not interpret itself; they reach plugins as they are. ``max_restarts``: so often an
    actor is made anew when its worker is lost.
    """

    priority: Number = 0
    retries: Count = 0
    workers: tuple[str, ...] | None = None
    allow_other_workers: bool = False
    resources: dict[str, Amount] | None = None
    actor: bool = False
    executor: str | None = None
    annotations: dict[str, Any] | None = None
    rules: RunRules | None = None
    backoff: Backoff | None = None
    max_restarts: int = 0


class TaskSpec(Struct, array_like=True, omit_defaults=True):
    """One task. ``payload`` is the pickle of ``(args, kwargs)`` in which each dependency is ``TaskInput(i)``, ``i``
    its place in ``dependencies``. With ``function`` empty the payload is the pickle of a ``dask`` graph node that is
    called with ``{key: value}`` of its dependencies. With neither the task's value is that of its only dependency.
    ``partition`` is the output partition that the task takes out of a shuffle among its dependencies (-1: none).
    """

    key: Key
    function: bytes = b""
    payload: Arguments | None = None
    dependencies: tuple[Key, ...] = ()
    options: Count = 0
    partition: int = -1

    @property
    def alias(self) -> bool:
        """Whether there is nothing to call."""
        return not self.function and self.payload is None


class SharedDependencies(Struct, array_like=True):
    """Dependencies that several tasks of one message have: they stand here, and not in those (places in the list)."""

    keys: tuple[Key, ...]
    tasks: list[Count]


class UpdateGraph(Struct, tag="update-graph", array_like=True, omit_defaults=True):
    """Tasks to add, in the order in which they should run; a part of a submission when it is large.

    All parts of one submission have the same ``submission`` number and share one generation; ``first_rank`` is the
    rank of the first task in this part. A dependency is a task of this part, of an earlier one, or one that the
    scheduler knows; anything else is lost, and what needs it is cancelled with that reason. ``wanted`` is None when
    every task is wanted.
    """

    submission: int
    tasks: list[TaskSpec]
    functions: list[FunctionBlob] = []
    options: list[TaskOptions] = []
    wanted: list[Key] | None = None
    first_rank: int = 0
    fifo_timeout_s: float = 0.1
    submitting_task: Key | None = None
    last: bool = True
    code: tuple[str, ...] = ()
    span: tuple[str, ...] = ()
    shared: list[SharedDependencies] = []


def shared_dependencies(tasks: list[TaskSpec], length: int = SHARED_FROM) -> list[SharedDependencies]:
    """Take tuples of so many dependencies out of the tasks."""
    found: dict[int, SharedDependencies] = {}
    for place, task in enumerate(tasks):
        keys = task.dependencies
        if len(keys) >= length:
            shared = found.get(id(keys))
            if shared is None:
                shared = found[id(keys)] = SharedDependencies(keys, [])
            shared.tasks.append(place)
            task.dependencies = ()
    return list(found.values())


class WantKeys(Struct, tag="want-keys", array_like=True):
    """The client holds futures for tasks that it did not submit now (unpickled futures, persisted data, datasets)."""

    keys: list[Key]


class ReleaseKeys(Struct, tag="release-keys", array_like=True):
    """The client's last future of each key is gone."""

    keys: list[Key]


class CancelKeys(Struct, tag="cancel-keys", array_like=True, omit_defaults=True):
    """Stop these tasks unless another client wants them too (``force`` ignores the others)."""

    keys: list[Key]
    force: bool = False
    reason: str = ""
    msg: str = ""


class RetryKeys(Struct, tag="retry-keys", array_like=True):
    """Run these failed tasks (and the failed tasks below them) once more."""

    keys: list[Key]


class ReplicaOnWorkers(Struct, array_like=True, omit_defaults=True):
    """One value that a client put on workers itself."""

    key: Key
    workers: tuple[str, ...]
    nbytes: Nbytes
    type_name: str = ""


class DataAnnounced(Struct, tag="data-announced", array_like=True):
    """The client is about to put data on workers, and wants the keys from now on. A ``DataScattered`` or
    ``DataWithdrawn`` of the same ``number`` follows for each key."""

    number: Count
    keys: list[Key]


class DataWithdrawn(Struct, tag="data-withdrawn", array_like=True):
    """The client does not put these on workers after all. It may want them all the same."""

    number: Count
    keys: list[Key]


class DataScattered(Struct, tag="data-scattered", array_like=True, omit_defaults=True):
    """The client has put data on workers and wants the keys. It has no run_spec: it cannot be recomputed. ``number`` is
    that of the announcement."""

    replicas: list[ReplicaOnWorkers]
    number: Count = 0


class FireAndForget(Struct, tag="fire-and-forget", array_like=True):
    """Run these to their end although no future holds them."""

    keys: list[Key]


class ClientHeartbeat(Struct, tag="client-heartbeat", array_like=True):
    """Sign of life."""


class ClientClosing(Struct, tag="client-closing", array_like=True):
    """Orderly end: what only this client wants is released at once."""


class ClientLogEvent(Struct, tag="client-log-event", array_like=True):
    """``client.log_event(topic, msg)``; ``msg`` is plain data."""

    topics: tuple[str, ...]
    msg: Any


class SessionRequest(Struct, tag="session-request", array_like=True):
    """A question like ``Request``, but one of the session's numbered messages: it is asked exactly once, also when the
    connection breaks, and answered by the ``SessionReply`` of the same ``number``. ``body``: see ``Request``.
    ``quiet``: nobody waits for the answer, so it may wait for others."""

    number: int
    op: str
    body: Payload
    quiet: bool = False


ClientToScheduler = (
    UpdateGraph
    | WantKeys
    | ReleaseKeys
    | CancelKeys
    | RetryKeys
    | DataAnnounced
    | DataWithdrawn
    | DataScattered
    | FireAndForget
    | ClientHeartbeat
    | ClientClosing
    | ClientLogEvent
    | SessionRequest
)
