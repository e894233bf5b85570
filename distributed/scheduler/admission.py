"""Who comes in: clients, workers and nannies introduce themselves, are checked, and are told what they need. Shell.

What is raised here is the reason that the peer is given for being turned away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distributed.base import versions
from distributed.comm.knock import was_cut
from distributed.messages.control import Applied, RegisterClient, Registered, RegisterNanny, RegisterWorker
from distributed.messages.payload import Payload
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.rpc.connection import Connection
from distributed.rpc.counted import CountedLink
from distributed.rpc.session import SessionLink
from distributed.scheduler.event_log import ALL, SENT_TO_ALL
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.inquiries import Inquiries
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine.events import (
    ClientJoined,
    ClientLeft,
    ClientLost,
    WorkerAway,
    WorkerBack,
    WorkerJoined,
    WorkerLost,
)

logger = logging.getLogger("distributed.scheduler")

TOO_FAR_BEHIND = "more was to be said to it than is kept (distributed.comm.session-buffer)"


class Admission:
    """The door of one scheduler."""

    def __init__(self, scheduler: Any, shell: Shell, fleet: FleetAdmin, tidy_after: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._shell = shell
        self._fleet = fleet
        self._tidy_after = tidy_after
        self._inquiries = Inquiries(shell)

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
        if first.session:
            self._worker_back(connection, first)
            return
        known = shell.streams.workers.get(address)
        if known is not None and known.stands:
            raise ValueError(f"address taken: a worker at {address} is connected")
        if address in state.workers:
            # Its earlier self has vanished, and nobody has said so yet.
            shell.apply_now(WorkerClosing("replaced by a new worker at the same address"), source=address)
        warning = _mismatch("worker", address, first.versions)
        shell.apply(WorkerJoined(first), source=address)
        if address not in state.workers:
            shell.beat()
            raise ValueError(shell.effects.refusals.pop(address, "the scheduler does not take this worker"))
        link = shell.streams.workers[address] = CountedLink(shell.streams.limit_bytes)
        plugins = list(self._fleet.worker_plugins.items())
        connection.send(self._registered(link, connection, plugins, warning))
        self._attach_worker(address, link, connection, 0)
        logger.info("A worker joins: %s (name %s)", address, first.name)
        shell.events.log([ALL, address], {"action": "add-worker", "worker": address, "name": first.name})
        shell.plugins.call("add_worker", scheduler=self._scheduler, worker=address)

    def _registered(
        self, link: CountedLink, connection: Connection, plugins: list[tuple[str, Payload]], warning: str = ""
    ) -> Registered:
        shell = self._shell
        return Registered(
            self._scheduler.address,
            self._scheduler.id,
            heartbeat_interval(len(shell.state.workers)),
            plugins,
            warning,
            "" if connection.same_process else link.id,
            link.end.applied,
            grace_s=grace_of(shell.state.settings.worker_grace_s),
        )

    def _attach_worker(self, address: str, link: CountedLink, connection: Connection, peer_applied: int) -> None:
        connection.name = address
        old = link.attach(connection, peer_applied)
        if old is not None:
            old.abort()
        connection.on_messages = partial(self._from_worker, address, link, connection)
        connection.add_on_closed(lambda error: self._worker_gone(address, link, connection, error))

    def _worker_back(self, connection: Connection, first: RegisterWorker) -> None:
        """It goes on with its session; or is fenced: whatever it has done since it was given up does not count."""
        shell = self._shell
        address = first.address
        shell.beat()  # what is decided already may end the session
        link = shell.streams.workers.get(address)
        ws = shell.state.workers.get(address)
        if link is None or link.id != first.session or ws is None or not ws.alive:
            raise ValueError(f"fenced: {shell.streams.farewell(first.session)}")
        if not link.end.can_resume(first.applied):
            shell.apply_now(WorkerLost(address, TOO_FAR_BEHIND), source=address)
            raise ValueError(f"fenced: {TOO_FAR_BEHIND}")
        connection.send(self._registered(link, connection, []))
        before = link.end.n_resent
        self._attach_worker(address, link, connection, first.applied)
        shell.apply(WorkerBack(address))
        logger.info("Worker %s is back (%d messages are sent again)", address, link.end.n_resent - before)
        shell.events.log([ALL, address], {"action": "worker-back", "worker": address, "name": first.name})

    def _from_worker(self, address: str, link: CountedLink, connection: Connection, messages: list[Any]) -> None:
        fresh = link.receive(connection, messages)
        if fresh:
            self._shell.receive_from_worker(address, fresh)

    def _worker_gone(
        self, address: str, link: CountedLink, connection: Connection, error: BaseException | None
    ) -> None:
        shell = self._shell
        if link.connection is not connection:
            return
        link.detach()
        if shell.closed or shell.streams.workers.get(address) is not link:
            return
        ws = shell.state.workers.get(address)
        if ws is None:
            del shell.streams.workers[address]
            return
        cause = "the connection was closed" if error is None else f"connection lost: {error}"
        if not link.keeps:
            shell.apply(WorkerLost(address, cause))
            return
        shell.apply(WorkerAway(address, cause))
        logger.info("Lost the connection to worker %s (%s)", address, cause)
        shell.events.log([ALL, address], {"action": "worker-away", "worker": address, "cause": cause})
        self._inquiries.begin(ws, connection.peer_address, was_cut(error))

    # ---------------------------------------------------------------- nannies

    def _nanny(self, connection: Connection, first: RegisterNanny) -> None:
        _must_be(connection, "nanny")
        shell = self._shell
        nannies = shell.streams.nannies
        address = first.address
        link = nannies.get(address)
        back = link is not None and first.session == link.id and link.end.can_resume(first.applied)
        if link is None or not back:
            link = nannies[address] = CountedLink(shell.streams.limit_bytes)
        connection.name = address
        connection.send(self._registered(link, connection, [] if back else list(self._fleet.nanny_plugins.items())))
        old = link.attach(connection, first.applied if back else 0)
        if old is not None:
            old.abort()
        connection.on_messages = partial(self._from_nanny, address, link, connection)
        connection.add_on_closed(lambda error: self._nanny_gone(address, link, connection))

    def _from_nanny(self, address: str, link: CountedLink, connection: Connection, messages: list[Any]) -> None:
        fresh = link.receive(connection, messages)
        for message in fresh:
            if type(message) is Applied:
                link.on_applied(message)
        if fresh:
            self._shell.receive_from_nanny(address, fresh)

    def _nanny_gone(self, address: str, link: CountedLink, connection: Connection) -> None:
        if link.connection is not connection:
            return
        link.detach()
        if self._shell.closed or self._shell.streams.nannies.get(address) is not link:
            return
        self._tidy_after(address)
        grace_s = grace_of(self._shell.state.settings.worker_grace_s) if link.keeps else 0.0
        asyncio.get_running_loop().call_later(grace_s, self._forget_nanny, address, link)

    def _forget_nanny(self, address: str, link: CountedLink) -> None:
        nannies = self._shell.streams.nannies
        if nannies.get(address) is link and link.connection is None:
            del nannies[address]


def grace_of(setting: float | None) -> float:
    """Seconds to wait for a worker that is away, for others than the core: a day when there is no limit."""
    return 86400.0 if setting is None else setting


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
