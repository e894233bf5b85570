"""The scheduler: the real core, and a model of the shell around it (admission, beats, timers, retirements). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.messages.client_to_scheduler import DataAnnounced
from distributed.messages.control import Refused, RegisterClient, Registered, RegisterWorker
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.rpc.session import SessionEnd
from distributed.scheduler.state_machine.events import (
    ClientJoined,
    ClientLeft,
    ClientLost,
    WorkerAway,
    WorkerBack,
    WorkerJoined,
    WorkerLost,
)
from distributed.scheduler.state_machine.instructions import (
    ClientRemoved,
    RetirementEnded,
    WorkerRefused,
    WorkerRemoved,
)
from distributed.scheduler.state_machine.outbox import OutboxBatch
from distributed.scheduler.state_machine.settings import SchedulerSettings
from distributed.scheduler.state_machine.state import SchedulerState
from distributed.simulation.links import Connection
from distributed.simulation.member import Member
from distributed.simulation.shuffle_messages import Ask
from distributed.simulation.simulator import Simulator

# How long a worker that was told to close after its retirement may take before it counts as gone.
REMOVAL_S = 10.0
LAZY_S = 0.0005
INQUIRY_S = (0.005, 0.1, 1.0)
"""How long it takes to find out that the process behind a broken connection has ended."""


def _nobody(address: str) -> None:
    """Nobody has asked."""


def _nothing() -> None:
    """Nobody looks."""


def _nothing_asked(connection: Connection, ask: Any) -> None:
    """Nobody answers."""


class _Session:
    """A client's session: it outlives the connections that carry it."""

    __slots__ = ("connection", "end", "id")

    def __init__(self, name: str) -> None:
        self.id = name
        self.end = SessionEnd()
        self.connection: Connection | None = None

    def send(self, messages: list[Any]) -> None:
        """Send now, or when a connection stands again."""
        header = self.end.push(messages)
        if self.connection is not None:
            self.connection.down.send([header, *messages])


