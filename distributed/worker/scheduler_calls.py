"""``worker.scheduler``: questions to the scheduler, over the connection that the worker has to it. Shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class SchedulerCalls:
    """The scheduler as the worker sees it: each attribute is an operation, asked over the worker's own connection."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    @property
    def address(self) -> str | None:
        address: str | None = self._worker.scheduler_address
        return address

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("__"):
            raise AttributeError(op)

        async def call(**kwargs: Any) -> Any:
            return await self._worker.link.ask(op, kwargs)

        return call

    def __repr__(self) -> str:
        return f"<scheduler at {self.address!r}>"
