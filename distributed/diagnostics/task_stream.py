"""Which task ran when and where: recorded on the scheduler from the first question on, asked for by clients.

Recording is a scheduler plugin, so nobody pays for it before somebody has asked. Shell.
"""

from __future__ import annotations

import bisect
import os
import time
from collections import deque
from typing import Any

from distributed.base import settings
from distributed.base.formatting import parse_timedelta
from distributed.client.current import default_client
from distributed.diagnostics.pictures import Picture, task_stream_picture
from distributed.plugins.scheduler import SchedulerPlugin

Record = dict[str, Any]


class TaskStreamPlugin(SchedulerPlugin):
    """The last tasks that have ended, with their places and times.

    Parameters
    ----------
    scheduler
        The one that it is added to.
    maxlen
        How many are kept; default: the setting ``distributed.scheduler.dashboard.tasks.task-stream-length``.
    """

    name = "task-stream"

    def __init__(self, scheduler: Any = None, maxlen: int | None = None) -> None:
        if maxlen is None:
            maxlen = int(settings.get("distributed.scheduler.dashboard.tasks.task-stream-length", 100_000))
        self.records: deque[Record] = deque(maxlen=maxlen)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Note a task that has ended."""
        if start == "processing" and kwargs.get("startstops"):
            self.records.append({"key": key, **{name: kwargs.get(name) for name in _FACTS}})

    def collect(self, start: float | None = None, stop: float | None = None, count: int | None = None) -> list[Record]:
        """Those that ended between two times (wall-clock seconds), at most the last ``count`` of them."""
        ends = [max(part["stop"] for part in record["startstops"]) for record in self.records]
        first = 0 if start is None else bisect.bisect_left(ends, start)
        last = len(ends) if stop is None else bisect.bisect_right(ends, stop)
        if count is not None:
            first = max(first, last - count)
        return list(self.records)[first:last]


_FACTS = ("worker", "thread", "status", "nbytes", "typename", "startstops", "metadata", "exception_text")


def get_task_stream_of(
    scheduler: Any, start: float | None = None, stop: float | None = None, count: int | None = None
) -> list[Record]:
    """The scheduler's answer; begins to record if it does not yet."""
    plugin = scheduler.plugins.get(TaskStreamPlugin.name)
    if plugin is None:
        plugin = TaskStreamPlugin(scheduler)
        scheduler.add_plugin(plugin)
    found: list[Record] = plugin.collect(start, stop, count)
    return found


def moment(value: float | str | None) -> float | None:
    """A time as users give it, in wall-clock seconds: itself, or so long ago (``"5 min"``). None stays None.

    Raises ``ValueError`` or ``TypeError`` for what is neither.
    """
    if isinstance(value, str):
        return time.time() - float(parse_timedelta(value))
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"a time is a number of seconds or a text such as '5 min' (ago), not {value!r}")
    return value


class get_task_stream:
    """Collects the task stream of what runs inside of a block.

    Parameters
    ----------
    client
        Default: the current one.
    plot
        True: draw it behind the block, as ``figure``; ``"save"``: write it to ``filename`` too.
    filename
        An HTML file.

    Attributes
    ----------
    data
        A list of dicts, one a task: ``key, worker, thread, status, nbytes, typename, startstops``.
    figure
        The picture, if drawn.

    Examples
    --------
    >>> with get_task_stream(plot="save", filename="stream.html") as stream:  # doctest: +SKIP
    ...     total.compute()
    >>> stream.data  # doctest: +SKIP
    """

    def __init__(
        self, client: Any = None, plot: bool | str = False, filename: str | os.PathLike[str] = "task-stream.html"
    ) -> None:
        self.data: list[Record] = []
        self.figure: Picture | None = None
        self._plot = plot
        self._filename = filename
        self.client = client or default_client()

    def __enter__(self) -> get_task_stream:
        self.client.get_task_stream(start=0, stop=0)
        self.start = time.time()
        return self

    def __exit__(self, *exc: object) -> None:
        self._finish(self.client.get_task_stream(start=self.start))

    async def __aenter__(self) -> get_task_stream:
        await self.client.get_task_stream(start=0, stop=0)
        self.start = time.time()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._finish(await self.client.get_task_stream(start=self.start))

    def _finish(self, records: list[Record]) -> None:
        self.data.extend(records)
        if self._plot:
            self.figure = task_stream_picture(self.data)
            if self._plot == "save":
                self.figure.save(self._filename)


class get_task_metadata:
    """Collects what tasks note of themselves while the block is open.

    Attributes
    ----------
    metadata
        key -> dict, of tasks that have ended inside of the block.
    state
        key -> ``memory`` or ``erred``.
    """

    def __init__(self) -> None:
        self.metadata: dict[Any, dict[str, Any]] = {}
        self.state: dict[Any, str] = {}
        self._stream = get_task_stream()

    def __enter__(self) -> get_task_metadata:
        self._stream.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.__exit__(*exc)
        self._fill()

    async def __aenter__(self) -> get_task_metadata:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stream.__aexit__(*exc)
        self._fill()

    def _fill(self) -> None:
        for record in self._stream.data:
            self.metadata[record["key"]] = record["metadata"] or {}
            self.state[record["key"]] = "memory" if record["status"] == "OK" else "erred"
