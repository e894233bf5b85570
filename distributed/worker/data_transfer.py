"""Fetches values from other workers: one request for each ``GatherDep``, one answer event for each request. Shell.

Buffers stay where the transport has put them; unpickling waits until a task needs the value (``data_store.Sealed``).
Whom to ask for what, and what to do when it fails, is decided by the state machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from msgspec import structs

from distributed.base import settings
from distributed.base.errors import CommClosedError
from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.rpc.pool import ConnectionPool
from distributed.worker.data_service import arrived_nbytes
from distributed.worker.data_store import DataStore
from distributed.worker.state_machine.events import GatherDepFailure, GatherDepSuccess
from distributed.worker.state_machine.tables import WorkerSettings

logger = logging.getLogger("distributed.worker")

Arrived = dict[Key, Payload]


def transfer_limits(usual: WorkerSettings) -> WorkerSettings:
    """The worker's settings with the limits of transfers that the configuration has."""
    return structs.replace(
        usual,
        gather_nbytes=int(settings.get_bytes("distributed.worker.transfer.message-bytes-limit", usual.gather_nbytes)),
        max_gathers=max(1, int(settings.get("distributed.worker.connections.outgoing", usual.max_gathers))),
    )


class DataTransfer:
    """The fetching half of a worker.

    Parameters
    ----------
    pool :
        Connections to peers.
    store :
        Where the values will go.
    me :
        Address of this worker, told to peers.
    on_answer :
        Gets the event, and the values that came with it.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        store: DataStore,
        me: Callable[[], str],
        on_answer: Callable[[GatherDepSuccess | GatherDepFailure, Arrived], None],
        spawn: Callable[[Any], Any],
    ) -> None:
        self.pool = pool
        self.store = store
        self.bytes_received = 0
        self._me = me
        self._on_answer = on_answer
        self._spawn = spawn
        # The one request to each peer, and why it was given up.
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._aborted: dict[str, str] = {}

    def fetch(self, worker: str, keys: list[Key]) -> None:
        """Ask ``worker`` for ``keys``; the answer comes by ``on_answer``."""
        self._under_way[worker] = self._spawn(self._fetch(worker, keys))

    def abort(self, worker: str, reason: str) -> None:
        """Wait no longer for ``worker``: the answer is now that it could not be reached."""
        task = self._under_way.get(worker)
        if task is not None and not task.done():
            self._aborted[worker] = reason
            task.cancel()
        self.pool.remove(worker)

    async def _fetch(self, worker: str, keys: list[Key]) -> None:
        event: GatherDepSuccess | GatherDepFailure
        arrived: Arrived = {}
        try:
            connection = await self.pool.connect(worker)
            answer = await connection.request("get_data", {"keys": list(keys), "who": self._me()})
            unreadable: dict[Key, ErrorInfo] = {}
            for key, value in answer.items():
                if type(value) is Payload:
                    arrived[key] = value
                elif type(value) is ErrorInfo:
                    unreadable[key] = value
            nbytes = {key: arrived_nbytes(payload) for key, payload in arrived.items()}
            self.bytes_received += sum(nbytes.values())
            if self.store.is_custom:
                arrived = await asyncio.to_thread(self.store.opened_apart, arrived, worker)
            event = GatherDepSuccess(worker, nbytes, unreadable)
        except asyncio.CancelledError:
            reason = self._aborted.pop(worker, None)
            if reason is None:
                raise
            logger.info("Given up fetching %d keys from %s: %s", len(keys), worker, reason)
            event = GatherDepFailure(worker, keys, (), reason)
        except Exception as error:
            level = logging.INFO if isinstance(error, (OSError, TimeoutError, CommClosedError)) else logging.WARNING
            logger.log(level, "Could not fetch %d keys from %s: %s", len(keys), worker, error)
            arrived = {}
            event = GatherDepFailure(worker, keys, (), f"{type(error).__name__}: {error}")
        finally:
            self._under_way.pop(worker, None)
        self._on_answer(event, arrived)
