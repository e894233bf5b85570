"""The records of the scheduler: tasks, workers, clients. They point at one another, so they live in one file.

Data and cheap views only; rules are in the other modules. Attribute names are those that plugins know. Collections that
are iterated to decide something are tuples or dicts (insertion-ordered), never sets: the same events give the same
instructions in every process.

What most tasks do not need (errors, deaths, metadata) sits in :class:`Rare`, made on first use; a pending task is
small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from distributed.base.keys import Key
from distributed.base.status import Status
from distributed.messages.client_to_scheduler import TaskOptions, TaskSpec
from distributed.messages.control import RegisterWorker
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.scheduler_to_worker import Priority
from distributed.scheduler.state_machine.groups import TaskGroup, TaskPrefix
from distributed.scheduler.state_machine.memory_state import MemoryState


class Members(tuple[Any, ...]):
    """A tuple without repetition that equals the set of its elements: rules need its order, plugins compare it to
    sets."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (set, frozenset)):
            return len(self) == len(other) and all(item in other for item in self)
        return tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


# Default of who_wants, who_has, dependencies, and (never written to) of dependents.
NOBODY: tuple[Any, ...] = Members()
NO_TASKS: dict[TaskState, None] = {}

# States of a task that still needs its dependencies.
NEEDING = frozenset(["waiting", "queued", "no-worker", "processing"])


@dataclass(slots=True, frozen=True)
class DeathRecord:
    """One worker death that a task is blamed for."""

    worker: str
    host: str
    cause: str
    pid: int = 0
    exit_code: int | None = None
    signal: int | None = None
    peak_bytes: int = 0
    log_tail: tuple[str, ...] = ()

    def describe(self) -> str:
        parts = [f"worker {self.worker} on {self.host or 'unknown host'}: {self.cause}"]
        if self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        if self.signal is not None:
            parts.append(f"signal {self.signal}")
        if self.peak_bytes:
            parts.append(f"peak memory {self.peak_bytes / 2**20:.0f} MiB")
        text = ", ".join(parts)
        return text if not self.log_tail else "\n    ".join([text, *self.log_tail])


class Rare:
    """What few tasks have."""

    __slots__ = ("suspicious", "deaths", "retries_used", "restarts_used", "error", "blame", "erred_on", "metadata",
                 "unshippable", "avoid", "copies")  # fmt: skip

    def __init__(self) -> None:
        self.suspicious = 0
        self.deaths: list[DeathRecord] = []
        self.retries_used = 0
        self.restarts_used = 0
        self.error: ErrorInfo | None = None
        self.blame: TaskState | None = None
        self.erred_on: list[str] = []
        self.metadata: dict[str, Any] | None = None
        self.unshippable: ErrorInfo | None = None
        # The worker that gave the task back by Reschedule.
        self.avoid: WorkerState | None = None
        # How many copies a client has asked for; no policy makes them fewer by itself.
        self.copies = 1

    def forgive(self) -> None:
        """The workers that died under the task count no more."""
        self.suspicious = 0
        self.deaths = []


class Policy:
    """What tasks of one submission share (``TaskOptions``), and the workers that qualify (kept while the fleet
    stays)."""

    __slots__ = ("options", "negative_priority", "retries", "workers", "loose", "resources", "actor", "executor",
                 "annotations", "rules", "backoff", "free", "allowed", "epoch", "cursor", "unpinned")  # fmt: skip

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.negative_priority: float = -options.priority
        self.retries: int = options.retries
        self.workers: tuple[str, ...] | None = options.workers or None
        self.loose: bool = options.allow_other_workers
        self.resources: dict[str, float] | None = options.resources or None
        self.actor: bool = options.actor
        self.executor: str | None = options.executor
        self.annotations: dict[str, Any] | None = options.annotations
        self.rules = options.rules
        self.backoff = options.backoff
        # Any worker will do.
        self.free: bool = self.workers is None and self.resources is None
        self.allowed: dict[WorkerState, None] = {}
        self.epoch = -1
        self.cursor = 0
        # What the submission said, while a pin (see ``pins.py``) overrides where the tasks run.
        self.unpinned: Policy | None = None


