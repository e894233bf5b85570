"""A stage for scenarios: the real cores, and a test that decides which message arrives when.

What a core sends lies in a mailbox until the test lets it through: ``down("a")`` takes what the scheduler has for the
worker ``a``, ``up("a")`` the other way. Tasks end, and fetches are answered, when the test says so; ``settle`` lets all
the rest happen. Every core is validated after every event.
"""

from __future__ import annotations

from typing import Any

from distributed.messages.client_to_scheduler import TaskOptions, TaskSpec, UpdateGraph
from distributed.messages.control import RegisterWorker
from distributed.messages.payload import FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, DefineFunction
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState
from distributed.scheduler.state_machine.events import ClientJoined, WorkerJoined, WorkerLost
from distributed.scheduler.state_machine.instructions import RetirementEnded
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import (
    DataUpdated,
    ExecuteLongRunning,
    ExecuteSkipped,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
)
from distributed.worker.state_machine.instructions import (
    CancelExecute,
    Evict,
    Execute,
    GatherDep,
    SendToScheduler,
    StoreFetched,
    StoreResult,
)

FUNCTION = FunctionBlob(b"f", Payload(b"function"))
SILENT = dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s"))


def task(key, *needs):
    return TaskSpec(key, b"f", b"args", needs)


def address(name):
    return f"tcp://{name}:1"


class Actor:
    """A worker on the stage."""

    def __init__(self, name, nthreads):
        self.core = WorkerState(WorkerSettings(), address(name), nthreads)
        self.inbox: list[Any] = []
        self.outbox: list[Any] = []
        self.running: dict[Any, Execute] = {}
        self.fetches: dict[str, list[Any]] = {}
        self.store: set[Any] = set()
        self.ran: list[Any] = []


class Stage:
    """Scheduler, client ``c`` and workers; ``told`` is what the client has heard, ``ended`` the retirements."""

    def __init__(self, workers, **settings):
        self.now = 0.0
        self.scheduler = SchedulerState(SchedulerSettings(**{**SILENT, **settings}))
        self.actors: dict[str, Actor] = {}
        self.told: list[Any] = []
        self.ended: list[RetirementEnded] = []
        self.submission = 0
        self.tell(ClientJoined("c"))
        for name, nthreads in workers.items():
            self.join(name, nthreads)

    def join(self, name, nthreads=1):
        self.actors[name] = Actor(name, nthreads)
        self.tell(WorkerJoined(RegisterWorker(address(name), name, name, nthreads)))

    # the scheduler

    def tell(self, event, source=""):
        self.scheduler.handle(event, source, self.now)
        self.scheduler.validate()
        self.scheduler.flush(self.now)
        self._collect()

    def wait(self, seconds):
        """Time passes, with the deadlines in it."""
        self.now += seconds
        if (due := self.scheduler.next_deadline()) is not None and due <= self.now:
            self.scheduler.handle_deadline(self.now)
            self._collect()
        for actor in self.actors.values():
            if (due := actor.core.next_deadline()) is not None and due <= self.now:
                actor.core.handle_deadline(self.now)
                self._act(actor)

    def _collect(self):
        self.scheduler.validate()
        out = self.scheduler.outbox.take()
        for where, messages in out.to_workers.items():
            for actor in self.actors.values():
                if actor.core.address == where:
                    actor.inbox += [m for m in messages if type(m) is not DefineFunction]
        for messages in out.to_clients.values():
            self.told += messages
        self.ended += [i for i in out.instructions if type(i) is RetirementEnded]

    def submit(self, *specs, wanted=None, **options):
        self.submission += 1
        self.now += 0.2
        self.tell(UpdateGraph(self.submission, list(specs), [FUNCTION], [TaskOptions(**options)], wanted), "c")

    def state(self, key):
        ts = self.scheduler.tasks.get(key)
        return None if ts is None else ts.state

    # messages

    def down(self, *names):
        """What the scheduler has sent to these workers arrives."""
        for name in names:
            actor = self.actors[name]
            inbox, actor.inbox = actor.inbox, []
            for message in inbox:
                if type(message) is CloseWorkerOrder:
                    self.close(name)
                    return
                self._handle(actor, message)
            self._act(actor)

    def up(self, *names):
        """What these workers have sent arrives."""
        for name in names:
            actor = self.actors[name]
            outbox, actor.outbox = actor.outbox, []
            for message in outbox:
                self.tell(message, actor.core.address)

    def close(self, name):
        """The worker closes in order."""
        self.up(name)
        actor = self.actors.pop(name)
        self.tell(WorkerClosing("told to"), actor.core.address)

    def kill(self, name):
        """The worker dies."""
        actor = self.actors.pop(name)
        self.tell(WorkerLost(actor.core.address))

    # workers

    def _handle(self, actor, event):
        actor.core.handle(event, self.now)
        actor.core.validate()

    def event(self, name, event):
        self._handle(self.actors[name], event)
        self._act(self.actors[name])

    def _act(self, actor):
        for item in actor.core.outbox.take():
            match item:
                case SendToScheduler():
                    actor.outbox += item.messages
                case Execute():
                    assert set(item.dependencies) <= actor.store
                    actor.running[item.run_id] = item
                case CancelExecute():
                    pass  # it has begun already
                case StoreResult():
                    actor.store.add(item.key)
                case StoreFetched():
                    actor.store.update(item.keys)
                case Evict():
                    actor.store -= set(item.keys)
                case GatherDep():
                    actor.fetches[item.worker] = item.keys
        actor.core.validate()
        held = {key for key, ts in actor.core.tasks.items() if ts.state == "memory"}
        assert held == actor.store

    def runs(self, name):
        """Keys that are being executed there, in order."""
        return [execute.key for execute in self.actors[name].running.values()]

    def finish(self, name, key=None):
        """The first run (of this key) there returns."""
        actor = self.actors[name]
        run_id = next(run_id for run_id, execute in actor.running.items() if key in (None, execute.key))
        execute = actor.running.pop(run_id)
        actor.ran.append(execute.key)
        self.event(name, ExecuteSuccess(execute.key, run_id, 8, "int", 0.001))

    def skip(self, name, key):
        """The executor has not begun this run, and has given it up."""
        actor = self.actors[name]
        run_id = next(run_id for run_id, execute in actor.running.items() if execute.key == key)
        del actor.running[run_id]
        self.event(name, ExecuteSkipped(run_id))

    def secede(self, name, key):
        """The task goes on without its thread."""
        run_id = next(run_id for run_id, execute in self.actors[name].running.items() if execute.key == key)
        self.event(name, ExecuteLongRunning(key, run_id, 0.001))

    def put(self, name, key):
        """A client puts a value there (it tells the scheduler itself)."""
        self.actors[name].store.add(key)
        self.event(name, DataUpdated({key: 8}))

    def answer(self, name):
        """What this worker has asked from others is answered, or fails when they are gone."""
        fetches, self.actors[name].fetches = self.actors[name].fetches, {}
        for where, keys in fetches.items():
            peer = next((actor for actor in self.actors.values() if actor.core.address == where), None)
            if peer is None:
                self.event(name, GatherDepFailure(where, keys, (), "connection refused"))
            else:
                self.event(name, GatherDepSuccess(where, {key: 8 for key in keys if key in peer.store}))

    def settle(self, rounds=40):
        """All that is under way arrives, all that runs returns."""
        for _ in range(rounds):
            for name in list(self.actors):
                for step in (self.down, self.answer, self.up):
                    if name in self.actors:
                        step(name)
                while name in self.actors and self.actors[name].running:
                    self.finish(name)
                if name in self.actors:
                    self.up(name)
            self.wait(0.5)
