"""Fetches values from other workers: one request for each ``GatherDep``, one answer event for each request. Shell.

A peer to which no connection can be made is asked through the scheduler, for a while without trying anew: the line
between two workers may be bad while both reach the scheduler.

Buffers stay where the transport has put them; unpickling waits until a task needs the value (``data_store.Sealed``).
Whom to ask for what, and what to do when it fails, is decided by the state machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from distributed.base import settings
from distributed.base.errors import CommClosedError, RemoteError
from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.rpc import lending
from distributed.rpc.connection import Connection
from distributed.rpc.pool import ConnectionPool
from distributed.worker.data_service import arrived_nbytes
from distributed.worker.data_store import DataStore
from distributed.worker.state_machine.events import GatherDepFailure, GatherDepSuccess
from distributed.worker.state_machine.tables import WorkerSettings

logger = logging.getLogger("distributed.worker")

Arrived = dict[Key, Payload]
Relay = Callable[[str, list[Key]], Awaitable[Any]]

DIRECT_S = 5.0
"""How long the first connection to a peer may take before the scheduler is asked for what it holds."""
BAD_LINK_S = 30.0
"""For how long a peer to which there was no way is asked through the scheduler only."""


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
    relay :
        Has the scheduler ask a peer for keys, and gives what the peer answers.
    on_bad_link :
        Told the peer and the reason, when a link turned out to be bad and the scheduler's way is good.

    Attributes
    ----------
    bad_links :
        Peers that are asked through the scheduler: until when, and why.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        store: DataStore,
        me: Callable[[], str],
        on_answer: Callable[[GatherDepSuccess | GatherDepFailure, Arrived], None],
        spawn: Callable[[Any], Any],
        relay: Relay,
        on_bad_link: Callable[[str, str], None],
    ) -> None:
        self.bad_links: dict[str, tuple[float, str]] = {}
        self._relay = relay
        self._on_bad_link = on_bad_link
        self.pool = pool
        self.store = store
        self.bytes_received = 0
        self.n_answers = 0
        self._me = me
        self._on_answer = on_answer
        self._spawn = spawn
        # The one request to each peer, and why it was given up.
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._aborted: dict[str, str] = {}

    @property
    def n_under_way(self) -> int:
        """Requests that have no answer yet."""
        return len(self._under_way)

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

    async def _ask(self, worker: str, keys: list[Key]) -> Any:
        now = asyncio.get_running_loop().time()
        until, why = self.bad_links.get(worker, (0.0, ""))
        if now < until:
            return await self._relayed(worker, keys, CommClosedError(f"there is no way to {worker} ({why})"))
        try:
            connection = await self._connected(worker)
            try:
                return await self._asked(connection, keys)
            except CommClosedError:
                connection = await self._connected(worker)  # it may have been broken for long
            return await self._asked(connection, keys)
        except _NoWay as no_way:
            failure = no_way.failure
        answer = await self._relayed(worker, keys, failure)
        why = f"{type(failure).__name__}: {failure}"
        self.bad_links[worker] = (now + BAD_LINK_S, why)
        self._on_bad_link(worker, why)
        return answer

    async def _connected(self, worker: str) -> Connection:
        try:
            async with asyncio.timeout(DIRECT_S):
                connection = await self.pool.connect(worker)
        except TimeoutError as error:
            raise _NoWay(error if str(error) else TimeoutError(f"no connection within {DIRECT_S:g} s")) from None
        except OSError as error:
            raise _NoWay(error) from None
        self.bad_links.pop(worker, None)
        return connection

    async def _asked(self, connection: Connection, keys: list[Key]) -> Any:
        return await lending.get_data(connection, keys, self._me())

    async def _relayed(self, worker: str, keys: list[Key], failure: Exception) -> Any:
        try:
            return await self._relay(worker, keys)
        except (OSError, TimeoutError, ValueError, RemoteError):
            raise failure from None

    async def _fetch(self, worker: str, keys: list[Key]) -> None:
        event: GatherDepSuccess | GatherDepFailure
        arrived: Arrived = {}
        try:
            answer = await self._ask(worker, list(keys))
            unreadable: dict[Key, ErrorInfo] = {}
            for key, value in answer.items():
                if type(value) is Payload:
                    arrived[key] = value
                elif type(value) is ErrorInfo:
                    unreadable[key] = value
            nbytes = {key: arrived_nbytes(payload) for key, payload in arrived.items()}
            self.bytes_received += sum(nbytes.values())
            self.n_answers += 1
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


class _NoWay(Exception):
    """No connection could be made."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(str(failure))
        self.failure = failure
