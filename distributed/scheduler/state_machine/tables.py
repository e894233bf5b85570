"""The tables of the scheduler core. Data only: rules are functions of other modules that take the tables first.
Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.payload import FunctionBlob
from distributed.scheduler.state_machine.entities import ClientState, Policy, TaskState, WorkerState
from distributed.scheduler.state_machine.groups import GroupTable, TaskGroup, TaskPrefix
from distributed.scheduler.state_machine.instructions import Transitioned
from distributed.scheduler.state_machine.outbox import Outbox
from distributed.scheduler.state_machine.queuing import TaskQueue
from distributed.scheduler.state_machine.settings import SchedulerSettings
from distributed.scheduler.state_machine.unrunnable import Unrunnable

FIRE_AND_FORGET = "fire-and-forget"
N_LEVELS = 40


class Steal:
    """A task that a worker was asked to give back."""

    __slots__ = ("victim", "thief", "run_id", "asked")

    def __init__(self, victim: WorkerState, thief: WorkerState, run_id: int, asked: float) -> None:
        self.victim = victim
        self.thief = thief
        self.run_id = run_id
        self.asked = asked


class Vanished:
    """A worker whose connection broke and whose nanny has not reported yet."""

    __slots__ = ("cause", "deadline")

    def __init__(self, cause: str, deadline: float) -> None:
        self.cause = cause
        self.deadline = deadline


class Absence:
    """A client or worker whose connection broke, and which has not come back yet."""

    __slots__ = ("cause", "since", "deadline")

    def __init__(self, cause: str, since: float, deadline: float | None) -> None:
        self.cause = cause
        self.since = since
        self.deadline = deadline


class Retirement:
    """A worker that is being emptied. ``sent``: who was asked to fetch each key. ``failed``: how often that failed."""

    __slots__ = ("close", "deadline", "failed", "reason", "sent")

    def __init__(self, close: bool, deadline: float | None, reason: str) -> None:
        self.close = close
        self.deadline = deadline
        self.reason = reason
        self.sent: dict[TaskState, WorkerState] = {}
        self.failed: dict[TaskState, int] = {}


class Move:
    """Copies under way, after which other copies are dropped."""

    __slots__ = ("to", "drop")

    def __init__(self, to: dict[WorkerState, None], drop: tuple[WorkerState, ...]) -> None:
        self.to = to
        self.drop = drop


class Announcement:
    """Clients are about to put a value on workers. ``places``: which, by which scatter of theirs. ``doubtful``: workers
    that have, or may have, a copy; it may be that value, or an older one."""

    __slots__ = ("doubtful", "places")

    def __init__(self, places: dict[tuple[ClientState, int], None] | None = None) -> None:
        self.places = {} if places is None else places
        self.doubtful: dict[str, None] = {}


class Tables:
    """All that the scheduler knows."""

    __slots__ = ("settings", "seed", "now", "out", "tasks", "workers", "clients", "aliases", "hosts", "groups",
                 "queued", "unrunnable", "ready", "touched", "levels", "running", "idle", "saturated", "epoch",
                 "fleet_changed", "functions", "orphan_functions", "run_counter", "stimulus", "context", "event",
                 "generation", "generation_started", "default_policy", "fire_and_forget", "steals", "next_steal",
                 "vanished", "away", "absent", "delayed", "delays", "retirements", "retire_again", "moves",
                 "replicated", "lost_data", "log", "record", "tracing", "told_needs", "no_workers_since",
                 "no_workers_told", "next_look", "n_workers_seen", "stolen_count", "n_clients_seen", "n_ignored",
                 "n_steal_requests", "steal_requests_s", "announced")  # fmt: skip

    def __init__(self, settings: SchedulerSettings | None = None, seed: int = 0) -> None:
        self.settings = settings = settings if settings is not None else SchedulerSettings()
        self.seed = seed
        self.now = 0.0
        self.out = Outbox()

        self.tasks: dict[Key, TaskState] = {}
        self.workers: dict[str, WorkerState] = {}
        self.clients: dict[str, ClientState] = {}
        # Worker name (as text) -> address; host -> its workers.
        self.aliases: dict[str, str] = {}
        self.hosts: dict[str, dict[WorkerState, None]] = {}
        self.groups = GroupTable(settings.unknown_duration_s, settings.default_durations_s)

        # Tasks that wait for the placing beat; for a worker with room; for a worker that qualifies (since when).
        self.ready: list[TaskState] = []
        self.queued = TaskQueue()
        self.unrunnable = Unrunnable()

        # Workers by level of load (see occupancy.py), and those whose level is to be looked at again.
        self.levels: list[dict[WorkerState, None]] = [{} for _ in range(N_LEVELS)]
        self.touched: dict[WorkerState, None] = {}
        self.running: dict[WorkerState, None] = {}
        self.idle: dict[str, WorkerState] = {}
        self.saturated: dict[WorkerState, None] = {}
        # Grows with every change of the fleet that may change which workers qualify for what.
        self.epoch = 0
        self.fleet_changed = False
        # Since when tasks are queued while no worker runs any, and whether that was told.
        self.no_workers_since: float | None = None
        self.no_workers_told = False
        self.n_workers_seen = 0
        self.next_look: float | None = None

        self.functions: dict[bytes, FunctionBlob] = {}
        self.orphan_functions: dict[bytes, None] = {}
        self.default_policy = Policy(TaskOptions())
        self.generation = 0.0
        self.generation_started = -1e300
        self.run_counter = 0

        self.fire_and_forget = ClientState(FIRE_AND_FORGET, 0.0, mute=True)
        self.clients[FIRE_AND_FORGET] = self.fire_and_forget
        self.steals: dict[TaskState, Steal] = {}
        self.next_steal: float | None = None
        self.stolen_count = 0
        self.n_steal_requests = 0
        self.steal_requests_s = 0.0
        self.n_clients_seen = 0
        # Reports of workers about runs that are not theirs, or not any more.
        self.n_ignored = 0
        self.vanished: dict[WorkerState, Vanished] = {}
        self.away: dict[WorkerState, Absence] = {}
        self.absent: dict[ClientState, Absence] = {}
        # Tasks that run again at a time (see delays.py), and these times in a heap; what is not in the first is void.
        self.delayed: dict[TaskState, float] = {}
        self.delays: list[tuple[float, int, TaskState]] = []
        self.retirements: dict[WorkerState, Retirement] = {}
        self.retire_again = False
        self.moves: dict[TaskState, Move] = {}
        # Values that clients are about to put on workers.
        self.announced: dict[TaskState, Announcement] = {}
        # Tasks in memory on more than one worker.
        self.replicated: dict[TaskState, None] = {}
        # The shared dependencies that each worker was last told of in this beat.
        self.told_needs: dict[WorkerState, tuple[TaskState, ...]] = {}
        # Why data without a recipe is gone, for those who ask for it later; the last of it only.
        self.lost_data: dict[Key, str] = {}

        # The event in hand: (number, name, time), and itself. story() reads the log.
        self.stimulus = 0
        self.context: tuple[int, str, float] = (0, "start", 0.0)
        self.event: Any = None
        length = settings.story_length
        self.log: deque[tuple[Key, str, str, tuple[int, str, float]]] | None = (
            deque(maxlen=length) if length > 0 else None
        )
        self.record = settings.record_transitions
        self.tracing = self.record or self.log is not None

    @property
    def task_groups(self) -> dict[str, TaskGroup]:
        return self.groups.groups

    @property
    def task_prefixes(self) -> dict[str, TaskPrefix]:
        return self.groups.prefixes

    @property
    def total_nthreads(self) -> int:
        return sum([ws.nthreads for ws in self.workers.values()])

    @property
    def total_occupancy(self) -> float:
        """Expected seconds of work of all that is assigned."""
        return sum([ws.occupancy for ws in self.workers.values()])

    @property
    def transition_counter(self) -> int:
        """How many transitions are remembered."""
        return len(self.log or ())

    @property
    def resources(self) -> dict[str, dict[str, float]]:
        """Resource -> worker address -> amount."""
        table: dict[str, dict[str, float]] = {}
        for ws in self.workers.values():
            for name, amount in ws.resources.items():
                table.setdefault(name, {})[ws.address] = amount
        return table

    @property
    def stimulus_id(self) -> str:
        """Name of the event in hand, for messages and the story."""
        return f"{self.context[1]}-{self.context[0]}"


def trace(state: Tables, ts: TaskState, start: str, finish: str) -> None:
    """Note a transition for story() and for plugins."""
    log = state.log
    if log is not None:
        log.append((ts.key, start, finish, state.context))
    if state.record:
        ws = ts.processing_on or (ts.who_has[0] if ts.who_has else None)
        address = ws.address if ws is not None else ""
        state.out.transitions.append(Transitioned(ts.key, start, finish, state.stimulus_id, address, state.event))


def set_state(state: Tables, ts: TaskState, finish: str) -> None:
    """Every change of a task's state goes through here (the hot paths repeat it in line)."""
    start = ts.state
    counts = ts.group.states
    counts[start] -= 1
    counts[finish] += 1
    ts.state = finish
    if state.tracing:
        trace(state, ts, start, finish)


def note(state: Tables, key: Key, what: str, detail: str) -> None:
    """Something worth telling in the story that is no transition."""
    if state.log is not None:
        state.log.append((key, what, detail, state.context))
