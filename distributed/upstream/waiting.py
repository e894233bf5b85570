"""Waiting and time limits that other packages take from ``distributed.utils``."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

from distributed.base.formatting import parse_timedelta

T = TypeVar("T")
Quiet = type[BaseException] | tuple[type[BaseException], ...]

logger = logging.getLogger("distributed.utils")


async def All(args: Iterable[Awaitable[Any]], quiet_exceptions: Quiet = ()) -> list[Any]:
    """The results of all, in order; the first error is raised at once.

    Those still running then go on; an error of theirs that is none of ``quiet_exceptions`` is logged.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in args]
    if tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    failed = [task for task in tasks if task.done() and task.exception() is not None]
    if failed:
        _let_go(tasks, failed[0], quiet_exceptions)
        await failed[0]
    return [task.result() for task in tasks]


async def AnyOf(args: Iterable[Awaitable[Any]], quiet_exceptions: Quiet = ()) -> list[Any]:
    """Wait until the first is done: its result at its place, None for those that are not done. Its error is raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in args]
    if not tasks:
        return []
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = next(task for task in tasks if task.done())
    _let_go(tasks, first, quiet_exceptions)
    await first
    return [task.result() if task.done() and task.exception() is None else None for task in tasks]


def _let_go(tasks: Sequence[asyncio.Future[Any]], told: asyncio.Future[Any], quiet: Quiet) -> None:
    """Nobody waits for the others any more: their errors go to the log."""

    def look(task: asyncio.Future[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, quiet):
            logger.error("%s in something nobody waits for any more", type(error).__name__, exc_info=error)

    for task in tasks:
        if task is not told:
            task.add_done_callback(look)


async def wait_for(fut: Any, timeout: float | None) -> Any:
    """Await, for at most ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        return await fut


async def run_in_executor_with_context(
    executor: Executor | None, func: Callable[..., T], /, *args: Any, **kwargs: Any
) -> T:
    """Run ``func`` in a thread of ``executor`` (None: the loop's own), with the caller's context variables."""
    call = functools.partial(contextvars.copy_context().run, func, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(executor, call)


async def offload(func: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run ``func`` in a thread, off the event loop."""
    return await asyncio.to_thread(func, *args, **kwargs)


@contextmanager
def warn_on_duration(duration: str | float, msg: str) -> Iterator[None]:
    """Warn with ``msg`` (``{duration}`` is filled in) when the block takes longer."""
    began = time.perf_counter()
    yield
    took = time.perf_counter() - began
    limit = parse_timedelta(duration)
    if limit is not None and took > limit:
        warnings.warn(msg.format(duration=took), stacklevel=3)


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
