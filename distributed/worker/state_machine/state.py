"""The face of the worker's state machine: events in, instructions out. Pure.

::

    state = WorkerState(WorkerSettings(), address, nthreads=1)
    for event in batch:
        state.handle(event, now)
    for instruction in state.outbox.take():
        ...  # worker/effects.py performs it

Two beats: an event changes the tables; what to start and what to fetch is decided once per batch, in ``take``, so that
the best of the whole batch goes first. Between two calls, call ``handle_deadline`` at ``next_deadline``.
"""

from __future__ import annotations

from typing import TypeAlias

from distributed.base.keys import Key
from distributed.worker.state_machine.events import Deadline, WorkerEvent
from distributed.worker.state_machine.explain import Explanation, explain
from distributed.worker.state_machine.handlers import HANDLERS
from distributed.worker.state_machine.tables import CLOSING, RUNNING, Step, Tables, WorkerSettings
from distributed.worker.state_machine.task import IN_FLIGHT, LONG_RUNNING, MEMORY, RELEASED, WAITING, TaskState
from distributed.worker.state_machine.transitions.computing import give_back
from distributed.worker.state_machine.transitions.executing import start_tasks
from distributed.worker.state_machine.transitions.fetching import plan_fetches
from distributed.worker.state_machine.transitions.spilling import fits, plan_spills
from distributed.worker.state_machine.validate import validate

# key, state before (or what happened), state after, run id, when: the order in which other packages read a story
ToldStep: TypeAlias = tuple[Key, str, str, int, float]


