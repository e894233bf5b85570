"""Scheduler to client: what became of the keys it wants."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_worker import PeerLost


class KeyInMemory(Struct, tag="key-in-memory", array_like=True, omit_defaults=True):
    """The task is done. A small value comes with it (``inline``); a larger one is fetched from one of ``holders``.

    ``unshippable`` says why the value cannot leave its worker (it cannot be pickled): asking for it raises this, while
    tasks that use it still run where it lies.
    """

    key: Key
    type_name: str = ""
    inline: Payload | None = None
    holders: tuple[str, ...] = ()
    nbytes: int = -1
    unshippable: ErrorInfo | None = None


class KeyErred(Struct, tag="key-erred", array_like=True, omit_defaults=True):
    """The task failed, or ``blame``, a task that it needs, did."""

    key: Key
    error: ErrorInfo
    blame: Key | None = None


class KeysCancelled(Struct, tag="keys-cancelled", array_like=True, omit_defaults=True):
    """These will never have a value: cancelled by a client, or ``lost`` beyond recomputing; ``reason`` says why."""

    keys: list[Key]
    reason: str = ""
    msg: str = ""
    lost: bool = False


class KeysLost(Struct, tag="keys-lost", array_like=True):
    """These were in memory and are being computed again, because their last holder is gone."""

    keys: list[Key]


class KeysRetried(Struct, tag="keys-retried", array_like=True):
    """These had failed and are pending again."""

    keys: list[Key]


class NoWorkerForTasks(Struct, tag="no-worker-for-tasks", array_like=True):
    """``n_tasks`` cannot run on any worker that is there, for ``reason``, and wait for one that can; this client waits
    for some of them (``keys`` are a few). Comes once for each reason."""

    keys: list[Key]
    n_tasks: int
    reason: str


class ClusterRestarted(Struct, tag="cluster-restarted", array_like=True):
    """All workers were restarted: every future of before is cancelled."""


class EventLogged(Struct, tag="event-logged", array_like=True):
    """An event of a topic that the client subscribed to; ``event`` is plain data."""

    topic: str
    event: Any


class SchedulerClosing(Struct, tag="scheduler-closing", array_like=True, omit_defaults=True):
    """The last message: the scheduler ends in order, or turns this client away, for ``reason``."""

    reason: str = ""


class SessionReply(Struct, tag="session-reply", array_like=True, omit_defaults=True):
    """The answer to the ``SessionRequest`` of the same ``number``: a value, or an error."""

    number: int
    body: Payload | None = None
    error: ErrorInfo | None = None


class SessionNews(Struct, tag="session-news", array_like=True):
    """What the asker of ``SessionRequest`` messages is told without having asked. ``body``: a tuple as plain data, the
    first of which says what it is about."""

    body: Payload


SchedulerToClient = (
    KeyInMemory
    | KeyErred
    | KeysCancelled
    | KeysLost
    | KeysRetried
    | NoWorkerForTasks
    | ClusterRestarted
    | EventLogged
    | PeerLost
    | SchedulerClosing
    | SessionReply
    | SessionNews
)
