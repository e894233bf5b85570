"""A worker's session, as both ends of it see it: the real numbering, and a witness that each message is taken in once.

Pure.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from distributed.messages.control import Applied
from distributed.rpc.counted import CountedEnd
from distributed.simulation.links import Connection, Link

TELL_EVERY = 3
"""Episodes are short."""


class Member:
    """One end of a session.

    Attributes
    ----------
    id
        Name of the session; empty before the scheduler has given one.
    said
        What this end has said and the other has not taken in, as a witness sees it who knows both.
    peer
        The other end.
    connection
        The one that stands, as far as this end knows.
    ended, silent_end
        Whether the process behind it has ended; and nobody is there who could say so.
    """

    __slots__ = ("connection", "end", "ended", "id", "is_worker", "name", "peer", "said", "silent_end")

    def __init__(self, name: str, is_worker: bool, id: str = "") -> None:
        self.name = name
        self.is_worker = is_worker
        self.id = id
        self.end = CountedEnd(tell_every=TELL_EVERY)
        self.said: deque[Any] = deque()
        self.peer: Member | None = None
        self.connection: Connection | None = None
        self.ended = self.silent_end = False

    def _way(self) -> Link | None:
        connection = self.connection
        if connection is None:
            return None
        return connection.up if self.is_worker else connection.down

    def send(self, messages: list[Any]) -> None:
        """Now, or when there is a connection again."""
        if not messages:
            return
        self.end.push(messages)
        self.said.extend(messages)
        way = self._way()
        if way is not None:
            way.send(list(messages))

    def attach(self, connection: Connection, peer_applied: int) -> None:
        """Go on over this connection, with a peer that is so far."""
        self.connection = connection
        way = self._way()
        assert way is not None
        for messages in self.end.resume(peer_applied):
            way.send(list(messages))

    def take_in(self, messages: list[Any]) -> list[Any]:
        """What has come over the connection that stands: each message once, in order, none left out."""
        assert self.peer is not None
        for message in messages:
            expected = self.peer.said.popleft() if self.peer.said else None
            assert message is expected, f"I6 {self.name} takes in each message once: {message} instead of {expected}"
        if self.end.take_in(len(messages)):
            self.tell()
        for message in messages:
            if type(message) is Applied:
                assert self.end.acknowledge(message.number), f"I6 {self.name}: {message} acknowledges too much"
                if message.ask:
                    self.tell()
        return messages

    def tell(self, ask: bool = False) -> None:
        """Say how far this end is."""
        if self.connection is not None:
            self.send([self.end.tell(ask)])
