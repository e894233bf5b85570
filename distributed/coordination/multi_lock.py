"""Several locks taken at once: all of them, or any n. Handle, and pure table.

A request stands in the line of each of its names. It is granted as soon as it is first in the lines of as many free
names as it wants; it takes these and leaves the other lines. Requests enter all their lines in one step, so the oldest
one is first wherever it stands: it waits for holders only, never for another request, and no cycle can arise.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from operator import index
from typing import Any

from distributed.base.keys import as_key
from distributed.coordination.handle import checked_name, new_id
from distributed.coordination.held import HeldHandle, patience
from distributed.coordination.lease_home import LeaseHome as LeaseHome  # what is kept of it
from distributed.coordination.leases import Lease, Leases
from distributed.coordination.waiters import Name, Waiter, Waiters

logger = logging.getLogger("distributed.coordination")


class MultiLock(HeldHandle):
    """Several named locks as one. These names are not those of :class:`Lock`. First come, first served for each name.

    Parameters
    ----------
    names : list of str
        What is to be locked. Default: none, so that nothing can be acquired.
    client : Client, optional
        Default: that of the place where it is used.

    Examples
    --------
    >>> with MultiLock(["accounts", "orders"]):  # doctest: +SKIP
    ...     move()
    """

    kind = "multi-lock"
    table = "multi_lock"
    max_leases = 1
    _transient = True

    def __init__(self, names: Any = None, client: Any = None) -> None:
        super().__init__(None, client)
        if names is not None and (isinstance(names, bytes) or not isinstance(names, Iterable)):
            raise TypeError(f"names= must be a list of names, not {names!r}")
        self.names = names if isinstance(names, str) else list(names or ())
        self._names = list(dict.fromkeys([checked_name(name, "each of names=") for name in self.names]))
        self.id = new_id()
        self._kept_as = tuple(self._names)
        self._leases: deque[int] = deque()  # one, while it holds its locks

    def acquire(self, blocking: bool = True, timeout: Any = None, num_locks: int | None = None) -> Any:
        """Take all locks, or ``num_locks`` of them, in one step; wait until that is possible.

        Parameters
        ----------
        blocking : bool
            False: do not wait.
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.
        num_locks : int, optional
            How many of the names are enough. Default: all.

        Returns
        -------
        bool
            Whether they are ours now. In coroutines on the client's loop: an awaitable of it.

        Raises
        ------
        RuntimeError
            This object holds its locks already.
        ValueError
            There are no names, or not so many; or ``timeout`` together with ``blocking=False``.
        """
        timeout_s = patience(blocking, timeout)
        if num_locks is not None and (isinstance(num_locks, bool) or not isinstance(num_locks, int)):
            raise TypeError(f"num_locks= must be a whole number, not {num_locks!r}")
        n = len(self._names) if num_locks is None else num_locks
        if not 1 <= n <= len(self._names):
            raise ValueError(f"cannot acquire {n} of {len(self._names)} locks: names={self.names!r}")
        if self._leases:
            raise RuntimeError(f"{self!r} holds its locks already; release() them first")
        if n < len(self._names):
            return self._acquire(timeout_s, n)
        return self._here(lambda home: home.acquire(self), lambda: self._acquire(timeout_s, n))

    def _acquire(self, timeout_s: float | None, n: int) -> Any:
        kwargs = {"timeout": timeout_s, "names": self._names, "n": n}
        return self._ask("multi_lock_acquire", kwargs, self._granted, self._give_back)

    def _granted(self, lease: int | None) -> bool:
        if lease is None:
            return False
        self._leases.append(lease)
        self._link().hold_granted(lease, self._lost)
        return True

    def _give_back(self, lease: int | None) -> None:
        if lease is not None:
            self._tell("multi_lock_release", {"lease": lease})

    def _lost(self, lease: int) -> None:
        logger.warning("%r has lost its locks: the scheduler did not hear of this client for too long", self)

    def release(self) -> Any:
        """Give the locks back. Raises ValueError when this object holds none."""
        return self._here(lambda home: home.release(self), self._release, _nothing)

    def _release(self) -> Any:
        if not self._leases:
            raise ValueError(f"{self!r} is not acquired: only the object that has acquired the locks can release them")
        lease = self._leases.popleft()
        self._link().drop(lease)
        return self._do("multi_lock_release", {"lease": lease}, self._released)

    def _released(self, was_held: bool) -> None:
        if not was_held:
            logger.warning("%r was released after its lease had ended; others may have held the locks meanwhile", self)

    def locked(self) -> bool:
        """Whether this object holds its locks."""
        return bool(self._leases)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.names,)

    def __repr__(self) -> str:
        return f"<MultiLock {self.names!r}>"


def _nothing(done: bool) -> None:
    """What ``release`` returns."""


# -- server half -------------------------------------------------------------------------------------------------------


class LockState:
    """One name: who holds it, and the line of those who want it."""

    __slots__ = ("lease", "line")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.line: OrderedDict[Waiter, None] = OrderedDict()


class MultiLocks:
    """All multi-locks of a scheduler. Pure. What a waiter wishes is ``(names, how many)``."""

    def __init__(self, waiters: Waiters, leases: Leases) -> None:
        self.by_name: dict[Name, LockState] = {}
        self._waiters = waiters
        self._leases = leases

    def acquire(self, waiter: Waiter, now: float, name: Name, names: list[Name], n: int) -> None:
        """Answered with the number of the lease, or with None when time is up. ``name`` is of no meaning."""
        names = list(dict.fromkeys([as_key(wanted) for wanted in names]))
        n = index(n)
        if not 1 <= n <= len(names):
            raise ValueError(f"cannot acquire {n} of {len(names)} locks")
        waiter.wish = names, n
        for wanted in names:
            self.by_name.setdefault(wanted, LockState()).line[waiter] = None
        if self._grant(waiter, now):
            self._settle(names, now)
        elif not self._waiters.wait(waiter, self, None, now):
            self.gone([waiter], now)

    def release(self, waiter: Waiter, now: float, name: Name, lease: int) -> None:
        """Answered with whether the client had that lease."""
        found = self._leases.find(waiter.client, lease)
        held = found is not None and found.table is self
        if found is not None and held:
            self._leases.drop(found)
            self.take_back(found, now)
        self._waiters.answer(waiter, held)

    def take_back(self, lease: Lease, now: float) -> None:
        """The names of a lease are free again."""
        for name in lease.thing:
            self.by_name[name].lease = None
        self._settle(lease.thing, now)

    def lend(self, names: tuple[Name, ...], client: str, now: float) -> tuple[Any, ...] | None:
        """Of names that this client holds by one lease, and nobody else wants: that lease (see ``LeaseHome``)."""
        locks = [self.by_name[name] for name in names if name in self.by_name]
        lease = locks[0].lease if locks else None
        if lease is None or lease.client != client or len(lease.thing) != len(names) or len(locks) != len(names):
            return None
        if any(lock.lease is not lease or lock.line for lock in locks):
            return None
        return 1, True, [lease.id], []

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of all their lines; who stood behind them may be first now."""
        names = [name for waiter in waiters for name in waiter.wish[0]]
        for waiter in waiters:
            for name in waiter.wish[0]:
                self.by_name[name].line.pop(waiter, None)
        self._settle(names, now)

    def client_left(self, client: str, now: float) -> None:
        """Waiters and leases are all that a client has here."""

    def _grant(self, waiter: Waiter, now: float) -> bool:
        """Grant the request if that is possible; it has left all its lines then."""
        names, n = waiter.wish
        ready = [name for name in names if self._is_ready(name, waiter)]
        if len(ready) < n:
            return False
        lease = self._leases.grant(waiter.client, self, ready[:n], now)
        for name in lease.thing:
            self.by_name[name].lease = lease
        for name in names:
            del self.by_name[name].line[waiter]
        self._waiters.answer(waiter, lease.id)
        return True

    def _is_ready(self, name: Name, waiter: Waiter) -> bool:
        lock = self.by_name[name]
        return lock.lease is None and next(iter(lock.line)) is waiter

    def _settle(self, names: Iterable[Name], now: float) -> None:
        """Locks were freed, or lines have moved on: grant what can be granted now, forget what is unused."""
        todo = deque(names)
        while todo:
            name = todo.popleft()
            lock = self.by_name.get(name)
            if lock is None or lock.lease is not None:
                continue
            if not lock.line:
                del self.by_name[name]
                continue
            first = next(iter(lock.line))
            if self._grant(first, now):
                todo.extend(first.wish[0])

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, lock in self.by_name.items():
            assert lock.lease is not None or lock.line, f"{name!r} is unused and not forgotten"
            if lock.lease is not None:
                assert self._leases.find(lock.lease.client, lock.lease.id) is lock.lease, (
                    f"{lock.lease!r} is in no book"
                )
                assert name in lock.lease.thing, f"{lock.lease!r} does not know that it has {name!r}"
        for lock in self.by_name.values():
            for waiter in lock.line:
                names, n = waiter.wish
                assert not waiter.over, f"{waiter!r} is answered and still in a line"
                ready = [one for one in names if self._is_ready(one, waiter)]
                assert len(ready) < n, f"{waiter!r} could have {ready!r}, and waits"
