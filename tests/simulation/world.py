"""A small deterministic world: the real scheduler core, real worker cores, one client, in memory.

One heap of events in virtual time; links are FIFO with seeded delays, and a link that is cut loses what is on its way.
Every node's core is validated after each event. ``World.act`` lets chance do one thing: submit, release, cancel, want,
retry, scatter, crash, retire, pause, partition. After ``World.calm_down`` nothing fails any more; ``World.settle`` then
requires that every wanted key comes to its end and that scheduler and workers agree, and ``World.release_all`` that
nothing remains.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    DataScattered,
    ReleaseKeys,
    ReplicaOnWorkers,
    RetryKeys,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.payload import ErrorInfo, FunctionBlob, Payload
from distributed.messages.scheduler_to_client import (
    KeyErred,
    KeyInMemory,
    KeysCancelled,
    KeysLost,
    KeysRetried,
)
from distributed.messages.scheduler_to_worker import CloseWorkerOrder
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.scheduler.state_machine.events import ClientJoined, RetireWorkers, WorkerJoined, WorkerLost
from distributed.scheduler.state_machine.instructions import WorkerRemoved
from distributed.scheduler.state_machine.settings import SchedulerSettings
from distributed.scheduler.state_machine.state import SchedulerState
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

CLIENT = "client"
ERROR = ErrorInfo("ValueError", "no")
SHORT, LONG = 0.0005, 0.3
# Off while the scheduler core waits for ever for a copy that a taker has given up (ReplicasDropped).
RETIREMENTS_MUST_END = True


class Link:
    """One direction of a connection: FIFO, seeded delays; what is on its way when it is cut is lost."""

    def __init__(self, world: World, deliver: Callable[[list[Any]], None]) -> None:
        self.world = world
        self.deliver = deliver
        self.last = 0.0
        self.cut = False

    def send(self, batch: list[Any]) -> None:
        world = self.world
        self.last = max(self.last + 1e-9, world.now + world.delay())  # never at the same time: FIFO
        world.at(self.last, lambda: None if self.cut else self.deliver(batch))


class Node:
    """A worker: the real core, a modelled executor, store and data service."""

    def __init__(self, world: World, number: int, nthreads: int) -> None:
        self.world = world
        self.address = f"tcp://10.0.0.{number % 3}:{number}"
        self.nanny = f"nanny-{number}" if world.rng.random() < 0.5 else None
        settings = WorkerSettings(gather_nbytes=world.rng.choice([1, 100, 10**6]))
        self.core = WorkerState(settings, self.address, nthreads, {"GPU": 1.0}, number)
        self.alive = True
        self.closing = False
        self.store: set[Key] = set()
        self.queue: dict[int, Execute] = {}
        self.begun: dict[int, Execute] = {}
        self.slots = nthreads
        self.timer: float | None = None
        self.up = Link(world, lambda batch: world.at_scheduler(batch, self.address))
        self.down = Link(world, self.hear)

    def hear(self, batch: list[Any]) -> None:
        """A batch of the scheduler."""
        for message in batch:
            if not self.alive:
                return
            if type(message) is CloseWorkerOrder:
                self.close()
            else:
                self.event(message)
        self.act()

    def event(self, event: Any) -> None:
        self.world.log.append((self.world.now, self.address, event))
        self.core.handle(event, self.world.now)
        self.core.validate()

    def act(self, results: tuple[int, ...] = ()) -> None:
        for item in self.core.outbox.take():
            self.perform(item, results)
        self.core.validate()
        held = {key for key, ts in self.core.tasks.items() if ts.state == "memory"}
        assert held == self.store, f"{self.address}: {held} != {self.store}"
        due = self.core.next_deadline()
        if due is not None and (self.timer is None or due < self.timer):
            self.timer = due
            self.world.at(due, self.deadline)

    def deadline(self) -> None:
        if self.alive:
            self.timer = None
            due = self.core.next_deadline()
            if due is not None and due <= self.world.now:
                self.core.handle_deadline(self.world.now)
                self.core.validate()
            self.act()

    def perform(self, item: Any, results: tuple[int, ...]) -> None:
        match item:
            case SendToScheduler():
                self.up.send(item.messages)
            case Execute():
                missing = set(item.dependencies) - self.store
                assert not missing, f"{self.address}: inputs {missing} of {item.key} are not here"
                assert item.run_id not in self.world.begun_runs, f"run {item.run_id} twice"
                self.queue[item.run_id] = item
                self.begin()
            case CancelExecute():
                if self.queue.pop(item.run_id, None) is not None:
                    self.world.at(self.world.now, lambda: self.report(ExecuteSkipped(item.run_id)))
            case StoreResult():
                assert item.run_id in results
                self.store.add(item.key)
            case StoreFetched():
                self.store.update(item.keys)
            case Evict():
                assert set(item.keys) <= self.store
                self.store.difference_update(item.keys)
            case GatherDep():
                self.world.fetch(self, item.worker, list(item.keys))

    def begin(self) -> None:
        world = self.world
        while self.queue and self.slots > 0:
            run_id = next(iter(self.queue))
            execute = self.begun[run_id] = self.queue.pop(run_id)
            world.begun_runs.add(run_id)
            self.slots -= 1
            duration_s = world.rng.choice([SHORT, SHORT, SHORT, LONG])
            if world.faults and world.rng.random() < 0.05:
                world.at(world.now + duration_s / 2, lambda e=execute, d=duration_s: self.secede(e, d))
            else:
                world.at(world.now + duration_s, lambda e=execute, d=duration_s: self.end(e, d, True))

    def secede(self, execute: Execute, duration_s: float) -> None:
        self.slots += 1
        self.report(ExecuteLongRunning(execute.key, execute.run_id, duration_s / 2))
        self.world.at(self.world.now + duration_s, lambda: self.end(execute, duration_s, False))
        self.begin()

    def end(self, execute: Execute, duration_s: float, had_slot: bool) -> None:
        rng = self.world.rng
        dice = rng.random() if self.world.faults else 1.0
        self.slots += had_slot
        del self.begun[execute.run_id]
        if dice < 0.06:
            self.report(ExecuteFailure(execute.key, execute.run_id, ERROR, duration_s))
        elif dice < 0.08:
            self.report(ExecuteRescheduled(execute.key, execute.run_id))
        else:
            inline = Payload(b"v") if execute.wanted and rng.random() < 0.5 else None
            nbytes = rng.choice([0, 8, 1000])
            self.report(ExecuteSuccess(execute.key, execute.run_id, nbytes, "int", duration_s, inline))
        self.begin()

    def report(self, event: Any) -> None:
        if self.alive:
            self.event(event)
            self.act((event.run_id,) if type(event) is ExecuteSuccess else ())

    def close(self) -> None:
        """Orderly end."""
        self.up.send([WorkerClosing("told to")])
        self.alive = False
        self.down.cut = True
        self.world.gone(self)

    def crash(self) -> None:
        """The process dies: what it has not got out is lost with it."""
        world = self.world
        self.alive = False
        self.down.cut = True
        if world.rng.random() < 0.5:
            self.up.cut = True
        lost = WorkerLost(self.address, "connection reset")
        world.at(self.up.last + world.delay(), lambda: world.at_scheduler([lost], ""))
        if self.nanny is not None and world.rng.random() < 0.8:
            exited = WorkerProcessExited(self.address, 1, signal=9, executing=tuple(self.begun))
            world.at(world.now + world.rng.choice([0.0, 0.2, 2.0]), lambda: world.at_scheduler([exited], ""))
        world.gone(self)


class World:
    """Scheduler, workers, client, and time."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.now = 0.0
        self.faults = True
        self.heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self.serial = count()
        self.log: list[Any] = []
        settings = SchedulerSettings(
            **dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s")),
            saturation=rng.choice([1.0, 1.1, float("inf")]),
            steal_interval_s=0.02,
            steal_backlog_s=0.001,
            allowed_failures=rng.choice([0, 1, 10]),
        )
        self.scheduler = SchedulerState(settings, seed)
        self.timer: float | None = None
        self.begun_runs: set[int] = set()
        self.nodes: dict[str, Node] = {}
        self.numbers = count(1)
        self.submission = 0
        self.serial_key = count()
        self.graph: dict[Key, TaskSpec] = {}
        self.options: dict[Key, TaskOptions] = {}
        self.wanted: dict[Key, str] = {}  # key -> what the client knows of it
        self.cuts: set[tuple[str, str]] = set()
        self.up = Link(self, lambda batch: self.at_scheduler(batch, CLIENT))
        self.down = Link(self, self.at_client)
        self.at_scheduler([ClientJoined(CLIENT)], "")
        for _ in range(3):
            self.join()

    # time
    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (when, self.rng.random(), next(self.serial), what))

    def delay(self) -> float:
        return self.rng.choice([0.0001, 0.0002, 0.001, 0.02])

    def run_until(self, end: float) -> None:
        while self.heap and self.heap[0][0] <= end:
            when, _, _, what = heapq.heappop(self.heap)
            self.now = max(self.now, when)
            what()
        self.now = end

    # scheduler
    def at_scheduler(self, batch: list[Any], source: str) -> None:
        core = self.scheduler
        for message in batch:
            self.log.append((self.now, source, message))
            core.handle(message, source, self.now)
            core.validate()
        core.flush(self.now)
        self.after_scheduler()

    def after_scheduler(self) -> None:
        core = self.scheduler
        core.validate()
        out = core.outbox.take()
        for address, messages in out.to_workers.items():
            if address in self.nodes:
                self.nodes[address].down.send(messages)
        for client, messages in out.to_clients.items():
            assert client == CLIENT
            self.down.send(messages)
        for instruction in out.instructions:
            if type(instruction) is WorkerRemoved:
                node = self.nodes.pop(instruction.address, None)
                if (
                    node is not None
                    and node.alive
                    and not any(type(m) is CloseWorkerOrder for m in out.to_workers.get(instruction.address, []))
                ):
                    node.crash()
        due = core.next_deadline()
        if due is not None and (self.timer is None or due < self.timer):
            self.timer = due
            self.at(due, self.deadline)

    def deadline(self) -> None:
        self.timer = None
        due = self.scheduler.next_deadline()
        if due is not None and due <= self.now:
            self.scheduler.handle_deadline(self.now)
        self.after_scheduler()

    # workers
    def join(self) -> None:
        node = Node(self, next(self.numbers), self.rng.choice([1, 1, 2]))
        self.nodes[node.address] = node
        host = node.address.split(":")[1].strip("/")
        info = RegisterWorker(
            node.address, node.address, host, node.core.nthreads, resources={"GPU": 1.0}, nanny=node.nanny
        )
        self.at_scheduler([WorkerJoined(info)], "")

    def gone(self, node: Node) -> None:
        """A new worker comes for one that left."""
        self.at(self.now + self.rng.choice([0.0, 0.5]), self.join)

    def living(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    def fetch(self, node: Node, peer: str, keys: list[Key]) -> None:
        rng = self.rng
        fails = self.faults and (rng.random() < 0.1 or (node.address, peer) in self.cuts)
        unreadable = {key: ERROR for key in keys if self.faults and rng.random() < 0.01}

        def answer() -> None:
            holder = self.nodes.get(peer)
            if fails or holder is None or not holder.alive:
                event: Any = GatherDepFailure(peer, keys, (), "connection refused")
            else:
                sizes = {key: holder.core.tasks[key].nbytes for key in keys if key in holder.store}
                event = GatherDepSuccess(peer, {k: n for k, n in sizes.items() if k not in unreadable}, unreadable)
            self.at(self.now + self.delay(), lambda: node.report(event))

        self.at(self.now + self.delay(), answer)

    # client
    def at_client(self, batch: list[Any]) -> None:
        for message in batch:
            self.log.append((self.now, "to client", message))
            match message:
                case KeyInMemory():
                    self.learn(message.key, "finished")
                case KeyErred():
                    self.learn(message.key, "error")
                case KeysCancelled():
                    for key in message.keys:
                        self.learn(key, "cancelled")
                case KeysLost() | KeysRetried():
                    for key in message.keys:
                        self.learn(key, "pending")

    def learn(self, key: Key, status: str) -> None:
        if key in self.wanted:
            self.wanted[key] = status

    def tell(self, message: Any) -> None:
        self.up.send([message])

    # chance
    def act(self) -> None:
        rng = self.rng
        acts: list[tuple[int, Callable[[], None]]] = [
            (6, self.submit),
            (2, self.release),
            (1, self.cancel),
            (1, self.resubmit),
            (1, self.want_again),
            (1, self.retry),
            (1, self.scatter),
            (1, self.crash),
            (1, self.retire),
            (1, self.pause),
            (1, self.partition),
        ]
        rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()
        self.run_until(self.now + rng.choice([0.0, 0.0002, 0.002, 0.05, 1.0]))

    def submit(self) -> None:
        """A random DAG: chains, trees and wide maps come by chance."""
        rng = self.rng
        n = rng.choice([1, 3, 10, 25])
        batch: list[TaskSpec] = []
        known = [key for key in self.wanted if self.wanted[key] != "cancelled"]
        for _ in range(n):
            key = f"{rng.choice(['inc', 'sum', 'load'])}-{next(self.serial_key)}"
            pool = [spec.key for spec in batch] + known
            width = rng.choice([0, 0, 1, 1, 2, 4])
            needs = tuple(sorted(set(rng.choices(pool, k=width)))) if pool else ()
            batch.append(TaskSpec(key, b"f", Payload(b"args"), needs, rng.randrange(2), alias=False))
        options = TaskOptions(
            retries=rng.choice([0, 3]),
            priority=rng.choice([0, 0, 5]),
            resources={"GPU": 1.0} if rng.random() < 0.2 else None,
        )
        self.send_graph(batch, options, [spec.key for spec in batch if rng.random() < 0.6] or [batch[-1].key])

    def send_graph(self, batch: list[TaskSpec], options: TaskOptions, wanted: list[Key]) -> None:
        self.submission += 1
        for spec in batch:
            self.graph[spec.key] = spec
            self.options[spec.key] = options
        for key in wanted:
            if self.wanted.get(key, "cancelled") == "cancelled":
                self.wanted[key] = "pending"
        blob = FunctionBlob(b"f", Payload(b"function"))
        self.tell(UpdateGraph(self.submission, batch, [blob], [TaskOptions(), options], wanted))

    def some(self, status: str | None = None) -> list[Key]:
        keys = [key for key, known in self.wanted.items() if status is None or known == status]
        return self.rng.sample(keys, min(len(keys), self.rng.choice([1, 3, 8])))

    def release(self) -> None:
        keys = self.some()
        for key in keys:
            del self.wanted[key]
        if keys:
            self.tell(ReleaseKeys(keys))

    def cancel(self) -> None:
        keys = self.some()
        if keys:
            for key in keys:
                self.wanted[key] = "cancelled"
            self.tell(CancelKeys(keys, self.rng.random() < 0.5))

    def resubmit(self) -> None:
        """Cancel or release keys and submit the same keys at once."""
        keys = [key for key in self.some() if key in self.graph and not self.graph[key].dependencies]
        if keys:
            self.tell(CancelKeys(keys) if self.rng.random() < 0.5 else ReleaseKeys(keys))
            for key in keys:
                self.wanted[key] = "cancelled"
            self.send_graph([self.graph[key] for key in keys], self.options[keys[0]], keys)

    def want_again(self) -> None:
        """Futures of keys whose state the client does not know."""
        keys = [key for key in self.rng.sample(list(self.graph), min(2, len(self.graph))) if key not in self.wanted]
        for key in keys:
            self.wanted[key] = "pending"
        if keys:
            self.tell(WantKeys(keys))

    def retry(self) -> None:
        keys = self.some("error")
        if keys:
            self.tell(RetryKeys(keys))

    def scatter(self) -> None:
        living = self.living()
        if living:
            key = f"data-{next(self.serial_key)}"
            nodes = self.rng.sample(living, min(len(living), self.rng.choice([1, 2])))
            for node in nodes:
                node.store.add(key)
                node.report(DataUpdated({key: 8}))
            self.wanted[key] = "pending"
            self.tell(DataScattered([ReplicaOnWorkers(key, tuple([node.address for node in nodes]), 8)]))

    def crash(self) -> None:
        living = self.living()
        if living and self.rng.random() < 0.5:
            self.rng.choice(living).crash()

    def retire(self) -> None:
        living = self.living()
        if len(living) > 1:
            address = self.rng.choice(living).address
            self.at_scheduler([RetireWorkers([address], timeout_s=self.rng.choice([None, 0.5]))], "")

    def pause(self) -> None:
        living = self.living()
        if living:
            node = self.rng.choice(living)
            node.report(Pause())
            self.at(self.now + self.rng.choice([0.001, 0.5]), lambda: node.report(Unpause()))

    def partition(self) -> None:
        """From now on one worker cannot reach another, though both live."""
        living = self.living()
        if len(living) > 1:
            here, there = self.rng.sample(living, 2)
            self.cuts.add((here.address, there.address))

    # the end
    def calm_down(self) -> None:
        """No new fault; what has been set going goes on."""
        self.faults = False

    def settle(self, limit_s: float = 200.0) -> None:
        """Every wanted key comes to its end within the time, and both views agree then."""
        end = self.now + limit_s
        while self.now < end and self.heap:
            self.run_until(min(end, self.now + 1.0))
            if self.quiet():
                break
        pending = [key for key, status in self.wanted.items() if status == "pending"]
        assert not pending, "not ended: " + "; ".join(self.why(key) for key in pending[:3])
        self.compare()

    def quiet(self) -> bool:
        busy = any(
            node.queue or node.begun or any(ts.state != "memory" for ts in node.core.tasks.values())
            for node in self.living()
        )
        if busy or "pending" in self.wanted.values() or (RETIREMENTS_MUST_END and self.scheduler.retirements):
            return False
        return not self.heap or self.heap[0][0] > self.now + 0.1

    def compare(self) -> None:
        """Scheduler and workers agree on who holds what, and nothing runs that nobody waits for."""
        left = list(self.scheduler.retirements)
        assert not (left and RETIREMENTS_MUST_END), f"retirements have not ended: {left}"
        for address, node in self.nodes.items():
            if not node.alive:
                continue
            ws = self.scheduler.workers[address]
            believed = {ts.key for ts in ws.has_what}
            assert believed == node.store, f"{address}: believed {believed - node.store}, held {node.store - believed}"
            assert not ws.processing, f"{address}: {ws.processing}"
            states = {ts.state for ts in node.core.tasks.values()}
            assert states <= {"memory"}, f"{address}: {states}"
            assert node.core.slots_used == 0

    def release_all(self) -> None:
        """The client lets go of everything: nothing may remain anywhere."""
        keys = list(self.wanted)
        self.wanted.clear()
        if keys:
            self.tell(ReleaseKeys(keys))
        self.run_until(self.now + 10.0)
        left = {key: ts.state for key, ts in self.scheduler.tasks.items()}
        assert not left, f"scheduler keeps {left}"
        for node in self.living():
            assert not node.core.tasks, f"{node.address} keeps {list(node.core.tasks.values())}"
            assert not node.core.backlog_s
            assert node.core.resources.available == node.core.resources.total

    def why(self, key: Key) -> str:
        """Both views of a key that has not ended."""
        reasons = [f"{key}: scheduler: {self.scheduler.explain(key)}"]
        reasons += [
            f"{node.address}: {node.core.explain(key).text}" for node in self.living() if key in node.core.tasks
        ]
        return " | ".join(reasons)

    def story(self, n: int = 40) -> str:
        """The last events, for a failing seed."""
        return "\n".join(f"{when:.4f} {who} {what}" for when, who, what in self.log[-n:])
