"""Leases: what a client holds for a while, and keeps by saying so again. Pure.

A lease is a number that is never given twice, so whoever comes late with an old one frees nothing. It ends when it is
given back, when its client is gone, or when it was not renewed for ``timeout_s``. Stale ones are looked for every
``check_interval_s``, and only while there are leases.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Lease:
    """One thing in one client's hands."""

    __slots__ = ("client", "id", "renewed", "table", "thing")

    def __init__(self, id: int, client: str, table: LeaseTable, thing: Any, now: float) -> None:
        self.id = id
        self.client = client
        self.table = table
        self.thing = thing
        self.renewed = now

    def __repr__(self) -> str:
        return f"<Lease {self.id} of {self.client} on {self.thing!r}>"


class LeaseTable(Protocol):
    """A table that grants leases."""

    def take_back(self, lease: Lease, now: float) -> None:
        """The lease has ended; let the next waiter have it."""


class Leases:
    """The leases of one scheduler, by client.

    Parameters
    ----------
    timeout_s
        A lease that was not renewed for so long is stale; None: it never is.
    check_interval_s
        How often stale ones are looked for.
    """

    def __init__(self, timeout_s: float | None, check_interval_s: float) -> None:
        self.timeout_s = timeout_s
        self.check_interval_s = check_interval_s
        self._by_client: dict[str, dict[int, Lease]] = {}
        self._last_id = 0
        self._next_check: float | None = None

    def __len__(self) -> int:
        return sum([len(leases) for leases in self._by_client.values()])

    def all(self) -> list[Lease]:
        """Every lease, by client and age."""
        return [lease for leases in self._by_client.values() for lease in leases.values()]

    def of_client(self, client: str) -> list[Lease]:
        """Those of one client, oldest first."""
        return list(self._by_client.get(client, {}).values())

    def grant(self, client: str, table: LeaseTable, thing: Any, now: float) -> Lease:
        """A new lease."""
        self._last_id += 1
        lease = Lease(self._last_id, client, table, thing, now)
        self._by_client.setdefault(client, {})[lease.id] = lease
        if self._next_check is None and self.timeout_s is not None:
            self._next_check = now + self.check_interval_s
        return lease

    def find(self, client: str, id: int) -> Lease | None:
        """The lease, if this client has it (still)."""
        return self._by_client.get(client, {}).get(id)

    def drop(self, lease: Lease) -> None:
        """It has ended."""
        of_client = self._by_client[lease.client]
        del of_client[lease.id]
        if not of_client:
            del self._by_client[lease.client]

    def renew(self, client: str, ids: Iterable[int], now: float) -> list[int]:
        """The client is alive and holds these. Returns those that it does not have (any more)."""
        lost = []
        for id in ids:
            lease = self.find(client, id)
            if lease is None:
                lost.append(id)
            else:
                lease.renewed = now
        return lost

    def client_left(self, client: str, now: float) -> None:
        """All that the client holds is free again."""
        for lease in self.of_client(client):
            self.drop(lease)
            lease.table.take_back(lease, now)

    def next_deadline(self) -> float | None:
        """When to look for stale leases."""
        return self._next_check

    def handle_deadline(self, now: float) -> list[Lease]:
        """End the stale ones, and return them."""
        if self._next_check is None or now < self._next_check or self.timeout_s is None:
            return []
        limit = now - self.timeout_s
        stale = [lease for lease in self.all() if lease.renewed <= limit]
        for lease in stale:
            self.drop(lease)
        # The next check is fixed before others are given what is free: theirs are leases, too.
        self._next_check = now + self.check_interval_s if self._by_client else None
        for lease in stale:
            lease.table.take_back(lease, now)
        return stale
