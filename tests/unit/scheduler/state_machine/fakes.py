"""Fake workers and a fake client for the randomised test: honest, but slow, forgetful and mortal, as a seed wills."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from distributed.base.keys import Key
from distributed.messages import scheduler_to_client as to_client
from distributed.messages import scheduler_to_worker as to_worker
from distributed.messages import worker_to_scheduler as from_worker
from distributed.messages.payload import ErrorInfo

BOOM = ErrorInfo("ValueError", "boom")


class FakeWorker:
    """Keeps a FIFO in and a FIFO out; does one thing at a time when asked to."""

    def __init__(self, address: str, nthreads: int, peers: dict[str, FakeWorker], rng: Random) -> None:
        self.address = address
        self.nthreads = nthreads
        self.peers = peers
        self.rng = rng
        self.inbox: deque[Any] = deque()
        self.outbox: deque[Any] = deque()
        self.data: dict[Key, int] = {}
        self.tasks: dict[Key, to_worker.ComputeTask] = {}
        self.executing: dict[Key, to_worker.ComputeTask] = {}
        self.ran: list[int] = []
        self.closing = False

    def busy(self) -> bool:
        return bool(self.inbox or self.outbox or self.executing or self.tasks)

    def step(self, faults: bool) -> None:
        """Read a message, or start or finish a task."""
        choice = self.rng.random()
        if self.inbox and (choice < 0.5 or not (self.tasks or self.executing)):
            self.read(self.inbox.popleft())
        elif self.executing and (choice < 0.8 or len(self.executing) >= self.nthreads):
            self.end(self.rng.choice(list(self.executing)), faults)
        elif self.tasks and len(self.executing) < self.nthreads:
            self.begin(min(self.tasks.values(), key=lambda m: m.priority))

    def read(self, message: Any) -> None:
        match message:
            case to_worker.ComputeTask():
                if message.key in self.data:
                    self.say(from_worker.TaskFinished(message.key, message.run_id, self.data[message.key], 0.0))
                else:
                    self.tasks[message.key] = message
            case to_worker.FreeKeys():
                for key in message.keys:
                    self.tasks.pop(key, None)
                    self.executing.pop(key, None)
                    self.data.pop(key, None)
            case to_worker.StealRequest():
                task = self.tasks.get(message.key)
                given = task is not None and task.run_id == message.run_id
                if given:
                    del self.tasks[message.key]
                self.say(from_worker.StealResponse(message.key, message.run_id, given))
            case to_worker.AcquireReplicas():
                for need in message.needs:
                    self.fetch(need)
            case to_worker.RemoveReplicas():
                needed = {n.key for task in [*self.tasks.values(), *self.executing.values()] for n in task.needs}
                for key in message.keys:
                    if key in needed and key in self.data:
                        self.say(from_worker.ReplicasAdded([(key, self.data[key])]))
                    else:
                        self.data.pop(key, None)
                        self.say(from_worker.ReplicasDropped([key], as_ordered=True))
            case to_worker.HoldersChanged():
                for fresh in message.needs:
                    for task in self.tasks.values():
                        task.needs = tuple([fresh if n.key == fresh.key else n for n in task.needs])
            case to_worker.CloseWorkerOrder():
                self.closing = True

    def fetch(self, need: to_worker.TaskNeed) -> bool:
        """From one of the holders; those that do not have it are reported."""
        if need.key in self.data:
            return True
        for address in need.holders:
            peer = self.peers.get(address)
            if peer is not None and need.key in peer.data:
                self.data[need.key] = peer.data[need.key]
                self.say(from_worker.ReplicasAdded([(need.key, self.data[need.key])]))
                return True
            self.say(from_worker.MissingData(need.key, address))
        if not need.holders:
            self.say(from_worker.ReplicasDropped([need.key]))
        self.say(from_worker.WhoHas([need.key]))
        return False

    def begin(self, task: to_worker.ComputeTask) -> None:
        missing = [need for need in task.needs if not self.fetch(need)]
        if not missing:
            del self.tasks[task.key]
            self.executing[task.key] = task
            assert task.run_id not in self.ran, "no run id runs twice"
            self.ran.append(task.run_id)

    def end(self, key: Key, faults: bool) -> None:
        task = self.executing.pop(key)
        dice = self.rng.random()
        if faults and dice < 0.05:
            self.say(from_worker.TaskErred(key, task.run_id, BOOM))
        elif faults and dice < 0.08:
            self.say(from_worker.TaskRescheduled(key, task.run_id))
        elif dice < 0.12 and task.duration_s != -2:
            self.say(from_worker.TaskLongRunning(key, task.run_id, 0.1))
            task.duration_s = -2
            self.executing[key] = task
        else:
            self.data[key] = self.rng.randrange(1000)
            duration = self.rng.choice([1e-6, 1e-3, 0.1, 3.0])
            self.say(from_worker.TaskFinished(key, task.run_id, self.data[key], duration, "int"))

    def say(self, message: Any) -> None:
        self.outbox.append(message)


class FakeClient:
    """Knows what it was told of its futures."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.futures: dict[Key, str] = {}
        # Cancelled here; a real client releases them when their futures die.
        self.cancelled: dict[Key, None] = {}

    def cancel(self, keys: list[Key]) -> None:
        """Their futures are cancelled."""
        for key in keys:
            self.futures.pop(key, None)
            self.cancelled[key] = None

    def read(self, message: Any) -> None:
        match message:
            case to_client.KeyInMemory(key=key):
                self.set(key, "finished")
            case to_client.KeyErred(key=key):
                self.set(key, "error")
            case to_client.KeysCancelled(keys=keys):
                self.cancel(keys)
            case to_client.KeysLost(keys=keys) | to_client.KeysRetried(keys=keys):
                for key in keys:
                    self.set(key, "pending")
            case to_client.ClusterRestarted():
                self.cancelled.update(dict.fromkeys(self.futures))
                self.futures.clear()

    def set(self, key: Key, status: str) -> None:
        if key in self.futures:
            self.futures[key] = status
