"""What other packages take from ``distributed.utils`` to log, shorten and silence."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from distributed.base.formatting import parse_timedelta

logger = logging.getLogger("distributed.utils")


class _LogErrors:
    def __init__(self, pdb: bool = False) -> None:
        self.pdb = pdb

    def __enter__(self) -> _LogErrors:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
            return
        logger.error("%s", error, exc_info=(kind, error, traceback))
        if self.pdb:
            importlib.import_module("pdb").post_mortem(traceback)

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def later(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await func(*args, **kwargs)

            return later

        @functools.wraps(func)
        def now(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return now


def log_errors(func: Any = None, /, *, pdb: bool = False) -> Any:
    """Log what is raised, and raise it on: a decorator, with or without arguments, or a context manager."""
    guard = _LogErrors(pdb)
    return guard if func is None else guard(func)


def get_traceback() -> TracebackType | None:
    """The traceback of the exception that is being handled."""
    return sys.exc_info()[2]


def truncate_exception(e: BaseException, n: int = 10000) -> BaseException:
    """``e``, or one of the same type (else an ``Exception``) whose text is the first ``n`` characters of its own."""
    text = str(e)
    if len(text) <= n:
        return e
    try:
        return type(e)("Shortened error message", text[:n])
    except Exception:
        return Exception("Shortened error message", type(e), text[:n])


@contextlib.contextmanager
def silence_logging_cmgr(level: str | int, root: str = "distributed") -> Iterator[None]:
    """Only messages from ``level`` on reach the handlers of the logger ``root``, inside the block."""
    number = logging.getLevelName(level) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"no logging level is called {level!r}")
    before = [(handler, handler.level) for handler in logging.getLogger(root).handlers]
    for handler, _ in before:
        handler.setLevel(number)
    try:
        yield
    finally:
        for handler, old in before:
            handler.setLevel(old)


class RateLimiterFilter(logging.Filter):
    """Lets a message that matches ``pattern`` pass once in ``rate``; all others always.

    >>> logging.getLogger("example").addFilter(RateLimiterFilter("slow .*", rate="10s"))
    """

    def __init__(self, pattern: str, *, name: str = "", rate: str | float = "10s") -> None:
        super().__init__(name)
        self.pattern = re.compile(pattern)
        self.rate_s = float(parse_timedelta(rate) or 0.0)
        self._next = -float("inf")

    def reset_timer(self) -> None:
        """The next message passes."""
        self._next = -float("inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.pattern.match(record.msg):
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.rate_s
        return True
