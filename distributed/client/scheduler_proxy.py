"""``client.scheduler``: what other packages have put on the scheduler is asked for by its name. Shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.client.session import Session


class SchedulerProxy:
    """``client.scheduler``: each attribute is an operation of the scheduler, called with keywords, always awaitable."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def address(self) -> str | None:
        """The scheduler's address."""
        return self._session.address

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("_"):
            raise AttributeError(op)

        async def ask(**kwargs: Any) -> Any:
            return await self._session.call(op, **kwargs)

        ask.__name__ = op
        return ask

    def __repr__(self) -> str:
        return f"<pooled rpc to {self.address!r}>"
