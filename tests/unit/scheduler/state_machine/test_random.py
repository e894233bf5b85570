"""The core among fake workers that fail, die and lag behind, at random but repeatably; validated after every event.

At the end the faults stop: then every wanted key must become final, every task before that must have been able to say
why it waited, both sides must agree on who holds what, and nothing may be left after the clients let go.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from distributed.base.keys import Key
from distributed.messages import client_to_scheduler as from_client
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.worker_to_scheduler import Heartbeat, WorkerClosing, WorkerStatus
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState
from distributed.scheduler.state_machine import events as ev
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate
from distributed.scheduler.state_machine.instructions import ClientRemoved, WorkerRemoved

from .environment import FUNCTION, a_task
from .fakes import FakeClient, FakeWorker

OPTIONS = [
    from_client.TaskOptions(),
    from_client.TaskOptions(retries=2, priority=1),
    from_client.TaskOptions(resources={"GPU": 1}),
    from_client.TaskOptions(workers=("w1", "w2", "host-3"), allow_other_workers=True),
    from_client.TaskOptions(workers=("w1", "host-0")),
    from_client.TaskOptions(actor=True),
]


class World:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.state = SchedulerState(
            SchedulerSettings(
                allowed_failures=self.rng.choice([0, 3]),
                saturation=self.rng.choice([0.5, 1.1, 2, float("inf")]),
                steal_interval_s=0.05,
                record_transitions=True,
                **dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s")),  # no heartbeats here
            )
        )
        self.now = 0.0
        self.workers: dict[str, FakeWorker] = {}
        self.nannied: dict[str, bool] = {}
        self.clients = [FakeClient("c"), FakeClient("d")]
        self.n_workers = 0
        self.n_keys = 0
        self.submission = 0
        self.faults = True
        for client in self.clients:
            self.handle(ev.ClientJoined(client.name), client.name)
        for _ in range(3):
            self.join()

    def handle(self, event: Any, source: str) -> None:
        self.state.handle(event, source, self.now)
        self.state.validate()
        if self.rng.random() < 0.6:
            self.flush()

    def flush(self) -> None:
        self.state.flush(self.now)
        self.state.validate()
        batch = self.state.outbox.take()
        for name, messages in batch.to_clients.items():
            for client in self.clients:
                if client.name == name:
                    for message in messages:
                        client.read(message)
        for address, messages in batch.to_workers.items():
            if address in self.workers:
                self.workers[address].inbox.extend(messages)
        for instruction in batch.instructions:
            if type(instruction) is WorkerRemoved:
                self.workers.pop(instruction.address, None)
            elif type(instruction) is ClientRemoved:
                self.begin_anew(instruction.client)
        if self.faults:
            for key, ts in list(self.state.tasks.items())[:20]:
                why = self.state.explain(key)
                assert why.text and why.state == ts.state

    def begin_anew(self, name: str) -> None:
        """The client's session is over, and it begins another one."""
        for client in self.clients:
            if client.name == name:
                client.futures.clear()
        self.handle(ev.ClientJoined(name), "")

    def join(self, name: str = "") -> None:
        self.n_workers += 1
        name = name or f"w{self.n_workers}"
        host = f"host-{self.n_workers % 4}"
        address = f"tcp://{host}:{self.n_workers}"
        nthreads = self.rng.choice([1, 1, 2, 4])
        resources = {"GPU": 1.0} if self.rng.random() < 0.5 or not self.faults else {}
        nanny = f"tcp://nanny:{self.n_workers}" if self.rng.random() < 0.5 else None
        self.nannied[address] = nanny is not None
        self.workers[address] = FakeWorker(address, nthreads, self.workers, self.rng)
        info = RegisterWorker(address, name, host, nthreads, resources=resources, nanny=nanny)
        self.handle(ev.WorkerJoined(info), address)

    # One step of something

    def step(self) -> None:
        self.now += self.rng.random() * 0.01
        dice = self.rng.random()
        if self.workers and (dice < 0.9 or not self.faults):
            worker = self.rng.choice(list(self.workers.values()))
            worker.step(self.faults)
            while worker.outbox and self.rng.random() < 0.7:
                self.handle(worker.outbox.popleft(), worker.address)
            if worker.closing and not worker.outbox:
                self.workers.pop(worker.address, None)
                self.handle(WorkerClosing("as ordered"), worker.address)
        elif dice < 0.97:
            self.client_step(self.rng.choice(self.clients))
        else:
            self.operator_step()
        deadline = self.state.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.state.handle_deadline(self.now)
            self.state.validate()
            self.flush()

    def client_step(self, client: FakeClient) -> None:
        keys = list(client.futures)
        some = self.rng.sample(keys, min(len(keys), self.rng.choice([1, 3, 10])))
        match self.rng.randrange(12):
            case 0 | 1 | 2 | 3:
                self.submit(client, keys)
            case 4 | 5:
                self.let_go(client, some)
            case 6:
                client.cancel(some[:2])
                self.handle(from_client.CancelKeys(some[:2], self.rng.random() < 0.3), client.name)
            case 7:
                self.handle(from_client.RetryKeys(some), client.name)
            case 8 if self.workers:
                self.n_keys += 1
                key = ("data", self.n_keys)
                client.futures[key] = "pending"
                chosen = self.rng.sample(list(self.workers), min(len(self.workers), self.rng.choice([1, 2])))
                for address in chosen:
                    self.workers[address].data[key] = 50
                replica = from_client.ReplicaOnWorkers(key, tuple(chosen), 50, "bytes")
                self.handle(from_client.DataScattered([replica]), client.name)
            case 9:
                known = self.rng.sample(list(self.state.tasks), min(3, len(self.state.tasks)))
                client.futures.update({key: client.futures.get(key, "pending") for key in [*known, "unknown"]})
                self.handle(from_client.WantKeys([*known, "unknown"]), client.name)
            case 10:
                self.handle(from_client.FireAndForget(some), client.name)
            case 11:
                for move in plan_rebalance(self.state) + plan_replicate(self.state, some, 2):
                    self.handle(move, "")

    def submit(self, client: FakeClient, known: list[Key]) -> None:
        self.submission += 1
        new: list[Key] = []
        specs = []
        name = self.rng.choice(["inc", "add", "load"])
        options = [self.rng.choice(OPTIONS) if self.rng.random() < 0.4 else OPTIONS[0]]
        for i in range(self.rng.choice([1, 3, 30])):
            self.n_keys += 1
            key: Key = (f"{name}-{self.submission:08x}", i)
            pool = new[-8:] + known[-8:] + (["nowhere"] if self.rng.random() < 0.01 else [])
            n = min(len(pool), self.rng.choice([0, 0, 1, 2, 4]))
            specs.append(a_task(key, *self.rng.sample(pool, n)))
            new.append(key)
        if known and self.rng.random() < 0.2:
            specs.append(a_task(known[0]))
        wanted = None if self.rng.random() < 0.5 else self.rng.sample(new, min(2, len(new)))
        mine = [s.key for s in specs] if wanted is None else wanted
        client.futures.update({key: client.futures.get(key, "pending") for key in mine})
        if len(specs) > 10:
            first = from_client.UpdateGraph(self.submission, specs[:9], [FUNCTION], options, wanted, last=False)
            self.handle(first, client.name)
            specs = specs[9:]
        graph = from_client.UpdateGraph(self.submission, specs, [FUNCTION], options, wanted, first_rank=9)
        self.handle(graph, client.name)

    def let_go(self, client: FakeClient, keys: list[Key]) -> None:
        for key in keys:
            client.futures.pop(key, None)
        self.handle(from_client.ReleaseKeys(keys), client.name)

    def operator_step(self) -> None:
        addresses = list(self.workers)
        dice = self.rng.randrange(10)
        if not addresses or dice == 0:
            self.join()
            return
        address = self.rng.choice(addresses)
        worker = self.workers[address]
        match dice:
            case 1 | 2:
                del self.workers[address]
                executing = tuple([m.run_id for m in worker.executing.values()])
                if self.nannied[address] and self.rng.random() < 0.7:
                    if self.rng.random() < 0.5:
                        self.handle(ev.WorkerLost(address), address)
                    self.handle(WorkerProcessExited(address, 0, signal=9, executing=executing), "nanny")
                else:
                    self.handle(ev.WorkerLost(address), address)
            case 3:
                self.handle(WorkerStatus(self.rng.choice(["paused", "running"])), address)
            case 4:
                timeout = self.rng.choice([None, 0.5])
                self.handle(ev.RetireWorkers([address], timeout_s=timeout), "")
            case 5:
                self.handle(ev.SetThreads(address, self.rng.choice([0, 1, 3])), "")
                worker.nthreads = self.state.workers[address].nthreads if address in self.state.workers else 1
            case 6:
                executing_now = [(key, self.rng.random() * 5) for key in worker.executing]
                self.handle(Heartbeat({}, executing_now), address)
            case 7 if self.rng.random() < 0.1:
                self.handle(ev.Restart(), "")
            case 8 if self.rng.random() < 0.3:
                self.handle(ev.ClientLeft(self.clients[0].name), "")
            case 9:
                name = self.rng.choice(self.clients).name
                back = self.state.clients.get(name) in self.state.absent
                self.handle(ev.ClientJoined(name) if back else ev.ClientLost(name), "")

    # The end

    def calm_down(self) -> None:
        """No more faults; enough good workers for every wish."""
        self.faults = False
        if "w1" not in self.state.aliases:
            self.join("w1")
        for i in range(4):
            self.join(f"good{i}")
        for address in list(self.workers):
            self.handle(ev.SetThreads(address, 2), "")
            self.handle(ev.SetResources(address, {"GPU": 2}), "")
            self.handle(WorkerStatus("running"), address)
            self.workers[address].nthreads = 2
        for _ in range(60_000):
            self.step()
            if not any(w.busy() for w in self.workers.values()):
                self.flush()
                if not any(w.busy() for w in self.workers.values()) and not self.state.vanished:
                    break
                self.now += 0.5
        else:
            waiting = [
                self.state.explain(k) for k, ts in self.state.tasks.items() if ts.state not in ("memory", "erred")
            ]
            raise AssertionError(f"does not come to rest: {waiting[:5]} {[w.tasks for w in self.workers.values()]}")

    def check_end(self) -> None:
        for client in self.clients:
            pending = {key: self.state.explain(key) for key, status in client.futures.items() if status == "pending"}
            assert not pending, pending
        for ts in self.state.tasks.values():
            assert ts.state in ("memory", "erred", "released"), ts
            for ws in ts.who_has:
                assert ts.key in self.workers[ws.address].data, (ts, ws)
        for worker in self.workers.values():
            held = {ts.key for ts in self.state.workers[worker.address].has_what}
            assert held == set(worker.data), (worker.address, held ^ set(worker.data))

    def check_empty(self) -> None:
        for client in self.clients:
            self.let_go(client, [*client.futures, *client.cancelled])
        self.flush()
        for _ in range(5000):
            self.step()
        assert not self.state.tasks and not self.state.task_groups
        for worker in self.workers.values():
            assert not worker.data and self.state.workers[worker.address].nbytes == 0
            assert self.state.workers[worker.address].occupancy == 0
            assert not any(self.state.workers[worker.address].used_resources.values())


@pytest.mark.parametrize("seed", range(12))
def test_random_world(seed: int) -> None:
    world = World(seed)
    for _ in range(700):
        world.step()
    world.calm_down()
    world.check_end()
    world.check_empty()


def test_same_seed_same_story() -> None:
    digests = []
    for _ in range(2):
        world = World(99)
        for _ in range(400):
            world.step()
        digests.append(world.state.story())
    assert digests[0] == digests[1]
