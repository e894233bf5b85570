"""A semaphore of the cluster: at most so many at a time, whoever and wherever they are. Handle, and pure table.

Table, for one name:

========  =====================================  =============================================================
event     when                                   then
========  =====================================  =============================================================
acquire   a lease is free and nobody waits       a new lease is granted
acquire   else                                   the request waits in line, until its time is up
release   the client has that lease              it ends; the first in line gets a new one
release   it has not (any more)                  nothing changes, the answer is False
renew     .                                      the leases count for another ``lease-timeout``
stale     a lease was not renewed for so long    as if released
lost      the client is gone                     its requests leave the line, its leases are as if released
close     .                                      who waits gets an error, leases end, the name is forgotten
========  =====================================  =============================================================

A name is kept as long as a client that has registered it is there, and as long as it is in use.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import Any

from distributed.coordination.handle import timeout_seconds
from distributed.coordination.held import HeldHandle
from distributed.coordination.lease_home import LeaseHome
from distributed.coordination.leases import Lease, Leases
from distributed.coordination.waiters import Name, Waiter, Waiters

logger = logging.getLogger("distributed.coordination")

MAX_LENT = 100
"""A semaphore with more leases than these is kept by nobody."""


class Semaphore(HeldHandle):
    """At most ``max_leases`` holders at a time, of all clients and tasks together. First come, first served.

    A lease belongs to the client that took it (in a task: to the client of its worker). It ends by ``release``, when
    that client is gone, or when the client was not heard of for ``distributed.scheduler.locks.lease-timeout``.

    Parameters
    ----------
    max_leases : int
        At least 1. All semaphores of one name must say the same.
    name : str, optional
        Semaphores of one name are one. Default: a new name.
    scheduler_rpc : Client, optional
        By which client to ask. Default: that of the place where it is used.
    loop
        Accepted, without effect.
    client : Client, optional
        Newer name of ``scheduler_rpc``.

    Examples
    --------
    >>> two_at_a_time = Semaphore(2, "database")  # doctest: +SKIP
    >>> with two_at_a_time:  # doctest: +SKIP
    ...     load()
    """

    kind = table = "semaphore"
    _transient = False

    def __init__(
        self, max_leases: int = 1, name: Any = None, scheduler_rpc: Any = None, loop: Any = None, client: Any = None
    ) -> None:
        if isinstance(max_leases, bool) or not isinstance(max_leases, int):
            raise TypeError(f"max_leases= must be a whole number, not {max_leases!r}")
        if max_leases < 1:
            raise ValueError(f"max_leases= must be at least 1, not {max_leases}: nobody could ever acquire it")
        super().__init__(name, client if client is not None else scheduler_rpc)
        self.max_leases = max_leases
        self._registered: Any = None  # the session in which the name was made known: see Link.epoch
        self._leases: deque[int] = deque()

    def register(self, **kwargs: Any) -> Any:
        """Make the name known to the scheduler, which else happens with the first use. Awaitable like all methods.

        Raises ValueError when the name is taken by a semaphore with another ``max_leases``.
        """
        return self._ask("semaphore_register", {"max_leases": self.max_leases}, self._note_registered)

    def _note_registered(self, answer: Any) -> Semaphore:
        self._registered = self._link().epoch
        return self

    def __await__(self) -> Any:
        async def registered() -> Semaphore:
            await self.register()
            return self

        return registered().__await__()

    def acquire(self, timeout: Any = None) -> Any:
        """Take a lease; wait until there is one.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.

        Returns
        -------
        bool
            False when time was up first. In coroutines on the client's loop: an awaitable of it.

        Raises
        ------
        RuntimeError
            The semaphore was closed.
        ValueError
            The name is taken by a semaphore with another ``max_leases``.
        """
        timeout_s = timeout_seconds(timeout)
        return self._here(lambda home: home.acquire(self), lambda: self._acquire(timeout_s), self._taken)

    def _taken(self, done: bool) -> bool:
        self._registered = self._link().epoch
        return done

    def _acquire(self, timeout_s: float | None) -> Any:
        kwargs: dict[str, Any] = {}  # what differs from the defaults of ``Semaphores.acquire``
        if timeout_s is not None:
            kwargs["timeout"] = timeout_s
        if self._transient:
            kwargs["transient"] = True
        else:
            kwargs["max_leases"] = self.max_leases
            kwargs["register"] = self._registered is not self._link().epoch
        return self._ask("semaphore_acquire", kwargs, self._granted, self._give_back)

    def _granted(self, lease: int | None) -> bool:
        self._registered = self._link().epoch
        if lease is None:
            return False
        self._leases.append(lease)
        self._link().hold_granted(lease, self._lost)
        return True

    def _give_back(self, lease: int | None) -> None:
        if lease is not None:
            self._tell("semaphore_release", {"lease": lease})

    def _lost(self, lease: int) -> None:
        logger.warning(
            "%r has lost a lease: the scheduler did not hear of this client for %s, or their session is over",
            self,
            "distributed.scheduler.locks.lease-timeout",
        )

    def release(self) -> Any:
        """Give a lease back that this object has acquired.

        Returns
        -------
        bool
            True; also (with a warning in the log) when the lease had ended before, because this client was not heard of
            for too long. Whoever has it now keeps it.

        Raises
        ------
        RuntimeError
            This object holds no lease.
        """
        return self._here(lambda home: home.release(self), self._release)

    def _release(self) -> Any:
        try:
            lease = self._leases.popleft()
        except IndexError:
            raise RuntimeError(
                f"{self!r} was released too often: this object holds no lease. Only the object that has acquired a "
                "lease can release it, not another one of the same name"
            ) from None
        self._link().drop(lease)
        return self._do("semaphore_release", {"lease": lease}, self._released, ok=True)

    def _released(self, was_held: bool) -> bool:
        if not was_held:
            logger.warning("%r was released after its lease had ended; others may have held it meanwhile", self)
        return True

    def get_value(self) -> Any:
        """How many leases are taken, by whomever."""
        return self._here(LeaseHome.n_held, lambda: self._ask("semaphore_value", {}))

    def close(self) -> Any:
        """Forget the semaphore: whoever waits gets an error, leases end. Harmless when called again."""
        return self._ask("semaphore_close", {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_leases, self.name)


# -- server half -------------------------------------------------------------------------------------------------------


class SemaphoreState:
    """One name: leases and the line of those who wait (with the time since when), and what has been so far."""

    __slots__ = (
        "keepers",
        "leases",
        "lent_to",
        "line",
        "max_leases",
        "n_acquired",
        "n_idle",
        "n_released",
        "name",
        "waited_s",
    )

    def __init__(self, name: Name, max_leases: int) -> None:
        self.name = name
        self.max_leases = max_leases
        self.leases: dict[int, Lease] = {}
        self.line: OrderedDict[Waiter, float] = OrderedDict()
        self.keepers: dict[str, None] = {}
        self.lent_to = ""  # the client that keeps the name, or was the last to do so: that many of its leases are idle
        self.n_acquired = self.n_released = self.n_idle = 0
        self.waited_s = 0.0

    def metrics(self) -> dict[str, float]:
        """Figures for those who watch the cluster: now, and since the name is known."""
        return {
            "max_leases": self.max_leases,
            "active_leases": len(self.leases) - self.n_idle,
            "pending_leases": len(self.line),
            "acquire_total": self.n_acquired,
            "release_total": self.n_released,
            "average_pending_lease_time_s": self.waited_s / self.n_acquired if self.n_acquired else 0.0,
        }


class Semaphores:
    """All semaphores and locks of a scheduler. Pure."""

    def __init__(self, waiters: Waiters, leases: Leases) -> None:
        self.by_name: dict[Name, SemaphoreState] = {}
        self._waiters = waiters
        self._leases = leases

    def metrics(self) -> dict[Name, dict[str, float]]:
        """Of each name that is in use: see ``SemaphoreState.metrics``."""
        return {name: semaphore.metrics() for name, semaphore in self.by_name.items()}

    def register(self, waiter: Waiter, now: float, name: Name, max_leases: int) -> None:
        """Keep the name as long as the client is there."""
        self._find(name, max_leases, True).keepers[waiter.client] = None
        self._waiters.answer(waiter, None)

    def acquire(
        self,
        waiter: Waiter,
        now: float,
        name: Name,
        max_leases: int = 1,
        register: bool = True,
        transient: bool = False,
    ) -> None:
        """Answered with the number of the lease, or with None when time is up."""
        semaphore = self._find(name, max_leases, register)
        if not transient:
            semaphore.keepers[waiter.client] = None
        if len(semaphore.leases) < semaphore.max_leases and not semaphore.line:
            self._grant(semaphore, waiter, now)
        elif self._waiters.wait(waiter, self, None, now):
            waiter.wish = semaphore
            waiter.line = semaphore.line
            semaphore.line[waiter] = now

    def release(self, waiter: Waiter, now: float, name: Name, lease: int) -> None:
        """Answered with whether the client had that lease of this name."""
        found = self._leases.find(waiter.client, lease)
        held = found is not None and found.table is self and found.thing == name
        if found is not None and held:
            self._leases.drop(found)
            self.take_back(found, now)
        self._waiters.answer(waiter, held)

    def value(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered with the number of leases taken."""
        semaphore = self.by_name.get(name)
        self._waiters.answer(waiter, 0 if semaphore is None else len(semaphore.leases))

    def close(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered when it is forgotten."""
        semaphore = self.by_name.pop(name, None)
        if semaphore is not None:
            for lease in semaphore.leases.values():
                self._leases.drop(lease)
            semaphore.leases.clear()
            line, semaphore.line = semaphore.line, OrderedDict()
            for waiting in line:
                self._waiters.answer(waiting, RuntimeError(f"the semaphore {name!r} was closed while acquire() waited"))
        self._waiters.answer(waiter, None)

    def take_back(self, lease: Lease, now: float) -> None:
        """A lease has ended, in whatever way."""
        semaphore = self.by_name[lease.thing]
        del semaphore.leases[lease.id]
        if semaphore.n_idle and lease.client == semaphore.lent_to:
            semaphore.n_idle -= 1
        else:
            semaphore.n_released += 1
        self._grant_next(semaphore, now)

    def lend(self, name: Name, client: str, now: float) -> tuple[Any, ...] | None:
        """Of a name of which nobody else has or wants a lease: how many there may be, whether the client has registered
        it, and its leases: those that it holds, and all others, which are granted for that."""
        semaphore = self.by_name.get(name)
        if semaphore is None or semaphore.line or semaphore.max_leases > MAX_LENT:
            return None
        if any(lease.client != client for lease in semaphore.leases.values()):
            return None
        held = list(semaphore.leases)
        free = [self._new_lease(semaphore, client, now).id for _ in range(semaphore.max_leases - len(held))]
        semaphore.lent_to, semaphore.n_idle = client, len(free)
        return semaphore.max_leases, client in semaphore.keepers, held, free

    def told(self, waiter: Waiter, now: float, name: Name, n_acquired: int, n_released: int, n_idle: int) -> None:
        """What was done at the client that keeps the name. Answered with None."""
        semaphore = self.by_name.get(name)
        if semaphore is not None:
            semaphore.n_acquired += n_acquired
            semaphore.n_released += n_released
            if semaphore.lent_to == waiter.client:
                n_leases = sum([lease.client == waiter.client for lease in semaphore.leases.values()])
                semaphore.n_idle = min(n_idle, n_leases)
        self._waiters.answer(waiter, None)

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of the line."""
        for waiter in waiters:
            semaphore: SemaphoreState = waiter.wish
            semaphore.line.pop(waiter, None)
            self._forget_unused(semaphore)

    def client_left(self, client: str, now: float) -> None:
        """What only this client had registered is forgotten."""
        for semaphore in list(self.by_name.values()):
            if semaphore.keepers.pop(client, self) is None:
                self._forget_unused(semaphore)

    def _find(self, name: Name, max_leases: int, register: bool) -> SemaphoreState:
        semaphore = self.by_name.get(name)
        if semaphore is None:
            if not register:
                raise RuntimeError(
                    f"the semaphore {name!r} is not known: it was closed, or the connection to the scheduler was lost. "
                    "Make a new object of this name to use it again"
                )
            if isinstance(max_leases, bool) or not isinstance(max_leases, int) or max_leases < 1:
                raise ValueError(f"max_leases must be a whole number from 1 on, not {max_leases!r}")
            semaphore = self.by_name[name] = SemaphoreState(name, max_leases)
        elif semaphore.max_leases != max_leases:
            raise ValueError(
                f"the semaphore {name!r} has max_leases={semaphore.max_leases}, which cannot become {max_leases} while "
                "it is in use: use the same number everywhere, another name, or close() it first"
            )
        return semaphore

    def _grant(self, semaphore: SemaphoreState, waiter: Waiter, now: float) -> None:
        semaphore.n_acquired += 1
        self._waiters.answer(waiter, self._new_lease(semaphore, waiter.client, now).id)

    def _new_lease(self, semaphore: SemaphoreState, client: str, now: float) -> Lease:
        lease = self._leases.grant(client, self, semaphore.name, now)
        semaphore.leases[lease.id] = lease
        return lease

    def _grant_next(self, semaphore: SemaphoreState, now: float) -> None:
        while semaphore.line and len(semaphore.leases) < semaphore.max_leases:
            waiter, since = semaphore.line.popitem(last=False)
            semaphore.waited_s += now - since
            self._grant(semaphore, waiter, now)
        self._forget_unused(semaphore)

    def _forget_unused(self, semaphore: SemaphoreState) -> None:
        if not (semaphore.leases or semaphore.line or semaphore.keepers):
            self.by_name.pop(semaphore.name, None)

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, semaphore in self.by_name.items():
            n = len(semaphore.leases)
            assert 0 <= semaphore.n_idle <= n, f"{semaphore.n_idle} of {n} leases of {name!r} are idle"
            assert n <= semaphore.max_leases, f"{n} leases of {name!r}, which has {semaphore.max_leases}"
            assert not semaphore.line or n == semaphore.max_leases, f"{name!r} has a free lease, and somebody waits"
            assert n or semaphore.line or semaphore.keepers, f"{name!r} is unused and not forgotten"
            for lease in semaphore.leases.values():
                assert self._leases.find(lease.client, lease.id) is lease, f"{lease!r} is in no book"
            for waiter in semaphore.line:
                assert not waiter.over, f"{waiter!r} is answered and still in the line of {name!r}"
