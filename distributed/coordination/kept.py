"""Names that one client alone uses are kept at that client: it works on them there, without asking. Pure.

Table, for one name of a semaphore, a lock, an event, a queue or a variable, or the names of one multi-lock:

=========  ==============================================  ==========================================================
event      when                                            then
=========  ==============================================  ==========================================================
question   the fourth request in a row by one client,      it is kept at that client, under a lease, with its state;
           and nobody waits                                of a semaphore, all leases that are free are granted to it
request    of another client; of what is held: any         the name is recalled; the request stands by
request    of its keeper                                   a change made there, told here: done
returned   .                                               leases that are free at the keeper end; nobody keeps the
                                                           name; requests that stood by begin, in order
patience   a recall was not answered for so long           the same, but all leases of the keeper count as held
stale      the keeper is gone, or did not renew the lease  as returned
=========  ==============================================  ==========================================================

So at any moment there is one place where a name is worked on, and what is done there is seen by whoever asks next.

The names of a multi-lock go together. A request about any of them stands by, and as long as one does, so do all
later ones about multi-locks: they begin in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from distributed.coordination.leases import Lease, Leases
from distributed.coordination.waiters import Name, Waiter, Waiters

IN_A_ROW = 4
"""A client that asks so often about one name, and nobody else meanwhile, may keep it."""
PATIENCE_S = 1.0
"""A keeper that does not answer a recall for so long has lost the name."""
MAX_WATCHED = 1000
"""Of so many names the last user is remembered."""

Place = tuple[str, Name]
"""Kind and name."""

# Whose client waits for the answer: what it knows of the name is all that there is to know.
_QUESTIONS = frozenset(
    "semaphore_acquire multi_lock_acquire event_wait event_is_set queue_get queue_size variable_get".split()  # noqa: SIM905
)
# Who asks for one of these does not depend on the answer: they are done even if their client is gone meanwhile.
_WRITES = frozenset(["event_set", "event_clear", "variable_set", "variable_delete", "queue_put"])
_HELD = frozenset(["semaphore", "multi_lock"])


class Keepable(Protocol):
    """A table whose names can be kept."""

    def lend(self, name: Name, client: str, now: float) -> tuple[Any, ...] | None:
        """The state of a name that nobody waits for; None when this client cannot keep it now."""


class KeptName:
    """One name in a client's keeping, and the requests of others that stand by until it is back."""

    __slots__ = ("deadline", "lease", "place", "standing_by")

    def __init__(self, place: Place, lease: Lease) -> None:
        self.place = place
        self.lease = lease
        self.deadline: float | None = None  # recalled until then
        self.standing_by: dict[Waiter, tuple[str, dict[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"<{self.place[0]} {self.place[1]!r} at {self.lease.client}>"


class KeptNames:
    """All names that clients keep.

    Attributes
    ----------
    news
        For clients, until somebody takes them: ``(client, ("keep", kind, name, lease, request, state))`` and
        ``(client, ("recall", lease))``. They have to reach the client before the answers that are taken with them.
    """

    def __init__(
        self,
        waiters: Waiters,
        leases: Leases,
        tables: dict[str, Keepable],
        begin: Callable[..., None],
    ) -> None:
        self.by_place: dict[Place, KeptName] = {}
        self.news: list[tuple[str, tuple[Any, ...]]] = []
        self._waiters = waiters
        self._leases = leases
        self._tables = tables
        self._begin = begin
        self._of_multi_locks: dict[Name, KeptName] = {}
        self._last: dict[Place, tuple[str, int]] = {}
        self._unwilling: dict[str, None] = {}
        self._recalled: dict[KeptName, None] = {}

    def take_news(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The news since the last call."""
        news, self.news = self.news, []
        return news

    # -- requests ------------------------------------------------------------------------------------------------------

    def stands_by(self, place: Place, op: str, waiter: Waiter, now: float, kwargs: dict[str, Any]) -> bool:
        """Whether the request has to wait until the name is back."""
        kept = self._in_the_way(place, now) if place[0] == "multi_lock" else self.by_place.get(place)
        if kept is None or (kept.lease.client == waiter.client and place[0] not in _HELD):
            return False
        self._waiters.park(waiter, self)
        waiter.wish = kept
        kept.standing_by[waiter] = (op, kwargs)
        self._recall(kept, now)
        return True

    def _in_the_way(self, place: Place, now: float) -> KeptName | None:
        """Behind what a request about these multi-locks stands by: the same for all, which keeps their order."""
        for name in place[1]:
            if name in self._of_multi_locks:
                self._recall(self._of_multi_locks[name], now)
        return next((kept for kept in self._recalled if kept.place[0] == "multi_lock"), None)

    def _recall(self, kept: KeptName, now: float) -> None:
        if kept.deadline is None:
            kept.deadline = now + PATIENCE_S
            self._recalled[kept] = None
            self.news.append((kept.lease.client, ("recall", kept.lease.id)))

    def used(self, place: Place, op: str, waiter: Waiter, now: float) -> None:
        """A request of this client about this name was taken in; perhaps it may keep the name."""
        client = waiter.client
        last = self._last.get(place)
        n = last[1] + 1 if last is not None and last[0] == client else 1
        if n < IN_A_ROW:
            if last is None and len(self._last) >= MAX_WATCHED:
                self._last.clear()
            self._last[place] = (client, n)
        elif op in _QUESTIONS and waiter.over and client not in self._unwilling and place not in self.by_place:
            self._offer(place, waiter, now)

    def _offer(self, place: Place, waiter: Waiter, now: float) -> None:
        kind, name = place
        client = waiter.client
        state = self._tables[kind].lend(name, client, now)
        if state is None:
            return
        # After the leases that are lent: when the client is gone, these have ended before others begin.
        lease = self._leases.grant(client, self, place, now)
        kept = self.by_place[place] = KeptName(place, lease)
        if kind == "multi_lock":
            self._of_multi_locks.update(dict.fromkeys(name, kept))
        self.news.append((client, ("keep", kind, name, lease.id, waiter.number, state)))

    def is_kept_by(self, client: str, place: Place) -> bool:
        """Whether this client keeps it."""
        kept = self.by_place.get(place)
        return kept is not None and kept.lease.client == client

    def returned(
        self, waiter: Waiter, now: float, lease: int, free: Iterable[int] = (), unwilling: bool = False
    ) -> None:
        """The keeper gives the name back, and the leases that nobody holds there; ``unwilling``: and wants to keep
        none. Answered with None."""
        if unwilling:
            self._unwilling[waiter.client] = None
        for id in [*free, lease]:  # those which are over already have ended with the keeper's session
            found = self._leases.find(waiter.client, id)
            if found is not None:
                self._leases.drop(found)
                found.table.take_back(found, now)
        self._waiters.answer(waiter, None)

    def _end(self, kept: KeptName, now: float) -> None:
        """Nobody keeps it any more; its lease is struck off."""
        del self.by_place[kept.place]
        self._last.pop(kept.place, None)
        self._recalled.pop(kept, None)
        if kept.place[0] == "multi_lock":
            for name in kept.place[1]:
                del self._of_multi_locks[name]
        standing_by, kept.standing_by = kept.standing_by, {}
        for waiter in standing_by:
            if waiter.client:
                self._waiters.unpark(waiter)
        for waiter, (op, kwargs) in standing_by.items():
            self._start(waiter, op, now, kwargs)

    def _start(self, waiter: Waiter, op: str, now: float, kwargs: dict[str, Any]) -> None:
        try:
            self._begin(op, waiter, now, **kwargs)
        except Exception as e:
            if not waiter.over:
                self._waiters.answer(waiter, e)
        if not waiter.client:
            self._waiters.answers = [entry for entry in self._waiters.answers if entry[0] is not waiter]

    # -- ends ----------------------------------------------------------------------------------------------------------

    def take_back(self, lease: Lease, now: float) -> None:
        """The keeper gives it back, is gone, or was not heard of for too long."""
        self._end(self.by_place[lease.thing], now)

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """These stand by no longer; what they wanted to change is changed all the same."""
        for waiter in waiters:
            kept: KeptName = waiter.wish
            op, kwargs = kept.standing_by.pop(waiter)
            if op in _WRITES:
                kept.standing_by[Waiter("", 0, 0)] = (op, {k: v for k, v in kwargs.items() if k != "maxsize"})

    def client_left(self, client: str, now: float) -> None:
        """Its leases are struck off already."""
        self._unwilling.pop(client, None)

    def next_deadline(self) -> float | None:
        """When the patience with the first recall is over."""
        return next((kept.deadline for kept in self._recalled), None)

    def handle_deadline(self, now: float) -> None:
        """Take back what was not returned."""
        for kept in list(self._recalled):
            if kept.deadline is not None and kept.deadline <= now:
                self._leases.drop(kept.lease)
                self._end(kept, now)

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for place, kept in self.by_place.items():
            assert kept.place == place
            assert self._leases.find(kept.lease.client, kept.lease.id) is kept.lease, f"{kept!r} without a lease"
            assert not kept.standing_by or kept in self._recalled, f"somebody waits for {kept!r}, which is not recalled"
        assert all(self.by_place.get(kept.place) is kept for kept in self._recalled)
        units = [kept for kept in self.by_place.values() if kept.place[0] == "multi_lock"]
        by_name = {name: kept for kept in units for name in kept.place[1]}
        assert by_name == self._of_multi_locks, "a multi-lock is kept without its names"
