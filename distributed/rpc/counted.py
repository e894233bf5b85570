"""A session on the hot path: like ``rpc.session``, without a header before each batch.

Within a connection nothing is lost or doubled: frames carry the number of their first message, and one that does not
fit ends the connection. So both ends count the stream messages silently. Each keeps what the other has not acknowledged
(:class:`~distributed.messages.control.Applied`, itself a counted message, every :data:`TELL_EVERY` messages and when
asked). When a connection breaks both keep their :class:`CountedEnd`; on the next one each says how many messages it has
taken in, and is sent the rest: every message is taken in exactly once, in order. Questions and answers
(``Connection.request``) are no part of it.

What is kept is bounded: from an eighth of the limit on an end asks for an acknowledgement; beyond the limit the oldest
is given up, and until the peer has said that it took that in, the session cannot go on over another connection.

:class:`CountedEnd` is pure, and all that a simulator needs; :class:`CountedLink` puts it on a connection.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.messages.control import Applied
from distributed.rpc.connection import Connection
from distributed.rpc.session import LIMIT_BYTES, size_of

TELL_EVERY = 512
"""So many messages are taken in without a word."""


class CountedEnd:
    """One end of a session. Messages are numbered from 1, in the order in which they are sent. Pure.

    Parameters
    ----------
    limit_bytes
        So many unacknowledged bytes are kept.
    tell_every
        So many messages are taken in without a word.

    Attributes
    ----------
    sent, acknowledged, dropped, applied, told
        Number of the last message that was sent; that the peer has said it took in; that was given up; that was taken
        in here; that the peer was told of.
    n_bytes
        Bytes sent so far, as far as the owner knows: it adds to it.
    ask_at
        From so many bytes sent on the peer is to be asked.
    n_resent, n_resumed
        Messages sent again; how often the session went on over a new connection.
    """

    __slots__ = ("limit_bytes", "tell_every", "sent", "acknowledged", "dropped", "applied", "told", "n_bytes",
                 "n_resent", "n_resumed", "_kept", "ask_at")  # fmt: skip

    def __init__(self, limit_bytes: int = LIMIT_BYTES, tell_every: int = TELL_EVERY) -> None:
        self.limit_bytes = limit_bytes
        self.tell_every = tell_every
        self.sent = self.acknowledged = self.dropped = self.applied = self.told = 0
        self.n_bytes = 0
        self.n_resent = 0
        self.n_resumed = -1  # the first connection is no other one
        # Batches that are kept: number of the last message, bytes sent before, the messages.
        self._kept: deque[tuple[int, int, list[Any]]] = deque()
        self.ask_at = limit_bytes // 8

    # --- sending

    def push(self, messages: list[Any]) -> None:
        """These are sent now, as one batch. The list must not be changed afterwards."""
        self.sent = last = self.sent + len(messages)
        self._kept.append((last, self.n_bytes, messages))

    @property
    def unacknowledged_bytes(self) -> int:
        """About how much is kept."""
        return self.n_bytes - self._kept[0][1] if self._kept else 0

    def wants_ack(self) -> bool:
        """Whether to ask the peer how far it is; True once for each eighth of the limit. Gives up what is too much."""
        if self.n_bytes <= self.ask_at:
            return False
        kept = self._kept
        while len(kept) > 1 and self.n_bytes - kept[1][1] > self.limit_bytes:
            self.dropped = kept.popleft()[0]
        self.ask_at = self.n_bytes + self.limit_bytes // 8
        return True

    def acknowledge(self, number: int) -> bool:
        """The peer has taken in so many; False when that cannot be."""
        if number > self.sent:
            return False
        if number > self.acknowledged:
            self.acknowledged = number
            kept = self._kept
            while kept and kept[0][0] <= number:
                kept.popleft()
            self.ask_at = (kept[0][1] if kept else self.n_bytes) + self.limit_bytes // 8
        return True

    # --- receiving

    def take_in(self, count: int) -> bool:
        """So many messages have been received; whether it is time to tell the peer."""
        self.applied = applied = self.applied + count
        return applied - self.told >= self.tell_every

    def tell(self, ask: bool = False) -> Applied:
        """What to send the peer, to say how far this end is."""
        self.told = self.applied
        return Applied(self.applied, ask)

    # --- going on

    def can_resume(self, peer_applied: int) -> bool:
        """Whether all that a peer lacks that is so far is still here."""
        return max(self.acknowledged, self.dropped) <= peer_applied <= self.sent

    def resume(self, peer_applied: int) -> list[list[Any]]:
        """A new connection begins, and the peer has taken in this much: the batches to send it first.

        Raises ValueError unless ``can_resume``.
        """
        if not self.can_resume(peer_applied):
            first = max(self.acknowledged, self.dropped) + 1
            raise ValueError(f"cannot go on after message {peer_applied}: {first} to {self.sent} are here")
        self.n_resumed += 1
        self.told = self.applied
        self.acknowledge(peer_applied)
        again = [messages[max(0, len(messages) - (last - peer_applied)) :] for last, _, messages in self._kept]
        self.n_resent += self.sent - peer_applied
        return again

    def __repr__(self) -> str:
        return f"<CountedEnd sent {self.sent}, acknowledged {self.acknowledged}, applied {self.applied}>"


class CountedLink:
    """A :class:`CountedEnd` on a connection, or on none for the moment. Shell; on the loop's thread.

    Parameters
    ----------
    limit_bytes
        See :class:`CountedEnd`.
    id
        Name of the session; empty: a new one is made, by the end that admits the other.

    Attributes
    ----------
    keeps
        Whether what is sent is kept for another connection; within a process it is not, as none would break.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES, id: str = "") -> None:
        self.id = id or uuid.uuid4().hex
        self.end = CountedEnd(limit_bytes)
        self.connection: Connection | None = None
        self.keeps = True
        self._seen_bytes = 0

    def attach(self, connection: Connection, peer_applied: int = 0) -> Connection | None:
        """Go on over this connection, with a peer that is so far; returns the one before, if it still stood."""
        old, self.connection = self.connection, connection
        self.keeps = not connection.same_process
        connection.numbered = self.keeps
        self._seen_bytes = connection.comm.sent_bytes
        for messages in self.end.resume(peer_applied):
            connection.send_now(messages)
        return old

    def detach(self) -> None:
        """The connection is gone; what is sent now waits for the next one."""
        self.connection = None

    @property
    def stands(self) -> bool:
        """Whether what is sent leaves now."""
        return self.connection is not None and not self.connection.closed

    def send(self, messages: list[Any], delay_s: float = 0.0) -> None:
        """Send these as one batch: now, or with what follows within ``delay_s``. The list belongs to the session
        afterwards."""
        connection = self.connection
        keeps = self.keeps
        if keeps:
            self.end.push(messages)
        if connection is None:
            if keeps:
                self.end.n_bytes += size_of(messages)
                self.end.wants_ack()
            return
        try:
            if delay_s:
                connection.send_later(messages, delay_s)
            else:
                connection.send_now(messages)
        except CommClosedError:
            return
        if keeps:
            end = self.end
            sent_bytes = connection.comm.sent_bytes
            end.n_bytes += sent_bytes - self._seen_bytes
            self._seen_bytes = sent_bytes
            if end.n_bytes > end.ask_at and end.wants_ack():
                self.tell(ask=True)

    def tell(self, ask: bool = False) -> None:
        """Say how far this end is."""
        if self.keeps and self.stands:
            self.send([self.end.tell(ask)])

    def receive(self, connection: Connection, messages: list[Any]) -> list[Any]:
        """What ``connection`` has brought, unless it is one of before: what comes over that is sent again."""
        if connection is not self.connection:
            return []
        if self.keeps and self.end.take_in(len(messages)):
            self.tell()
        return messages

    def on_applied(self, message: Applied) -> None:
        """The peer says how far it is."""
        if not self.end.acknowledge(message.number):
            connection = self.connection
            if connection is not None:
                text = f"message {message.number} is acknowledged, but the last one sent is {self.end.sent}"
                connection.abort(CommClosedError(f"the stream of {connection.peer_address} is out of order: {text}"))
        elif message.ask:
            self.tell()
