"""``distributed.utils``: small tools that other packages take from there."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from dask.context import thread_state
from dask.utils import (
    format_bytes,
    format_time,
    funcname,
    key_split,
    parse_bytes,
    parse_timedelta,
    tmpfile,
    typename,
)

from distributed.base.errors import TimeoutError
from distributed.comm.addressing import ensure_ip, get_ip, get_ip_interface, get_ipv6
from distributed.deploy.dashboard_link import format_dashboard_link
from distributed.deploy.logs import Log, Logs
from distributed.rpc.loop_runner import LoopRunner, SyncMethodMixin, sync
from distributed.testing.waiting import open_port

__all__ = [
    "Deadline",
    "Log",
    "Logs",
    "LoopRunner",
    "SyncMethodMixin",
    "TimeoutError",
    "cli_keywords",
    "ensure_ip",
    "format_bytes",
    "format_dashboard_link",
    "format_time",
    "funcname",
    "get_ip",
    "get_ip_interface",
    "get_ipv6",
    "import_term",
    "is_kernel",
    "iscoroutinefunction",
    "key_split",
    "log_errors",
    "nbytes",
    "open_port",
    "parse_bytes",
    "parse_ports",
    "parse_timedelta",
    "sync",
    "thread_state",
    "tmpfile",
    "typename",
    "wait_for",
    "warn_on_duration",
]

logger = logging.getLogger("distributed.utils")


def is_kernel() -> bool:
    """Whether this is an IPython kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def iscoroutinefunction(f: Any) -> bool:
    """Whether calling ``f`` gives a coroutine."""
    return inspect.iscoroutinefunction(f)


def import_term(name: str) -> Any:
    """The object of a dotted name.

    >>> import_term("math.sin")
    <built-in function sin>
    """
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        return importlib.import_module(name)
    return getattr(importlib.import_module(module_name), attribute)


def nbytes(frame: Any) -> int:
    """Bytes of a buffer."""
    return frame.nbytes if hasattr(frame, "nbytes") else len(frame)


def parse_ports(port: int | str | None) -> list[int] | list[None]:
    """Ports of an option: None, one, ``"8000"``, or a range ``"8000:8003"`` (both ends included)."""
    if port is None:
        return [None]
    if isinstance(port, int):
        return [port]
    if not isinstance(port, str):
        raise TypeError(f"a port is an int or text, not {port!r}")
    first, colon, last = port.partition(":")
    if not colon:
        return [int(first)]
    low, high = int(first), int(last)
    if low >= high:
        raise ValueError(f"the port range {port!r} ends before it begins: it must be first:last")
    return list(range(low, high + 1))


def cli_keywords(d: dict[str, Any], cls: Any = None, cmd: Any = None) -> list[str]:
    """Keyword arguments as command-line options; ``cls`` and ``cmd`` tell which are known."""
    import click

    if isinstance(cmd, str):
        cmd = importlib.import_module(cmd)
    main = getattr(cmd, "main", None)
    known = {p.name for p in main.params if isinstance(p, click.Option)} if main is not None else None
    if cls is not None:
        accepted = {n for c in cls.__mro__ for n in inspect.signature(c.__init__).parameters} | (known or set())
        for name in d:
            if name not in accepted:
                raise ValueError(f"{cls.__name__} does not take the keyword {name!r}")
    options: list[str] = []
    for name, value in d.items():
        flag = "--" + name.replace("_", "-")
        if known is not None and name not in known:
            raise ValueError(f"the command has no option {flag}")
        options += [flag, str(value)]
    return options


class _LogErrors:
    def __init__(self, pdb: bool = False) -> None:
        self.pdb = pdb

    def __enter__(self) -> _LogErrors:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            logger.error("%s", error, exc_info=(kind, error, traceback))

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        import functools

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


@contextlib.contextmanager
def warn_on_duration(duration: str | float, msg: str) -> Iterator[None]:
    """Warn with ``msg`` (``{duration}`` is filled in) when the block takes longer."""
    began = time.perf_counter()
    yield
    took = time.perf_counter() - began
    limit = parse_timedelta(duration)
    if limit is not None and took > limit:
        warnings.warn(msg.format(duration=took), stacklevel=3)


async def wait_for(fut: Any, timeout: float | None) -> Any:
    """Await, for at most ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        return await fut


class Deadline:
    """A moment until which something may take; None: for ever."""

    def __init__(self, expires_at: float | None = None) -> None:
        self.started_at = time.time()
        self._started = time.monotonic()
        self._limit = None if expires_at is None else expires_at - self.started_at

    @classmethod
    def after(cls, duration: float | None = None) -> Deadline:
        """``duration`` seconds from now."""
        made = cls()
        made._limit = duration
        return made

    @property
    def duration(self) -> float | None:
        """Seconds in all."""
        return self._limit

    @property
    def expires_at(self) -> float | None:
        """Wall-clock time of the end."""
        return None if self._limit is None else self.started_at + self._limit

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float | None:
        """Seconds left, never negative."""
        return None if self._limit is None else max(0.0, self._limit - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self._limit is not None and self.elapsed >= self._limit
