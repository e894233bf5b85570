"""Who comes in: clients, workers and nannies introduce themselves, are checked, and are told what they need. Shell.

What is raised here is the reason that the peer is given for being turned away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distributed.base import versions
from distributed.messages.control import RegisterClient, Registered, RegisterNanny, RegisterWorker
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.rpc.connection import Connection
from distributed.rpc.session import SessionLink
from distributed.scheduler.event_log import ALL, SENT_TO_ALL
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft, ClientLost, WorkerJoined, WorkerLost

logger = logging.getLogger("distributed.scheduler")


class Admission:
    """The door of one scheduler."""

    def __init__(self, scheduler: Any, shell: Shell, fleet: FleetAdmin, tidy_after: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._shell = shell
        self._fleet = fleet
        self._tidy_after = tidy_after

    def admit(self, connection: Connection, first: RegisterClient | RegisterWorker | RegisterNanny) -> None:
        """Let the peer in. Raises ValueError with the reason when it may not come."""
        if isinstance(first, RegisterClient):
            self._client(connection, first)
        elif isinstance(first, RegisterWorker):
            self._worker(connection, first)
        else:
            self._nanny(connection, first)

    # ---------------------------------------------------------------- clients

    def _client(self, connection: Connection, first: RegisterClient) -> None:
        _must_be(connection, "client", "task")
        shell = self._shell
        client = first.client
        if not client:
            raise ValueError("a client needs an id")
        shell.beat()  # what is decided already may end the session of this id
        links = shell.streams.clients
        link = links.get(client)
        back = link is not None and first.session == link.id and link.end.can_resume(first.applied)
        ended = "" if back or not first.session else shell.streams.farewell(client)
        if link is None or not back:
            if link is not None:
                shell.apply_now(ClientLeft(client, "a new session has begun under its id"))
            link = links[client] = SessionLink(shell.streams.limit_bytes)
        connection.name = client
        connection.send(
            Registered(
                self._scheduler.address,
                self._scheduler.id,
                5.0,
                [],
                _mismatch("client", client, first.versions),
                link.id,
                link.end.applied,
                ended,
                shell.state.settings.client_grace_s or 0.0,
            )
        )
        # One that is back may have come before its lost connection was noticed.
        old = link.attach(connection, first.applied if back else 0)
        if old is not None:
            old.abort()
        shell.apply(ClientJoined(client))
        self._welcome(client, back, link.end.n_resent)
        connection.on_messages = partial(self._from_client, client, link, connection)
        connection.add_on_closed(lambda error: self._client_gone(client, link, connection, error))

    def _welcome(self, client: str, back: bool, n_resent: int) -> None:
        shell = self._shell
        if back:
            logger.info("Client %s is back (%d messages sent again so far)", client, n_resent)
            shell.events.log([ALL, client], {"action": "client-back", "client": client})
        else:
            logger.info("Receive client connection: %s", client)
            shell.events.log([ALL, client], {"action": "add-client", "client": client})
            for topic in SENT_TO_ALL:
                shell.events.subscribe(client, topic)
            shell.plugins.call("add_client", scheduler=self._scheduler, client=client)

    def _from_client(self, client: str, link: SessionLink, connection: Connection, messages: list[Any]) -> None:
        fresh = link.receive(connection, messages)
        if fresh:
            self._shell.receive_from_client(client, fresh)

    def _client_gone(self, client: str, link: SessionLink, connection: Connection, error: BaseException | None) -> None:
        shell = self._shell
        if link.connection is not connection:
            return
        link.detach()
        if shell.closed or shell.streams.clients.get(client) is not link:
            return
        cause = "the connection was closed" if error is None else f"connection lost: {error}"
        shell.apply(ClientLost(client, cause))
        shell.events.log([ALL, client], {"action": "client-lost", "client": client, "cause": cause})

    # ---------------------------------------------------------------- workers

    def _worker(self, connection: Connection, first: RegisterWorker) -> None:
        _must_be(connection, "worker")
        shell = self._shell
        state = shell.state
        address = first.address
        if not address or first.nthreads < 0:
            raise ValueError("a worker needs an address and a number of threads")
        known = shell.streams.workers.get(address)
        if known is not None and not known.closed:
            raise ValueError(f"address taken: a worker at {address} is connected")
        if address in state.workers:
            # Its earlier self has vanished, and its nanny has not said so yet.
            shell.apply_now(WorkerClosing("replaced by a new worker at the same address"), source=address)
        warning = _mismatch("worker", address, first.versions)
        shell.apply(WorkerJoined(first), source=address)
        if address not in state.workers:
            shell.beat()
            raise ValueError(shell.effects.refusals.pop(address, "the scheduler does not take this worker"))
        connection.name = address
        shell.streams.workers[address] = connection
        connection.send(
            Registered(
                self._scheduler.address,
                self._scheduler.id,
                heartbeat_interval(len(state.workers)),
                list(self._fleet.worker_plugins.items()),
                warning,
            )
        )
        logger.info("A worker joins: %s (name %s)", address, first.name)
        shell.events.log([ALL, address], {"action": "add-worker", "worker": address, "name": first.name})
        shell.plugins.call("add_worker", scheduler=self._scheduler, worker=address)
        connection.on_messages = partial(shell.receive_from_worker, address)
        connection.add_on_closed(lambda error: self._worker_gone(address, connection, error))

    def _worker_gone(self, address: str, connection: Connection, error: BaseException | None) -> None:
        shell = self._shell
        if shell.streams.workers.get(address) is not connection:
            return
        del shell.streams.workers[address]
        if not shell.closed and address in shell.state.workers:
            cause = "the connection was closed" if error is None else f"connection lost: {error}"
            shell.apply(WorkerLost(address, cause))

    # ---------------------------------------------------------------- nannies

    def _nanny(self, connection: Connection, first: RegisterNanny) -> None:
        _must_be(connection, "nanny")
        streams = self._shell.streams
        address = first.address
        connection.name = address
        streams.nannies[address] = connection
        plugins = list(self._fleet.nanny_plugins.items())
        connection.send(Registered(self._scheduler.address, self._scheduler.id, 5.0, plugins))
        connection.on_messages = partial(self._shell.receive_from_nanny, address)

        def gone(error: BaseException | None) -> None:
            if streams.nannies.get(address) is connection:
                del streams.nannies[address]
            if not self._shell.closed:
                self._tidy_after(address)

        connection.add_on_closed(gone)


def heartbeat_interval(n_workers: int) -> float:
    """Seconds between a worker's signs of life: half a second for a few workers, more for many, to keep them cheap."""
    if n_workers <= 10:
        return 0.5
    return 1.0 if n_workers < 50 else 2.0


def _must_be(connection: Connection, role: str, *others: str) -> None:
    if connection.peer_role and connection.peer_role not in (role, *others):
        raise ValueError(f"the connection was opened by a {connection.peer_role}; it cannot register as a {role}")


def _mismatch(kind: str, who: str, theirs: Mapping[str, Any]) -> str:
    if not theirs:
        return ""
    text = versions.mismatch_text(versions.differences({"scheduler": versions.own_versions(), f"{kind} {who}": theirs}))
    if text:
        logger.warning("%s", text)
    return text