class WorkerState(Tables):
    """What a worker knows and decides.

    Parameters
    ----------
    settings : WorkerSettings
        Limits and times.
    address : str
        This worker's contact address; its host part says which peers are near.
    nthreads : int
        Number of slots.
    resources : dict, optional
        Named capacities; the default is none.
    seed : int
        Of the random choices.
    """

    __slots__ = ()

    def __init__(
        self,
        settings: WorkerSettings,
        address: str,
        nthreads: int = 1,
        resources: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(settings, address, nthreads, resources or {}, seed)
        self.outbox.before_take = self.flush

    def handle(self, event: WorkerEvent, now: float) -> None:
        """Take note of one event. ``now`` is seconds on any clock that only goes forward."""
        self.now = now
        HANDLERS[type(event)](self, event)

    def flush(self) -> None:
        """Decide what to start and what to fetch; ``outbox.take()`` does it by itself."""
        if self.status == CLOSING:
            self._give_back_ready()
        else:
            if not fits(self, 0):
                self._spill()  # tasks wait for what leaves
            start_tasks(self)
        self.outbox.busy = self.ready.count > 0 or (
            self.slots_used > self.nthreads + 1 and 2 * self.backlog_s > self.settings.handover_s * self.nthreads
        )
        plan_fetches(self)
        self._spill()

    def _spill(self) -> None:
        if self.managed_nbytes > self.settings.target_nbytes or self.spilling.wanted_nbytes:
            plan_spills(self)

    def _give_back_ready(self) -> None:
        """Orders that crossed the order to close."""
        for queue in (self.ready, *self.resources.queues.values()):
            for entry in queue.live():
                give_back(self, entry[2])

    def next_deadline(self) -> float | None:
        """When to call ``handle_deadline``, on the clock of ``now``; None: not before another event."""
        return self.wake_at

    def handle_deadline(self, now: float) -> None:
        """Do what was put off until now."""
        self.handle(Deadline(), now)

    def validate(self) -> None:
        """Raise ``InvalidState`` that names the key and the rule, if any table contradicts another."""
        validate(self)

    def explain(self, key: Key, now: float | None = None) -> Explanation:
        """Why a key is where it is, and what it waits for; ``now`` is that of the last event unless given."""
        return explain(self, key, self.now if now is None else now)

    def story(self, *keys: Key | TaskState) -> list[ToldStep]:
        """What became of these keys (or tasks), oldest first, as far as is remembered: (key, from, to, run id, when).

        ``from`` is ``receive-from-scatter`` for a value that came from outside.
        """
        wanted = {key.key if isinstance(key, TaskState) else key for key in keys}
        return [_told(step) for step in self.steps if step[1] in wanted]

    def executing_s(self, now: float) -> list[tuple[Key, float]]:
        """The wanted tasks that are with the executor, each with the seconds since it was handed over."""
        return [(ts.key, now - ts.since) for ts in self.handed.values()]

    @property
    def total_resources(self) -> dict[str, float]:
        """Named capacities."""
        return self.resources.total

    @property
    def available_resources(self) -> dict[str, float]:
        """What of them is free now."""
        return self.resources.available

    @property
    def running(self) -> bool:
        """Whether tasks may be started."""
        return self.status == RUNNING

    @property
    def n_waiting(self) -> int:
        """Tasks to be computed here whose dependencies are not all here."""
        return sum([ts.state == WAITING for ts in self.tasks.values()])

    @property
    def waiting(self) -> set[TaskState]:
        """Those tasks."""
        return {ts for ts in self.tasks.values() if ts.state == WAITING}

    @property
    def executing(self) -> set[TaskState]:
        """Tasks that are with the executor and hold a slot."""
        return {ts for ts in self.handed.values() if ts.state != LONG_RUNNING}

    @property
    def constrained(self) -> list[TaskState]:
        """Tasks that wait for resources, in groups of those that wait for the same ones; each group best first."""
        return [ts for queue in self.resources.queues.values() for ts in queue]

    @property
    def missing_dep_flight(self) -> set[TaskState]:
        """Keys that are needed here and that nobody is known to hold."""
        return set(self.missing)

    @property
    def long_running(self) -> set[TaskState]:
        """Tasks that have seceded."""
        return {ts for ts in self.handed.values() if ts.state == LONG_RUNNING}

    @property
    def all_running_tasks(self) -> set[TaskState]:
        """Tasks that are with the executor."""
        return set(self.handed.values())

    @property
    def in_flight_tasks(self) -> set[TaskState]:
        """Keys that are being fetched."""
        return {ts for ts in self.tasks.values() if ts.state in IN_FLIGHT}

    @property
    def executing_count(self) -> int:
        return self.counts()["executing"]

    @property
    def actors(self) -> dict[Key, TaskState]:
        """Actors that live here."""
        return {key: ts for key, ts in self.tasks.items() if ts.actor and ts.state == MEMORY}

    @property
    def nbytes(self) -> int:
        """Of all values here."""
        return self.managed_nbytes

    @property
    def resident_nbytes(self) -> int:
        """Of those that are in memory."""
        return self.managed_nbytes - self.spilling.absent_nbytes

    @property
    def log(self) -> list[ToldStep]:
        """All steps that are remembered, as ``story`` tells them."""
        return [_told(step) for step in self.steps]

    @property
    def held_slots(self) -> int:
        """Slots of runs that nobody wants any more, which have not ended."""
        behind = self.followers.follows
        return sum([run.holds_slot and run_id not in behind for run_id, run in self.stale.items()])

    def counts(self) -> dict[str, int]:
        """Number of keys by state (where a worker has many), for the heartbeat; cheap."""
        long_running = len(self.long_running)
        return {
            "executing": len(self.handed) - long_running,
            "long-running": long_running,
            "ready": self.ready.count,
            "constrained": self.resources.waiting,
            "flight": sum(len(flight.keys) for flight in self.fetches.flights.values()),
            "missing": len(self.missing),
            "memory": self.nmemory,
            "stale": len(self.stale),
            "known": len(self.tasks),
        }

    def set_resources(self, resources: dict[str, float]) -> None:
        """Change the capacities; what runs keeps what it holds."""
        mine = self.resources
        for name in {**mine.total, **resources}:
            change = resources.get(name, 0.0) - mine.total.get(name, 0.0)
            mine.available[name] = mine.available.get(name, 0.0) + change
        mine.total = dict(resources)


def _told(step: Step) -> ToldStep:
    when, key, before, after, run_id = step
    if before == RELEASED and after == MEMORY:  # no task has computed it and no peer has sent it
        before = "receive-from-scatter"
    return key, before, after, run_id, when
