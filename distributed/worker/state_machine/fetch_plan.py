"""Which keys to ask from whom. Pure.

Each holder is asked one thing at a time, and as much at once as fits into a batch. A key in state *fetch* waits in the
heap of each of its holders (by priority, lazily deleted: an entry counts while the key is in *fetch* and the holder
still among its holders). Two lists say what to look at next: ``fresh`` keys, for which a holder is yet to be chosen,
and ``idle`` holders, which have just become free and may have keys waiting. A key that is in neither waits for a
holder that is busy or *suspect*, and each of those comes back to ``idle``: so nothing is ever left behind.

A holder on this worker's host is preferred, else chance decides, which spreads a popular key's readers over its copies.
A peer that cannot be reached is suspect for a while that doubles each time, so a broken link costs little.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import TypeAlias

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.scheduler_to_worker import Priority
from distributed.worker.state_machine.task import FETCH, FetchState, TaskState

Entry: TypeAlias = tuple[Priority, int, TaskState]


class Flight(Struct, eq=False):
    """One request that is under way."""

    keys: list[Key]
    since: float
    nbytes: int


class Suspect(Struct, eq=False):
    """A peer that could not be reached, until when it is left alone, and why."""

    until: float
    pause_s: float
    reason: str


class FetchPlan:
    """Tables of the fetches; changed by ``transitions/fetch.py``."""

    __slots__ = (
        "_serial",
        "batch_nbytes",
        "by_holder",
        "flights",
        "flying_nbytes",
        "fresh",
        "host",
        "idle",
        "rng",
        "suspects",
    )

    def __init__(self, batch_nbytes: int, host: str, rng: Random) -> None:
        self.batch_nbytes = batch_nbytes
        self.host = host
        self.rng = rng
        self.by_holder: dict[str, list[Entry]] = {}
        self.fresh: list[Entry] = []
        self.idle: dict[str, None] = {}
        self.flights: dict[str, Flight] = {}
        self.flying_nbytes = 0
        self.suspects: dict[str, Suspect] = {}
        self._serial = 0

    def add(self, ts: TaskState, fetch: FetchState) -> None:
        """Plan for a key that has come to *fetch*, or has new holders or a better priority there."""
        self._serial = serial = self._serial + 1
        entry = (ts.priority, serial, ts)
        heappush(self.fresh, entry)
        for holder in fetch.holders:
            heappush(self.by_holder.setdefault(holder, []), entry)

    def free(self, holder: str) -> bool:
        """Whether this peer may be asked now."""
        return holder not in self.flights and self.suspicion(holder) is None

    def suspicion(self, holder: str) -> Suspect | None:
        """The reason to leave a peer alone, if there is one now."""
        suspect = self.suspects.get(holder)
        return suspect if suspect is not None and suspect.until > 0 else None

    def choose_holder(self, fetch: FetchState) -> str | None:
        """Whom to ask for a key: a free holder on this host, else a free one by chance, else nobody yet."""
        free = [holder for holder in fetch.holders if self.free(holder)]
        if len(free) > 1:
            near = [holder for holder in free if host_of(holder) == self.host]
            free = near or free
            if len(free) > 1:
                return free[self.rng.randrange(len(free))]
        return free[0] if free else None

    def next_request(self) -> tuple[str, TaskState] | None:
        """Whom to ask next, and the first key to ask for; None when all wait for busy or suspect peers."""
        while self.fresh:
            ts = heappop(self.fresh)[2]
            if ts.state is FETCH and ts.fetch is not None:
                holder = self.choose_holder(ts.fetch)
                if holder is not None:
                    return holder, ts
        while self.idle:
            holder = next(iter(self.idle))
            del self.idle[holder]
            if self.free(holder):
                first = self._first(holder)
                if first is not None:
                    return holder, first
        return None

    def batch(self, holder: str, first: TaskState) -> tuple[list[TaskState], int]:
        """``first`` and what else to ask from this holder with it, and their known bytes; best priority first."""
        batch = [first]
        total = max(first.nbytes, 0)
        chosen = {id(first)}
        while total < self.batch_nbytes:
            ts = self._first(holder)
            if ts is None:
                break
            if id(ts) not in chosen:
                nbytes = max(ts.nbytes, 0)
                if total + nbytes > self.batch_nbytes:
                    break
                total += nbytes
                chosen.add(id(ts))
                batch.append(ts)
            self._drop_first(holder)
        return batch, total

    def suspect(self, holder: str, reason: str, now: float, first_s: float, max_s: float) -> float:
        """Leave a peer alone from now on; returns until when."""
        known = self.suspects.get(holder)
        pause_s = first_s if known is None else min(known.pause_s * 2, max_s)
        self.suspects[holder] = Suspect(now + pause_s, pause_s, reason)
        return now + pause_s

    def pardon(self, now: float) -> float | None:
        """Ask suspects again whose time has come (their record stays until they answer); returns the next time."""
        earliest: float | None = None
        for holder, suspect in self.suspects.items():
            if suspect.until > now:
                earliest = suspect.until if earliest is None else min(earliest, suspect.until)
            elif suspect.until > 0:
                suspect.until = 0.0
                self.idle[holder] = None
        return earliest

    def has_waiting(self, holder: str) -> bool:
        """Whether a key waits for this holder."""
        return self._first(holder) is not None

    def waiting_for(self, holder: str) -> list[TaskState]:
        """The keys that wait for this holder, perhaps among others; best priority first."""
        entries = sorted(self.by_holder.get(holder, ()), key=lambda entry: entry[:2])
        found = {id(ts): ts for _, _, ts in entries if ts.state is FETCH and ts.fetch and holder in ts.fetch.holders}
        return list(found.values())

    def _first(self, holder: str) -> TaskState | None:
        heap = self.by_holder.get(holder)
        while heap:
            ts = heap[0][2]
            if ts.state is FETCH and ts.fetch is not None and holder in ts.fetch.holders:
                return ts
            heappop(heap)
        if heap is not None:
            del self.by_holder[holder]
        return None

    def _drop_first(self, holder: str) -> None:
        heap = self.by_holder[holder]
        heappop(heap)
        if not heap:
            del self.by_holder[holder]


def host_of(address: str) -> str:
    """The host part of an address: ``10.0.0.1`` of ``tcp://10.0.0.1:8786``; addresses without one share ``""``."""
    scheme, _, rest = address.rpartition("://")
    if scheme in ("inproc", "unix"):
        return ""
    return rest.rpartition(":")[0] or rest
