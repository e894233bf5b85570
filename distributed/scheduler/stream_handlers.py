"""Operations that other packages put on a scheduler by ``scheduler.stream_handlers[op] = handler``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StreamHandlers(dict[str, Callable[..., Any]]):
    """Custom stream operations; peers ask for them like for any other one."""

    def __init__(self, handlers: dict[str, Callable[..., Any]]) -> None:
        super().__init__()
        self._handlers = handlers

    def __setitem__(self, op: str, handler: Callable[..., Any]) -> None:
        super().__setitem__(op, handler)
        self._handlers.setdefault(op, handler)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Like that of a dict."""
        for op, handler in dict(*args, **kwargs).items():
            self[op] = handler
