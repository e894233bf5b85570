"""Everything the worker's state machine knows, in one place; the rules are functions over it. Pure.

``transitions/`` change the tables, ``handlers.py`` says which change follows which event, ``state.py`` is the face.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from random import Random
from typing import Final, TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.scheduler_to_worker import TaskNeed
from distributed.worker.state_machine.fetch_plan import FetchPlan, host_of
from distributed.worker.state_machine.followers import Followers
from distributed.worker.state_machine.outbox import Outbox
from distributed.worker.state_machine.ready_queue import ReadyQueue
from distributed.worker.state_machine.resources import Resources
from distributed.worker.state_machine.spill_plan import SpillPlan
from distributed.worker.state_machine.task import StaleRun, TaskState

RUNNING: Final = "running"
PAUSED: Final = "paused"
CLOSING: Final = "closing_gracefully"
NEVER: Final = 1 << 62
"""Bytes that no worker has."""

# when, key, state before, state after, run id
Step: TypeAlias = tuple[float, Key, str, str, int]


class WorkerSettings(Struct, frozen=True):
    """The numbers that the rules use; times in seconds.

    ``handover_s`` of expected work per slot may lie with the executor at most; ``min_cost_s`` is what the shortest
    task counts. A fetch brings at most ``gather_nbytes`` (or one key); ``max_gathers`` run at once, and
    ``paused_gathers`` while the worker is paused. Missing keys are asked for again after ``missing_retry_s``, then
    twice that and so on up to ``missing_retry_max_s``; likewise a peer that could not be reached is left alone for
    ``suspect_s`` up to ``suspect_max_s``. ``story_length`` steps are remembered.

    Values from ``min_spill_nbytes`` on may go to disk. They do when those in memory take more than ``target_nbytes``;
    where these would take more than ``hold_nbytes``, with what runs are going to make, tasks wait for that. At most
    ``most_spilled_nbytes`` are on disk (0: no limit). Fetches bring at most ``transfer_nbytes`` at once, or one key.

    A run that is to end is left ``stop_grace_s`` to do so by itself, then it is interrupted (None: never), and again
    after each ``stop_repeat_s``.
    """

    handover_s: float = 0.005
    min_cost_s: float = 5e-6
    gather_nbytes: int = 50_000_000
    max_gathers: int = 50
    paused_gathers: int = 1
    missing_retry_s: float = 0.5
    missing_retry_max_s: float = 5.0
    suspect_s: float = 0.1
    suspect_max_s: float = 5.0
    story_length: int = 10_000
    min_spill_nbytes: int = NEVER
    target_nbytes: int = NEVER
    hold_nbytes: int = NEVER
    most_spilled_nbytes: int = 0
    spill_retry_s: float = 5.0
    transfer_nbytes: int = NEVER
    stop_grace_s: float | None = 2.0
    stop_repeat_s: float = 5.0


class Tables:
    """``handed`` holds the wanted runs that are with the executor, ``stale`` the unwanted ones, both by run id;
    ``slots_used`` counts those of either kind that hold a slot; ``backlog_s`` is the time booked for all of them, and
    ``coming_nbytes`` the memory that their results will take as far as ``sizes`` tells, by kind of task.
    ``limits`` says until when a wanted run may take, ``stops`` when a stale one is interrupted next, both by run id.
    ``missing`` holds the keys in that state. ``now`` is the time of the last event."""

    __slots__ = (
        "address",
        "asking",
        "backlog_s",
        "coming_nbytes",
        "durations",
        "entered_nbytes",
        "executed_count",
        "fetches",
        "followers",
        "handed",
        "limits",
        "managed_nbytes",
        "missing",
        "nmemory",
        "now",
        "nthreads",
        "outbox",
        "ready",
        "resources",
        "rng",
        "settings",
        "shared",
        "shared_records",
        "short",
        "sizes",
        "slots_used",
        "spilling",
        "stale",
        "status",
        "steps",
        "stops",
        "tasks",
        "wake_at",
    )

    def __init__(
        self, settings: WorkerSettings, address: str, nthreads: int, resources: dict[str, float], seed: int
    ) -> None:
        self.settings = settings
        self.address = address
        self.nthreads = nthreads
        self.status: str = RUNNING
        # Memory is short, whatever the scheduler has made of the status.
        self.short = False
        self.now = 0.0
        tickets = count(1)
        self.tasks: dict[Key, TaskState] = {}
        self.ready = ReadyQueue(tickets)
        self.resources = Resources(resources, tickets)
        self.handed: dict[int, TaskState] = {}
        self.stale: dict[int, StaleRun] = {}
        self.followers = Followers()
        self.limits: dict[int, float] = {}
        self.stops: dict[int, float] = {}
        self.slots_used = 0
        self.backlog_s = 0.0
        self.coming_nbytes = 0
        self.durations: dict[bytes | str, float] = {}
        self.sizes: dict[bytes | str, int] = {}
        self.rng = Random(seed)
        self.fetches = FetchPlan(settings.gather_nbytes, host_of(address), self.rng)
        # The needs of tasks that are ordered as sharing them, and the records of these (none yet: empty).
        self.shared: tuple[TaskNeed, ...] = ()
        self.shared_records: tuple[TaskState, ...] = ()
        self.missing: dict[TaskState, None] = {}
        self.asking: dict[TaskState, None] = {}
        self.wake_at: float | None = None
        self.nmemory = 0
        self.managed_nbytes = 0
        # Of all values that have come into memory so far, from wherever.
        self.entered_nbytes = 0
        self.spilling = SpillPlan()
        self.executed_count = 0
        self.steps: deque[Step] = deque(maxlen=settings.story_length)
        self.outbox = Outbox(_nothing)

    def move(self, ts: TaskState, state: str) -> None:
        """Change a task's state and remember it; everything that follows from it is the caller's."""
        self.steps.append((self.now, ts.key, ts.state, state, ts.run_id))
        ts.state = state

    def wake_by(self, when: float) -> None:
        """Be called at this time at the latest."""
        if self.wake_at is None or when < self.wake_at:
            self.wake_at = when


def _nothing() -> None:
    pass
