"""How a worker comes into the cluster, and stays in touch with its scheduler. A base of :class:`Worker`. Shell."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Container, Mapping
from typing import Any

from distributed.base import versions
from distributed.base.keys import Key
from distributed.base.status import Status
from distributed.comm.addressing import get_address_host
from distributed.comm.transport import Comm
from distributed.messages.control import Applied, Registered, RegisterWorker, SchedulerEnds
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, FreeKeys
from distributed.worker.heartbeat import Heart
from distributed.worker.member_link import MemberLink
from distributed.worker.scheduler_door import SchedulerDoor
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
        self._is_set_up = asyncio.Event()
        self._door = SchedulerDoor(self, "worker")
        self.link = MemberLink(
            "this worker", self._door.open, self._from_scheduler, self._on_scheduler_lost,
            limit_s=self.death_timeout,
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
        self._is_set_up.set()

    async def catch_up(self, number: int | None, keys: Container[Key]) -> None:
        """Return when this worker has done what the scheduler had told it about ``keys`` in its messages up to
        ``number`` (None: in all so far), and the scheduler knows it. Joining ends, or the worker does."""
        await self.joined.wait()
        await self.link.catch_up(number)
        if any(type(message) is FreeKeys and any(key in keys for key in message.keys) for message in self._held or ()):
            await self._is_set_up.wait()

    async def _join(self, deadline: float | None) -> Registered:
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
        connection, registered = await self._door.register(message, deadline, self._opened)
        logger.info("        Registered to: %26s", self.scheduler_address)
        if registered.warning:
            logger.warning(registered.warning)
        if registered.heartbeat_interval_s > 0:
            self.heartbeat_interval = registered.heartbeat_interval_s
        self.link.begin(connection, message, registered)
        self.heart.start(self._page)
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
