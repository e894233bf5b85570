"""A queue of the cluster: first in, first out, for many producers and consumers. Handle, and pure table.

Items are pickles that are never opened here. Futures in an item stay alive from ``put`` until whoever gets it has
futures of its own. An item that was handed out to somebody who stopped waiting goes back to the front.

A queue that is empty, that nobody waits at, and that no connected client has given a ``maxsize``, takes no room.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from operator import index
from typing import Any

from distributed.base.keys import Key
from distributed.coordination.handle import Handle, timeout_seconds
from distributed.coordination.held_keys import HeldKeys, Stored
from distributed.coordination.homes import HOMES, MISS, Change, Home
from distributed.coordination.values import is_small, opened, pack, unpack
from distributed.coordination.waiters import Name, Waiter, Waiters
from distributed.messages.payload import Payload


class Queue(Handle):
    """A queue that clients and tasks put things into and get them out of: anything that can be pickled, futures too.

    Who has waited longest is served first. The queue stays until it is closed, whoever leaves meanwhile, and keeps the
    results of the futures in it alive.

    Parameters
    ----------
    name : str, optional
        Queues of one name are one. Default: a new name.
    client : Client, optional
        Default: that of the place where it is used.
    maxsize : int
        ``put`` waits while there are so many items. 0 (default) or less: no limit, as in the standard library. The
        first limit that is given for a name counts.

    Examples
    --------
    >>> queue = Queue("work", maxsize=100)  # doctest: +SKIP
    >>> queue.put(1)  # doctest: +SKIP
    >>> queue.get(timeout="10s")  # doctest: +SKIP
    1
    """

    kind = table = "queue"

    def __init__(self, name: Any = None, client: Any = None, maxsize: int = 0) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize= must be a whole number, not {maxsize!r}")
        super().__init__(name, client)
        self.maxsize = max(0, maxsize)
        self._no_limit: Any = None  # the session (see Link.epoch) in which the queue was last seen to have no limit

    def _limit(self) -> dict[str, Any]:
        return {"maxsize": self.maxsize} if self.maxsize else {}

    def put(self, value: Any, timeout: Any = None, **kwargs: Any) -> Any:
        """Put something in; wait while the queue is full.

        Parameters
        ----------
        value
            Anything that can be pickled.
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.

        Raises
        ------
        TimeoutError
            It was full all the time.
        RuntimeError
            It was closed meanwhile.
        """
        timeout_s = timeout_seconds(timeout)
        packed = pack(value, self.client)
        return self._here(lambda home: home.put(packed, self.maxsize), lambda: self._put(packed, timeout_s, value))

    def _put(self, packed: dict[str, Any], timeout_s: float | None, value: Any) -> Any:
        if timeout_s is None and self._no_limit is self._link().epoch and is_small(packed["value"]):
            return self._do("queue_put", packed, self._note_limit, value)
        return self._ask("queue_put", {"timeout": timeout_s, **self._limit(), **packed}, self._note_limit, keep=value)

    def _note_limit(self, limited: Any) -> None:
        self._no_limit = None if limited else self._link().epoch

    def get(self, timeout: Any = None, batch: Any = False, **kwargs: Any) -> Any:
        """Take out what was put in first; wait while the queue is empty.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.
        batch : bool or int
            True: all items that are there, in a list, without waiting. A number: that many, in a list.

        Raises
        ------
        TimeoutError
            There was nothing, or not enough, all the time. What was there stays in the queue.
        RuntimeError
            It was closed meanwhile.
        """
        if batch is not True and batch is not False:
            if not isinstance(batch, int):
                raise TypeError(f"batch= takes True, False or a number of items, not {batch!r}")
            if batch < 1:
                raise ValueError(f"batch= must be at least 1, not {batch}")
        n = -1 if batch is True else int(batch)
        kwargs = {"timeout": timeout_seconds(timeout), "n": n, **self._limit()}
        return self._here(
            lambda home: home.get(n, self.maxsize),
            lambda: self._ask("queue_get", kwargs, self._opened if n else self._opened_one, self._give_back),
            _loaded if n else opened,
        )

    def _opened(self, answer: Any) -> list[Any]:
        items, transit = answer
        return unpack([value for value, _ in items], [key for _, keys in items for key in keys], transit, self.client)

    def _opened_one(self, answer: Any) -> Any:
        return self._opened(answer)[0]

    def _give_back(self, answer: Any) -> None:
        items, transit = answer
        if items:
            self._tell("queue_give_back", {"items": items, "transit": transit})

    def qsize(self, **kwargs: Any) -> Any:
        """How many items are in it."""
        return self._here(lambda home: home.size(self.maxsize), lambda: self._ask("queue_size", self._limit()))

    def close(self) -> Any:
        """Drop all items; whoever waits gets an error. A later ``put`` begins anew. Harmless when called again."""
        return self._ask("queue_close", {})

    def __await__(self) -> Any:
        async def ready() -> Queue:
            await self.qsize()
            return self

        return ready().__await__()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, None, self.maxsize)


MAX_KEPT = 100
"""A queue with so many items is better at the scheduler."""


class QueueHome(Home):
    """A queue that this client keeps. The first ``n_told`` of its items are at the scheduler, too, behind ``n_taken``
    others that have been taken out here."""

    __slots__ = ("items", "limit", "n_taken", "n_told")

    def __init__(self, kind: str, name: Name, lease: int, state: tuple[Any, ...]) -> None:
        super().__init__(kind, name, lease, state)
        self.limit: int = state[0]
        self.items: deque[Payload] = deque()
        self.n_told = self.n_taken = 0

    def put(self, packed: dict[str, Any], maxsize: int = 0) -> Any:
        if (
            len(self.items) >= min(self.limit or MAX_KEPT, MAX_KEPT)
            or "keys" in packed
            or not is_small(packed["value"])
        ):
            return MISS
        if maxsize and not self.limit:
            return MISS  # the first limit that is given
        self.items.append(packed["value"])
        self.dirty = True
        return None

    def get(self, n: int, maxsize: int = 0) -> Any:
        if n > len(self.items) or (n == 0 and not self.items) or (maxsize and not self.limit):
            return MISS
        if n == 0:
            return self._take()
        return [self._take() for _ in range(len(self.items) if n < 0 else n)]

    def _take(self) -> Payload:
        if self.n_told:
            self.n_told -= 1
            self.n_taken += 1
            self.dirty = True
        return self.items.popleft()

    def size(self, maxsize: int = 0) -> Any:
        return MISS if maxsize and not self.limit else len(self.items)

    def changes(self) -> list[Change]:
        changes: list[Change] = [("queue_drop", {"n": self.n_taken})] if self.n_taken else []
        changes += [("queue_put", {"value": value}) for value in islice(self.items, self.n_told, None)]
        self.n_told, self.n_taken = len(self.items), 0
        return changes


HOMES["queue"] = QueueHome


def _loaded(items: list[Payload]) -> list[Any]:
    return [opened(item) for item in items]


# -- server half -------------------------------------------------------------------------------------------------------


class _Wanted:
    """What a getter waits for: ``n`` items of a queue, and those that it has already."""

    __slots__ = ("items", "n", "queue")

    def __init__(self, queue: QueueState, n: int) -> None:
        self.queue = queue
        self.n = n
        self.items: list[Stored] = []


class _Brought:
    """What a putter waits with."""

    __slots__ = ("item", "queue")

    def __init__(self, queue: QueueState, item: Stored) -> None:
        self.queue = queue
        self.item = item


class QueueState:
    """One name."""

    __slots__ = ("getters", "items", "keepers", "maxsize", "name", "putters")

    def __init__(self, name: Name) -> None:
        self.name = name
        self.maxsize = 0
        self.items: deque[Stored] = deque()
        self.getters: OrderedDict[Waiter, None] = OrderedDict()
        self.putters: OrderedDict[Waiter, None] = OrderedDict()
        self.keepers: dict[str, None] = {}

    @property
    def is_full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)


class Queues:
    """All queues of a scheduler. Pure."""

    def __init__(self, waiters: Waiters, held: HeldKeys) -> None:
        self.by_name: dict[Name, QueueState] = {}
        self._waiters = waiters
        self._held = held

    def put(
        self, waiter: Waiter, now: float, name: Name, value: Any, keys: Iterable[Key] = (), maxsize: int = 0
    ) -> None:
        """Answered when the item is in, with True if the queue has a limit, or with a TimeoutError."""
        stored = Stored(value, keys)
        queue = self._find(name, waiter.client, maxsize)
        waiter.wish = _Brought(queue, stored)
        self._held.hold(stored.keys)
        if not queue.is_full and not queue.putters:
            queue.items.append(stored)
            self._waiters.answer(waiter, True if queue.maxsize else None)
            self._settle(queue)
            return
        late = TimeoutError(f"the queue {name!r} was full for {waiter.timeout_s} s")
        if self._waiters.wait(waiter, self, late, now):
            waiter.line = queue.putters
            queue.putters[waiter] = None
        else:
            self._held.let_go(stored.keys)

    def get(self, waiter: Waiter, now: float, name: Name, n: int = 0, maxsize: int = 0) -> None:
        """Answered with ``([(value, keys), ...], transit)``, or with a TimeoutError.

        ``n`` items; 0: one; -1: all that are there, be it none.
        """
        n = index(n)
        queue = self._find(name, waiter.client, maxsize)
        wanted = waiter.wish = _Wanted(queue, len(queue.items) if n < 0 else max(1, n))
        if n < 0 or (not queue.getters and len(queue.items) >= wanted.n):
            self._take(wanted)
            self._give(waiter, wanted)
            self._settle(queue)
            return
        late = TimeoutError(f"the queue {name!r} had too little in it for {waiter.timeout_s} s")
        if self._waiters.wait(waiter, self, late, now):
            waiter.line = queue.getters
            queue.getters[waiter] = None
        self._settle(queue)

    def give_back(
        self, waiter: Waiter, now: float, name: Name, items: list[tuple[Any, list[Key]]], transit: int
    ) -> None:
        """Nobody has taken these: they are the first again."""
        stored = [Stored(value, keys) for value, keys in items]
        queue = self._find(name, waiter.client, 0)
        for item in stored:
            self._held.hold(item.keys)
        self._held.arrived(waiter.client, transit)
        queue.items.extendleft(reversed(stored))
        self._waiters.answer(waiter, None)
        self._settle(queue)

    def drop(self, waiter: Waiter, now: float, name: Name, n: int) -> None:
        """The client that keeps the queue has taken the first ``n`` out. Answered with None."""
        queue = self._find(name, waiter.client, 0)
        for _ in range(min(index(n), len(queue.items))):
            self._held.let_go(queue.items.popleft().keys)
        self._waiters.answer(waiter, None)
        self._settle(queue)

    def lend(self, name: Name, client: str, now: float) -> tuple[Any, ...] | None:
        """The limit of an empty queue at which nobody waits, if there is one that this client has given."""
        queue = self.by_name.get(name)
        if queue is None:
            return (0,)
        if queue.items or queue.getters or queue.putters or client not in queue.keepers:
            return None
        return (queue.maxsize,)

    def size(self, waiter: Waiter, now: float, name: Name, maxsize: int = 0) -> None:
        """Answered with the number of items."""
        queue = self._find(name, waiter.client, maxsize)
        self._waiters.answer(waiter, len(queue.items))
        self._forget_unused(queue)

    def close(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered when it is empty and forgotten."""
        queue = self.by_name.pop(name, None)
        if queue is not None:
            getters, queue.getters = queue.getters, OrderedDict()
            putters, queue.putters = queue.putters, OrderedDict()
            items = [*queue.items, *[item for getter in getters for item in getter.wish.items]]
            for item in [*items, *[putter.wish.item for putter in putters]]:
                self._held.let_go(item.keys)
            queue.items.clear()
            for waiting in getters:
                self._waiters.answer(waiting, RuntimeError(f"the queue {name!r} was closed while get() waited"))
            for waiting in putters:
                self._waiters.answer(waiting, RuntimeError(f"the queue {name!r} was closed while put() waited"))
        self._waiters.answer(waiter, None)

    def _find(self, name: Name, client: str, maxsize: int) -> QueueState:
        maxsize = index(maxsize)
        queue = self.by_name.get(name)
        if queue is None:
            queue = self.by_name[name] = QueueState(name)
        if maxsize > 0:
            queue.keepers[client] = None
            queue.maxsize = queue.maxsize or maxsize
        return queue

    def _settle(self, queue: QueueState) -> None:
        """Items to those who wait for them, and into the room so made the items of those who wait for room."""
        moved = True
        while moved:
            moved = False
            while queue.items and queue.getters:
                getter = next(iter(queue.getters))
                wanted: _Wanted = getter.wish
                self._take(wanted)
                moved = True
                if len(wanted.items) < wanted.n:
                    break
                del queue.getters[getter]
                self._give(getter, wanted)
            while queue.putters and not queue.is_full:
                putter, _ = queue.putters.popitem(last=False)
                queue.items.append(putter.wish.item)
                self._waiters.answer(putter, True)
                moved = True
        self._forget_unused(queue)

    def _take(self, wanted: _Wanted) -> None:
        items = wanted.queue.items
        while items and len(wanted.items) < wanted.n:
            wanted.items.append(items.popleft())

    def _give(self, waiter: Waiter, wanted: _Wanted) -> None:
        keys = tuple([key for item in wanted.items for key in item.keys])
        transit = self._held.hand_over(waiter.client, keys)
        self._held.let_go(keys)
        self._waiters.answer(waiter, ([(item.value, list(item.keys)) for item in wanted.items], transit))

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of the line; what a getter had gathered is for the next one, what a putter has brought is dropped."""
        queues: dict[QueueState, None] = {}
        for waiter in reversed(waiters):
            waiter.line.pop(waiter, None)
            wish = waiter.wish
            queues[wish.queue] = None
            if isinstance(wish, _Brought):
                self._held.let_go(wish.item.keys)
            else:
                wish.queue.items.extendleft(reversed(wish.items))
        for queue in queues:
            self._settle(queue)

    def client_left(self, client: str, now: float) -> None:
        """Limits that only this client has given are forgotten with an empty queue."""
        for queue in list(self.by_name.values()):
            if queue.keepers.pop(client, self) is None:
                self._forget_unused(queue)

    def _forget_unused(self, queue: QueueState) -> None:
        if not (queue.items or queue.getters or queue.putters or queue.keepers):
            self.by_name.pop(queue.name, None)

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, queue in self.by_name.items():
            assert queue.items or queue.getters or queue.putters or queue.keepers, f"{name!r} is not forgotten"
            assert not (queue.items and queue.getters), f"{name!r} has items, and somebody waits for one"
            assert queue.is_full or not queue.putters, f"{name!r} has room, and somebody waits for it"
            for waiter in [*queue.getters, *queue.putters]:
                assert not waiter.over, f"{waiter!r} is answered and still in a line of {name!r}"
