"""One life of a worker process: the real core, a modelled executor, store and data service. Pure.

A frozen process does nothing: what reaches it meanwhile happens when it thaws, in order. A dead one is gone with all it
held; whoever waits for its answer hears that the connection broke.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec.structs import replace

from distributed.base.keys import Key
from distributed.messages.control import Applied, Refused, Registered, RegisterWorker
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, DefineFunction
from distributed.messages.worker_to_scheduler import Heartbeat, WorkerClosing
from distributed.shuffle.plan import EndRun
from distributed.simulation.executor import UNSHIPPABLE, Executor
from distributed.simulation.host import Host
from distributed.simulation.ledger import RunLedger
from distributed.simulation.links import Connection
from distributed.simulation.member import Member
from distributed.simulation.network import Network
from distributed.simulation.script import TaskPlan
from distributed.simulation.shuffle_member import ShuffleMember, inputs_of
from distributed.simulation.shuffle_messages import Answer
from distributed.simulation.simulator import Simulator
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import (
    DataUpdated,
    ExecuteLongRunning,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
    SpillEnded,
)
from distributed.worker.state_machine.instructions import (
    AbortGather,
    CancelExecute,
    Evict,
    Execute,
    GatherDep,
    RemoveFiles,
    SendToScheduler,
    Spill,
    StopExecute,
    StoreFetched,
    StoreResult,
    Unload,
)

RETURN_S = (0.0, 0.02, 0.5)
PATIENCE = 3.0
"""For how many times the grace a worker looks for its scheduler: one who comes too late is told to start anew."""
SPILL_S = (0.0, 0.0001, 0.005, 0.1)


@dataclass
class Surroundings:
    """What all processes of a cluster share. ``check(process, event)`` is called after each event of a core."""

    sim: Simulator
    host: Host
    network: Network
    runs: RunLedger
    settings: WorkerSettings
    delays_s: tuple[float, ...]
    heartbeat_s: float
    check: Callable[[Any, Any], None]


class Held(NamedTuple):
    """A value that a run has taken hold of: the store may lose it since. ``value`` is the number of a shuffle's run."""

    nbytes: int
    unshippable: bool
    value: int | None


