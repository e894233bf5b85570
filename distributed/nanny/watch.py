"""Looks at a worker process whose event loop is silent, and tells the scheduler what it sees. Shell.

The loop counts its beats in the page that worker and nanny share; as long as the count grows nothing is said. A loop
that stands still is kept from moving by somebody who holds the interpreter lock, or the whole process is stopped: the
state of the process tells which, and needs no help of the worker's. Once a stopped process goes on, its loop needs a
moment: so the time in which it was held counts from the last look that found the process stopped. It does not count
over a time in which the nanny stood still itself, and saw nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_module
from distributed.messages.nanny import STOPPED, WorkerVouched
from distributed.nanny.process import WorkerProcess

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy_module("psutil")

SHARE = 0.6
"""Of the time after which a scheduler suspects a silent worker: then the nanny begins to speak."""
LOOKS = 3
"""In that time."""
_LATE = 2.0
"""Intervals after which a look comes so late that the nanny has stood still."""


class Watch:
    """Looks at one worker process after another.

    Parameters
    ----------
    tell :
        Takes the message for the scheduler.
    suspect_s :
        After how many seconds the scheduler suspects a silent worker (``distributed.scheduler.suspect-after``).
    """

    def __init__(self, tell: Callable[[WorkerVouched], None], suspect_s: float = 5.0) -> None:
        self._tell = tell
        self._silent_s = SHARE * suspect_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self, process: WorkerProcess, worker: str) -> None:
        """From now on this process, which serves at the address ``worker``."""
        self.stop()
        self._process = process
        self._worker = worker
        self._beats = -1
        self._moved = self._held = self._looked = time.monotonic()
        self._look()

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._silent_s / LOOKS, self._look)
        process = self._process
        if not process.is_alive():
            return
        now = time.monotonic()
        late = now - self._looked > _LATE * self._silent_s / LOOKS
        self._looked = now
        beats = process.page.beats
        if beats != self._beats:
            self._beats = beats
            self._moved = self._held = now
            return
        state = process_state(process.pid)
        if late or state in STOPPED:
            self._held = now
        if now - self._moved >= self._silent_s:
            self._tell(WorkerVouched(self._worker, process.pid, now - self._held, state, process.page.run_ids()))


def process_state(pid: int) -> str:
    """What the operating system says of a process, in psutil's words; ``dead`` when there is none."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return "dead"
    except psutil.Error:
        return "unknown"
