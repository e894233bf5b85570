"""Names that this client keeps: their state, what is done with them here, what the scheduler is told of it. Shell.

The scheduler offers a name to a client that alone uses it (:mod:`distributed.coordination.kept`). What is done from
then on is done here, at once, by any thread; the scheduler is told the outcome soon after, in order with all else that
the client says. The name goes back when another client wants it, when it lies idle, and before anything about it that
cannot be done here (waiting, for one) is asked of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from msgspec import Struct

from distributed.base.keys import as_key
from distributed.coordination.waiters import Name

IDLE_S = 0.05
"""A name that was not used for one to two times so long goes back: others must not wait for a program that hangs."""

Change = tuple[str, dict[str, Any]]
"""An operation and its arguments without the name."""


class Miss:
    """What an operation here returns when only the scheduler can do it."""


MISS: Final = Miss()


class Home:
    """The state of one name. Its methods are called with the client's table locked; ``MISS`` means: not here."""

    __slots__ = ("dirty", "kind", "lease", "name", "used")

    held: Mapping[int, Callable[[int], None]] = MappingProxyType({})
    """Leases of the scheduler that somebody here has on this name, with what to do when one ends without us."""
    free: Sequence[int] = ()
    """Such leases that nobody has."""

    def __init__(self, kind: str, name: Name, lease: int, state: tuple[Any, ...]) -> None:
        self.kind = kind
        self.name = name
        self.lease = lease
        self.used = True
        self.dirty = False

    def changes(self) -> list[Change]:
        """What the scheduler has not been told yet; from now on it has."""
        return []

    def is_of_use(self) -> bool:
        """Whether others would have something of it."""
        return True

    def granted(self, lease: int, lost: Callable[[int], None]) -> None:
        """Who holds a lease of this name is known now."""

    def ended(self, lease: int) -> Callable[[int], None]:
        """The scheduler has ended a lease of this name; returns whom to tell."""
        raise NotImplementedError


HOMES: dict[str, type[Home]] = {}
"""The class for each kind of names."""


class Poster(Protocol):
    """The link, as far as homes need it."""

    session: Any
    leases: dict[int, Callable[[int], None]]

    def request(self, op: str, kwargs: dict[str, Any]) -> Struct: ...

    def hold(self, lease: int, lost: Callable[[int], None]) -> None: ...

    def drop(self, lease: int) -> None: ...


class Homes:
    """All names that one client keeps. With ``locked`` in the name: the caller holds the lock of the client's table."""

    def __init__(self, link: Poster) -> None:
        self.by_place: dict[tuple[str, Name], Home] = {}
        self.n_done = 0
        self._link = link
        self._by_lease: dict[int, Home] = {}
        self._sweeping = False

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def offered(self, kind: str, name: Name, lease: int, state: tuple[Any, ...], busy: Callable[[Name], bool]) -> None:
        """Keep a name, unless other requests about it are on their way (``busy``)."""
        session = self._link.session
        connection = session.connection
        name = as_key(name)
        near = connection is not None and connection.same_process
        with session.table.lock:
            if near or kind not in HOMES or busy(name):
                free = HOMES[kind](kind, name, lease, state).free if kind in HOMES else ()
                kwargs = {"lease": lease, "free": list(free), "unwilling": near}
                session.outgoing.add(self._link.request("kept_returned", kwargs))
            else:
                self._keep_locked(HOMES[kind](kind, name, lease, state))
        if not self._sweeping:
            self._sweeping = True
            session.loop.call_later(IDLE_S, self._sweep)

    def _keep_locked(self, home: Home) -> None:
        link = self._link
        self.by_place[home.kind, home.name] = home
        for lease in home.held:
            if lease in link.leases:
                home.granted(lease, link.leases[lease])
        for lease in (home.lease, *home.held, *home.free):
            self._by_lease[lease] = home
            link.hold(lease, self._lost)

    def recalled(self, lease: int) -> None:
        """Another client wants it."""
        session = self._link.session
        with session.table.lock:
            home = self._by_lease.get(lease)
            if home is not None:
                self.give_back_locked(home)
        session.wake()

    def _sweep(self) -> None:
        session = self._link.session
        if not self.by_place:
            self._sweeping = False
            return
        session.loop.call_later(IDLE_S, self._sweep)
        with session.table.lock:
            for home in list(self.by_place.values()):
                if not home.used and home.is_of_use():
                    self.give_back_locked(home)
                home.used = False
        session.wake()

    def _lost(self, lease: int) -> None:
        """The scheduler has ended a lease: that under which a name is kept here, or one on such a name."""
        session = self._link.session
        lost: Callable[[int], None] | None = None
        with session.table.lock:
            home = self._by_lease.get(lease)
            if home is not None and lease == home.lease:
                self.give_back_locked(home)
            elif home is not None:
                del self._by_lease[lease]
                lost = home.ended(lease)
        if lost is not None:
            lost(lease)
        session.wake()

    def forget_locked(self) -> None:
        """The session is over; who holds something here is told like all who hold leases."""
        for home in list(self.by_place.values()):
            self._strike_off_locked(home)

    def _strike_off_locked(self, home: Home) -> None:
        """It is not here any more; leases that are held are renewed as others are."""
        del self.by_place[home.kind, home.name]
        for lease in (home.lease, *home.free, *home.held):
            self._by_lease.pop(lease, None)
            self._link.drop(lease)
        for lease, lost in home.held.items():
            self._link.hold(lease, lost)

    def is_here(self, lease: int, lost: Callable[[int], None]) -> bool:
        """Whether this lease, which was just granted, is on a name that is kept here: ``lost`` is told of its end."""
        home = self._by_lease.get(lease)
        if home is None:
            return False
        home.granted(lease, lost)
        return True

    def concerned(self, op: str, kwargs: dict[str, Any]) -> Home | None:
        """What has to go back before this is asked of the scheduler."""
        if not op.startswith("multi_lock"):
            return self.by_place.get((op.split("_", 1)[0], kwargs.get("name")))
        if "lease" in kwargs:
            return self._by_lease.get(kwargs["lease"])
        return self.by_place.get(("multi_lock", tuple(kwargs["names"])))

    # -- on any thread -------------------------------------------------------------------------------------------------

    def do(self, place: tuple[str, Name], operation: Callable[[Any], Any]) -> Any:
        """Do it here; MISS when the name is not here, or this cannot be done here."""
        session = self._link.session
        with session.table.lock:
            home = self.by_place.get(place)
            if home is None:
                return MISS
            was_dirty = home.dirty
            value = operation(home)
            home.used = True
            if home.dirty and not was_dirty:
                session.outgoing.add_late(lambda: self.told(home))
            elif value is not MISS:
                self.n_done += 1
                return value
        if value is not MISS:
            self.n_done += 1
            session.wake()
        return value

    def give_back_locked(self, home: Home) -> None:
        """It goes back, with all changes. Behind it, wake the session."""
        outgoing = self._link.session.outgoing
        for message in self._told_locked(home):
            outgoing.add(message)
        outgoing.add(self._link.request("kept_returned", {"lease": home.lease, "free": list(home.free)}))
        self._strike_off_locked(home)

    def _told_locked(self, home: Home) -> list[Struct]:
        if not home.dirty:
            return []
        home.dirty = False
        return [self._link.request(op, {"name": home.name, **kwargs}) for op, kwargs in home.changes()]

    def told(self, home: Home) -> list[Struct]:
        """The changes as messages."""
        with self._link.session.table.lock:
            return self._told_locked(home)