class Process:
    """A worker process from its start to its end.

    Parameters
    ----------
    on_end
        Called once with (process, reason, whether a new one shall be started; None: not said).
    """

    def __init__(
        self, around: Surroundings, info: RegisterWorker, on_end: Callable[[Process, str, bool | None], None]
    ) -> None:
        self.around = around
        self.sim = sim = around.sim
        self.info = info
        self.address = info.address
        self.alive = True
        self.frozen = False
        self.registered = False
        self.store: dict[Key, int] = {}
        self.unshippable: set[Key] = set()
        self.files: dict[Key, int] = {}
        self.spilled: set[Key] = set()
        self.disk_full = False
        self._disk = sim.stream(f"disk {info.address}")
        self._version = 0
        self._versions: dict[Key, int] = {}
        self.core = WorkerState(around.settings, info.address, info.nthreads, info.resources, sim.seed)
        self.executor = Executor(
            info.address, info.nthreads, around.runs, sim.stream(f"executor {info.address}"),
            self._plan_of, self._after, self._executed, self.crash, self._work, self._hand_on,
        )  # fmt: skip
        self._results: dict[int, bool] = {}
        self.values: dict[Key, int] = {}
        self._computed: dict[int, int] = {}
        self._held: dict[int, dict[Key, Held]] = {}
        self._fetched: dict[Key, int] = {}
        self._arrived: dict[Key, int] = {}
        self._backlog: list[Callable[[], None]] = []
        self._on_joined: list[Callable[[], None]] = []
        self._waiters: list[tuple[int, Callable[[], None]]] = []
        self._timer: float | None = None
        self._on_end = on_end
        self.member = Member(info.address, True)
        self.grace_s = 0.0
        self.cut_off_until = 0.0
        self._lost_at = 0.0
        self._returns = sim.stream(f"returns of {info.address}")
        self.shuffle = ShuffleMember(
            self, around.network, lambda ask: self.connection.up.send([ask]),
            lambda shuffle: inputs_of(around.runs.plans, shuffle),
        )  # fmt: skip
        around.network.peers[info.address] = self
        self.connection = self._connect(info)

    # the link

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return self.member.connection is not None

    def _connect(self, info: RegisterWorker) -> Connection:
        connection = Connection(self.sim, f"{info.address} {self.sim.now!r}", self.around.delays_s)
        connection.member = self.member
        connection.down.deliver = lambda batch: self.awake(lambda: self._hear(connection, batch))
        connection.down.on_end = lambda: self.awake(lambda: self._lost(connection))
        self.around.host.accept(connection)
        connection.up.send([info])
        return connection

    def _lost(self, connection: Connection) -> None:
        if connection is not self.connection:
            return
        connection.up.end()
        if not self.member.id or not self.grace_s:
            self.close("scheduler-connection-lost", None)
            return
        if self.connected:
            self._lost_at = self.sim.now
        self.member.connection = None
        self.sim.note(self.address, "connection lost")
        self._after(self._returns.choice(RETURN_S), self._return)

    def cut_off(self, for_s: float) -> None:
        """It can make no connection to the scheduler for so long."""
        self.cut_off_until = max(self.cut_off_until, self.sim.now + for_s)

    def _return(self) -> None:
        if self.sim.now - self._lost_at > PATIENCE * self.grace_s:
            self.close("scheduler-connection-lost", None)
        elif self.sim.now < self.cut_off_until:
            self._after(self._returns.choice(RETURN_S), self._return)
        else:
            self.connection = self._connect(replace(self.info, session=self.member.id, applied=self.member.end.applied))

    def _enter(self, connection: Connection, registered: Registered) -> None:
        self.grace_s = registered.grace_s
        self.member.id = registered.session
        self.member.attach(connection, registered.applied)
        self.shuffle.ask_again()
        if not self.registered:
            self.registered = True
            self._beat()
            on_joined, self._on_joined = self._on_joined, []
            for act in on_joined:
                self.awake(act)

    # life

    def awake(self, act: Callable[[], None]) -> None:
        """Do it now, or when the process thaws, or never if it dies before."""
        if self.frozen:
            self._backlog.append(act)
        elif self.alive:
            act()

    def when_joined(self, act: Callable[[], None]) -> None:
        """Do it as soon as the scheduler knows this process and it is awake, or never."""
        if self.registered:
            self.awake(act)
        elif self.alive:
            self._on_joined.append(act)

    def freeze(self) -> None:
        """Do nothing from now on."""
        self.frozen = True

    def thaw(self) -> None:
        """Do all that was to be done meanwhile."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for act in backlog:
            self.awake(act)

    def crash(self, kept: float = 1.0, silent: bool = False) -> None:
        """The process is gone; this share of what it has sent arrives. ``silent``: and its machine, so that nobody can
        say so."""
        if self.alive:
            self.member.silent_end = silent
            self.connection.up.cut(kept)
            self._gone("crashed", None)

    def close(self, reason: str, restart: bool | None) -> None:
        """Orderly end. ``restart``: as the order said; None: by itself."""
        if self.alive:
            self.member.send([WorkerClosing(reason)])
            self.connection.up.end()
            self._gone(reason, restart)

    def _gone(self, reason: str, restart: bool | None) -> None:
        self.alive = self.frozen = False
        self.member.ended = True
        self.connection.down.die()
        self.around.network.gone(self.address)
        self.around.runs.process_gone(self.address)
        self._on_end(self, reason, restart)

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.sim.after(delay_s, lambda: self.awake(act))

    # events in

    def _hear(self, connection: Connection, batch: list[Any]) -> None:
        if connection is not self.connection:
            return  # one of before: what comes over it is sent again
        first = batch[0]
        if type(first) is Registered:
            self._enter(connection, first)
        elif type(first) is Refused:
            if self.registered:
                self.sim.note(self.address, "fenced")
                self.close("fenced", True)
            else:
                self.crash()
            return
        elif type(first) is Answer:
            self.shuffle.answered(first)
        else:
            self._obey(self.member.take_in(batch))
            self._look_at_waiters()
            return
        self._act()

    def when_caught_up(self, session: str, number: int, act: Callable[[], None]) -> None:
        """Do it when the scheduler's messages up to this one are here; of another session none will come."""
        if session != self.member.id or self.member.end.applied >= number:
            act()
        else:
            self._waiters.append((number, act))

    def _look_at_waiters(self) -> None:
        due = [waiter for waiter in self._waiters if waiter[0] <= self.member.end.applied]
        for waiter in due:
            self._waiters.remove(waiter)
            self.awake(waiter[1])

    def _obey(self, batch: list[Any]) -> None:
        closing: CloseWorkerOrder | None = None
        for message in batch:
            kind = type(message)
            if kind is EndRun:
                self.shuffle.ended(message)
            elif kind is CloseWorkerOrder:
                closing = message
            elif kind is not DefineFunction and kind is not Applied:
                self._handle(message)
        self._act()
        if closing is not None:
            self.close(closing.reason or "told to", closing.restart)

    def event(self, event: Any) -> None:
        """A fact from the shell of this worker."""
        if self.alive:
            self._handle(event)
            self._act()

    def settle(self) -> None:
        """Do what the core has decided outside of an event."""
        self._act()

    def _handle(self, event: Any) -> None:
        self.sim.note(self.address, event)
        self.core.handle(event, self.sim.now)
        self.around.check(self, event)

    def _executed(self, event: Any) -> None:
        if type(event) is ExecuteSuccess:
            self._results[event.run_id] = event.unshippable is not None
        self.event(event)
        self._results.clear()
        if type(event) is not ExecuteLongRunning:
            self._computed.pop(event.run_id, None)
            self._held.pop(event.run_id, None)

    def _work(self, execute: Execute, plan: TaskPlan, done: Callable[[bool], None]) -> None:
        """A task of a shuffle; the values that it was given are the numbers of runs."""

        def ended(value: int | None) -> None:
            if value is not None:
                self._computed[execute.run_id] = value
            done(value is None)

        held = self._held[execute.run_id]
        values = [held[key].value for key in execute.dependencies]
        self.shuffle.work(plan, [value for value in values if value is not None], ended)

    def _hand_on(self, run_id: int, event: ExecuteSuccess) -> None:
        """A run gets the value of the one that it was behind, which may not be stored yet."""
        value = self._computed.get(event.run_id)
        self._held[run_id][event.key] = Held(event.nbytes, event.unshippable is not None, value)

    def _beat(self) -> None:
        heartbeat_s = self.around.heartbeat_s
        if heartbeat_s and self.alive:
            if self.connected:
                core = self.core
                beat = Heartbeat({}, core.executing_s(self.sim.now), core.managed_nbytes, held_slots=core.held_slots)
                self.member.send([beat, self.member.end.tell(ask=True)])
            self._after(heartbeat_s, self._beat)

    def _ring(self, due: float) -> None:
        if self._timer != due:
            return
        self._timer = None
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.sim.now:
            self.sim.note(self.address, "deadline")
            self.core.handle_deadline(self.sim.now)
        self._act()

    # instructions out

    def _act(self) -> None:
        core = self.core
        for item in core.outbox.take():
            self._perform(item)
        self.around.check(self, None)
        due = core.next_deadline()
        if due is not None and (self._timer is None or due < self._timer):
            self._timer = due
            self.sim.at(due, lambda: self.awake(lambda: self._ring(due)))

    def _perform(self, item: Any) -> None:
        match item:
            case SendToScheduler():
                self.member.send(item.messages)
            case Execute():
                missing = {key for key in item.dependencies if key not in self.store}
                expected = {self.core.handed[item.after].key} if item.after >= 0 else set()
                assert missing == expected, f"{self.address}: inputs {missing} of {item.key!r} are not here"
                self.spilled.difference_update(item.dependencies)
                self._held[item.run_id] = {
                    key: Held(self.store[key], key in self.unshippable, self.values.get(key))
                    for key in item.dependencies
                    if key not in missing
                }
                self.executor.submit(item)
            case CancelExecute():
                self.executor.cancel(item.run_id)
            case StopExecute():
                self.executor.stop(item.run_id)
            case StoreResult():
                assert item.run_id in self._results, f"{self.address}: no value of {item.key!r} to store"
                self._keep(item.key, self._results[item.run_id])
                if item.run_id in self._computed:
                    self.values[item.key] = self._computed[item.run_id]
            case StoreFetched():
                for key in item.keys:
                    self._keep(key, False)
                    if key in self._fetched:
                        self.values[key] = self._fetched.pop(key)
            case Evict():
                for key in item.keys:
                    self.lose(key)
            case Spill():
                self._write(item)
            case Unload():
                for key in item.keys:
                    assert key in self.files and key in self.store, f"{self.address}: {key!r} has no file"
                    self.spilled.add(key)
            case RemoveFiles():
                for key in item.keys:
                    assert key not in self.spilled, f"{self.address}: the only copy of {key!r} is in its file"
                    del self.files[key]
            case GatherDep():
                self._fetch(item.worker, item.keys)
            case AbortGather():
                self.around.network.abort(self.address, item.worker)

    def lose(self, key: Key) -> None:
        """The value is gone, with its file."""
        del self.store[key]
        self.values.pop(key, None)
        self.unshippable.discard(key)
        self._forget_file(key)

    def _keep(self, key: Key, unshippable: bool) -> None:
        self.store[key] = self.core.tasks[key].nbytes
        self._forget_file(key)
        self.unshippable.discard(key)
        if unshippable:
            self.unshippable.add(key)

    def _forget_file(self, key: Key) -> None:
        self.files.pop(key, None)
        self.spilled.discard(key)
        self._version += 1
        self._versions[key] = self._version

    def _write(self, order: Spill) -> None:
        for key in order.keys:
            assert key in self.store and key not in self.files, f"{self.address}: {key!r} is not to be written"
            done = functools.partial(self._written, key, order, self._versions.get(key, 0))
            self._after(self._disk.choice(SPILL_S), done)

    def _written(self, key: Key, order: Spill, version: int) -> None:
        if self.disk_full:
            self.event(SpillEnded(key, order.number, error="no space left"))
        elif key in self.unshippable:
            self.event(SpillEnded(key, order.number, error="cannot be pickled", lasting=True))
        elif self._versions.get(key, 0) != version or key not in self.store:
            self.event(SpillEnded(key, order.number, error="the value is gone"))
        else:
            self.files[key] = self.store[key]
            self.spilled.add(key)
            self.event(SpillEnded(key, order.number, self.store[key]))

    def _plan_of(self, execute: Execute) -> TaskPlan:
        core = self.core
        taken_back = execute.run_id in core.stale or execute.run_id in core.followers.void
        assert not taken_back, f"I2 a run that was taken back does not begin: {execute.key!r} at {self.address}"
        if not execute.alias:
            return self.around.runs.plan(execute.key)
        source = self._held[execute.run_id][execute.dependencies[0]]
        return TaskPlan("", nbytes=source.nbytes, behaviour="unshippable" if source.unshippable else "succeed")

    # data between processes

    def _fetch(self, address: str, keys: list[Key]) -> None:
        def serve(peer: Process) -> tuple[dict[Key, int], list[Key], dict[Key, int]]:
            held = [key for key in keys if key in peer.store]
            return (
                {key: peer.store[key] for key in held if key not in peer.unshippable},
                [key for key in held if key in peer.unshippable],
                {key: peer.values[key] for key in held if key in peer.values},
            )

        def answer(found: tuple[dict[Key, int], list[Key], dict[Key, int]]) -> None:
            self.awake(lambda: self._fetched.update(found[2]))
            event = GatherDepSuccess(address, found[0], dict.fromkeys(found[1], UNSHIPPABLE))
            self.awake(lambda: self.event(event))

        def fail() -> None:
            self.awake(lambda: self.event(GatherDepFailure(address, keys, (), "not reached")))

        self.around.network.ask(self.address, address, serve, answer, fail)

    def take_in(self, nbytes: dict[Key, int]) -> None:
        """A client has put values here."""
        to_compute = ("waiting", "ready", "constrained", "executing", "long-running")
        for key, n in nbytes.items():
            ts = self.core.tasks.get(key)
            if ts is None or ts.state not in to_compute:
                self.store[key] = n
                self._forget_file(key)
        self.event(DataUpdated(nbytes, placed=True))
