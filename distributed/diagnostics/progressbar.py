"""Progress of futures as a bar of text. Looks at the client's own futures only; asks the scheduler nothing. Shell."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.formatting import format_time, parse_timedelta
from distributed.base.keys import key_prefix
from distributed.client.futures import Future, futures_of, one_client
from distributed.client.parking import wait_async, wait_here

WIDTH = 40
INTERVAL_S = 0.1


class ProgressBar:
    """Follows futures to their end; what it shows is for subclasses to say, by ``_draw_bar`` and ``_draw_stop``.

    Parameters
    ----------
    keys : iterable of Future
        Or keys, of which futures are made at the current client.
    scheduler
        Accepted; the futures' client is asked.
    interval : float or str
        Seconds between two drawings.
    complete : bool
        Whether the bar goes on after a task has failed, until all tasks are done.
    """

    def __init__(
        self, keys: Iterable[Any], scheduler: Any = None, interval: float | str = INTERVAL_S, complete: bool = True
    ) -> None:
        self.futures = [key if isinstance(key, Future) else Future(key) for key in keys]
        self.interval = float(parse_timedelta(interval))
        self.complete = complete
        self.status = "running"
        self._started = time.monotonic()
        self._states = [future._bound() for future in self.futures]

    def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
        """So many of all tasks are left."""

    def _draw_stop(self, remaining: int, status: str, **kwargs: Any) -> None:
        """It is over: ``finished``, or ``error``."""

    async def listen(self) -> None:
        """Draw until all are done; on any event loop."""
        while not self._over():
            self._draw_now()
            await asyncio.sleep(self.interval)
        self._end()

    def _draw_now(self) -> None:
        done, _, total = self.counts()
        self._draw_bar(remaining=total - done, all=total)

    @property
    def elapsed(self) -> float:
        """Seconds since the bar was made."""
        return time.monotonic() - self._started

    def counts(self) -> tuple[int, int, int]:
        """How many are done, have failed or were cancelled, and are there in all."""
        done = sum(state.done for state in self._states)
        bad = sum(state.status in ("error", "cancelled") for state in self._states)
        return done, bad, len(self._states)

    def _over(self) -> bool:
        done, bad, total = self.counts()
        return done >= total or (bad > 0 and not self.complete)

    def _end(self) -> None:
        done, bad, total = self.counts()
        self.status = "error" if bad else "finished"
        self._draw_now()
        self._draw_stop(remaining=total - done, status=self.status)

    def show(self) -> None:
        """Draw until all are done; blocks."""
        table = one_client(self.futures).session.table if self.futures else None
        while not self._over():
            self._draw_now()
            waiting = [state for state in self._states if not state.done]
            if table is not None:
                wait_here(table, waiting, self.interval, stop_at_error=not self.complete)
        self._end()

    async def show_async(self) -> None:
        """Draw until all are done."""
        table = one_client(self.futures).session.table if self.futures else None
        while not self._over():
            self._draw_now()
            waiting = [state for state in self._states if not state.done]
            if table is not None:
                await wait_async(table, waiting, self.interval, stop_at_error=not self.complete)
            else:
                await asyncio.sleep(self.interval)
        self._end()


class TextProgressBar(ProgressBar):
    """Draws ``[########      ] | 57% Completed |  2.1s`` and redraws it in place.

    Parameters
    ----------
    keys, scheduler, interval, complete
        As of :class:`ProgressBar`.
    width : int
        Characters of the bar.
    loop
        Accepted.
    start : bool
        Whether to draw from now until all are done. In an asynchronous client: false, then await ``show_async()``.
    file : text stream, optional
        Where to; default: standard output.
    """

    def __init__(
        self,
        keys: Iterable[Any],
        scheduler: Any = None,
        interval: float | str = INTERVAL_S,
        width: int = WIDTH,
        loop: Any = None,
        complete: bool = True,
        start: bool = True,
        file: Any = None,
    ) -> None:
        super().__init__(keys, scheduler, interval, complete)
        self.width = width
        self._file = file
        if start:
            self.show()

    def groups(self) -> dict[str, tuple[int, int]]:
        """Done and all, by name of task."""
        found: dict[str, tuple[int, int]] = {}
        for state in self._states:
            name = key_prefix(state.key)
            done, total = found.get(name, (0, 0))
            found[name] = (done + state.done, total + 1)
        return found

    def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
        done, bad, total = self.counts()
        fraction = done / total if total else 1.0
        bar = "#" * int(self.width * fraction)
        failed = f" | {bad} failed" if bad else ""
        text = f"\r[{bar:<{self.width}}] | {int(fraction * 100):3d}% Completed | {format_time(self.elapsed):>9}{failed}"
        file = self._file or sys.stdout
        file.write(text)
        file.flush()

    def _draw_stop(self, remaining: int, status: str, **kwargs: Any) -> None:
        (self._file or sys.stdout).write("\n")


def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: str | Callable[[Any], str] = "prefix",
    **kwargs: Any,
) -> Any:
    """Show how far these futures are, as a bar of text, until all are done.

    Parameters
    ----------
    *futures
        Futures, or nested collections of them.
    notebook, multi, group_by
        For widgets in notebooks; the bar of text ignores them.
    complete : bool
        Whether to go on after a task has failed.
    **kwargs
        Options of :class:`TextProgressBar`: ``width``, ``interval``, ``file``.

    In an asynchronous client this returns an awaitable.

    Examples
    --------
    >>> progress(client.map(abs, range(100)))  # doctest: +SKIP
    [########################################] | 100% Completed |   1.20 s
    """
    found = futures_of(list(futures))
    if not found and futures and not all(isinstance(part, (list, tuple, set, dict)) for part in futures):
        raise TypeError(f"progress shows futures and collections of them, not {futures[0]!r}")
    bar = TextProgressBar(found, complete=complete, start=False, **kwargs)
    if found and one_client(found).asynchronous:
        return bar.show_async()
    bar.show()
    return None
