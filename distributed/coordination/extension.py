"""The scheduler's end: connects requests with the tables, answers with connections, deadlines with one timer. Shell.

A request that waits costs a small object, no task. When a connection breaks, its requests leave their lines; when its
client is gone for good, what the client holds is free. A peer that is no registered client counts as gone with its
connection.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

from distributed.base import settings
from distributed.coordination.link import lease_timeout_s
from distributed.coordination.tables import Tables
from distributed.coordination.waiters import Waiter
from distributed.messages.client_to_scheduler import ReleaseKeys, WantKeys
from distributed.rpc.connection import Connection, Later
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft

logger = logging.getLogger("distributed.coordination")

_HOLDER = "coordination"
"""The mute client that wants the keys of futures in queues, variables and mailboxes."""


class Coordination:
    """The coordination tables of one scheduler, open to its peers.

    Parameters
    ----------
    scheduler
        Gets a handler for each operation, and each table under its name in ``extensions``.
    """

    def __init__(self, scheduler: Any) -> None:
        interval = settings.parse_timedelta(
            settings.get("distributed.scheduler.locks.lease-validation-interval", "10s")
        )
        self.tables = tables = Tables(lease_timeout_s(), max(0.001, float(interval)))
        self._scheduler = scheduler
        self._shell = scheduler.shell
        self._timer: asyncio.TimerHandle | None = None
        self._peers: dict[Connection, str] = {}
        self._numbers = itertools.count(1)
        scheduler.handlers.update({op: self._handler(verb) for op, verb in tables.operations.items()})
        scheduler.extensions.update(
            semaphores=tables.semaphores,
            multi_locks=tables.multi_locks,
            events=tables.events,
            queues=tables.queues,
            variables=tables.variables,
            pubsub=tables.pubsub,
        )
        self._shell.on_client_gone.append(self.client_gone)

    def _handler(self, verb: Callable[..., None]) -> Callable[..., Later]:
        def handle(connection: Connection, number: int = 0, timeout: float | None = None, **kwargs: Any) -> Later:
            later = Later()
            peer = self._peers.get(connection) or self._new_peer(connection)
            verb(Waiter(peer, number, timeout, later), self._shell.now(), **kwargs)
            self._act()
            return later

        return handle

    def _new_peer(self, connection: Connection) -> str:
        """Who is at the other end of a connection that is heard of for the first time."""
        known = connection.name
        if self._shell.streams.clients.get(known) is not connection:
            known = ""
        name = known or f"connection-{next(self._numbers)}"
        self._peers[connection] = name
        connection.add_on_closed(lambda error: self._connection_gone(connection, bool(known)))
        return name

    def _connection_gone(self, connection: Connection, registered: bool) -> None:
        name = self._peers.pop(connection, None)
        if name is None or self._shell.closed:
            return
        now = self._shell.now()
        if registered:
            self.tables.waiters.client_left(name, now)
        else:
            self.tables.client_left(name, now)
        self._act()

    def client_gone(self, client: str) -> None:
        """What the client waits for and holds is free."""
        self.tables.client_left(client, self._shell.now())
        self._act()

    # -- what the tables have decided ----------------------------------------------------------------------------------

    def _act(self) -> None:
        tables = self.tables
        self._want(*tables.held.take_changes())
        for waiter, value in tables.waiters.take_answers():
            if isinstance(value, Exception):
                waiter.channel.fail(value)
            else:
                waiter.channel.reply(value)
        if tables.stale:
            for lease in tables.stale:
                logger.warning("%r has ended: the client has not renewed it for %s s", lease, tables.leases.timeout_s)
            tables.stale.clear()
        self._arm()

    def _want(self, want: list[Any], release: list[Any]) -> None:
        shell = self._shell
        if want:
            shell.apply(ClientJoined(_HOLDER, mute=True))
            shell.apply(WantKeys(want), source=_HOLDER)
        if release:
            shell.apply(ReleaseKeys(release), source=_HOLDER)
            if not len(self.tables.held):
                shell.apply(ClientLeft(_HOLDER))

    def _arm(self) -> None:
        """One timer, which may ring early but never late."""
        deadline = self.tables.next_deadline()
        timer = self._timer
        if deadline is None or (timer is not None and timer.when() <= deadline):
            return
        if timer is not None:
            timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._shell.closed:
            return
        deadline = self.tables.next_deadline()
        now = self._shell.now()
        if deadline is not None and deadline <= now + 1e-3:
            self.tables.handle_deadline(max(now, deadline))
        self._act()
