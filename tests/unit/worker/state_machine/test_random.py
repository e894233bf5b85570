"""Chance plays scheduler, executor and peers; every event is validated, and in the end every task was reported.

The scheduler of this test is rude but lawful: it frees, reorders, steals, pauses and gives wrong holders. Peers refuse
or lack keys. Afterwards peace is made: from then on everything works, and each wanted task must be reported.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from distributed.base.keys import Key
from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    ComputeTask,
    FreeKeys,
    HoldersChanged,
    RemoveReplicas,
    StealRequest,
    TaskNeed,
)
from distributed.messages.worker_to_scheduler import (
    MissingData,
    StealResponse,
    TaskErred,
    TaskFinished,
    TaskRescheduled,
    WhoHas,
)
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import (
    DataUpdated,
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
    Pause,
    Unpause,
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
from tests.unit.worker.state_machine.env import ERROR, ME

PEERS = ["tcp://10.0.0.1:2", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1"]
KEYS = [f"k{i}" for i in range(14)]


class Chaos:
    """One episode."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        settings = WorkerSettings(max_gathers=rng.choice([1, 2, 50]), gather_nbytes=rng.choice([1, 20, 10**6]))
        self.state = WorkerState(settings, ME, rng.choice([1, 2, 4]), {"GPU": 1}, seed)
        self.now = 0.0
        self.run_id = 0
        self.wanted: dict[Key, int] = {}  # newest run by key, until reported, freed or given away
        self.running: dict[int, Execute] = {}
        self.begun: set[int] = set()
        self.flights: dict[str, list[Key]] = {}
        self.store: set[Key] = set()
        self.results: set[int] = set()
        self.steals = 0
        self.peace = False
        self.log: list[Any] = []

    def send(self, event: Any) -> None:
        """One event, and all that follows from it at once."""
        self.log.append(event)
        results = {event.run_id} if type(event) is ExecuteSuccess else set()
        self.state.handle(event, self.now)
        self.state.validate()
        for item in self.state.outbox.take():
            self.log.append(item)
            self.perform(item, results)
        self.state.validate()
        held = {key for key, ts in self.state.tasks.items() if ts.state == "memory"}
        assert held == self.store

    def perform(self, item: Any, results: set[int]) -> None:
        match item:
            case Execute():
                assert item.run_id not in self.running
                assert set(item.dependencies) <= self.store
                self.running[item.run_id] = item
                begun = [r for r in self.begun if r in self.running]
                if len(begun) < self.state.nthreads:
                    self.begun.add(item.run_id)
            case CancelExecute():
                assert item.run_id in self.running
            case StoreResult():
                results.remove(item.run_id)
                self.store.add(item.key)
            case StoreFetched():
                self.store.update(item.keys)
            case Evict():
                assert len(set(item.keys)) == len(item.keys)
                self.store.difference_update(item.keys)
            case GatherDep():
                assert item.worker not in self.flights
                self.flights[item.worker] = item.keys
            case SendToScheduler():
                for message in item.messages:
                    self.hear(message)
        if type(item) is Evict:
            assert not self.store & set(item.keys)

    def hear(self, message: Any) -> None:
        match message:
            case TaskFinished() | TaskErred() | TaskRescheduled():
                assert self.wanted.pop(message.key, None) == message.run_id, message
            case StealResponse():
                self.steals -= 1
                if message.given:
                    assert self.wanted.pop(message.key) == message.run_id
            case MissingData():
                assert message.holder in (*PEERS, ME)

    def order(self) -> None:
        """One thing that a scheduler may do."""
        rng = self.rng
        key = rng.choice(KEYS)
        dice = rng.random()
        if dice < 0.5:
            self.run_id += 1
            needs = [
                TaskNeed(n, self.some_peers(), rng.choice([-1, 8])) for n in rng.sample(KEYS, rng.choice([0, 1, 3]))
            ]
            order = ComputeTask(
                key,
                self.run_id,
                (0.0, 0.0, rng.randrange(20)),
                b"f",
                None,
                tuple([need for need in needs if need.key < key]),
                rng.choice([-1.0, 0.001, 1.0]),
                resources={"GPU": 1} if rng.random() < 0.2 else None,
            )
            self.wanted[key] = self.run_id
            self.send(order)
        elif dice < 0.65:
            self.wanted.pop(key, None)
            self.send(FreeKeys([key]))
        elif dice < 0.72:
            self.steals += 1
            self.send(StealRequest(key, self.wanted.get(key, rng.randrange(self.run_id + 1))))
        elif dice < 0.78:
            self.send(HoldersChanged([TaskNeed(key, self.some_peers(), 8)]))
        elif dice < 0.84:
            self.send(AcquireReplicas([TaskNeed(key, self.some_peers(), 8)]))
        elif dice < 0.9:
            self.send(RemoveReplicas([key]))
        elif dice < 0.93:
            if key not in self.wanted:
                self.store.add(key)
                ts = self.state.tasks.get(key)
                if ts is not None and ts.state in ("executing", "long-running", "ready", "waiting", "constrained"):
                    self.store.discard(key)
                else:
                    self.send(DataUpdated({key: 8}))
        else:
            self.send(rng.choice([Pause, Unpause])())

    def some_peers(self) -> tuple[str, ...]:
        return tuple(self.rng.sample(PEERS, self.rng.randrange(4)))

    def executor(self) -> None:
        """A run ends, or secedes."""
        if not self.running:
            return
        rng = self.rng
        run_id = rng.choice(list(self.running))
        execute = self.running[run_id]
        dice = rng.random()
        if dice < 0.1:
            self.send(ExecuteLongRunning(execute.key, run_id, 0.1))
            return
        del self.running[run_id]
        if run_id in self.state.stale and dice < 0.5:
            self.send(ExecuteSkipped(run_id))
        elif dice < 0.2 and not self.peace:
            self.send(ExecuteFailure(execute.key, run_id, ERROR))
        elif dice < 0.25:
            self.send(ExecuteRescheduled(execute.key, run_id))
        else:
            self.send(ExecuteSuccess(execute.key, run_id, rng.choice([0, 8, 50]), "int", rng.choice([1e-4, 1.0])))

    def peers(self) -> None:
        """A peer answers, in part or not at all."""
        if not self.flights:
            return
        rng = self.rng
        worker = rng.choice(list(self.flights))
        keys = self.flights.pop(worker)
        if rng.random() < 0.3 and not self.peace:
            self.send(GatherDepFailure(worker, keys, rng.sample(keys, rng.randrange(len(keys) + 1)), "refused"))
        else:
            sent = keys if self.peace else [key for key in keys if rng.random() < 0.7]
            lost = {} if self.peace else {key: ERROR for key in keys if rng.random() < 0.05 and key not in sent}
            self.send(GatherDepSuccess(worker, dict.fromkeys(sent, 8), lost))

    def clock(self) -> None:
        """Time passes."""
        self.now += self.rng.choice([0.0, 0.01, 0.3, 2.0])
        due = self.state.next_deadline()
        if due is not None and due <= self.now:
            self.log.append("deadline")
            self.state.handle_deadline(self.now)
            self.state.validate()
            for item in self.state.outbox.take():
                self.log.append(item)
                self.perform(item, set())
            self.state.validate()

    def run(self, steps: int) -> None:
        acts = [self.order, self.executor, self.peers, self.clock]
        for _ in range(steps):
            self.rng.choices(acts, [4, 3, 3, 1])[0]()

    def make_peace(self) -> None:
        """Everything works from now on: each wanted task must come to its end."""
        self.peace = True
        self.send(Unpause())
        for _ in range(400):
            for ts in list(self.state.tasks.values()):
                if ts.state == "missing":
                    self.send(HoldersChanged([TaskNeed(ts.key, (self.rng.choice(PEERS),), 8)]))
            self.clock()
            self.peers()
            self.executor()
            if not (self.wanted or self.running or self.flights):
                return
        reasons = {key: self.state.explain(key).text for key in self.wanted}
        raise AssertionError(f"not reported: {reasons}; running {self.running}; flights {self.flights}")

    def clean_up(self) -> None:
        """All keys freed: nothing may remain."""
        self.send(FreeKeys(KEYS))
        while self.running or self.flights:
            self.executor()
            self.peers()
        state = self.state
        assert not self.store
        assert not state.tasks
        assert (state.slots_used, state.backlog_s, state.managed_nbytes, self.steals) == (0, 0.0, 0, 0)
        assert state.resources.available == state.resources.total