class TaskState:
    """One task. ``n_waiting`` counts dependencies that are not in memory, ``n_waiters`` dependents that still need
    this.

    ``processing_on`` and ``run_id`` name the current assignment; a report with another run id is stale.
    """

    __slots__ = ("key", "state", "priority", "run_spec", "policy", "group", "dependencies", "dependents", "n_waiting",
                 "n_waiters", "who_wants", "who_has", "nbytes", "run_id", "processing_on", "type", "rare")  # fmt: skip

    def __init__(
        self, key: Key, run_spec: TaskSpec | None, policy: Policy, group: TaskGroup, priority: Priority, state: str
    ) -> None:
        self.key = key
        self.state = state
        self.priority = priority
        self.run_spec = run_spec
        self.policy = policy
        self.group = group
        self.dependencies: tuple[TaskState, ...] = NOBODY
        self.dependents: dict[TaskState, None] = NO_TASKS
        self.n_waiting = 0
        self.n_waiters = 0
        self.who_wants: tuple[ClientState, ...] = NOBODY
        self.who_has: tuple[WorkerState, ...] = NOBODY
        self.nbytes = -1
        self.run_id = 0
        self.processing_on: WorkerState | None = None
        self.type = ""
        self.rare: Rare | None = None

    def make_rare(self) -> Rare:
        rare = self.rare
        if rare is None:
            rare = self.rare = Rare()
        return rare

    @property
    def prefix(self) -> TaskPrefix:
        return self.group.prefix

    @property
    def group_key(self) -> str:
        return self.group.name

    @property
    def waiting_on(self) -> set[TaskState]:
        """The dependencies that this task waits for."""
        return {d for d in self.dependencies if d.state != "memory"} if self.state == "waiting" else set()

    @property
    def waiters(self) -> set[TaskState]:
        """The dependents that still need this task."""
        return {d for d in self.dependents if d.state in NEEDING}

    @property
    def retries(self) -> int:
        """How often the task may still raise."""
        used = self.rare.retries_used if self.rare is not None else 0
        return max(0, self.policy.retries - used)

    @property
    def suspicious(self) -> int:
        return self.rare.suspicious if self.rare is not None else 0

    @property
    def error(self) -> ErrorInfo | None:
        return self.rare.error if self.rare is not None else None

    @property
    def exception(self) -> Payload | None:
        return self.error.exception if self.error is not None else None

    @property
    def traceback(self) -> Payload | None:
        return self.error.traceback if self.error is not None else None

    @property
    def exception_text(self) -> str | None:
        return f"{self.error.type_name}({self.error.message!r})" if self.error is not None else None

    @property
    def traceback_text(self) -> str | None:
        return self.error.traceback_text if self.error is not None else None

    @property
    def exception_blame(self) -> TaskState | None:
        return self.rare.blame if self.rare is not None else None

    @property
    def erred_on(self) -> list[str]:
        return self.rare.erred_on if self.rare is not None else []

    @property
    def metadata(self) -> dict[str, Any] | None:
        return self.rare.metadata if self.rare is not None else None

    @property
    def unshippable(self) -> ErrorInfo | None:
        return self.rare.unshippable if self.rare is not None else None

    @property
    def annotations(self) -> dict[str, Any]:
        """What the submission said of its tasks, options included."""
        options = self.policy.options
        known = {
            "priority": options.priority,
            "retries": options.retries,
            "workers": options.workers,
            "allow_other_workers": options.allow_other_workers,
            "resources": options.resources,
            "executor": options.executor,
        }
        return {**{name: value for name, value in known.items() if value}, **(options.annotations or {})}

    @property
    def actor(self) -> bool:
        return self.policy.actor

    @property
    def worker_restrictions(self) -> set[str]:
        """Addresses; names of workers that are here appear as their addresses."""
        named = self._named_workers()
        return {named.get(w, w) for w in self.policy.workers or () if "://" in w or w in named}

    @property
    def host_restrictions(self) -> set[str]:
        named = self._named_workers()
        return {w for w in self.policy.workers or () if "://" not in w and w not in named}

    def _named_workers(self) -> dict[str, str]:
        return {str(ws.name): ws.address for ws in self.policy.allowed}

    @property
    def resource_restrictions(self) -> dict[str, float]:
        return self.policy.resources or {}

    @property
    def loose_restrictions(self) -> bool:
        return self.policy.loose

    def get_nbytes(self) -> int:
        return max(0, self.nbytes)

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"


class Vouch:
    """What the nanny last said of a silent worker's process; ``keys`` are being executed. ``seen``: when it last stood
    up for it. ``holders``: what was executed when the loop had last been kept from moving for long, in this silence."""

    __slots__ = ("seen", "process_state", "keys", "holders")

    def __init__(self, seen: float, process_state: str, keys: tuple[Key, ...], holders: tuple[Key, ...]) -> None:
        self.seen = seen
        self.process_state = process_state
        self.keys = keys
        self.holders = holders