class Host:
    """The scheduler's end of all connections.

    Parameters
    ----------
    check
        Called after each event that the core has handled, with the event and its source; and before it, by ``expect``.
    lazy
        Share of batches after which the placing beat waits for more.
    """

    def __init__(
        self,
        sim: Simulator,
        settings: SchedulerSettings,
        lazy: float,
        expect: Callable[[Any, str], None],
        check: Callable[[Any, str], None],
        delays_s: tuple[float, ...] = (0.0001,),
    ) -> None:
        self.sim = sim
        self._delays_s = delays_s
        self.core = SchedulerState(settings, sim.seed)
        self.workers: dict[str, Member] = {}
        self.sessions: dict[str, _Session] = {}
        self._lazy = lazy
        self._rng = sim.stream("host")
        self._expect = expect
        self._check = check
        self._beat_due = False
        self._timer: float | None = None
        self._refused: dict[str, str] = {}
        self._n_sessions = 0
        # Who has announced data and asked for workers, by client and number of the scatter.
        self._plans: dict[tuple[str, int], Callable[[dict[str, tuple[str, int]]], None]] = {}
        self.on_retired: Callable[[str], None] = _nobody
        self.on_ask: Callable[[Connection, Any], None] = _nothing_asked
        self.on_pass: Callable[[], None] = _nothing

    # connections

    def accept(self, connection: Connection) -> None:
        """A peer has connected; its first message says who it is."""
        connection.up.deliver = lambda batch: self._hear(connection, batch)
        connection.up.on_end = lambda: self._ended(connection)

    def _hear(self, connection: Connection, batch: list[Any]) -> None:
        first = batch[0]
        if type(first) is RegisterWorker:
            self._admit_worker(connection, first)
            batch = batch[1:]
        elif type(first) is RegisterClient:
            self._admit_client(connection, first)
            batch = batch[1:]
        if not batch:
            return
        name = connection.name
        session = self.sessions.get(name)
        member = self.workers.get(name)
        if member is not None and member.connection is connection:
            if type(batch[0]) is Ask:
                self.on_ask(connection, batch[0])
            else:
                self.apply(member.take_in(batch), name)
        elif session is not None and session.connection is connection:
            fresh = session.end.receive(batch)
            assert not session.end.fault, f"{name}: {session.end.fault}"
            self.apply(fresh, name)

    def _admit_client(self, connection: Connection, first: RegisterClient) -> None:
        client = first.client
        self.beat()  # what is decided already may end the session of this id
        session = self.sessions.get(client)
        back = session is not None and first.session == session.id and session.end.can_resume(first.applied)
        if session is None or not back:
            if session is not None:
                self.apply([ClientLeft(client, "a new session has begun under its id")], "")
                self.beat()
            self._n_sessions += 1
            session = self.sessions[client] = _Session(f"session-{self._n_sessions}")
            for name, number in list(self._plans):
                if name == client and first.session:  # it asks again
                    self._plan(client, number)
        connection.name = client
        connection.down.send([Registered("", "", session=session.id, applied=session.end.applied)])
        if session.connection is not None:  # it has come before its lost connection was noticed
            session.connection.down.end()
        session.connection = connection
        for header, messages in session.end.resume(first.applied if back else 0):
            connection.down.send([header, *messages])
        self.apply([ClientJoined(client)], "")

    def _admit_worker(self, connection: Connection, first: RegisterWorker) -> None:
        address = first.address
        if first.session:
            self._worker_back(connection, first)
            return
        member = self.workers.get(address)
        if member is not None and member.connection is not None:
            self._refuse(connection, f"address taken: a worker at {address} is connected")
            return
        if address in self.core.workers:
            self.apply([WorkerClosing("replaced by a new worker at the same address")], address)
            self.beat()
        self._handle([WorkerJoined(first)], address)
        if address in self.core.workers:
            connection.name = address
            self._n_sessions += 1
            member = Member(f"the scheduler, of {address},", False, f"worker-{self._n_sessions}")
            self.workers[address] = member
            self._welcome(member, connection, 0)
        self.beat()
        if address not in self.core.workers:
            self._refuse(connection, self._refused.pop(address, "not taken"))

    def _welcome(self, member: Member, connection: Connection, peer_applied: int) -> None:
        assert connection.member is not None
        member.peer, connection.member.peer = connection.member, member
        grace_s = self.core.settings.worker_grace_s
        answer = Registered(
            "", "", session=member.id, applied=member.end.applied, grace_s=1e9 if grace_s is None else grace_s
        )
        connection.down.send([answer])
        if member.connection is not None:  # it has come before its lost connection was noticed
            member.connection.down.end()
        member.attach(connection, peer_applied)

    def _worker_back(self, connection: Connection, first: RegisterWorker) -> None:
        address = first.address
        self.beat()  # what is decided already may end the session
        member = self.workers.get(address)
        ws = self.core.workers.get(address)
        if member is None or member.id != first.session or ws is None or not ws.alive:
            self._refuse(connection, "fenced")
            return
        connection.name = address
        self._welcome(member, connection, first.applied)
        self.apply([WorkerBack(address)], "")

    def _inquire(self, address: str, member: Member, connection: Connection) -> None:
        """Has the process ended? (A machine that is gone does not say so: that is left to the grace.)"""
        ws = self.core.workers.get(address)
        if self.workers.get(address) is member and member.connection is None and ws in self.core.away:
            owner = connection.member
            if owner is not None and owner.ended and not owner.silent_end:
                self.apply([WorkerLost(address, "its process has ended")], "")
            else:
                self.sim.after(1.0, lambda: self._inquire(address, member, connection))

    def _refuse(self, connection: Connection, reason: str) -> None:
        connection.down.send([Refused(reason)])
        connection.down.end()

    def _ended(self, connection: Connection) -> None:
        name = connection.name
        connection.down.end()
        member = self.workers.get(name)
        if member is not None and member.connection is connection:
            member.connection = None
            if name in self.core.workers:
                self.apply([WorkerAway(name, "connection lost")], "")
                delay_s = self._rng.choice(INQUIRY_S)
                self.sim.after(delay_s, lambda: self._inquire(name, member, connection))
            else:
                del self.workers[name]
        session = self.sessions.get(name)
        if session is not None and session.connection is connection:
            session.connection = None
            self.apply([ClientLost(name)], "")

    # scatter

    def when_announced(self, client: str, number: int, answer: Callable[[dict[str, tuple[str, int]]], None]) -> None:
        """Once this announcement is here (or the session is over that would have brought it), and its time has passed:
        have ``answer`` called with the workers, the session of each and how much was sent to it."""
        self._plans[client, number] = answer

    def _plan(self, client: str, number: int) -> None:
        answer = self._plans.pop((client, number), None)
        if answer is None:
            return
        self.beat()
        plan = {address: (member.id, member.end.sent) for address, member in self.workers.items()}
        self.sim.after(self._rng.choice(self._delays_s), lambda: answer(plan))

    # events

    def apply(self, events: list[Any], source: str) -> None:
        """Give events to the core; the placing beat follows, at once or soon."""
        self._handle(events, source)
        for event in events:
            if type(event) is DataAnnounced:
                self._plan(source, event.number)
        if self._beat_due:
            return
        if self._lazy and self._rng.random() < self._lazy:
            self._beat_due = True
            self.sim.after(LAZY_S * self._rng.random(), self._late_beat)
        else:
            self.beat()

    def _handle(self, events: list[Any], source: str) -> None:
        core = self.core
        note = self.sim.note
        for event in events:
            note(source or "scheduler", event)
            self._expect(event, source)
            core.handle(event, source, self.sim.now)
            self._check(event, source)

    def _late_beat(self) -> None:
        if self._beat_due:
            self.beat()

    def beat(self) -> None:
        """Place what is ready, and send what was decided."""
        self._beat_due = False
        self.core.flush(self.sim.now)
        self._perform()

    def _perform(self) -> None:
        out = self.core.outbox.take()
        last_words = {address: out.to_workers.pop(address, []) for address in out.closed_workers}
        self._send(out)
        for instruction in out.instructions:
            self.sim.note("scheduler does", instruction)
            if type(instruction) is WorkerRemoved:
                member = self.workers.pop(instruction.address, None)
                if member is not None and member.connection is not None:
                    connection = member.connection
                    member.send(last_words[instruction.address])
                    connection.down.end()
                    member.connection = None
            elif type(instruction) is ClientRemoved:
                session = self.sessions.pop(instruction.client, None)
                if session is not None and session.connection is not None:
                    session.connection.down.end()
            elif type(instruction) is WorkerRefused:
                self._refused[instruction.address] = instruction.reason
            elif type(instruction) is RetirementEnded:
                self.on_retired(instruction.address)
                if instruction.retired:
                    self._see_out(instruction.address)
        self._check(None, "")
        self._arm()
        self.on_pass()

    def _send(self, out: OutboxBatch) -> None:
        for address, messages in out.to_workers.items():
            if address in self.workers:
                self.workers[address].send(messages)
        for client, messages in out.to_clients.items():
            if client in self.sessions:
                self.sessions[client].send(messages)

    def _see_out(self, address: str) -> None:
        ws = self.core.workers.get(address)

        def remove() -> None:
            if ws is not None and self.core.workers.get(address) is ws and ws.status_name == "closing_gracefully":
                self.apply([WorkerClosing("retired")], address)

        self.sim.after(REMOVAL_S, remove)

    # time

    def _arm(self) -> None:
        due = self.core.next_deadline()
        if due is not None and (self._timer is None or due < self._timer):
            self._timer = due
            self.sim.at(due, lambda: self._ring(due))

    def _ring(self, due: float) -> None:
        if self._timer != due:
            return  # an earlier one was armed meanwhile
        self._timer = None
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.sim.now:
            self.sim.note("scheduler", "deadline")
            self._expect(None, "")
            self.core.handle_deadline(self.sim.now)
            self._beat_due = False
            self._perform()
        else:
            self._arm()
