"""What a worker that has a process of its own looks after: memory that becomes short. Shell.

A worker that shares its process with others, or with a user's program, cannot tell what of that process is its own.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from distributed.base import settings
from distributed.base.formatting import parse_timedelta
from distributed.base.status import Status
from distributed.worker.memory import PauseWatch

logger = logging.getLogger("distributed.worker")


class SelfWatch:
    """The watches of ``worker``, on its loop."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.pausing = PauseWatch(worker.memory_limit)
        self._interval_s = float(parse_timedelta(settings.get("distributed.worker.memory.monitor-interval", "100ms")))
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._look)

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.start()
        worker = self.worker
        try:
            change = self.pausing.look()
            if change is True and worker.status is Status.running:
                worker.pause()
            elif change is False and worker.status is Status.paused:
                worker.unpause()
        except Exception:
            logger.exception("The worker could not look after itself")
