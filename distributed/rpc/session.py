"""A session: two streams of numbered messages between two peers, which outlive the connections that carry them.

Each end numbers the messages that it sends and keeps those that the peer has not acknowledged. A batch is led by a
:class:`BatchHeader`: the number of its first message, and up to where the sender has taken in the peer's (so
acknowledgements ride on what is sent anyway, heartbeats included). When a connection breaks both ends keep their
:class:`SessionEnd`; on the next one they tell each other how far they are, send the rest again, and go on: every
message is taken in exactly once, in order. Questions and answers (``Connection.request``) are no part of it.

What is kept is bounded. From an eighth of the limit on an end asks for an acknowledgement; beyond the limit it is
``full``, and its owner stops sending or gives the session up.

:class:`SessionEnd` is pure (no clock, no I/O) and all that a simulator needs. :class:`SessionLink` puts it on a
connection. Neither knows what the messages mean. The links of workers and nannies have the same without headers:
``rpc.counted``.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from typing import Any

from distributed.base import settings
from distributed.base.errors import CommClosedError
from distributed.messages.control import BatchHeader
from distributed.rpc.connection import Connection
from distributed.rpc.links import codec_for

LIMIT_BYTES = 64 << 20


def session_buffer() -> int:
    """``limit_bytes`` of new sessions (setting ``distributed.comm.session-buffer``)."""
    return int(settings.get_bytes("distributed.comm.session-buffer", LIMIT_BYTES) or LIMIT_BYTES)


class SessionEnd:
    """One end of a session. Messages are numbered from 1. Pure.

    Parameters
    ----------
    limit_bytes
        From how many unacknowledged bytes on this end is ``full``.

    Attributes
    ----------
    sent, acknowledged, applied
        Number of the last message that was sent; that the peer has said it took in; that was taken in here.
    unacknowledged_bytes
        Size of the messages that are kept.
    n_resent, n_duplicates, n_resumed
        Messages sent again; received again, and dropped; how often the session went on over a new connection.
    fault
        What was wrong with what was received; the connection is of no more use then, the session is.
    ack_due
        The peer wants to know how far this end is: send ``header()``.
    """

    __slots__ = ("limit_bytes", "sent", "acknowledged", "applied", "unacknowledged_bytes", "n_resent",
                 "n_duplicates", "n_resumed", "fault", "ack_due", "_kept", "_left", "_doubled",
                 "_ask_from", "_sizes")  # fmt: skip

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.sent = self.acknowledged = self.applied = 0
        self.unacknowledged_bytes = 0
        self.n_resent = self.n_duplicates = 0
        self.n_resumed = -1  # the first connection is no other one
        self.fault = ""
        self.ack_due = False
        # Batches that are kept: number of the last message, the messages.
        self._kept: deque[tuple[int, list[Any]]] = deque()
        self._sizes: deque[int] = deque()
        # Messages of the batch at hand that have not come yet, and how many of these were taken in before.
        self._left = 0
        self._doubled = 0
        self._ask_from = limit_bytes // 8

    # --- sending

    def push(self, messages: list[Any]) -> BatchHeader:
        """Number these messages; the header goes before them. The list must not be changed afterwards."""
        count = len(messages)
        first = self.sent + 1
        self.sent = last = self.sent + count
        self._kept.append((last, messages))
        self._sizes.append(0)
        self.ack_due = False
        return BatchHeader(first, count, self.applied)

    def weigh(self, nbytes: int) -> None:
        """The messages of the last ``push`` take ``nbytes``."""
        self._sizes[-1] = nbytes
        self.unacknowledged_bytes += nbytes

    def header(self, ask: bool = False) -> BatchHeader:
        """Of no message: tells the peer how far this end is."""
        self.ack_due = False
        return BatchHeader(self.sent + 1, 0, self.applied, ask)

    @property
    def full(self) -> bool:
        """The peer is too far behind to be sent more."""
        return self.unacknowledged_bytes > self.limit_bytes

    def wants_ack(self) -> bool:
        """Whether to ask the peer how far it is; True once for each eighth of the limit."""
        if self.unacknowledged_bytes <= self._ask_from:
            return False
        self._ask_from = self.unacknowledged_bytes + self.limit_bytes // 8
        return True

    # --- receiving

    def receive(self, stream: list[Any]) -> list[Any]:
        """The messages of ``stream`` (with its headers, in any portions) that are new. Look at ``fault`` then. The list
        belongs to the session."""
        header = stream[0] if stream else None
        if (
            type(header) is BatchHeader
            and header.count == len(stream) - 1
            and header.first == self.applied + 1
            and header.applied <= self.sent
            and not self._left
            and not self.fault
        ):  # one batch, the next one: as nearly always
            self.applied += header.count
            self.ack_due = self.ack_due or header.ask
            if header.applied > self.acknowledged:
                self._acknowledge(header.applied)
            del stream[0]
            return stream
        fresh: list[Any] = []
        at, end = 0, len(stream)
        while at < end and not self.fault:
            if not self._left:
                self._begin(stream[at])
                at += 1
                continue
            n = min(self._left, end - at)
            part = stream[at : at + n]
            at += n
            self._left -= n
            if self._doubled:
                known = min(self._doubled, n)
                self._doubled -= known
                self.n_duplicates += known
                part = part[known:]
            self.applied += len(part)
            fresh = part if not fresh else fresh + part
        return fresh

    def _begin(self, header: Any) -> None:
        if type(header) is not BatchHeader:
            self.fault = f"a message without a number came: {type(header).__name__}"
        elif header.applied > self.sent:
            self.fault = f"message {header.applied} is acknowledged, but the last one sent is {self.sent}"
        elif header.first > self.applied + 1 or header.first < 1 or header.count < 0:
            self.fault = f"message {self.applied + 1} should come next, not {header.first}"
        else:
            if header.applied > self.acknowledged:
                self._acknowledge(header.applied)
            self.ack_due = self.ack_due or header.ask
            self._left = header.count
            self._doubled = min(header.count, self.applied + 1 - header.first)

    def _acknowledge(self, number: int) -> None:
        self.acknowledged = number
        kept = self._kept
        while kept and kept[0][0] <= number:
            kept.popleft()
            self.unacknowledged_bytes -= self._sizes.popleft()
        self._ask_from = self.limit_bytes // 8

    # --- going on

    def can_resume(self, peer_applied: int) -> bool:
        """Whether all that a peer lacks that is so far is still here."""
        return self.acknowledged <= peer_applied <= self.sent

    def resume(self, peer_applied: int) -> list[tuple[BatchHeader, list[Any]]]:
        """A new connection begins, and the peer has taken in this much: what to send it first, with headers.

        Raises ValueError unless ``can_resume``.
        """
        if not self.can_resume(peer_applied):
            raise ValueError(f"cannot go on after message {peer_applied}: {self.acknowledged} to {self.sent} are here")
        self._left = self._doubled = 0
        self.fault = ""
        self.n_resumed += 1
        self._acknowledge(peer_applied)
        again = []
        for last, messages in self._kept:
            rest = messages[max(0, len(messages) - (last - peer_applied)) :]
            again.append((BatchHeader(last - len(rest) + 1, len(rest), self.applied), rest))
            self.n_resent += len(rest)
        return again

    def __repr__(self) -> str:
        return (
            f"<SessionEnd sent {self.sent}, acknowledged {self.acknowledged}, applied {self.applied}, "
            f"{self.unacknowledged_bytes} bytes kept>"
        )


class SessionLink:
    """A :class:`SessionEnd` on a connection, or on none for the moment. Shell; on the loop's thread.

    Parameters
    ----------
    limit_bytes
        See :class:`SessionEnd`.

    Attributes
    ----------
    id
        Name of the session, made by the end that admits the other, and told to it: two sessions of one peer are never
        taken for one another.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.id = uuid.uuid4().hex
        self.end = SessionEnd(limit_bytes)
        self.connection: Connection | None = None

    def attach(self, connection: Connection, peer_applied: int = 0) -> Connection | None:
        """Go on over this connection, with a peer that is so far; returns the one before, if it still stood."""
        old, self.connection = self.connection, connection
        connection.numbered = True
        for header, messages in self.end.resume(peer_applied):
            connection.send_batch(header, messages)
        if self.end.wants_ack():
            connection.send(self.end.header(ask=True))
        return old

    def detach(self) -> None:
        """The connection is gone; what is sent now waits for the next one."""
        self.connection = None

    def send(self, messages: list[Any], ask: bool = False) -> None:
        """Send these as one batch, now. The list belongs to the session afterwards."""
        end = self.end
        header = end.push(messages)
        if ask:
            header.ask = True
        connection = self.connection
        if connection is None or connection.closed:
            end.weigh(size_of(messages))
            return
        comm = connection.comm
        before = comm.sent_bytes
        connection.send_batch(header, messages)
        end.weigh(comm.sent_bytes - before)
        if end.wants_ack():
            connection.send(end.header(ask=True))

    def send_past(self, messages: list[Any]) -> None:
        """The same from another thread, whose caller sees to it that nothing else is done with this link meanwhile."""
        end, connection = self.end, self.connection
        assert connection is not None
        header = end.push(messages)
        comm = connection.comm
        before = comm.sent_bytes
        with contextlib.suppress(CommClosedError):  # they are sent again over the next one
            connection.send_past(header, messages)
        end.weigh(comm.sent_bytes - before)

    def receive(self, connection: Connection, stream: list[Any]) -> list[Any]:
        """What is new of what ``connection`` has brought. A connection that brings nonsense is aborted: the session
        goes on over the next one. What comes over an earlier connection is dropped, and sent again by the peer."""
        if connection is not self.connection:
            return []
        end = self.end
        fresh = end.receive(stream)
        if end.fault:
            connection.abort(CommClosedError(f"the stream of {connection.peer_address} is out of order: {end.fault}"))
        elif end.ack_due and not connection.closed:
            connection.send(end.header())
        return fresh


def size_of(messages: list[Any]) -> int:
    """Bytes that the messages would take on a wire."""
    try:
        return sum([memoryview(segment).nbytes for segment in codec_for("", "").encode(messages)])
    except Exception:  # the connection that is to carry them will say what is wrong
        return 0
