"""All tables of one scheduler, with the verbs of a core: requests and facts in, answers out. Pure.

::

    tables.request("queue_put", Waiter("client", number, timeout_s), now, name="q", value=..., keys=[])
    for waiter, answer in tables.waiters.take_answers(): ...
    want, release = tables.held.take_changes()

``next_deadline`` says when ``handle_deadline`` wants to be called; nothing is periodic while nobody holds or waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.base.keys import as_key
from distributed.coordination.event import Events
from distributed.coordination.held_keys import HeldKeys
from distributed.coordination.leases import Lease, Leases
from distributed.coordination.multi_lock import MultiLocks
from distributed.coordination.pubsub import PubSub
from distributed.coordination.queues import Queues
from distributed.coordination.semaphore import Semaphores
from distributed.coordination.variable import Variables
from distributed.coordination.waiters import Table, Waiter, Waiters


class Tables:
    """Semaphores (and locks), multi-locks, events, queues, variables, topics, and what they share.

    Parameters
    ----------
    lease_timeout_s, check_interval_s
        See :class:`Leases`.
    """

    def __init__(self, lease_timeout_s: float | None = 30.0, check_interval_s: float = 10.0) -> None:
        self.waiters = Waiters()
        self.leases = Leases(lease_timeout_s, check_interval_s)
        self.held = HeldKeys()
        self.semaphores = Semaphores(self.waiters, self.leases)
        self.multi_locks = MultiLocks(self.waiters, self.leases)
        self.events = Events(self.waiters)
        self.queues = Queues(self.waiters, self.held)
        self.variables = Variables(self.waiters, self.held)
        self.pubsub = PubSub(self.waiters, self.held)
        self.stale: list[Lease] = []
        self.operations = self._operations()

    def _operations(self) -> dict[str, Callable[..., None]]:
        verbs: dict[str, tuple[Any, str]] = {
            "semaphore": (self.semaphores, "register acquire release value close"),
            "multi_lock": (self.multi_locks, "acquire release"),
            "event": (self.events, "wait set clear is_set"),
            "queue": (self.queues, "put get give_back size close"),
            "variable": (self.variables, "set get delete"),
            "pubsub": (self.pubsub, "subscribe unsubscribe subscribers put get"),
        }
        operations = {
            f"{kind}_{verb}": getattr(table, verb) for kind, (table, names) in verbs.items() for verb in names.split()
        }
        operations["lease_renew"] = self._renew
        operations["coordination_withdraw"] = self._withdraw
        operations["coordination_arrived"] = self._arrived
        return operations

    def request(self, op: str, waiter: Waiter, now: float, **kwargs: Any) -> None:
        """One request; its answer is among ``waiters.take_answers()``, now or later. Raises when it is refused."""
        verb = self.operations.get(op)
        if verb is None:
            raise ValueError(f"unknown operation {op!r}: the scheduler has no table that knows it")
        if "name" in kwargs:
            kwargs["name"] = as_key(kwargs["name"])  # a dict's key, in whatever condition it has come
        verb(waiter, now, **kwargs)

    def _renew(self, waiter: Waiter, now: float, leases: list[int]) -> None:
        self.waiters.answer(waiter, self.leases.renew(waiter.client, leases, now))

    def _withdraw(self, waiter: Waiter, now: float, request: int) -> None:
        self.waiters.withdraw(waiter.client, request, now)
        self.waiters.answer(waiter, None)

    def _arrived(self, waiter: Waiter, now: float, transit: int) -> None:
        self.held.arrived(waiter.client, transit)
        self.waiters.answer(waiter, None)

    def client_left(self, client: str, now: float) -> None:
        """Its requests leave their lines, what it holds is free, what was on its way to it is dropped."""
        self.waiters.client_left(client, now)
        self.leases.client_left(client, now)
        self.held.client_left(client)
        for table in self._tables():
            table.client_left(client, now)

    def next_deadline(self) -> float | None:
        """When to call :meth:`handle_deadline`; None: no need."""
        first, second = self.waiters.next_deadline(), self.leases.next_deadline()
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    def handle_deadline(self, now: float) -> None:
        """Time is up for requests and stale leases; the latter are left in ``stale``."""
        self.stale += self.leases.handle_deadline(now)
        self.waiters.handle_deadline(now)

    def _tables(self) -> tuple[Table, ...]:
        return self.semaphores, self.multi_locks, self.events, self.queues, self.variables, self.pubsub

    def validate(self) -> None:
        """Raise AssertionError when the tables contradict themselves."""
        self.waiters.validate()
        for table in self._tables():
            table.validate()
