"""Events by topic: kept for a while, sent to clients that subscribed, told to plugins. Shell; knows nothing of tasks.

An event is ``(wall-clock seconds, message)``; the message is plain data. Nothing is decided by the wall clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

ALL = "all"
SENT_TO_ALL = ("print", "warn")
"""Topics that every client is sent from the start: what tasks say."""


class EventLog:
    """The log.

    Parameters
    ----------
    length
        How many events of each topic are kept.
    keep_s
        Seconds for which the events of a peer that left are kept.
    send
        Called with ``(client, topic, event)`` for each subscriber.
    tell
        Called with ``(topic, message)`` for plugins.
    """

    def __init__(
        self,
        length: int,
        keep_s: float,
        send: Callable[[str, str, tuple[float, Any]], None],
        tell: Callable[[str, Any], None],
    ) -> None:
        self.topics: dict[str, deque[tuple[float, Any]]] = {}
        self.counts: dict[str, int] = {}
        self._length = length
        self._keep_s = keep_s
        self._send = send
        self._tell = tell
        self._subscribers: dict[str, dict[str, None]] = {}
        self._leaving: deque[tuple[float, str]] = deque()

    def log(self, topics: str | Collection[str], message: Any) -> None:
        """Note one event under one or several topics."""
        event = (time.time(), message)
        for topic in [topics] if isinstance(topics, str) else topics:
            events = self.topics.get(topic)
            if events is None:
                self._drop_old(time.monotonic())
                events = self.topics[topic] = deque(maxlen=self._length)
            events.append(event)
            self.counts[topic] = self.counts.get(topic, 0) + 1
            for client in tuple(self._subscribers.get(topic, ())):
                self._send(client, topic, event)
            self._tell(topic, message)

    def get(self, topic: str | None = None) -> Any:
        """The events of a topic as a tuple, or ``{topic: events}`` of all."""
        if topic is not None:
            return tuple(self.topics.get(topic, ()))
        return {name: tuple(events) for name, events in self.topics.items()}

    def subscribe(self, client: str, topic: str) -> None:
        """``client`` is sent the topic's future events."""
        self._subscribers.setdefault(topic, {})[client] = None

    def unsubscribe(self, client: str, topic: str | None = None) -> None:
        """No longer; None: of any topic."""
        for name in list(self._subscribers) if topic is None else [topic]:
            clients = self._subscribers.get(name)
            if clients is not None:
                clients.pop(client, None)
                if not clients:
                    del self._subscribers[name]

    def left(self, topic: str) -> None:
        """The peer that the topic is named after is gone: its events will be dropped."""
        if topic in self.topics:
            self._leaving.append((time.monotonic() + self._keep_s, topic))

    def _drop_old(self, now: float) -> None:
        while self._leaving and self._leaving[0][0] <= now:
            _, topic = self._leaving.popleft()
            self.topics.pop(topic, None)
            self.counts.pop(topic, None)
