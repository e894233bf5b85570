"""The network between workers (and from clients to workers): questions that are answered, or fail. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol

from distributed.simulation.simulator import Simulator

TIMEOUT_S = 1.0


class Peer(Protocol):
    """A process that can be asked."""

    address: str
    alive: bool

    def awake(self, act: Callable[[], None]) -> None:
        """Do it now, or when the process thaws, or never if it dies before."""

    def when_joined(self, act: Callable[[], None]) -> None:
        """The same, and not before the scheduler knows the process."""


class _Question:
    """One request under way; ``fail`` is called if it can have no answer. ``broken``: its connection is gone, so that
    it reaches nobody if it has not yet, not even a successor at the same address."""

    __slots__ = ("asker", "broken", "done", "fail", "peer")

    def __init__(self, asker: str, peer: str, fail: Callable[[], None]) -> None:
        self.asker = asker
        self.peer = peer
        self.fail = fail
        self.broken = False
        self.done = False


class Network:
    """Who can be reached by whom."""

    def __init__(self, sim: Simulator, delays_s: Sequence[float]) -> None:
        self.peers: dict[str, Peer] = {}
        self._sim = sim
        self._rng: Random = sim.stream("network")
        self._delays_s = delays_s
        self._cuts: Counter[frozenset[str]] = Counter()
        self._questions: list[_Question] = []

    def ask(
        self, asker: str, address: str, serve: Callable[[Any], Any], answer: Callable[[Any], None],
        fail: Callable[[], None], joined: bool = False,
        serve_later: Callable[[Any, Callable[[Any], None]], None] | None = None,
    ) -> None:  # fmt: skip
        """Have ``serve(peer)`` run there, and ``answer(result)`` or ``fail()`` here, a while later; with ``joined``,
        not before the scheduler knows the peer. ``serve_later(result of serve, reply)``: the answer takes its time."""
        question = _Question(asker, address, fail)
        self._questions.append(question)

        def served(peer: Any) -> None:
            def reply(result: Any) -> None:
                self._sim.after(self.delay(), lambda: self._finish(question, lambda: answer(result)))

            if serve_later is None:
                reply(serve(peer))
            else:
                serve_later(serve(peer), reply)

        self._sim.after(self.delay(), lambda: self._arrive(question, served, joined))

    def partition(self, one: str, other: str, for_s: float) -> None:
        """These two cannot reach each other for a while; what is under way between them fails."""
        pair = frozenset((one, other))
        self._cuts[pair] += 1
        self._sim.after(for_s, lambda: self._cuts.subtract([pair]))
        for question in self._questions[:]:
            if {question.asker, question.peer} == pair:
                self._fail(question)

    def abort(self, asker: str, address: str) -> None:
        """The asker waits no longer for this peer."""
        for question in self._questions[:]:
            if question.asker == asker and question.peer == address:
                self._sim.after(0.0, partial(self._finish, question, question.fail))

    def heal(self) -> None:
        """No partition from now on."""
        self._cuts.clear()

    def gone(self, address: str) -> None:
        """A process has died: nobody gets an answer from it."""
        self.peers.pop(address, None)
        for question in self._questions[:]:
            if question.peer == address:
                self._fail(question)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way."""
        return not self._questions

    def _arrive(self, question: _Question, serve: Callable[[Any], None], joined: bool) -> None:
        if question.done or question.broken:
            return
        peer = self.peers.get(question.peer)
        if peer is None or self._cuts[frozenset((question.asker, question.peer))] > 0:
            self._fail(question)
            return

        (peer.when_joined if joined else peer.awake)(partial(serve, peer))

    def _finish(self, question: _Question, then: Callable[[], None]) -> None:
        if not question.done:
            question.done = True
            self._questions.remove(question)
            then()

    def _fail(self, question: _Question) -> None:
        question.broken = True
        delay_s = self._rng.choice((self.delay(), TIMEOUT_S))
        self._sim.after(delay_s, lambda: self._finish(question, question.fail))

    def delay(self) -> float:
        """How long something takes to get through."""
        return self._rng.choice(self._delays_s)
