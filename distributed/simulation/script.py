"""The script of an episode: plain records of what clients do, what breaks, and when. Pure data.

A seed generates a script; a script with its seed replays exactly. Records name keys and workers instead of choosing
them as they go, and one that names what is not there does nothing, so any of them may be left out.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import TaskOptions


class TaskPlan(Struct, omit_defaults=True, frozen=True):
    """One task and how it behaves.

    ``behaviour`` is one of ``succeed``, ``raise``, ``die`` (the process ends), ``hang``, ``unshippable`` (the value
    cannot be pickled), ``secede``, ``reschedule``; the first ``times`` runs are like that (-1: all), later ones
    succeed. ``key`` is ``name|3`` for the tuple ``("name", 3)``.

    ``transfer``, ``barrier`` and ``unpack`` are the tasks of ``shuffles`` (two for the unpacks of a join); ``part`` is
    the number of a transfer's input, or of an unpack's output.
    """

    key: str
    needs: tuple[str, ...] = ()
    duration_s: float = 0.001
    nbytes: int = 8
    behaviour: str = "succeed"
    times: int = -1
    alias: bool = False
    shuffles: tuple[str, ...] = ()
    part: int = -1


def as_key(name: str) -> Key:
    """``"x-1|3"`` is ``("x-1", 3)``, anything else is itself."""
    head, bar, number = name.partition("|")
    return (head, int(number)) if bar else head


class Submit(Struct, tag="submit", omit_defaults=True):
    """A graph, in ``parts`` messages; ``wanted`` None: all of it."""

    at: float
    client: str
    tasks: list[TaskPlan]
    options: TaskOptions = TaskOptions()
    wanted: tuple[str, ...] | None = None
    parts: int = 1


class Release(Struct, tag="release", omit_defaults=True):
    """The client lets go of keys."""

    at: float
    client: str
    keys: tuple[str, ...]


class Cancel(Struct, tag="cancel", omit_defaults=True):
    """The client cancels keys."""

    at: float
    client: str
    keys: tuple[str, ...]
    force: bool = False


class Want(Struct, tag="want", omit_defaults=True):
    """The client makes futures of keys that others may have submitted."""

    at: float
    client: str
    keys: tuple[str, ...]


class Retry(Struct, tag="retry", omit_defaults=True):
    """The client retries those of the keys that have failed."""

    at: float
    client: str
    keys: tuple[str, ...]


class Fire(Struct, tag="fire-and-forget", omit_defaults=True):
    """Keys that are to run to their end though nobody waits; the client lets go of them."""

    at: float
    client: str
    keys: tuple[str, ...]


class Scatter(Struct, tag="scatter", omit_defaults=True):
    """The client puts a value on workers."""

    at: float
    client: str
    key: str
    workers: tuple[str, ...]
    nbytes: int = 8


class Replicate(Struct, tag="replicate", omit_defaults=True):
    """Have ``n`` copies of each key."""

    at: float
    keys: tuple[str, ...]
    n: int = 2


class Rebalance(Struct, tag="rebalance", omit_defaults=True):
    """Even out the workers' memory."""

    at: float


class Pin(Struct, tag="pin", omit_defaults=True):
    """Tasks are bound to a worker, as a shuffle does; None: to none any more."""

    at: float
    keys: tuple[str, ...]
    worker: str | None = None


class Recompute(Struct, tag="recompute", omit_defaults=True):
    """Results are void, as those of a shuffle that has lost a worker."""

    at: float
    keys: tuple[str, ...]


class StartWorker(Struct, tag="start-worker", omit_defaults=True):
    """A worker of this name starts, unless one runs. ``same_port``: each of its lives has the same address."""

    at: float
    worker: str
    nthreads: int = 1
    host: str = "10.0.0.0"
    resources: dict[str, float] = {}
    nanny: bool = False
    same_port: bool = False


class StopWorker(Struct, tag="stop-worker", omit_defaults=True):
    """The worker closes in order, for good."""

    at: float
    worker: str


class Crash(Struct, tag="crash", omit_defaults=True):
    """The worker's process dies; ``kept`` of what it has sent arrives. ``reported``: its nanny's report arrives.
    ``silent``: its machine is gone with it, so that nobody finds out that it has ended."""

    at: float
    worker: str
    kept: float = 0.0
    reported: bool = True
    report_delay_s: float = 0.0
    silent: bool = False


class Freeze(Struct, tag="freeze", omit_defaults=True):
    """The worker's process does nothing for a while. ``stopped``: SIGSTOP; else it runs, but its loop does not (a task
    holds the interpreter lock), and its nanny vouches for it."""

    at: float
    worker: str
    for_s: float
    stopped: bool = True


class PauseWorker(Struct, tag="pause", omit_defaults=True):
    """The worker is short of memory for a while."""

    at: float
    worker: str
    for_s: float


class LoseData(Struct, tag="lose-data", omit_defaults=True):
    """The worker loses some of the values it holds (damaged spill files)."""

    at: float
    worker: str
    n: int = 1


class FillDisk(Struct, tag="fill-disk", omit_defaults=True):
    """The worker's disk takes nothing more for a while."""

    at: float
    worker: str
    for_s: float


class SetResources(Struct, tag="set-resources", omit_defaults=True):
    """The worker's resources change."""

    at: float
    worker: str
    resources: dict[str, float]


class Retire(Struct, tag="retire", omit_defaults=True):
    """Workers are to be emptied, and closed."""

    at: float
    workers: tuple[str, ...]
    close: bool = True
    timeout_s: float | None = None


class RestartCluster(Struct, tag="restart", omit_defaults=True):
    """All tasks are cancelled, all workers restarted."""

    at: float


class CutLink(Struct, tag="cut-link", omit_defaults=True):
    """The connection of a worker or client to the scheduler breaks; shares of what is under way still arrive. A worker
    can make no other one for ``for_s``."""

    at: float
    peer: str
    kept_up: float = 0.0
    kept_down: float = 0.0
    for_s: float = 0.0


class StallLink(Struct, tag="stall-link", omit_defaults=True):
    """One direction of a connection stands still for a while, and then goes on, or breaks (half-open)."""

    at: float
    peer: str
    up: bool
    for_s: float
    breaks: bool = False


class Partition(Struct, tag="partition", omit_defaults=True):
    """Two workers cannot reach each other for a while."""

    at: float
    worker: str
    other: str
    for_s: float


Act: TypeAlias = (
    Submit
    | Release
    | Cancel
    | Want
    | Retry
    | Fire
    | Scatter
    | Replicate
    | Rebalance
    | Pin
    | Recompute
    | StartWorker
    | StopWorker
    | Crash
    | Freeze
    | PauseWorker
    | LoseData
    | FillDisk
    | SetResources
    | Retire
    | RestartCluster
    | CutLink
    | StallLink
    | Partition
)


class Script(Struct, omit_defaults=True):
    """A whole episode. ``scheduler`` and ``worker`` are settings of the cores; ``delays_s`` those of links;
    ``lazy`` is how often the placing beat waits for more events; ``heartbeat_s`` 0: no heartbeats."""

    seed: int
    clients: tuple[str, ...]
    acts: list[Act]
    scheduler: dict[str, Any] = {}
    worker: dict[str, Any] = {}
    delays_s: tuple[float, ...] = (0.0001, 0.0002, 0.001, 0.02)
    lazy: float = 0.0
    heartbeat_s: float = 0.0
    features: tuple[str, ...] = ()
