"""Messages that any thread may send over one connection, in the order in which they are put in. Shell.

A thread that waits for nothing else hands its message to the transport itself, which saves two changes of the thread.
Whoever has more to say leaves it here: the loop sends all that has gathered in one frame.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.rpc.connection import MAX_BATCH, Connection

logger = logging.getLogger("distributed.rpc")


class Outbox:
    """What waits to leave over a connection, which may not stand yet.

    Parameters
    ----------
    loop: that of the connection
    on_unsendable: called with a message that cannot be encoded, and why, in the thread that tried to send it
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_unsendable: Callable[[Any, Exception], None]) -> None:
        self._loop = loop
        self._on_unsendable = on_unsendable
        self._waiting: deque[Any] = deque()
        self._connection: Connection | None = None
        self._from_threads = False
        self._woken = False
        self._sending = threading.RLock()

    def open(self, connection: Connection) -> None:
        """The connection stands: what has gathered leaves. On the loop."""
        self._from_threads = connection.comm.sends_from_threads
        self._connection = connection
        self.flush()

    def put(self, message: Any, now: bool) -> None:
        """Send a message: ``now``, if the transport allows, or with what else gathers before the loop's next turn."""
        self._waiting.append(message)
        if self._connection is None:
            return  # open() flushes
        if now and self._from_threads:
            self.flush()
        elif not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed, and so is the connection
                self._woken = False

    def _wake(self) -> None:
        self._woken = False
        self.flush()

    def flush(self) -> None:
        """Hand all that waits to the transport."""
        waiting = self._waiting
        connection = self._connection
        if connection is None:
            return
        with self._sending:  # else two threads could swap what they have taken
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
                self._send(connection, batch)

    def _send(self, connection: Connection, batch: list[Any]) -> None:
        try:
            connection.comm.send(batch)
        except CommClosedError:
            pass  # whoever waits for an answer is told by the connection's end
        except Exception as error:
            if len(batch) == 1:
                self._on_unsendable(batch[0], error)
                return
            for message in batch:
                self._send(connection, [message])
