"""How a worker comes into the cluster, and stays in touch with its scheduler. A base of :class:`Worker`. Shell."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from distributed.base import versions
from distributed.base.status import Status
from distributed.comm.addressing import get_address_host
from distributed.comm.keys import Secret
from distributed.comm.transport import Comm
from distributed.messages.control import Applied, Registered, RegisterWorker, SchedulerEnds
from distributed.messages.scheduler_to_worker import CloseWorkerOrder
from distributed.rpc.connection import Connection
from distributed.worker import registration
from distributed.worker.heartbeat import Heart
from distributed.worker.member_link import MemberLink
from distributed.worker.services import Services

logger = logging.getLogger("distributed.worker")

_AT_ONCE = frozenset([CloseWorkerOrder, Applied, SchedulerEnds])


class Joining(Services):
    """A worker's way in."""

    scheduler_file: str | None
    startup_information: Mapping[str, Callable[..., Any]]
    nanny: str | None
    heart: Heart
    heartbeat_interval: float
    joined: Any
    on_registered: Callable[[], None] | None
    death_timeout: float | None
    _page: Any
    services: dict[str, Any]
    _opened: Comm | None

    def _make_link(self) -> None:
        # What comes before the plugins are set up.
        self._held: list[Any] | None = []
        self.link = MemberLink(
            "this worker", self._open_connection, self._from_scheduler, self._on_scheduler_lost,
            limit_s=self.death_timeout,
        )  # fmt: skip

    async def _open_connection(self, timeout: float) -> Connection:
        assert self.scheduler_address is not None
        return await registration.open_connection(
            self.scheduler_address, timeout, role="worker", secret=self.secret, security=self.security,
            handlers=self.handlers, blocked=self.blocked_handlers, tasks=self._handler_tasks,
        )  # fmt: skip

    def _from_scheduler(self, messages: list[Any]) -> None:
        if self._held is not None:
            self._held += [message for message in messages if type(message) not in _AT_ONCE]
            messages = [message for message in messages if type(message) in _AT_ONCE]
        self._on_messages(messages)

    async def _set_up(self, plugins: list[tuple[str | None, Any]]) -> None:
        """Add the cluster's plugins. Tasks that arrive meanwhile wait for them; an order to close does not."""
        await self.plugin_host.add_all(plugins)
        held, self._held = self._held or [], None
        self._on_messages(held)

    def _look_again(self) -> tuple[str, Secret | None] | None:
        found = registration.newer_address(self.scheduler_file, self.scheduler_address)
        if found is not None:
            self.scheduler_address, self.secret = found
        return found

    async def _join(self, deadline: float | None) -> Registered:
        assert self.scheduler_address is not None
        extra = {}
        for key, function in self.startup_information.items():
            try:
                value = function(self)
                extra[key] = await value if inspect.isawaitable(value) else value
            except Exception:
                logger.exception("startup_information[%r] failed", key)
        message = RegisterWorker(
            address=self.address,
            name=str(self.name),
            host=get_address_host(self.address),
            nthreads=self.nthreads,
            memory_limit=self.memory_limit or 0,
            resources=dict(self.total_resources),
            nanny=self.nanny,
            pid=os.getpid(),
            local_directory=self.local_directory,
            services=self.services,
            versions=versions.own_versions(),
            extra=extra,
            name_is_int=isinstance(self.name, int),
        )
        logger.info("      Start worker at: %26s", self.address)
        connection, registered = await registration.register(
            self.scheduler_address,
            message,
            role="worker",
            secret=self.secret,
            security=self.security,
            handlers=self.handlers,
            blocked=self.blocked_handlers,
            tasks=self._handler_tasks,
            deadline=deadline,
            look_again=self._look_again,
            opened=self._opened,
        )
        logger.info("        Registered to: %26s", self.scheduler_address)
        if registered.warning:
            logger.warning(registered.warning)
        if registered.heartbeat_interval_s > 0:
            self.heartbeat_interval = registered.heartbeat_interval_s
        self.link.begin(connection, message, registered)
        self.heart.start()
        if self._page is not None:
            self._page.beat()
        self.joined.set()
        if self.on_registered is not None:
            self.on_registered()
        return registered

    def _on_scheduler_lost(self, why: str, fenced: bool) -> None:
        if self.status in (Status.closing, Status.closed, Status.failed):
            return
        if fenced:
            logger.warning("The scheduler has given this worker up, which ends and is started anew (%s)", why)
            self.add_close_task(self.close(reason="fenced", restart=True))
        else:
            logger.info("Connection to scheduler broken. Closing. (%s)", why)
            self.add_close_task(self.close(reason="scheduler-connection-lost"))
