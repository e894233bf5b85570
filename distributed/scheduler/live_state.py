"""The scheduler's state under the names that plugins, pages and users know: views on the core's tables, made when they
are read. Nothing here is kept, and nothing here decides. A base of :class:`Scheduler`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from distributed.base import defaults, settings
from distributed.base.keys import UserKey
from distributed.base.settings import parse_bytes
from distributed.comm.addressing import normalize_address
from distributed.scheduler import queries
from distributed.scheduler.computations import Computation, computations
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.lifecycle import IdleWatch
from distributed.scheduler.routes import Routes
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import SchedulerState, TaskState
from distributed.scheduler.state_machine.memory_state import MemoryState


class _OfCore:
    """A table of the core, as an attribute of the scheduler."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, scheduler: Any, owner: type | None = None) -> Any:
        return self if scheduler is None else getattr(scheduler.state, self._name)


class LiveState:
    """What a scheduler knows, to be read."""

    state: SchedulerState
    shell: Shell
    routes: Routes
    _fleet: FleetAdmin
    _idle: IdleWatch

    tasks = _OfCore()
    workers = _OfCore()
    clients = _OfCore()
    aliases = _OfCore()
    task_groups = _OfCore()
    task_prefixes = _OfCore()
    queued = _OfCore()
    unrunnable = _OfCore()
    idle = _OfCore()
    saturated = _OfCore()
    running = _OfCore()
    resources = _OfCore()
    total_nthreads = _OfCore()
    total_occupancy = _OfCore()
    transition_counter = _OfCore()

    @property
    def erred_tasks(self) -> set[TaskState]:
        """Tasks that have failed, and those that needed them."""
        return {ts for ts in self.state.tasks.values() if ts.state == "erred"}

    @property
    def computations(self) -> list[Computation]:
        """What is worked on: task groups that hang together, oldest first."""
        return computations(self.task_groups.values())

    @property
    def total_memory(self) -> int:
        """Memory limits of all workers together, in bytes."""
        return queries.total_memory(self.state)

    @property
    def replicated_tasks(self) -> set[TaskState]:
        """Tasks with more than one copy in memory."""
        return set(self.state.replicated)

    @property
    def validate(self) -> bool:
        """Whether all tables are checked after every beat."""
        return self.shell.validate

    @validate.setter
    def validate(self, value: bool) -> None:
        self.shell.validate = bool(value)

    @property
    def allowed_failures(self) -> int:
        """Worker deaths that one task may be blamed for."""
        return self.state.settings.allowed_failures

    @allowed_failures.setter
    def allowed_failures(self, value: int) -> None:
        self.state.settings.allowed_failures = value

    @property
    def plugins(self) -> dict[str, Any]:
        """Plugins by name."""
        return self.shell.plugins.plugins

    @property
    def worker_plugins(self) -> dict[str, Any]:
        """Pickled plugins that every worker is given."""
        return self._fleet.worker_plugins

    @property
    def nanny_plugins(self) -> dict[str, Any]:
        """Pickled plugins that every nanny is given."""
        return self._fleet.nanny_plugins

    @property
    def events(self) -> dict[str, Any]:
        """Events by topic."""
        return self.shell.events.topics

    @property
    def task_metadata(self) -> dict[Any, Any]:
        """What clients keep here (``client.set_metadata``)."""
        return self.routes.metadata

    @property
    def transition_log(self) -> list[Any]:
        """The last transitions of all tasks: ``(key, start, finish, stimulus id, time)``."""
        return self.state.story()

    @property
    def worker_ttl(self) -> float | None:
        """Seconds after which a silent worker is taken for lost; None: never."""
        return self.state.settings.worker_ttl_s

    @property
    def idle_timeout(self) -> float | None:
        """Seconds of idleness after which this scheduler ends; None: never."""
        return self._idle.limit_s

    @property
    def WORKER_SATURATION(self) -> float:
        """Root tasks that a worker is sent for each thread."""
        return self.state.settings.saturation

    @property
    def UNKNOWN_TASK_DURATION(self) -> float:
        """Seconds reckoned for a task whose like has never run."""
        return self.state.settings.unknown_duration_s

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.state.tasks)

    @property
    def bandwidth(self) -> float:
        """Assumed bytes a second from worker to worker."""
        return float(parse_bytes(settings.get("distributed.scheduler.bandwidth", 100_000_000)))

    @property
    def memory(self) -> MemoryState:
        """Memory of all workers together."""
        return MemoryState.sum(*[ws.memory for ws in self.state.workers.values()])

    def workers_list(self, workers: queries.WorkerNames) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; None: of all."""
        return [ws.address for ws in queries.find_workers(self.state, workers)]

    def coerce_hostname(self, host: Any) -> str:
        """The host of a worker given by name; anything else as it is."""
        address = self.state.aliases.get(str(host))
        return str(host) if address is None else self.state.workers[address].host

    def get_worker_service_addr(self, worker: str, service_name: str, protocol: bool = False) -> Any:
        """``(host, port)`` of what runs beside a worker, or (``protocol``) its address; None when it does not."""
        ws = self.state.workers[worker]
        port = ws.services.get(service_name)
        if port is None:
            return None
        return f"{ws.address.partition('://')[0]}://{ws.host}:{port}" if protocol else (ws.host, port)

    @property
    def host_info(self) -> dict[str, dict[str, Any]]:
        """Threads and addresses by host."""
        return queries.host_info(self.state, self.shell.now(), time.time())

    def get_task_stream(
        self, start: float | None = None, stop: float | None = None, count: int | None = None
    ) -> list[dict[str, Any]]:
        """Which tasks have ended between two moments (wall-clock seconds); recorded from the first call on."""
        records: list[dict[str, Any]] = defaults.load(defaults.SCHEDULER_OPERATIONS["get_task_stream"])(
            self, start, stop, count
        )
        return records

    def story(self, *keys_or_stimuli: Any) -> list[tuple[Any, ...]]:
        """What happened to the keys, or because of the stimuli."""
        return queries.story(self.state, keys_or_stimuli)

    def explain(self, key: Any) -> dict[str, Any]:
        """Why the task is not finished."""
        return queries.explain(self.state, key)

    def coerce_address(self, addr: Any, resolve: bool = True) -> str:
        """The address of a worker given by address or name; anything else as it is."""
        found = queries.find_workers(self.state, [addr])
        if found:
            return found[0].address
        return normalize_address(addr) if isinstance(addr, str) and (":" in addr) else str(addr)

    def who_has(self, keys: Iterable[Any] | None = None) -> dict[UserKey, list[str]]:
        """Addresses of the workers that hold each key."""
        return queries.who_has(self.state, keys)
