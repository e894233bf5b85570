"""What can happen to the scheduler core besides messages. Facts about connections, and operators' wishes. Pure data.

Messages of ``messages/`` are events as they are; see ``SchedulerEvent``.
"""

from __future__ import annotations

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import ClientToScheduler
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import NannyToScheduler
from distributed.messages.worker_to_scheduler import WorkerToScheduler


class ClientJoined(Struct):
    """A client has registered, or is back within its grace. ``mute``: it only stands for something that wants tasks
    (published data)."""

    client: str
    mute: bool = False


class ClientLost(Struct):
    """The connection to a client broke without ``ClientClosing``; what it wants stays for a grace."""

    client: str
    cause: str = "connection lost"


class ClientLeft(Struct):
    """The client is gone for good; what only it wants is released. ``expected``: it ends by itself, too."""

    client: str
    cause: str = "closed"
    expected: bool = False


class WorkerJoined(Struct):
    """A worker has registered."""

    info: RegisterWorker


class WorkerAway(Struct):
    """The connection to a worker broke without ``WorkerClosing``; its process may well live, and come back."""

    address: str
    cause: str = "connection lost"


class WorkerBack(Struct):
    """A worker goes on with its session over a new connection."""

    address: str


class WorkerLost(Struct):
    """A worker is gone without ``WorkerClosing``: nobody can come back, or its process is known to have ended."""

    address: str
    cause: str = "connection lost"


class WorkerSends(Struct):
    """Bytes have come from a worker since we last looked, perhaps of a long message that is not yet whole."""

    address: str


class Restart(Struct):
    """Cancel every task and start new worker processes."""

    reason: str = "restart"


class RetireWorkers(Struct):
    """Copy what only these workers hold to others, then close them; answered by a ``RetirementEnded`` each."""

    addresses: list[str]
    close: bool = True
    timeout_s: float | None = None
    reason: str = "retired"


class MoveReplicas(Struct):
    """Copy ``key`` to each of ``to``; once the copies are there, drop it at each of ``drop`` (rebalance, replicate).
    ``copies``: how many a client asks for; 0: it was no client."""

    key: Key
    to: list[str]
    drop: list[str] = []
    copies: int = 0


class SetThreads(Struct):
    """The worker now has this many threads."""

    address: str
    nthreads: int


class SetResources(Struct):
    """The worker now has these resources."""

    address: str
    resources: dict[str, float]


class PinTasks(Struct):
    """Each task runs on the one worker that is named beside it, where its share of a shuffle lies; None: wherever its
    submission allows, as before. A task that is assigned already stays where it is."""

    pins: list[tuple[Key, str | None]]


class RecomputeTasks(Struct):
    """What these tasks have computed, or compute now, is of no use any more: they run again if they are needed."""

    keys: list[Key]
    reason: str = ""


SchedulerEvent = (
    ClientToScheduler
    | WorkerToScheduler
    | NannyToScheduler
    | ClientJoined
    | ClientLost
    | ClientLeft
    | WorkerJoined
    | WorkerAway
    | WorkerBack
    | WorkerLost
    | WorkerSends
    | Restart
    | RetireWorkers
    | MoveReplicas
    | SetThreads
    | SetResources
    | PinTasks
    | RecomputeTasks
)
