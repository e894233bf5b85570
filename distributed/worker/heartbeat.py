"""The signs of life that a worker sends to its scheduler, with what it tells of itself. Shell."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import Any

from distributed.messages.worker_to_scheduler import Heartbeat
from distributed.worker.executing_page import ExecutingPage

logger = logging.getLogger("distributed.worker")


class Heart:
    """Beats for ``worker`` every ``worker.heartbeat_interval`` seconds, on its loop."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._page: ExecutingPage | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, page: ExecutingPage | None = None) -> None:
        """The first beat comes after one interval: registering was a sign of life. Each leaves a mark on ``page``:
        there the nanny sees that the loop moves, whether the scheduler can be reached or not."""
        self._page = page
        self._go_on()

    def _go_on(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._worker.heartbeat_interval, self._beat)
        if self._page is not None:
            self._page.beat()

    def stop(self) -> None:
        """No more beats."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._go_on()
        if self._worker.user_metrics:
            self._worker.add_task(self._beat_with_user_metrics())
        else:
            self.beat()

    async def _beat_with_user_metrics(self) -> None:
        worker = self._worker
        metrics: dict[str, Any] = {}
        for name, function in worker.user_metrics.items():
            try:
                value = function(worker)
                metrics[name] = await value if inspect.isawaitable(value) else value
            except Exception:
                logger.exception("metrics[%r] failed", name)
        self.beat(**metrics)

    def beat(self, **user_metrics: Any) -> None:
        """Send one now, if the scheduler can be reached."""
        worker = self._worker
        worker.link.beat()
        worker.rpc.look()
        if not worker.link.stands:
            return
        worker.last_metrics = metrics = {**worker.metrics(), **user_metrics}
        spilling = worker.state.spilling
        heartbeat = Heartbeat(
            metrics,
            worker.state.executing_s(time.monotonic()),
            worker.state.managed_nbytes,
            int(metrics.get("memory", 0)),
            spilling.absent_nbytes,
            worker.state.held_slots,
        )
        worker.send([heartbeat])
