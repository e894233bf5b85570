"""Coordination under faults: the tables of the scheduler, and the names that clients keep. Pure.

Some clients, and workers whose tasks speak through a client of theirs, speak to one scheduler over links that delay and
stall; they hang, and die. Real are
``coordination.tables`` with all that is below, and ``coordination.homes`` with the state that a client keeps; the few
lines of ``coordination.link`` between them are modelled here. Sessions deliver each message once and in order, or end:
a broken connection is a link that stalls.
What they do, and what must be true of it, is in :mod:`distributed.simulation.coordination_episode`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from distributed.coordination.homes import MISS, Home, Homes
from distributed.coordination.tables import Tables
from distributed.coordination.waiters import Waiter
from distributed.simulation.links import Link
from distributed.simulation.simulator import Simulator

LEASE_TIMEOUT_S, CHECK_S, GRACE_S = 10.0, 2.0, 5.0
NOTICED_S = (0.0, 0.05, 3.0)
"""When a worker has died, the scheduler sees its connection break, or misses its signs of life."""
DELAYS_S = (0.0001, 0.0005, 0.002, 0.02)

Request = tuple[int, str, dict[str, Any]]


class _Futures:
    """What :class:`Homes` needs of the client's table of futures."""

    lock = contextlib.nullcontext()


class SimUser:
    """One client: its link, the names that it keeps, its programs. ``is_worker``: it is that of a worker's tasks."""

    def __init__(self, world: Coordinator, name: str, is_worker: bool = False) -> None:
        self.world, self.name, self.sim, self.is_worker = world, name, world.sim, is_worker
        rng = world.sim.stream(f"link {name}")
        self._rng = world.sim.stream(f"loop {name}")
        self.up, self.down = Link(self.sim, rng, DELAYS_S), Link(self.sim, rng, DELAYS_S)
        self.up.deliver = lambda batch: world.receive(self, batch)
        self.down.deliver = self._hear
        # What Homes sees of a client: itself is the link, the session, the outgoing queue and the loop.
        self.session: Any = self
        self.outgoing = self.loop = self.connection = self
        self.same_process = False
        self.table = _Futures()
        self.homes = Homes(self)
        self.leases: dict[int, Callable[[int], None]] = {}
        self.open: dict[int, tuple[Any, Callable[[Any], None] | None]] = {}
        self.alive, self.frozen = True, False
        self._queue: list[Any] = []
        self._heard: list[list[Any]] = []
        self._number = 0
        self.sim.after(LEASE_TIMEOUT_S / 5, self._renew)

    # -- as outgoing queue, loop and link

    def add(self, message: Any) -> None:
        self._queue.append(message)

    def add_late(self, make: Callable[[], list[Any]]) -> None:
        self._queue.append(make)

    def wake(self) -> None:
        self.sim.after(self._rng.choice((0.0005, 0.05)), self._flush)

    def call_later(self, delay_s: float, act: Callable[[], None]) -> None:
        self.sim.after(delay_s, lambda: self._when_awake(act))

    def request(self, op: str, kwargs: dict[str, Any], then: Callable[[Any], None] | None = None) -> Any:
        self._number += 1
        self.open[self._number] = (kwargs.get("name"), then)
        return (self._number, op, kwargs)

    def hold(self, lease: int, lost: Callable[[int], None]) -> None:
        self.leases[lease] = lost

    def drop(self, lease: int) -> None:
        self.leases.pop(lease, None)

    # -- life

    def _when_awake(self, act: Callable[[], None]) -> None:
        if self.frozen and self.alive:
            self.sim.after(0.1, lambda: self._when_awake(act))
        elif self.alive:
            act()

    def _flush(self) -> None:
        if self.alive and not self.frozen:
            queue, self._queue = self._queue, []
            batch: list[Any] = []
            for item in queue:
                batch += item() if callable(item) else [item]
            self.up.send(batch)

    def _renew(self) -> None:
        def renewed(lost: Any) -> None:
            for lease in lost:
                tell = self.leases.pop(lease, None)
                if tell is not None:
                    tell(lease)

        if self.leases:
            self.add(self.request("lease_renew", {"leases": list(self.leases)}, renewed))
            self.wake()
        self.call_later(LEASE_TIMEOUT_S / 5, self._renew)

    def freeze(self, seconds: float) -> None:
        """Nothing moves in this process for so long."""
        self.frozen = True

        def thaw() -> None:
            self.frozen = False
            heard, self._heard = self._heard, []
            for batch in heard:
                self._hear(batch)
            self._flush()

        self.sim.after(seconds, thaw)

    def _hear(self, batch: list[Any]) -> None:
        if self.frozen:
            self._heard.append(batch)
            return
        for kind, *rest in batch:
            if not self.alive:
                return
            if kind == "keep":
                place, name, lease, number, state = rest
                later = [about for n, (about, _) in self.open.items() if n > number]
                self.homes.offered(place, name, lease, state, later.__contains__)
                self.wake()
            elif kind == "recall":
                self.homes.recalled(*rest)
            else:
                number, value = rest
                _, then = self.open.pop(number)
                if then is not None:
                    then(value)

    # -- what programs do

    def do(self, kind: str, name: Any, here: Callable[[Any], Any], op: str, kwargs: Any, then: Any) -> None:
        """One operation: here, or by asking (``kwargs`` makes the arguments); ``then`` gets the result, a little later,
        and whether it was done here."""
        value = self.homes.do((kind, name), here)
        if value is not MISS:
            self.sim.counts[f"{kind} done at the client"] += 1
            self.sim.counts["done at the client"] += 1
            self.call_later(0.0001, lambda: then(value, True))
            return
        self.sim.counts["asked"] += 1
        self.ask(op, {"name": name, **kwargs()}, lambda answer: then(answer, False))

    def ask(self, op: str, kwargs: dict[str, Any], then: Callable[[Any], None] | None = None) -> None:
        """One operation that is always done at the scheduler."""
        home: Home | None = self.homes.concerned(op, kwargs)
        if home is not None:
            self.homes.give_back_locked(home)
        self.add(self.request(op, kwargs, then))
        self.wake()


