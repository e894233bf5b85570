"""Ends a worker process that comes near its memory limit, before the kernel ends something else. Shell.

The process is looked at from outside: it needs not help, and cannot be too busy for it. A task that takes memory fast
leaves little time; so it is killed at once, and what it ran or held is run again elsewhere as after any death.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from distributed.base import settings
from distributed.base.formatting import format_bytes, parse_timedelta
from distributed.base.lazy import lazy_module
from distributed.nanny.process import WorkerProcess
from distributed.worker.memory import own_nbytes

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy_module("psutil")

logger = logging.getLogger("distributed.nanny")


class MemoryWatch:
    """Looks at one worker process after another.

    Parameters
    ----------
    limit :
        Bytes; None: there is no limit, and nothing is looked at.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        fraction = settings.get("distributed.worker.memory.terminate", 0.95)
        self.terminate_fraction = float(fraction) if fraction else 0.0
        self.interval_s = float(parse_timedelta(settings.get("distributed.worker.memory.monitor-interval", "100ms")))
        self._timer: asyncio.TimerHandle | None = None

    def start(self, process: WorkerProcess) -> None:
        """From now on this process."""
        self.stop()
        if self.limit and self.terminate_fraction:
            self._process = process
            self._look()

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self.limit is not None
        try:
            used = own_nbytes(self._process.pid)
        except psutil.Error:
            return  # it has ended
        if used > self.limit * self.terminate_fraction and self._process.is_alive():
            cause = (
                f"exceeded its memory limit ({format_bytes(used)} of {format_bytes(self.limit)} in use, more than "
                f"{self.terminate_fraction:.0%})"
            )
            logger.warning("Worker process %d %s and is killed", self._process.pid, cause)
            self._process.kill_now(cause)
            return
        self._timer = asyncio.get_running_loop().call_later(self.interval_s, self._look)
