"""The scheduler's half of shuffles: the real plan, and a model of the shell that asks it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.shuffle.plan import EndRun, Instruction, Pin, ShufflePlan
from distributed.shuffle.scheduling import (
    DONE,
    RunWatch,
    barrier_of,
    choose_holders,
    events_of,
    lost_of_partner,
    partner_of,
)
from distributed.simulation.host import Host
from distributed.simulation.links import Connection
from distributed.simulation.shuffle_messages import Answer, Ask

LATER_S = 0.01


class ShuffleHost:
    """Answers workers, and looks after each pass of the scheduler whether runs are over."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.plan = ShufflePlan()
        self._watches: list[RunWatch] = []
        self._told: dict[str, dict[str, None]] = {}
        self._looking = False
        host.on_ask = self.asked
        host.on_pass = self.look

    def asked(self, connection: Connection, ask: Ask) -> None:
        """One question; the answer goes down the same connection."""

        def answer(value: Any) -> None:
            connection.down.send([Answer(ask.number, value)])

        state = self.host.core
        if ask.op == "get":
            self._get(connection.name, ask, answer)
        elif ask.op == "barrier":
            instructions = self.plan.pass_barrier(ask.shuffle, ask.run_ids)
            passed = any(type(it) is Pin for it in instructions)
            self._perform(instructions)
            answer(passed)
        else:
            ts = barrier_of(state, ask.shuffle)
            if ts is not None and ts.state == "memory":
                self._perform(self.plan.check_passed(ask.shuffle))
            answer(None)

    def _get(self, worker: str, ask: Ask, answer: Callable[[Any], None]) -> None:
        state = self.host.core
        ts = barrier_of(state, ask.shuffle)
        if ts is None and any(cs.pins for cs in state.clients.values()):  # its graph may still be coming in
            self.host.sim.after(LATER_S, lambda: self._get(worker, ask, answer))
            return
        if ts is None or ts.run_spec is None or ts.state in DONE:
            answer(None)
            return
        run = self.plan.runs.get(ask.shuffle)
        if run is None and ask.may_open:
            partner = partner_of(self.plan, ts)
            self._perform(lost_of_partner(state, self.plan, partner))
            run = self.plan.open(ask.shuffle, choose_holders(state, ts), partner)
            self._watches.append(RunWatch(state, run, ts))
        if run is not None:
            self._told.setdefault(ask.shuffle, {})[worker] = None
        answer(None if run is None else (run.run_id, run.holders))

    def look(self) -> None:
        """Conclude the runs that are over."""
        if self._looking:
            return
        self._looking = True
        state = self.host.core
        while over := [watch for watch in self._watches if watch.is_over(state, self.plan)]:
            for watch in over:
                self._watches.remove(watch)
                self._perform(watch.conclude(state, self.plan))
        self._looking = False

    def _perform(self, instructions: list[Instruction]) -> None:
        for it in instructions:
            self.host.sim.note("shuffle", it)
            if isinstance(it, EndRun):
                self._end(it)
            elif events := events_of(self.host.core, it):
                self.host.apply([*events], "")

    def _end(self, it: EndRun) -> None:
        for address in {**dict.fromkeys(it.holders), **self._told.pop(it.shuffle_id, {})}:
            member = self.host.workers.get(address)
            if member is not None:  # (Really a question, which is asked again when its connection breaks.)
                member.send([it])
