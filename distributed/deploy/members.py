"""Members of a cluster: what one looks like from outside when it lives in another process, and the table of them. Shell
only in that a member has a state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self

from distributed.base.status import Status

__all__ = ["NoOpAwaitable", "ProcessInterface", "WorkerMap"]


class ProcessInterface:
    """What a SpecCluster expects of a scheduler or worker that lives in another process: start, close, finished.

    A subclass starts its process in ``start`` and ends it in ``close``, each calling its base; ``address`` says where a
    scheduler listens, ``external_address`` where clients reach it when that is another place. One that notices the end
    of its process calls ``ended``.
    """

    def __init__(self, scheduler: Any = None, name: Any = None) -> None:
        self.address: str | None = getattr(self, "address", None)
        self.external_address: str | None = None
        self.lock = asyncio.Lock()
        self.status = Status.created
        self._event_finished = asyncio.Event()

    @property
    def status(self) -> Status:
        return self._status

    @status.setter
    def status(self, status: Status | str) -> None:
        self._status = Status[status] if isinstance(status, str) else status

    async def start(self) -> None:
        """Submit the process."""
        self.status = Status.running

    async def close(self) -> None:
        """End the process."""
        self.status = Status.closed
        self._event_finished.set()

    def ended(self, failed: bool = False) -> None:
        """The process has ended by itself; a cluster replaces what has ``failed``."""
        if self.status not in (Status.closed, Status.failed):
            self.status = Status.failed if failed else Status.closed
            self._event_finished.set()

    async def finished(self) -> None:
        """Wait until the process has ended."""
        await self._event_finished.wait()

    async def _begun(self) -> Self:
        async with self.lock:
            if self.status == Status.created:
                await self.start()
                if self._status is not Status.running:
                    raise RuntimeError(f"{self!r} has not started: status is {self._status.name}")
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begun().__await__()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: status={self.status.name}>"

    def _repr_html_(self) -> str:
        return f"<code>{type(self).__name__} {self.status.name}</code>"


class NoOpAwaitable:
    """Awaitable, at once, and to no effect."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class WorkerMap(dict[Any, Any]):
    """Workers by name, that also serve as a list: an index or slice that is no name is a position."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return list(self.values())[key]
        return super().__getitem__(key)

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int) and -len(self) <= key < len(self):
            return list(self.values())[key]
        raise KeyError(key)
