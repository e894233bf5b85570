"""The links to clients, workers and nannies, by id and address; the only place that sends to them. Shell.

Each has a session, which keeps what is sent to it while its connection is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.messages.scheduler_to_worker import FreeKeys
from distributed.rpc.connection import Connection
from distributed.rpc.counted import CountedEnd, CountedLink
from distributed.rpc.session import LIMIT_BYTES, SessionEnd, SessionLink

CLOSE_S = 2.0
FREE_AFTER_S = 0.01
REASSURE_S = 1.0
"""How often it is looked for peers in the middle of a long message; well below the time in which they lose patience
(``worker.member_link``)."""
MAX_FAREWELLS = 1000


class Streams:
    """Who is connected.

    Parameters
    ----------
    spawn
        Runs a coroutine in the background.
    limit_bytes
        How much may be on its way to one peer.

    Attributes
    ----------
    too_far_behind
        Clients that have not taken in what was sent to them for so long that the limit is passed.
    """

    def __init__(self, spawn: Callable[[Any], Any], limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.clients: dict[str, SessionLink] = {}
        self.too_far_behind: dict[str, None] = {}
        self._farewells: dict[str, str] = {}
        self._past = (0, 0, 0)
        self.workers: dict[str, CountedLink] = {}
        self._received: dict[str, int] = {}
        self._heard: dict[str, tuple[int, int]] = {}
        self.nannies: dict[str, CountedLink] = {}
        self._spawn = spawn

    def senders(self) -> list[str]:
        """Addresses of the workers from which bytes have come since this was last asked."""
        before = self._received
        self._received = now = {
            address: link.connection.comm.received_bytes
            for address, link in self.workers.items()
            if link.connection is not None
        }
        return [address for address, nbytes in now.items() if nbytes != before.get(address)]

    def reassure(self) -> None:
        """Speak to the workers and nannies that are in the middle of a long message: bytes of them have come since this
        was last called, but nothing whole. A question of theirs would wait behind it, and we would seem silent."""
        before = self._heard
        self._heard = now = {
            address: (link.connection.comm.received_bytes, link.end.applied)
            for links in (self.workers, self.nannies)
            for address, link in links.items()
            if link.connection is not None
        }
        for address in in_the_middle(before, now):
            link = self.workers.get(address) or self.nannies[address]
            link.tell()

    def to_worker(self, address: str, messages: list[Any]) -> None:
        """Send now, as one batch. What is only to be forgotten waits a moment for company: nobody waits for it, and it
        would wake a worker while another one is to begin a task."""
        link = self.workers.get(address)
        if link is not None:
            quiet = len(messages) == 1 and type(messages[0]) is FreeKeys
            link.send(messages, FREE_AFTER_S if quiet else 0.0)

    def n_sent(self, address: str) -> int | None:
        """Number of the last message to this worker, which has left; None where they have no numbers."""
        link = self.workers.get(address)
        if link is None:
            return None
        if link.connection is not None and link.connection.n_waiting:
            link.connection.flush()
        return link.end.sent if link.keeps else None

    def to_client(self, client: str, messages: list[Any]) -> None:
        """Send now, as one batch; or keep it until the client is back. One that is behind gets no values with it."""
        link = self.clients.get(client)
        if link is None:
            return
        if link.connection is None or link.end.unacknowledged_bytes > self.limit_bytes // 4:
            messages = [_without_value(message) for message in messages]
        link.send(messages)
        if link.end.full:
            self.too_far_behind[client] = None

    def drop_client(self, client: str, cause: str, abort: bool) -> None:
        """The client's session is over; should it come back, it will be told ``cause``."""
        self.too_far_behind.pop(client, None)
        link = self.clients.pop(client, None)
        if link is None:
            return
        self._past = _added(self._past, link.end)
        if not abort:
            return
        self._bid_farewell(client, cause)
        connection = link.connection
        link.detach()
        if connection is not None:
            connection.abort()

    def _bid_farewell(self, name: str, cause: str) -> None:
        while len(self._farewells) >= MAX_FAREWELLS:
            del self._farewells[next(iter(self._farewells))]
        self._farewells[name] = cause

    def farewell(self, name: str) -> str:
        """Why the last session of this client, or this session of a worker, has ended, in words."""
        return self._farewells.pop(name, "") or "this scheduler does not know it: it is another one, or was restarted"

    def counts(self) -> dict[str, int]:
        """Of all sessions so far: how often one went on over a new connection, messages sent again, and received again
        (and dropped)."""
        total = self._past
        ends: list[SessionEnd | CountedEnd] = [link.end for link in self.clients.values()]
        ends += [link.end for link in self.workers.values()]
        for end in ends:
            total = _added(total, end)
        return dict(zip(("sessions_resumed", "messages_resent", "messages_doubled"), total, strict=True))

    def drop_worker(self, address: str, messages: Iterable[Any] = (), cause: str = "") -> None:
        """The worker is out: send it these last messages and close. Should it come back, it will be told ``cause``."""
        link = self.workers.pop(address, None)
        if link is None:
            return
        self._past = _added(self._past, link.end)
        self._bid_farewell(link.id, cause)
        connection = link.connection
        if connection is not None:
            _send(connection, messages)
            link.detach()
            self._spawn(connection.close(CLOSE_S))

    def worker(self, address: str) -> Connection | None:
        """The connection to this worker that stands now."""
        link = self.workers.get(address)
        return None if link is None else link.connection

    def nanny(self, address: str) -> Connection | None:
        """The connection to this nanny that stands now."""
        link = self.nannies.get(address)
        return None if link is None else link.connection

    def connections(self, links: dict[str, CountedLink]) -> dict[str, Connection]:
        """Those that stand now."""
        return {address: link.connection for address, link in links.items() if link.connection is not None}

    def client_of(self, connection: Connection | None) -> str | None:
        """Id of the client at the other end."""
        if connection is None:
            return None
        for client, link in self.clients.items():
            if link.connection is connection:
                return client
        return None

    async def last_words(
        self, to_clients: list[Any], to_workers: list[Any], to_nannies: list[Any], timeout: float = CLOSE_S
    ) -> None:
        """Send these to everybody, and wait until they are on their way."""
        links = [link.connection for link in self.clients.values() if link.connection is not None]
        for link in self.clients.values():
            link.send(list(to_clients))
        for members, messages in ((self.workers, to_workers), (self.nannies, to_nannies)):
            for connection in self.connections(members).values():
                _send(connection, messages)
                links.append(connection)
        drains = [asyncio.ensure_future(_drained(link)) for link in links if not link.closed]
        if drains:
            _, late = await asyncio.wait(drains, timeout=timeout)
            for task in late:
                task.cancel()


def in_the_middle(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> list[str]:
    """Of whom more bytes, but no more messages have come; given both numbers of each peer. Pure."""
    return [
        peer
        for peer, (nbytes, messages) in now.items()
        if peer in before and nbytes > before[peer][0] and messages == before[peer][1]
    ]


def _added(counts: tuple[int, int, int], end: SessionEnd | CountedEnd) -> tuple[int, int, int]:
    doubled = end.n_duplicates if isinstance(end, SessionEnd) else 0
    return counts[0] + max(0, end.n_resumed), counts[1] + end.n_resent, counts[2] + doubled


def _without_value(message: Any) -> Any:
    """The client fetches the value from its holder, once it is there again."""
    if type(message) is not KeyInMemory or message.inline is None or not message.holders:
        return message
    return KeyInMemory(message.key, message.type_name, None, message.holders, message.nbytes, message.unshippable)


def _send(connection: Connection | None, messages: Iterable[Any]) -> None:
    if connection is None:
        return
    try:
        connection.send_now(messages)
    except CommClosedError:
        pass


async def _drained(connection: Connection) -> None:
    try:
        await connection.drain()
    except CommClosedError:
        pass
