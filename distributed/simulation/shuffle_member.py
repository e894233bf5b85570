"""A worker's half of shuffles: what it holds of runs, and what transfers, barriers and unpacks do. Pure.

A holder keeps the numbers of the inputs whose pieces have come; an unpack that succeeds must find all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from distributed.shuffle.names import barrier_key
from distributed.shuffle.plan import EndRun
from distributed.simulation.network import Network
from distributed.simulation.script import TaskPlan, as_key
from distributed.simulation.shuffle_messages import Answer, Ask
from distributed.simulation.simulator import Simulator

ENDED = "ended"
AGAIN_S = 0.5

Done = Callable[[int | None], None]
"""Takes the value of a task; None: it is to run again, elsewhere perhaps."""


class Home(Protocol):
    """The process that a member is part of."""

    address: str
    alive: bool
    sim: Simulator

    def awake(self, act: Callable[[], None]) -> None:
        """Do it now, when the process thaws, or never."""


class Share:
    """A run as a worker knows it. ``sources``: inputs whose pieces lie here."""

    __slots__ = ("holders", "run_id", "sources")

    def __init__(self, run_id: int, holders: tuple[str, ...]) -> None:
        self.run_id = run_id
        self.holders = holders
        self.sources: dict[int, None] = {}


class ShuffleMember:
    """What one process knows of shuffles.

    Parameters
    ----------
    send
        To the scheduler.
    inputs_of
        How many inputs a shuffle has.
    """

    def __init__(
        self, home: Home, network: Network, send: Callable[[Ask], None], inputs_of: Callable[[str], int]
    ) -> None:
        self.home = home
        self.shares: dict[str, Share] = {}
        self._network = network
        self._send = send
        self._inputs_of = inputs_of
        self._n_asked = 0
        self._asked: dict[int, tuple[Ask, Callable[[Any], None]]] = {}

    # the scheduler

    def answered(self, answer: Answer) -> None:
        """The scheduler's answer has come."""
        _, then = self._asked.pop(answer.number, (None, None))
        if then is not None:  # else it was asked twice
            then(answer.value)

    def ask_again(self) -> None:
        """The connection broke, and another one stands."""
        for ask, _ in list(self._asked.values()):
            self._send(ask)

    def ended(self, it: EndRun) -> None:
        """The scheduler has ended a run."""
        share = self.shares.get(it.shuffle_id)
        if share is not None and share.run_id <= it.run_id:
            del self.shares[it.shuffle_id]

    def _ask(self, then: Callable[[Any], None], op: str, shuffle: str, **facts: Any) -> None:
        self._n_asked += 1
        ask = Ask(self._n_asked, op, shuffle, **facts)
        self._asked[self._n_asked] = (ask, then)
        self._send(ask)

    def _share(self, shuffle: str, at_least: int, may_open: bool, then: Callable[[Share | None], None]) -> None:
        known = self.shares.get(shuffle)
        if known is not None and known.run_id >= at_least:
            then(known)
            return

        def found(value: Any) -> None:
            known = self.shares.get(shuffle)
            if value is not None and (known is None or known.run_id < value[0]):
                known = self.shares[shuffle] = Share(*value)
            then(known if value is not None else None)

        self._ask(found, "get", shuffle, may_open=may_open)

    # asked by others

    def receive(self, shuffle: str, run_id: int, source: int, reply: Callable[[Any], None]) -> None:
        """Keep the pieces of an input."""

        def keep(share: Share) -> Any:
            share.sources[source] = None

        self._with_run(shuffle, run_id, keep, reply)

    def sources(self, shuffle: str, run_id: int, reply: Callable[[Any], None]) -> None:
        """Which inputs lie here."""
        self._with_run(shuffle, run_id, lambda share: tuple(share.sources), reply)

    def _with_run(self, shuffle: str, run_id: int, act: Callable[[Share], Any], reply: Callable[[Any], None]) -> None:
        def found(share: Share | None) -> None:
            reply(act(share) if share is not None and share.run_id == run_id else ENDED)

        self._share(shuffle, run_id, False, found)

    # tasks

    def work(self, plan: TaskPlan, values: list[int], done: Done) -> None:
        """Do what a task of a shuffle does.

        Parameters
        ----------
        values
            Of its inputs, as far as they belong to shuffles: the runs that these were for.
        """
        shuffle = plan.shuffles[0]
        if plan.behaviour == "transfer":
            self._share(shuffle, 0, True, lambda share: self._transfer(plan, share, done))
        elif plan.behaviour == "barrier":
            self._share(shuffle, 0, False, lambda share: self._barrier(shuffle, share, values, done))
        else:
            self._unpack(plan, list(zip(plan.shuffles, values, strict=True)), done)

    def _transfer(self, plan: TaskPlan, share: Share | None, done: Done) -> None:
        if share is None:
            done(None)
            return
        shuffle, source, run_id = plan.shuffles[0], plan.part, share.run_id
        self._ask_all(
            shuffle, share, lambda peer, reply: peer.receive(shuffle, run_id, source, reply),
            lambda answers: done(None if ENDED in answers else run_id),
        )  # fmt: skip

    def _barrier(self, shuffle: str, share: Share | None, values: list[int], done: Done) -> None:
        if share is None:
            done(None)
            return
        run_id, named = share.run_id, tuple(sorted(set(values)))

        def settled(answers: list[Any]) -> None:
            if ENDED in answers:
                done(None)
            else:
                self._ask(lambda passed: done(run_id if passed else None), "barrier", shuffle, run_ids=named)

        if named == (run_id,):
            self._ask_all(shuffle, share, lambda peer, reply: peer.sources(shuffle, run_id, reply), settled)
        else:
            settled([])

    def _unpack(self, plan: TaskPlan, left: list[tuple[str, int]], done: Done) -> None:
        if not left:
            done(plan.part)
            return
        shuffle, run_id = left[0]

        def read(answers: list[Any]) -> None:
            if ENDED in answers:
                done(None)
                return
            n = self._inputs_of(shuffle)
            whole = sorted(answers[0]) == list(range(n))
            assert whole, f"I9 an output is put together of all inputs: {plan.key} got {answers[0]} of {n}"
            self._unpack(plan, left[1:], done)

        def found(share: Share | None) -> None:
            if share is None or share.run_id != run_id:
                self._ask(lambda _: done(None), "check", shuffle)
                return
            holder = share.holders[plan.part % len(share.holders)]
            one = Share(run_id, (holder,))
            self._ask_all(shuffle, one, lambda peer, reply: peer.sources(shuffle, run_id, reply), read)

        self._share(shuffle, run_id, False, found)

    def _ask_all(
        self,
        shuffle: str,
        share: Share,
        serve: Callable[[ShuffleMember, Callable[[Any], None]], None],
        then: Callable[[list[Any]], None],
    ) -> None:
        """Ask each holder, again while it cannot be reached and the run goes on."""
        answers: list[Any] = []
        n = len(share.holders)

        def answered(answer: Any) -> None:
            answers.append(answer)
            if len(answers) == n:
                then(answers)

        def ask(holder: str) -> None:
            known = self.shares.get(shuffle)
            if known is None or known.run_id != share.run_id:
                answered(ENDED)
            elif holder == self.home.address:
                serve(self, answered)
            else:
                self._network.ask(
                    self.home.address, holder, lambda peer: peer.shuffle,
                    lambda answer: self.home.awake(lambda: answered(answer)),
                    lambda: self.home.sim.after(AGAIN_S, lambda: self.home.awake(lambda: ask(holder))),
                    serve_later=serve,
                )  # fmt: skip

        for holder in share.holders:
            ask(holder)


def inputs_of(plans: dict[Any, TaskPlan], shuffle: str) -> int:
    """How many inputs a shuffle has."""
    return len(plans[as_key(barrier_key(shuffle))].needs)
