"""A client: what it wants, what it has been told, and a connection that may break. Pure.

After a broken connection its futures are cancelled and it joins again under its old name, as the product does today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    DataScattered,
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
from distributed.simulation.links import Connection
from distributed.simulation.simulator import Simulator

NOT_DONE = frozenset(["pending", "lost"])
REJOIN_S = 0.05


class SimClient:
    """One client.

    Attributes
    ----------
    states
        Of each key that it holds futures of: ``pending``, ``finished``, ``error`` or ``lost``. Cancelled ones are gone.
    n_lost
        How often its connection broke.
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
        self.connection = self._connect()

    def _connect(self) -> Connection:
        connection = Connection(self.sim, f"{self.name} {self.sim.now!r}", self._delays_s)
        connection.down.deliver = self._hear
        connection.down.on_end = self._lost
        self._accept(connection)
        self.connection = connection
        connection.up.send([RegisterClient(self.name)])
        return connection

    def _lost(self) -> None:
        self.connected = False
        self.n_lost += 1
        self.connection.up.end()
        self._outgoing.clear()
        self.states.clear()
        self.sim.note(self.name, "connection lost")
        self.sim.after(REJOIN_S, self._rejoin)

    def _rejoin(self) -> None:
        self._connect()

    def _hear(self, batch: list[Any]) -> None:
        for message in batch:
            kind = type(message)
            if kind is Registered:
                self.connected = True
                self.connection.up.send(self._outgoing)
                self._outgoing = []
                continue
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
                self.release(message.keys)
            case KeysLost() | KeysRetried():
                status, before = ("lost", "finished") if type(message) is KeysLost else ("pending", "error")
                for key in message.keys:
                    if states.get(key) == before:
                        states[key] = status
            case ClusterRestarted():
                self.release(list(states))

    # what the user does

    def submit(self, update: UpdateGraph, wanted: Iterable[Key]) -> None:
        """One part of a graph; ``wanted`` are the keys of it that get futures."""
        for key in wanted:
            self.states.setdefault(key, "pending")
        self._send(update)

    def next_submission(self) -> int:
        """A number for all parts of a submission."""
        self._submission += 1
        return self._submission

    def release(self, keys: Iterable[Key]) -> None:
        """The last futures of these are gone."""
        known = [key for key in keys if self.states.pop(key, None) is not None]
        if known:
            self._send(ReleaseKeys(known))

    def cancel(self, keys: Iterable[Key], force: bool) -> None:
        """Their futures are cancelled at once."""
        known = [key for key in keys if key in self.states]
        if known:
            self._send(CancelKeys(known, force))
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

    def scattered(self, key: Key, holders: tuple[str, ...], nbytes: int) -> None:
        """Workers have taken a value of this client."""
        self.states[key] = "finished"
        self._send(DataScattered([ReplicaOnWorkers(key, holders, nbytes)]))

    def _send(self, message: Any) -> None:
        if self.connected:
            self.connection.up.send([message])
        else:
            self._outgoing.append(message)
