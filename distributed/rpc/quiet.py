"""Connections over which nothing comes although something was asked: is the peer slow, or is the line cut? Shell.

Where a firewall or a broken network drops packets a standing connection does not end by itself before the kernel gives
it up (``distributed.comm.timeouts.tcp``, 30 s). A peer that is merely slow has a system that answers meanwhile. Only
connections are looked at over which nothing was asked but what may be asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.comm.knock import Door, knock
from distributed.rpc.connection import Connection

logger = logging.getLogger("distributed.rpc")

REPEATABLE = frozenset(["get_data"])
QUIET_S = 5.0
"""So long nothing may come before it is looked into."""
KNOCK_S = 3.0
"""A packet that is lost is sent again after one second, and after two more."""

Knock = Callable[[str, float], Coroutine[Any, Any, Door]]


class QuietLinks:
    """Ends the connections of a pool that lead nowhere any more: whoever asked over one is told, and may ask otherwise.

    Parameters
    ----------
    connections
        Those of now, by the address at which the peer listens.
    """

    def __init__(self, connections: Callable[[], Mapping[str, Connection]], knock: Knock = knock) -> None:
        self._connections = connections
        self._knock = knock
        # Bytes that had come when they were last seen to grow, and since when they do not.
        self._seen: dict[Connection, tuple[int, float]] = {}
        self._knocking: dict[Connection, asyncio.Task[None]] = {}

    def look(self) -> None:
        """To be called again and again; costs a step a connection."""
        now = asyncio.get_running_loop().time()
        before, self._seen = self._seen, {}
        for address, connection in self._connections().items():
            if not connection.asks_only(REPEATABLE) or not connection.peer_address.startswith(("tcp://", "tls://")):
                continue
            nbytes = connection.comm.received_bytes
            seen = before.get(connection)
            if seen is None or seen[0] != nbytes:
                seen = (nbytes, now)
            elif now - seen[1] > QUIET_S and connection not in self._knocking:
                self._knocking[connection] = asyncio.ensure_future(self._look_into(address, connection))
                seen = (nbytes, now)
            self._seen[connection] = seen

    async def _look_into(self, address: str, connection: Connection) -> None:
        nbytes = connection.comm.received_bytes
        try:
            door = await self._knock(address, KNOCK_S)
        finally:
            self._knocking.pop(connection, None)
        if door is Door.NO_WAY and connection.comm.received_bytes == nbytes and not connection.closed:
            text = f"nothing has come from {address} for {QUIET_S:g} s, and there is no way to it now"
            logger.info("Ending a connection: %s", text)
            connection.abort(CommClosedError(text))

    def stop(self) -> None:
        """Look no more."""
        for task in list(self._knocking.values()):
            task.cancel()
