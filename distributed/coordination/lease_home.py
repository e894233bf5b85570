"""What a client keeps of a semaphore, a lock or a multi-lock: leases, each held by somebody here or free. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from distributed.coordination.homes import HOMES, MISS, Change, Home
from distributed.coordination.waiters import Name


class Holder(Protocol):
    """A handle that takes leases."""

    max_leases: int
    _transient: bool
    _leases: deque[int]

    def _lost(self, lease: int) -> None: ...


class LeaseHome(Home):
    """All leases of one name that are this client's.

    Attributes
    ----------
    free
        Leases that nobody holds; the scheduler counts them as this client's until they are returned.
    held
        The others, with what to do when one ends without us.
    """

    __slots__ = ("free", "held", "max_leases", "n_acquired", "n_released", "registered")

    def __init__(self, kind: str, name: Name, lease: int, state: tuple[Any, ...]) -> None:
        super().__init__(kind, name, lease, state)
        self.max_leases, self.registered, held, free = state
        self.held: dict[int, Callable[[int], None]] = dict.fromkeys(held, _nobody_yet)
        self.free: list[int] = list(free)
        self.n_acquired = self.n_released = 0

    def acquire(self, holder: Holder) -> Any:
        """True: ``holder`` has one more lease."""
        if not self.free or holder.max_leases != self.max_leases or not (holder._transient or self.registered):
            return MISS
        lease = self.free.pop()
        self.held[lease] = holder._lost
        holder._leases.append(lease)
        if not holder._transient:
            self.n_acquired += 1
            self.dirty = True
        return True

    def release(self, holder: Holder) -> Any:
        """True: the oldest lease of ``holder`` is free."""
        if not holder._leases or holder._leases[0] not in self.held:
            return MISS
        lease = holder._leases.popleft()
        del self.held[lease]
        self.free.append(lease)
        if not holder._transient:
            self.n_released += 1
            self.dirty = True
        return True

    def n_held(self) -> int:
        """How many are held; nobody else has any."""
        return len(self.held)

    def changes(self) -> list[Change]:
        """The figures, for whoever watches the cluster."""
        told = {"n_acquired": self.n_acquired, "n_released": self.n_released, "n_idle": len(self.free)}
        self.n_acquired = self.n_released = 0
        return [("semaphore_told", told)]

    def is_of_use(self) -> bool:
        """Whether others would have something of it."""
        return bool(self.free)

    def granted(self, lease: int, lost: Callable[[int], None]) -> None:
        """Who holds it is known now."""
        self.held[lease] = lost

    def ended(self, lease: int) -> Callable[[int], None]:
        """The scheduler has ended one; returns whom to tell."""
        if lease in self.free:
            self.free.remove(lease)
        return self.held.pop(lease, _nobody_yet)


def _nobody_yet(lease: int) -> None:
    """Whoever has acquired it will say what to do: see ``Link.hold_granted``."""


HOMES["semaphore"] = HOMES["multi_lock"] = LeaseHome
