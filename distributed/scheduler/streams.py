"""The links to clients, workers and nannies, by id and address; the only place that sends to them. Shell.

A message to a peer that is gone is dropped: its connection's end is an event of its own, and comes (or came) by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.rpc.connection import Connection

CLOSE_S = 2.0


class Streams:
    """Who is connected.

    Parameters
    ----------
    spawn
        Runs a coroutine in the background.
    """

    def __init__(self, spawn: Callable[[Any], Any]) -> None:
        self.clients: dict[str, Connection] = {}
        self.workers: dict[str, Connection] = {}
        self.nannies: dict[str, Connection] = {}
        self._spawn = spawn

    def to_worker(self, address: str, messages: Iterable[Any]) -> None:
        """Send now, as one batch."""
        _send(self.workers.get(address), messages)

    def to_client(self, client: str, messages: Iterable[Any]) -> None:
        """Send now, as one batch."""
        _send(self.clients.get(client), messages)

    def drop_worker(self, address: str, messages: Iterable[Any] = ()) -> None:
        """The worker is out: send it these last messages and close."""
        connection = self.workers.pop(address, None)
        if connection is not None:
            _send(connection, messages)
            self._spawn(connection.close(CLOSE_S))

    def client_of(self, connection: Connection | None) -> str | None:
        """Id of the client at the other end."""
        for client, known in self.clients.items():
            if known is connection:
                return client
        return None

    async def last_words(self, to_clients: list[Any], to_workers: list[Any], timeout: float = CLOSE_S) -> None:
        """Send these to everybody, and wait until they are on their way."""
        links = [*self.clients.values(), *self.workers.values()]
        for connection in self.clients.values():
            _send(connection, to_clients)
        for connection in self.workers.values():
            _send(connection, to_workers)
        drains = [asyncio.ensure_future(_drained(link)) for link in links if not link.closed]
        if drains:
            _, late = await asyncio.wait(drains, timeout=timeout)
            for task in late:
                task.cancel()


def _send(connection: Connection | None, messages: Iterable[Any]) -> None:
    if connection is None:
        return
    try:
        connection.send_many(messages)
        connection.flush()
    except CommClosedError:
        pass


async def _drained(connection: Connection) -> None:
    try:
        await connection.drain()
    except CommClosedError:
        pass
