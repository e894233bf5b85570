"""Which shuffles are under way, who holds what of them, and what has to happen when a holder is lost. Pure.

Theory. A shuffle is three groups of tasks: *transfers*, which split their inputs and send the pieces to the workers
that hold the output partitions; one *barrier*, which all transfers precede; *unpacks*, which take one partition each.
Only transfers and unpacks touch data. A *run* is one attempt: a fixed tuple of holders, and a number that grows with
each run of any shuffle. Partition ``p`` lies with ``holders[p % len(holders)]``; nobody needs to be told more.

======== ===================================== =========================================
phase    ends by                               then
======== ===================================== =========================================
transfer ``pass_barrier`` with this run only   unpack; every known unpack is pinned
transfer ``pass_barrier`` with other runs too  the run is void (see below)
any      ``lose_holder``                       the run is void
any      ``end`` (nobody needs the barrier)    all holders forget the run
======== ===================================== =========================================

A void run is ended, and transfers and barrier are computed again; the first transfer that asks opens the next run. What
was sent for a void run is refused by its number, so no piece of it can be mistaken for one of the new run. Within a run
holders drop what they have got before, so a transfer may run any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

TRANSFER = "transfer"
UNPACK = "unpack"


class EndRun(Struct, frozen=True):
    """Tell these holders, and whoever has sent to them, to forget the run."""

    shuffle_id: str
    run_id: int
    holders: tuple[str, ...]
    reason: str


class Recompute(Struct, frozen=True):
    """Transfers and barrier of the shuffle have to run again as far as they are needed."""

    shuffle_id: str
    reason: str


class Pin(Struct, frozen=True):
    """Each unpack of the shuffle goes to the holder of its partition."""

    shuffle_id: str
    run_id: int
    holders: tuple[str, ...]


Instruction = EndRun | Recompute | Pin


class Run(Struct):
    """One attempt at a shuffle."""

    shuffle_id: str
    run_id: int
    holders: tuple[str, ...]
    phase: str = TRANSFER

    def holder_of(self, partition: int) -> str:
        """Address of the worker that holds the partition."""
        return self.holders[partition % len(self.holders)]


class ShufflePlan:
    """The shuffles of one scheduler."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.last_run_id = 0

    def open(self, shuffle_id: str, workers: Iterable[str], partner: str | None = None) -> Run:
        """The present run of a shuffle; a new one when there is none.

        Parameters
        ----------
        workers
            Those that may hold partitions of a new run; at least one.
        partner
            A shuffle whose unpacks are also this one's (the other side of a join): its holders are taken over, so that
            both sides of each partition meet.
        """
        run = self.runs.get(shuffle_id)
        if run is not None:
            return run
        other = self.runs.get(partner) if partner is not None else None
        holders = other.holders if other is not None else tuple(workers)
        if not holders:
            raise ValueError(f"no worker can hold partitions of shuffle {shuffle_id}")
        self.last_run_id += 1
        run = self.runs[shuffle_id] = Run(shuffle_id, self.last_run_id, holders)
        return run

    def pass_barrier(self, shuffle_id: str, run_ids: Iterable[int]) -> list[Instruction]:
        """All transfers are done, each for the run that it names. Pins the unpacks, or voids the run."""
        run = self.runs.get(shuffle_id)
        if run is None:
            return [Recompute(shuffle_id, "its run has ended")]
        if any(run_id != run.run_id for run_id in run_ids):
            return self._void(run, "some inputs were sent for an earlier run")
        run.phase = UNPACK
        return [Pin(shuffle_id, run.run_id, run.holders)]

    def check_passed(self, shuffle_id: str) -> list[Instruction]:
        """The barrier counts as done: then its run must be here, and past it. If not, all is computed again."""
        run = self.runs.get(shuffle_id)
        if run is None:
            return [Recompute(shuffle_id, "its run has ended")]
        return [] if run.phase == UNPACK else self._void(run, "its barrier was passed by an earlier run")

    def lose_holder(self, address: str) -> list[Instruction]:
        """A worker is gone, and what it held with it."""
        found: list[Instruction] = []
        for run in list(self.runs.values()):
            if address in run.holders:
                found += self._void(run, f"{address}, which held a part of it, is gone")
        return found

    def end(self, shuffle_id: str, reason: str) -> list[Instruction]:
        """Nobody needs the shuffle any more."""
        run = self.runs.pop(shuffle_id, None)
        return [] if run is None else [EndRun(shuffle_id, run.run_id, run.holders, reason)]

    def _void(self, run: Run, reason: str) -> list[Instruction]:
        return [*self.end(run.shuffle_id, reason), Recompute(run.shuffle_id, reason)]
