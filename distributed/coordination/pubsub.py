"""Publish and subscribe: every message to everybody who has subscribed before. Handles, and pure table.

Each subscription has a mailbox on the scheduler, from which its owner takes all that is there at a time. A mailbox
holds at most ``MAX_UNREAD`` messages: of a subscriber that does not read the oldest are dropped, and it is told.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from distributed.base.keys import Key
from distributed.coordination.handle import Handle, new_id, timeout_seconds
from distributed.coordination.held_keys import HeldKeys, Stored
from distributed.coordination.values import pack, unpack
from distributed.coordination.waiters import Name, Waiter, Waiters

logger = logging.getLogger("distributed.coordination")

MAX_UNREAD = 100_000


class Pub(Handle):
    """The sending end of a topic.

    Parameters
    ----------
    name : str
        The topic.
    worker
        Accepted, without effect.
    client : Client, optional
        Default: that of the place where it is used.

    Examples
    --------
    >>> Pub("temperature").put(21.5)  # doctest: +SKIP
    """

    kind = "topic"

    def __init__(self, name: Any, worker: Any = None, client: Any = None) -> None:
        _must_have_name(name)
        super().__init__(name, client)

    def put(self, msg: Any) -> None:
        """Send a message to everybody who has subscribed by now. Does not wait; one client's messages keep their order.

        Raises ``SerializationError`` when it cannot be pickled.
        """
        self._link().check_open()
        self._tell("pubsub_put", pack(msg, self.client), keep=msg)

    @property
    def subscribers(self) -> Any:
        """Ids of the subscriptions; awaitable in coroutines on the client's loop."""
        return self._ask("pubsub_subscribers", {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)


class Sub(Handle):
    """The receiving end of a topic: iterate over it, or ``get`` message by message.

    It receives what is published after it was made. Of messages that it does not read the newest 100,000 are kept.

    Parameters
    ----------
    name : str
        The topic.
    worker
        Accepted, without effect.
    client : Client, optional
        Default: that of the place where it is used.

    Examples
    --------
    >>> for value in Sub("temperature"):  # doctest: +SKIP
    ...     show(value)
    """

    kind = "topic"

    def __init__(self, name: Any, worker: Any = None, client: Any = None) -> None:
        _must_have_name(name)
        super().__init__(name, client)
        self.id = new_id()
        self._buffer: deque[Any] = deque()
        self._subscribed = False
        kwargs = {"id": self.id}
        self._link().check_open()
        if self.client.asynchronous:
            self._tell("pubsub_subscribe", kwargs)
        else:
            self._ask("pubsub_subscribe", kwargs)
        self._subscribed = True

    def get(self, timeout: Any = None) -> Any:
        """The next message; wait until there is one.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.

        Raises
        ------
        TimeoutError
            There was none.
        """
        timeout_s = timeout_seconds(timeout)
        if self.client.asynchronous:
            return self._get(timeout_s)
        return self._next() if self._buffer else self._take(timeout_s)

    async def _get(self, timeout_s: float | None) -> Any:
        return self._next() if self._buffer else await self._take(timeout_s)

    def _take(self, timeout_s: float | None) -> Any:
        kwargs = {"timeout": timeout_s, "id": self.id}
        return self._ask("pubsub_get", kwargs, self._filled, self._fill)

    def _next(self) -> Any:
        return self._buffer.popleft()

    def _fill(self, answer: Any) -> None:
        items, transit, n_dropped = answer
        if n_dropped:
            logger.warning("%r does not keep up: the oldest %d of its messages were dropped", self, n_dropped)
        keys = [key for _, keys in items for key in keys]
        self._buffer.extend(unpack([value for value, _ in items], keys, transit, self.client))

    def _filled(self, answer: Any) -> Any:
        self._fill(answer)
        return self._next()

    def close(self) -> None:
        """Receive no more. Happens by itself when this object is garbage."""
        if self._subscribed:
            self._subscribed = False
            client = self._client
            if client is not None and client.status == "running":
                self._tell("pubsub_unsubscribe", {"id": self.id})

    def __del__(self) -> None:
        # May run in any thread, in the middle of anything: the loop says it.
        try:
            if self._subscribed:
                tell, kwargs = self._link().tell, {"name": self.name, "id": self.id}
                self.client.session.loop.call_soon_threadsafe(tell, "pubsub_unsubscribe", kwargs)
        except Exception:  # __init__ failed, the client is closed, or the interpreter ends
            pass

    def __next__(self) -> Any:
        self._refuse_with(False, "async for")
        return self.get()

    next = __next__

    def __iter__(self) -> Iterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._refuse_with(True, "for")
        return await self._get(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)


def _must_have_name(name: Any) -> None:
    if name is None:
        raise TypeError("a topic needs a name: publishers and subscribers find each other by it")


# -- server half -------------------------------------------------------------------------------------------------------


class Mailbox:
    """What one subscription has not read, and (if it is empty) who waits at it."""

    __slots__ = ("client", "id", "items", "line", "n_dropped", "topic")

    def __init__(self, client: str, id: str, topic: Name) -> None:
        self.client = client
        self.id = id
        self.topic = topic
        self.items: deque[Stored] = deque()
        self.line: OrderedDict[Waiter, None] = OrderedDict()
        self.n_dropped = 0


class PubSub:
    """All topics of a scheduler. Pure."""

    def __init__(self, waiters: Waiters, held: HeldKeys, max_unread: int = MAX_UNREAD) -> None:
        self.topics: dict[Name, dict[str, Mailbox]] = {}
        self.max_unread = max_unread
        self._by_client: dict[str, dict[str, Mailbox]] = {}
        self._waiters = waiters
        self._held = held

    def subscribe(self, waiter: Waiter, now: float, name: Name, id: str) -> None:
        """Answered when messages are kept for it."""
        if not isinstance(id, str) or id in self.topics.get(name, ()):
            raise ValueError(f"a subscription needs an id of its own, not {id!r}")
        box = Mailbox(waiter.client, id, name)
        self.topics.setdefault(name, {})[id] = box
        self._by_client.setdefault(waiter.client, {})[id] = box
        self._waiters.answer(waiter, None)

    def unsubscribe(self, waiter: Waiter, now: float, name: Name, id: str) -> None:
        """Answered when nothing is kept for it."""
        box = self._by_client.get(waiter.client, {}).get(id)
        if box is not None:
            self._drop(box)
        self._waiters.answer(waiter, None)

    def subscribers(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered with the ids of the topic's subscriptions."""
        self._waiters.answer(waiter, list(self.topics.get(name, ())))

    def put(self, waiter: Waiter, now: float, name: Name, value: Any, keys: Iterable[Key] = ()) -> None:
        """Answered when it is in all mailboxes."""
        stored = Stored(value, keys)
        for box in self.topics.get(name, {}).values():
            self._held.hold(stored.keys)
            box.items.append(stored)
            if box.line:
                first, _ = box.line.popitem(last=False)
                self._give(box, first)
            elif len(box.items) > self.max_unread:
                self._held.let_go(box.items.popleft().keys)
                box.n_dropped += 1
        self._waiters.answer(waiter, None)

    def get(self, waiter: Waiter, now: float, name: Name, id: str) -> None:
        """Answered with ``([(value, keys), ...], transit, number of messages dropped)``, or with a TimeoutError."""
        box = self._by_client.get(waiter.client, {}).get(id)
        if box is None:
            raise RuntimeError(
                f"the subscription to {name!r} has ended: it was closed, or the connection to the scheduler was lost. "
                "Make a new Sub"
            )
        if box.items:
            self._give(box, waiter)
            return
        late = TimeoutError(f"nothing was published on {name!r} for {waiter.timeout_s} s")
        if self._waiters.wait(waiter, self, late, now):
            waiter.line = box.line
            box.line[waiter] = None

    def _give(self, box: Mailbox, waiter: Waiter) -> None:
        items, box.items = list(box.items), deque()
        n_dropped, box.n_dropped = box.n_dropped, 0
        keys = tuple([key for item in items for key in item.keys])
        transit = self._held.hand_over(waiter.client, keys)
        self._held.let_go(keys)
        self._waiters.answer(waiter, ([(item.value, list(item.keys)) for item in items], transit, n_dropped))

    def _drop(self, box: Mailbox) -> None:
        for item in box.items:
            self._held.let_go(item.keys)
        box.items.clear()
        line, box.line = box.line, OrderedDict()
        for waiter in line:
            self._waiters.answer(
                waiter, RuntimeError(f"the subscription to {box.topic!r} was closed while get() waited")
            )
        for table, key in ((self.topics, box.topic), (self._by_client, box.client)):
            boxes = table[key]
            del boxes[box.id]
            if not boxes:
                del table[key]

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of the line."""
        for waiter in waiters:
            waiter.line.pop(waiter, None)

    def client_left(self, client: str, now: float) -> None:
        """Its subscriptions end."""
        for box in list(self._by_client.get(client, {}).values()):
            self._drop(box)

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, boxes in self.topics.items():
            assert boxes, f"the topic {name!r} without subscriptions is not forgotten"
            for box in boxes.values():
                assert self._by_client[box.client][box.id] is box, f"a subscription to {name!r} belongs to nobody"
                assert not (box.items and box.line), f"a subscription to {name!r} has messages, and somebody waits"
