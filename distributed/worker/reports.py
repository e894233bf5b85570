"""How runs end: told from any thread, once each, and taken up on the loop in batches. Shell."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from distributed.base.keys import Key
from distributed.worker.job import Job
from distributed.worker.state_machine.events import (
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
)

ExecutorEvent = ExecuteSuccess | ExecuteFailure | ExecuteRescheduled | ExecuteSkipped | ExecuteLongRunning
Report = tuple[ExecutorEvent, Any]
"""An event, and the value that comes with an ``ExecuteSuccess`` (else None)."""


class Reports:
    """Of one executor. A report is appended to a deque, and the loop is woken once for all that are there.

    Parameters
    ----------
    loop :
        Where the callbacks are called.
    on_end :
        ``on_end(job, event, value)``: a run has ended. May report what follows from that for others.
    on_batch :
        Gets what has happened since the last call.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[Job, ExecutorEvent, Any], None],
        on_batch: Callable[[list[Report]], None],
    ) -> None:
        self.owed: dict[int, Job] = {}
        """Runs whose end has not been taken up."""
        self._loop = loop
        self._on_end = on_end
        self._on_batch = on_batch
        self._waiting: deque[Report] = deque()
        self._awake = False

    def add(self, event: ExecutorEvent, value: Any) -> None:
        """Any thread."""
        self._waiting.append((event, value))
        if not self._awake:  # append, then look: the loop clears the flag, then drains
            self._awake = True
            self.call_loop(self._drain)

    def call_loop(self, function: Callable[[], None]) -> None:
        """Have the loop call it, while there is one. Any thread."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed: nobody listens any more

    def ended(self) -> list[Key]:
        """Keys of runs that have ended just now, and were begun."""
        return [event.key for event, _ in tuple(self._waiting) if not isinstance(event, ExecuteSkipped)]

    def _drain(self) -> None:
        self._awake = False
        waiting = self._waiting
        owed = self.owed
        batch: list[Report] = []
        while waiting:
            report = waiting.popleft()
            event, value = report
            if type(event) is not ExecuteLongRunning:
                # An exception thrown into a thread right after its report would make it report again.
                job = owed.pop(event.run_id, None)
                if job is None:
                    continue
                self._on_end(job, event, value)
            batch.append(report)
        if batch:
            self._on_batch(batch)