class Coordinator:
    """The scheduler's tables, and users around them."""

    def __init__(self, seed: int) -> None:
        self.sim = Simulator(seed)
        self.tables = Tables(LEASE_TIMEOUT_S, CHECK_S)
        self.users: dict[str, SimUser] = {}
        self.wanted: set[Any] = set()
        """Keys of the futures that the scheduler keeps alive for what lies in the tables."""
        self._due: float | None = None
        self._in_line: dict[tuple[str, int], tuple[str, set[Any]]] = {}

    def receive(self, user: SimUser, batch: list[Request]) -> None:
        """Requests of a client that the scheduler still knows."""
        if self.users.get(user.name) is not user:
            return
        answers: list[Any] = []
        for number, op, kwargs in batch:
            kwargs = dict(kwargs)
            waiter = self.tables.waiters.new(user.name, number, kwargs.pop("timeout", None))
            if op in ("semaphore_acquire", "multi_lock_acquire"):
                self._in_line[user.name, number] = (op, set(kwargs.get("names", [kwargs["name"]])))
            try:
                self.tables.request(op, waiter, self.sim.now, **kwargs)
            except Exception as e:
                answers.append((user.name, ("answer", number, e)))
        self._act(answers)

    def _act(self, answers: list[Any]) -> None:
        tables = self.tables
        tables.validate()
        want, release = tables.held.take_changes()
        assert self.wanted.issuperset(release), "a key is released that was not wanted"
        self.wanted = (self.wanted | set(want)) - set(release)
        tables.stale.clear()
        told = [*tables.kept.take_news(), *answers]
        for waiter, value in tables.waiters.take_answers():
            self._check_turn(waiter, value)
            told.append((waiter.client, ("answer", waiter.number, value)))
        by_client: dict[str, list[Any]] = {}
        for client, message in told:
            by_client.setdefault(client, []).append(message)
        for client, messages in by_client.items():
            if client in self.users:
                self.users[client].down.send(messages)
        due = tables.next_deadline()
        if due is not None and (self._due is None or due < self._due):
            self._due = due
            self.sim.at(due, self._on_due)

    def _check_turn(self, waiter: Waiter, value: Any) -> None:
        """Nobody is granted what somebody has asked for earlier who still waits."""
        mine = self._in_line.get((waiter.client, waiter.number))
        if mine is not None and value is not None:
            for (client, _), (op, names) in self._in_line.items():
                if names is mine[1]:
                    break
                assert op != mine[0] or not names & mine[1] or client not in self.users, f"{waiter!r} passed {client}"
        self._in_line.pop((waiter.client, waiter.number), None)

    def _on_due(self) -> None:
        self._due = None
        self.tables.handle_deadline(self.sim.now)
        self._act([])

    def over(self, name: str) -> None:
        """The session of a client is over."""
        if self.users.pop(name, None) is not None:
            self._in_line = {request: wish for request, wish in self._in_line.items() if request[0] != name}
            self.tables.client_left(name, self.sim.now)
            self._act([])

    def kill(self, user: SimUser) -> None:
        """Its process has died. A client's session is kept in case it comes back; that of a lost worker is over."""
        user.alive = False
        noticed_s = self.sim.stream("noticed").choice(NOTICED_S) if user.is_worker else GRACE_S
        self.sim.after(noticed_s, lambda: self.over(user.name))
