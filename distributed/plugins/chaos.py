"""A plugin that ends workers on purpose, to see what a computation does about it."""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import Any

from distributed.base.formatting import parse_timedelta
from distributed.plugins.worker import WorkerPlugin

MODES = ("sys.exit", "graceful", "segfault")


class KillWorker(WorkerPlugin):
    """Ends each worker some time after it has joined.

    Parameters
    ----------
    delay
        Seconds, or a text such as ``"100 s"``.
    mode
        ``sys.exit``: the process ends at once with code 1; ``graceful``: the worker closes as if asked to;
        ``segfault``: the process reads from address 0.

    Raises
    ------
    ValueError
        For any other ``mode``, or a ``delay`` that is no time.
    """

    def __init__(self, delay: str | int | float = "100 s", mode: str = "sys.exit") -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.delay_s = float(parse_timedelta(delay))
        self.mode = mode

    async def setup(self, worker: Any) -> None:
        """Start the clock."""
        end = {"sys.exit": self._exit, "graceful": self._close, "segfault": self._segfault}[self.mode]
        self._timer = asyncio.get_running_loop().call_later(self.delay_s, end, worker)

    def teardown(self, worker: Any) -> None:
        """Spare it."""
        self._timer.cancel()

    def _exit(self, worker: Any) -> None:
        os._exit(1)

    def _close(self, worker: Any) -> None:
        self._closing = asyncio.ensure_future(worker.close_gracefully())

    def _segfault(self, worker: Any) -> None:
        ctypes.string_at(0)
