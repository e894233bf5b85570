"""The way to the scheduler of a worker or a nanny: where it is, and what every connection to it needs. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from distributed.comm.keys import Secret
from distributed.comm.transport import Comm
from distributed.messages.control import Registered
from distributed.rpc.connection import Connection
from distributed.worker import registration


class Visitor(Protocol):
    """Who goes through the door. ``scheduler_address`` and ``secret`` change when the scheduler file names another."""

    scheduler_address: str | None
    scheduler_file: str | None
    secret: Secret | None
    security: Any
    blocked_handlers: Any
    _handler_tasks: set[asyncio.Task[Any]]

    @property
    def handlers(self) -> Mapping[str, Callable[..., Any]]: ...


class SchedulerDoor:
    """Opens connections for ``visitor``, who is a ``role`` (``"worker"``, ``"nanny"``)."""

    def __init__(self, visitor: Visitor, role: str) -> None:
        self._visitor = visitor
        self._role = role

    async def open(self, timeout: float) -> Connection:
        """A new connection. Raises as ``registration.open_connection`` does."""
        assert self._visitor.scheduler_address is not None
        return await registration.open_connection(self._visitor.scheduler_address, timeout, **self._terms())

    async def register(
        self, first_message: Any, deadline: float | None, opened: Comm | None
    ) -> tuple[Connection, Registered]:
        """Introduce the visitor, however long that takes; see ``registration.register``."""
        assert self._visitor.scheduler_address is not None
        return await registration.register(
            self._visitor.scheduler_address,
            first_message,
            deadline=deadline,
            look_again=self._look_again,
            opened=opened,
            **self._terms(),
        )

    def _terms(self) -> dict[str, Any]:
        visitor = self._visitor
        return {
            "role": self._role,
            "secret": visitor.secret,
            "security": visitor.security,
            "handlers": visitor.handlers,
            "blocked": visitor.blocked_handlers,
            "tasks": visitor._handler_tasks,
        }

    def _look_again(self) -> tuple[str, Secret | None] | None:
        visitor = self._visitor
        found = registration.newer_address(visitor.scheduler_file, visitor.scheduler_address)
        if found is not None:
            visitor.scheduler_address, visitor.secret = found
        return found
