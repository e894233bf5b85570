"""The memory of all workers together, sampled while something runs: :class:`MemorySampler`. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from distributed.client.current import default_client
from distributed.diagnostics.pictures import Picture, memory_picture

MEASURES = ("process", "managed", "spilled", "unmanaged", "optimistic")
_EXTENSION = "memory-samplers"
MAX_POINTS = 100_000


class MemorySampler:
    """Samples the memory of a cluster.

    Attributes
    ----------
    samples
        label -> list of (wall-clock seconds, bytes on all workers).

    Examples
    --------
    >>> sampler = MemorySampler()
    >>> with sampler.sample("first try"):  # doctest: +SKIP
    ...     total.compute()
    >>> sampler.plot().save("memory.html")  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[float, int]]] = {}

    def sample(
        self, label: str | None = None, client: Any = None, measure: str = "process", interval: float = 0.5
    ) -> Any:
        """A context manager (``async with`` for asynchronous clients) that samples while it is open.

        Parameters
        ----------
        label
            Name of the series; default: a random one.
        client
            Default: the current one.
        measure
            ``process``, ``managed``, ``spilled``, ``unmanaged`` or ``optimistic`` bytes.
        interval
            Seconds between two samples.
        """
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}")
        if interval <= 0:
            raise ValueError(f"interval must be more than 0 seconds, not {interval!r}")
        client = client or default_client()
        label = label or str(uuid.uuid4())
        return (self._async if client.asynchronous else self._sync)(label, client, measure, float(interval))

    @contextlib.contextmanager
    def _sync(self, label: str, client: Any, measure: str, interval: float) -> Iterator[None]:
        id = client.sync(client.session.call, "memory_sampler_start", measure=measure, interval=interval)
        try:
            yield
        finally:
            self.samples[label] = _points(client.sync(client.session.call, "memory_sampler_stop", id=id))

    @contextlib.asynccontextmanager
    async def _async(self, label: str, client: Any, measure: str, interval: float) -> AsyncIterator[None]:
        id = await client.session.call("memory_sampler_start", measure=measure, interval=interval)
        try:
            yield
        finally:
            self.samples[label] = _points(await client.session.call("memory_sampler_stop", id=id))

    def to_pandas(self, align: bool = False) -> Any:
        """A DataFrame with a column for each label. ``align``: times count from the begin of each series."""
        import pandas

        columns = {}
        for label, points in self.samples.items():
            begin = points[0][0] if points and align else 0.0
            values = pandas.Series({when - begin: size for when, size in points}, dtype="int64")
            values.index = (
                pandas.to_timedelta(values.index, unit="s") if align else pandas.to_datetime(values.index, unit="s")
            )
            columns[label] = values[~values.index.duplicated(keep="last")]
        return pandas.DataFrame(columns).sort_index().ffill()

    def plot(self, align: bool = False, **kwargs: Any) -> Picture:
        """A picture of all series."""
        return memory_picture(self.samples, align)


def _points(answer: Any) -> list[tuple[float, int]]:
    return [(float(when), int(size)) for when, size in answer]


def start_on(scheduler: Any, measure: str, interval: float) -> str:
    """Begin to sample on the scheduler; returns the id to stop it with."""
    running: dict[str, _Series] = scheduler.extensions.setdefault(_EXTENSION, {})
    id = str(uuid.uuid4())
    running[id] = series = _Series(scheduler, measure, interval)
    series.beat()
    return id


def stop_on(scheduler: Any, id: str) -> list[tuple[float, int]]:
    """End it; the samples. Raises ``KeyError`` for an unknown id."""
    series: _Series = scheduler.extensions.get(_EXTENSION, {}).pop(id)
    series.end()
    return series.points


class _Series:
    def __init__(self, scheduler: Any, measure: str, interval: float) -> None:
        self.points: list[tuple[float, int]] = []
        self._scheduler = scheduler
        self._measure = measure
        self._interval = interval

    def beat(self) -> None:
        self._note()
        if len(self.points) >= MAX_POINTS:  # whoever has begun it has been gone for long
            return
        self._timer = asyncio.get_running_loop().call_later(self._interval, self.beat)

    def end(self) -> None:
        self._timer.cancel()
        self._note()

    def _note(self) -> None:
        workers = self._scheduler.workers.values()
        self.points.append((time.time(), sum([getattr(ws.memory, self._measure) for ws in workers])))