@pytest.mark.parametrize("first_seed", range(0, 200, 40))
def test_every_task_is_reported(first_seed):
    for seed in range(first_seed, first_seed + 40):
        chaos = Chaos(seed)
        try:
            chaos.run(300)
            chaos.make_peace()
            chaos.clean_up()
        except Exception as error:
            tail = "\n".join(map(str, chaos.log[-25:]))
            raise AssertionError(f"seed {seed}: {error!r}\n{tail}") from error


def test_same_seed_same_log():
    logs = []
    for _ in range(2):
        chaos = Chaos(7)
        chaos.run(300)
        logs.append(list(map(repr, chaos.log)))
    assert logs[0] == logs[1]


def test_missing_keys_are_never_silent():
    """With a scheduler that never answers, WhoHas comes again and again, at a bounded rate."""
    state = WorkerState(WorkerSettings(), ME)
    state.handle(ComputeTask("y", 1, (0.0, 0.0, 0), needs=(TaskNeed("x"),)), 0.0)
    asked = 0
    for _ in range(100):
        for item in state.outbox.take():
            assert type(item) is SendToScheduler
            asked += sum(type(message) is WhoHas for message in item.messages)
        due = state.next_deadline()
        assert due is not None
        state.handle_deadline(due)
        state.validate()
    assert asked == 100
    assert due is not None and due > 400
