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
from distributed.worker.state_machine.transitions import executing
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
        self.behind: dict[int, int] = {}  # runs that wait for the end of another
        self.made_from: dict[int, int] = {}  # and those that have got its value
        self.counted: set[int] = set()  # runs whose value was kept
        self.taken_back: set[int] = set()
        self.unreported: dict[int, Any] = {}  # ends that the worker has not heard of, in order
        self.n_behind = self.n_void = 0
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
                absent = set(item.dependencies) - self.store
                if item.after >= 0:
                    assert absent == {self.running[item.after].key}
                    self.behind[item.run_id] = item.after
                    self.n_behind += 1
                else:
                    assert not absent
                    self.made_from.pop(item.run_id, None)
                self.running[item.run_id] = item
                begun = [r for r in self.begun if r in self.running]
                if len(begun) < self.state.nthreads:
                    self.begun.add(item.run_id)
            case CancelExecute():
                assert item.run_id in self.running
                self.taken_back.add(item.run_id)
            case StoreResult():
                results.remove(item.run_id)
                self.counted.add(item.run_id)
                assert self.made_from.get(item.run_id, item.run_id) in self.counted, "of a value that does not count"
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
        if dice < 0.15:
            self.order_chain()
        elif dice < 0.5:
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

    def order_chain(self) -> None:
        """Short tasks, each of which needs the one before."""
        before: tuple[TaskNeed, ...] = ()
        for key in sorted(self.rng.sample(KEYS, self.rng.randrange(2, 6))):
            self.run_id += 1
            self.wanted[key] = self.run_id
            self.send(ComputeTask(key, self.run_id, (0.0, 0.0, self.rng.randrange(20)), b"f", None, before, 0.001))
            before = (TaskNeed(key, (), 8),)

    def some_peers(self) -> tuple[str, ...]:
        return tuple(self.rng.sample(PEERS, self.rng.randrange(4)))

    def executor(self) -> None:
        """A run ends, or secedes."""
        rng = self.rng
        runs = [
            run
            for run in self.running
            if run not in self.unreported and (run not in self.behind or run in self.taken_back)
        ]
        if not runs:
            self.report_all()
            return
        run_id = rng.choice(runs)
        execute = self.running[run_id]
        dice = rng.random()
        if run_id in self.behind or (run_id in self.taken_back and dice < 0.5):
            self.behind.pop(run_id, None)
            self.tell(ExecuteSkipped(run_id))
        elif dice < 0.1:
            self.report_all()
            self.send(ExecuteLongRunning(execute.key, run_id, 0.1))
        elif dice < 0.2 and not self.peace:
            self.tell(ExecuteFailure(execute.key, run_id, ERROR))
        elif 0.2 <= dice < 0.25:
            self.tell(ExecuteRescheduled(execute.key, run_id))
        else:
            event = ExecuteSuccess(execute.key, run_id, rng.choice([0, 8, 50]), "int", rng.choice([1e-4, 1.0]))
            self.begin_behind(run_id)
            self.tell(event)

    def tell(self, event: Any) -> None:
        """A run has ended; the worker hears of it now or later."""
        self.unreported[event.run_id] = event
        if self.peace or self.rng.random() < 0.7:
            self.report_all()

    def report_all(self) -> None:
        while self.unreported:
            run_id = next(iter(self.unreported))
            event = self.unreported.pop(run_id)
            if type(event) is ExecuteSuccess:
                self.begin_behind(run_id)
            else:
                for run in [run for run, before in self.behind.items() if before == run_id]:
                    del self.behind[run]
                    self.unreported[run] = ExecuteSkipped(run)
            if run_id in self.state.followers.void:
                self.n_void += type(event) is not ExecuteSkipped
            del self.running[run_id]
            self.taken_back.discard(run_id)
            self.send(event)

    def begin_behind(self, run_id: int) -> None:
        """What is behind a run that has returned gets its value."""
        for run in [run for run, before in self.behind.items() if before == run_id]:
            self.made_from[run] = self.behind.pop(run)

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


def live(seed: int) -> Chaos:
    """A whole episode."""
    chaos = Chaos(seed)
    try:
        chaos.run(300)
        chaos.make_peace()
        chaos.clean_up()
    except Exception as error:
        tail = "\n".join(map(str, chaos.log[-25:]))
        raise AssertionError(f"seed {seed}: {error!r}\n{tail}") from error
    return chaos


@pytest.mark.parametrize("first_seed", range(0, 200, 40))
def test_every_task_is_reported(first_seed):
    lives = [live(seed) for seed in range(first_seed, first_seed + 40)]
    assert sum(chaos.n_behind for chaos in lives) > 100
    assert sum(chaos.n_void for chaos in lives) > 0, "runs that had begun with a value that does not count"


def test_a_value_made_of_one_that_does_not_count_would_be_noticed(monkeypatch):
    right = executing.end_run

    def wrong(t, run_id, begun=True):
        if begun:
            t.followers.void.discard(run_id)
        return right(t, run_id, begun)

    monkeypatch.setattr(executing, "end_run", wrong)
    with pytest.raises(AssertionError, match="of a value that does not count"):
        for seed in range(200):
            live(seed)


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