class WorkerState:
    """One worker. ``processing`` holds what is assigned there, with the seconds charged to ``occupancy`` for it."""

    __slots__ = ("address", "name", "host", "nthreads", "memory_limit", "resources", "used_resources", "nanny", "pid",
                 "local_directory", "services", "versions", "extra", "info", "status_name", "running", "alive", "index",
                 "processing", "long_running", "executing", "occupancy", "has_what", "nbytes", "actors", "functions",
                 "capacity", "prefetch_s", "level", "as_holder", "addresses", "last_seen", "metrics", "managed_bytes",
                 "process_bytes", "spilled_bytes", "suspect_since", "vouch", "held_slots",
                 "held_since")  # fmt: skip

    def __init__(self, info: RegisterWorker, index: int, saturation: float, prefetch_s: float, now: float) -> None:
        self.info = info
        self.address = info.address
        self.name: str | int = int(info.name) if info.name_is_int else info.name
        self.host = info.host
        self.nthreads = info.nthreads
        self.memory_limit = info.memory_limit
        self.resources: dict[str, float] = dict(info.resources)
        self.used_resources: dict[str, float] = dict.fromkeys(info.resources, 0.0)
        self.nanny = info.nanny
        self.pid = info.pid
        self.local_directory = info.local_directory
        self.services = info.services
        self.versions = info.versions
        self.extra = info.extra
        self.status_name = "running"
        # May be given tasks; still known to the scheduler.
        self.running = True
        self.alive = True
        self.index = index
        self.processing: dict[TaskState, float] = {}
        self.long_running: dict[TaskState, None] = {}
        self.executing: dict[TaskState, float] = {}
        self.occupancy = 0.0
        self.has_what: dict[TaskState, None] = {}
        self.nbytes = 0
        self.actors: dict[TaskState, None] = {}
        self.functions: set[bytes] = set()
        self.level = -1
        self.as_holder: tuple[WorkerState, ...] = Members((self,))
        self.addresses: tuple[str, ...] = (info.address,)
        self.last_seen = now
        # Since when it is silent for too long, and what its nanny says of that (see liveness.py).
        self.suspect_since: float | None = None
        self.vouch: Vouch | None = None
        self.metrics: dict[str, Any] = {}
        self.managed_bytes = 0
        self.process_bytes = 0
        self.spilled_bytes = 0
        # By runs that were released or cancelled and have not ended; a guess until a heartbeat can know.
        self.held_slots = 0
        self.held_since = now
        self.set_nthreads(info.nthreads, saturation, prefetch_s)

    def set_nthreads(self, nthreads: int, saturation: float, prefetch_s: float) -> None:
        self.nthreads = nthreads
        self.capacity = 1 << 60 if math.isinf(saturation) else max(1, math.ceil(saturation * nthreads))
        self.prefetch_s = prefetch_s * nthreads

    @property
    def status(self) -> Status:
        return Status(self.status_name)

    @property
    def memory(self) -> MemoryState:
        return MemoryState(self.process_bytes, self.managed_bytes or self.nbytes, self.spilled_bytes)

    @property
    def server_id(self) -> str:
        return self.address

    def clean(self) -> WorkerState:
        """A copy that holds no task."""
        return WorkerState(self.info, self.index, 1.0, 0.0, self.last_seen)

    @property
    def n_active(self) -> int:
        """Tasks that hold, or will hold, a thread: assigned ones, and given-up ones that still run."""
        return len(self.processing) - len(self.long_running) + self.held_slots

    def __repr__(self) -> str:
        return (
            f"<WorkerState {self.address!r}, name: {self.name}, status: {self.status_name}, "
            f"memory: {len(self.has_what)}, processing: {len(self.processing)}>"
        )


class ClientState:
    """One client. A ``mute`` one stands for something else that wants tasks (fire_and_forget, open submissions)."""

    __slots__ = (
        "client_key",
        "wants_what",
        "mute",
        "as_wanter",
        "functions",
        "last_seen",
        "submission",
        "generation",
        "pins",
    )

    def __init__(self, client_key: str, now: float, mute: bool = False) -> None:
        self.client_key = client_key
        self.wants_what: dict[TaskState, None] = {}
        self.mute = mute
        self.as_wanter: tuple[ClientState, ...] = Members((self,))
        self.functions: set[bytes] = set()
        self.last_seen = now
        self.submission = -1
        self.generation = 0.0
        # Submissions in parts whose last part has not come: their tasks are wanted until it does.
        self.pins: dict[int, ClientState] = {}

    def __repr__(self) -> str:
        return f"<Client {self.client_key!r}>"
