"""One key on this worker: a task to compute here, an input to fetch, or a value that is here. Pure.

States, and what a key in them owes:

=============  =======================================================================================================
released       known, nothing going on; only between two steps of one event
waiting        to be computed here; ``waiting_count`` of its dependencies are not in memory here
ready          in the ready queue
constrained    in the queue of its resources
executing      handed to the executor; a terminal event will come
long-running   handed to the executor and seceded: holds no slot; a terminal event will come
fetch          to be fetched; has at least one holder; known to the fetch plan
flight         asked from a peer; an answer event will come
resumed        as flight, given up once meanwhile and wanted again
missing        wanted, and no holder is known; a deadline asks the scheduler again
cancelled      nobody wants it; the end of its execution or flight is awaited, and then it is forgotten
memory         the value is here
error          it failed here; on its way to forgotten
rescheduled    it asked to run elsewhere; on its way to forgotten
forgotten      no longer in the table
=============  =======================================================================================================

An execution is known by its run id. When a key is freed or ordered again while a run of it is with the executor, that
run becomes *stale* (``StaleRun``): it holds its slot and resources until it ends, and its end means nothing else. So
the key itself is free at once for what is wanted now.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from distributed.base.keys import Key, key_prefix
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import ComputeTask, Priority

RELEASED: Final = "released"
WAITING: Final = "waiting"
READY: Final = "ready"
CONSTRAINED: Final = "constrained"
EXECUTING: Final = "executing"
LONG_RUNNING: Final = "long-running"
FETCH: Final = "fetch"
FLIGHT: Final = "flight"
RESUMED: Final = "resumed"
MISSING: Final = "missing"
CANCELLED: Final = "cancelled"
MEMORY: Final = "memory"
ERROR: Final = "error"
RESCHEDULED: Final = "rescheduled"
FORGOTTEN: Final = "forgotten"

ALL_STATES: Final = (
    RELEASED,
    WAITING,
    READY,
    CONSTRAINED,
    EXECUTING,
    LONG_RUNNING,
    FETCH,
    FLIGHT,
    RESUMED,
    MISSING,
    CANCELLED,
    MEMORY,
    ERROR,
    RESCHEDULED,
    FORGOTTEN,
)
NOT_STARTED: Final = frozenset((WAITING, READY, CONSTRAINED))
HANDED_OVER: Final = frozenset((EXECUTING, LONG_RUNNING))
TO_COMPUTE: Final = NOT_STARTED | HANDED_OVER
IN_FLIGHT: Final = frozenset((FLIGHT, RESUMED))
TO_FETCH: Final = frozenset((FETCH, FLIGHT, RESUMED, MISSING))

NO_PRIORITY: Final[Priority] = (float("inf"), 0.0, 0)


class FetchState(Struct, eq=False):
    """What is known about fetching one key.

    ``failed`` are holders that could not be reached, and why; the scheduler is told once nobody else is left.
    ``peer`` is who was asked, ``since`` when. ``retry_at`` and ``attempts`` belong to *missing*. ``acquired``: the
    scheduler wants the copy itself, whether a task here needs it or not.
    """

    holders: dict[str, None] = {}
    failed: dict[str, str] = {}
    peer: str | None = None
    since: float = 0.0
    retry_at: float = 0.0
    attempts: int = 0
    acquired: bool = False


class TaskState(Struct, eq=False):
    """One key.

    ``run_id`` and ``spec`` are of the newest order to compute it here; ``ticket`` is its place in a queue; ``cost_s``
    and ``size`` (bytes of its result, as is expected) are booked while it is handed over; ``stale_runs`` counts its
    older runs that have not ended. ``dependents`` are the tasks to be computed here that need it and have not ended.
    """

    key: Key
    state: str = RELEASED
    run_id: int = -1
    spec: ComputeTask | None = None
    priority: Priority = NO_PRIORITY
    since: float = 0.0
    cost_s: float = 0.0
    size: int = 0
    dependencies: tuple[TaskState, ...] = ()
    dependents: dict[TaskState, None] = {}
    waiting_count: int = 0
    ticket: int = 0
    nbytes: int = -1
    type_name: str = ""
    fetch: FetchState | None = None
    stale_runs: int = 0
    actor: bool = False
    unshippable: ErrorInfo | None = None

    @property
    def run_spec(self) -> ComputeTask | None:
        return self.spec

    @property
    def type(self) -> str:
        return self.type_name

    @property
    def annotations(self) -> dict[str, Any] | None:
        return None if self.spec is None else self.spec.annotations

    @property
    def resource_restrictions(self) -> dict[str, float]:
        return (self.spec.resources if self.spec is not None else None) or {}

    @property
    def who_has(self) -> set[str]:
        """Addresses that the value may be fetched from."""
        return set(self.fetch.holders) if self.fetch is not None else set()

    @property
    def waiting_for_data(self) -> set[TaskState]:
        """Dependencies that are not here."""
        return {ts for ts in self.dependencies if ts.state != MEMORY} if self.state == WAITING else set()

    @property
    def waiters(self) -> set[TaskState]:
        """Tasks to be computed here that need the value."""
        return set(self.dependents)

    @property
    def prefix(self) -> str:
        """The name of the tasks of its kind."""
        return key_prefix(self.key)

    def get_nbytes(self) -> int:
        """Bytes of the value; 0 when not known."""
        return max(0, self.nbytes)

    @property
    def done(self) -> bool:
        """Whether its run, or its flight, is over."""
        return self.state in (MEMORY, ERROR)

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"


class StaleRun(Struct, eq=False):
    """A run that nobody wants any more and whose terminal event has not come."""

    task: TaskState
    cost_s: float
    size: int
    holds_slot: bool
    resources: dict[str, float] | None
    since: float
