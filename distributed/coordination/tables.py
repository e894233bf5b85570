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
from distributed.coordination.kept import KeptNames
from distributed.coordination.leases import Lease, Leases
from distributed.coordination.multi_lock import MultiLocks
from distributed.coordination.pubsub import PubSub
from distributed.coordination.queues import Queues
from distributed.coordination.semaphore import Semaphores
from distributed.coordination.variable import Variables
from distributed.coordination.waiters import Table, Waiter, Waiters

# What can be done at the client that keeps the name, and the changes that it tells.
_KEEPABLE = """semaphore_register semaphore_acquire semaphore_release semaphore_value semaphore_close
    event_wait event_set event_clear event_is_set variable_set variable_get variable_delete
    queue_put queue_get queue_give_back queue_drop queue_size queue_close""".split()  # noqa: SIM905


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
        self.kept = KeptNames(
            self.waiters,
            self.leases,
            {
                "semaphore": self.semaphores,
                "multi_lock": self.multi_locks,
                "event": self.events,
                "queue": self.queues,
                "variable": self.variables,
            },
            self.request,
        )
        self._keepable = {op: op.split("_", 1)[0] for op in _KEEPABLE} | {"multi_lock_acquire": "multi_lock"}
        self.stale: list[Lease] = []
        self.operations = self._operations()

    def _operations(self) -> dict[str, Callable[..., None]]:
        verbs: dict[str, tuple[Any, str]] = {
            "semaphore": (self.semaphores, "register acquire release value close told"),
            "multi_lock": (self.multi_locks, "acquire release"),
            "event": (self.events, "wait set clear is_set"),
            "queue": (self.queues, "put get give_back drop size close"),
            "variable": (self.variables, "set get delete"),
            "pubsub": (self.pubsub, "subscribe unsubscribe subscribers put get"),
        }
        operations = {
            f"{kind}_{verb}": getattr(table, verb) for kind, (table, names) in verbs.items() for verb in names.split()
        }
        operations["kept_returned"] = self.kept.returned
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
        kind = self._keepable.get(op)
        if kind is None:
            verb(waiter, now, **kwargs)
            return
        place = (kind, kwargs.get("name") if kind != "multi_lock" else as_key(tuple(kwargs["names"])))
        if op == "queue_drop" and not self.kept.is_kept_by(waiter.client, place):
            self.waiters.answer(waiter, None)  # too late: these items are for others now
        elif not (self.kept.by_place and self.kept.stands_by(place, op, waiter, now, kwargs)):
            verb(waiter, now, **kwargs)
            self.kept.used(place, op, waiter, now)

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
        self.kept.client_left(client, now)
        for table in self._tables():
            table.client_left(client, now)

    def next_deadline(self) -> float | None:
        """When to call :meth:`handle_deadline`; None: no need."""
        books = self.waiters, self.leases, self.kept
        return min([due for book in books if (due := book.next_deadline()) is not None], default=None)

    def handle_deadline(self, now: float) -> None:
        """Time is up for requests, stale leases and recalls; the leases are left in ``stale``."""
        self.stale += self.leases.handle_deadline(now)
        self.kept.handle_deadline(now)
        self.waiters.handle_deadline(now)

    def _tables(self) -> tuple[Table, ...]:
        return self.semaphores, self.multi_locks, self.events, self.queues, self.variables, self.pubsub

    def validate(self) -> None:
        """Raise AssertionError when the tables contradict themselves."""
        self.waiters.validate()
        self.kept.validate()
        for table in self._tables():
            table.validate()
