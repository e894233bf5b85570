"""A client: what it wants, what it has been told, and a connection that may break. Pure.

Its session (the real one, of ``rpc.session``) goes on over the next connection, unless the scheduler has given it up
by then: only that cancels its futures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    DataAnnounced,
    DataScattered,
    DataWithdrawn,
    FireAndForget,
    ReleaseKeys,
    ReplicaOnWorkers,
    RetryKeys,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import RegisterClient, Registered
from distributed.messages.scheduler_to_client import (
    ClusterRestarted,
    KeyErred,
    KeyInMemory,
    KeysCancelled,
    KeysLost,
    KeysRetried,
)
from distributed.rpc.session import SessionEnd
from distributed.simulation.links import Connection
from distributed.simulation.simulator import Simulator

NOT_DONE = frozenset(["pending", "lost"])
REJOIN_S = (0.0, 0.05, 0.5, 2.0)


class SimClient:
    """One client.

    Attributes
    ----------
    states
        Of each key that it holds futures of: ``pending``, ``finished``, ``error`` or ``lost``. Cancelled ones are gone.
    n_lost
        How often a session of it was over.
    """

    def __init__(
        self, sim: Simulator, name: str, delays_s: tuple[float, ...], accept: Callable[[Connection], None]
    ) -> None:
        self.sim = sim
        self.name = name
        self.states: dict[Key, str] = {}
        self.connected = False
        self.n_lost = 0
        self._delays_s = delays_s
        self._accept = accept
        self._outgoing: list[Any] = []
        self._submission = 0
        self._n_scatters = 0
        self._scatters: dict[int, Key] = {}
        # Of what is being scattered: given up already; held by nothing else.
        self._let_go: dict[Key, None] = {}
        self._unheld: dict[Key, None] = {}
        self._session = ""
        self._end = SessionEnd()
        self._rng = sim.stream(name)
        self.connection = self._connect()

    def _connect(self) -> Connection:
        connection = Connection(self.sim, f"{self.name} {self.sim.now!r}", self._delays_s)
        connection.down.deliver = self._hear
        connection.down.on_end = self._lost
        self._accept(connection)
        self.connection = connection
        connection.up.send([RegisterClient(self.name, session=self._session, applied=self._end.applied)])
        return connection

    def _lost(self) -> None:
        self.connected = False
        self.connection.up.end()
        self.sim.note(self.name, "connection lost")
        self.sim.after(self._rng.choice(REJOIN_S), self._rejoin)

    def _rejoin(self) -> None:
        self._connect()

    def _enter(self, registered: Registered) -> None:
        first = not self._session
        back = registered.session == self._session and self._end.can_resume(registered.applied)
        if not back:
            self._end = SessionEnd()
            if not first:
                self.n_lost += 1
                self._forget_scatters(list(self.states))
                self.states.clear()
                self.sim.note(self.name, "session over")
        self._session = registered.session
        self.connected = True
        for header, messages in self._end.resume(registered.applied if back else 0):
            self.connection.up.send([header, *messages])
        outgoing, self._outgoing = self._outgoing, []
        for message in outgoing:
            self._send(message)

    def _hear(self, batch: list[Any]) -> None:
        if type(batch[0]) is Registered:
            self._enter(batch[0])
            return
        fresh = self._end.receive(batch)
        assert not self._end.fault, f"{self.name}: {self._end.fault}"
        for message in fresh:
            self.sim.note(f"to {self.name}", message)
            self._learn(message)

    def _learn(self, message: Any) -> None:
        states = self.states
        match message:
            case KeyInMemory():
                if message.key in states:
                    states[message.key] = "finished"
            case KeyErred():
                if message.key in states:
                    states[message.key] = "error"
            case KeysCancelled():
                self._give_up(message.keys)
            case KeysLost() | KeysRetried():
                status, before = ("lost", "finished") if type(message) is KeysLost else ("pending", "error")
                for key in message.keys:
                    if states.get(key) == before:
                        states[key] = status
            case ClusterRestarted():
                self._give_up(list(states))

    # what the user does

    def submit(self, update: UpdateGraph, wanted: Iterable[Key]) -> None:
        """One part of a graph; ``wanted`` are the keys of it that get futures."""
        for key in wanted:
            self.states.setdefault(key, "pending")
            self._unheld.pop(key, None)
        self._send(update)

    def next_submission(self) -> int:
        """A number for all parts of a submission."""
        self._submission += 1
        return self._submission

    def release(self, keys: Iterable[Key]) -> None:
        """The last futures of these are gone; those of a scatter that goes on are not yet."""
        busy = list(self._scatters.values())
        self._let_go.update({key: None for key in keys if key in busy and key in self.states})
        self._give_up([key for key in keys if key not in busy])

    def _give_up(self, keys: Iterable[Key]) -> None:
        keys = list(keys)
        self._forget_scatters(keys)
        known = [key for key in keys if self.states.pop(key, None) is not None]
        if known:
            self._send(ReleaseKeys(known))

    def cancel(self, keys: Iterable[Key], force: bool) -> None:
        """Their futures are cancelled at once."""
        known = [key for key in keys if key in self.states]
        if known:
            self._send(CancelKeys(known, force))
            self._forget_scatters(known)
            for key in known:
                del self.states[key]

    def want(self, keys: Iterable[Key]) -> None:
        """Futures of keys that may exist."""
        new = [key for key in keys if key not in self.states]
        if new:
            self.states.update(dict.fromkeys(new, "pending"))
            self._send(WantKeys(new))

    def retry(self, keys: Iterable[Key]) -> None:
        """Those that have failed are pending again."""
        failed = [key for key in keys if self.states.get(key) == "error"]
        if failed:
            self.states.update(dict.fromkeys(failed, "pending"))
            self._send(RetryKeys(failed))

    def fire(self, keys: Iterable[Key]) -> None:
        """Let them run though nobody waits."""
        known = [key for key in keys if key in self.states]
        if known:
            self._send(FireAndForget(known))
            self.release(known)

    def announce(self, key: Key) -> int:
        """A value of this client is about to be put on workers. Returns the number of the scatter."""
        self._n_scatters += 1
        self._scatters[self._n_scatters] = key
        if key not in self.states:
            self.states[key] = "pending"
            self._unheld[key] = None
        self._send(DataAnnounced(self._n_scatters, [key]))
        return self._n_scatters

    def scattered(self, number: int, key: Key, holders: tuple[str, ...], nbytes: int) -> None:
        """These workers have taken it; none: it has failed."""
        live = self._scatters.pop(number, None) is not None
        if holders:
            self._send(DataScattered([ReplicaOnWorkers(key, holders, nbytes)], number))
            if live:
                self._unheld.pop(key, None)
                self.states[key] = "finished"
        if live and key not in self._scatters.values() and (key in self._let_go or key in self._unheld):
            self._give_up([key])
        if not holders:
            self._send(DataWithdrawn(number, [key]))

    def _forget_scatters(self, keys: Iterable[Key]) -> None:
        """The futures of these scatters are cancelled, or given up by all."""
        for key in keys:
            self._let_go.pop(key, None)
            self._unheld.pop(key, None)
            if key in self._scatters.values():
                self._scatters = {number: other for number, other in self._scatters.items() if other != key}

    def _send(self, message: Any) -> None:
        if not self._session:
            self._outgoing.append(message)
            return
        header = self._end.push([message])
        if self.connected:
            self.connection.up.send([header, message])
