"""``distributed.config``: dask's configuration, log levels from it, and the event loop that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.base import settings
from distributed.base.log_setup import initialize_logging
from distributed.rpc.loop_runner import new_asyncio_loop

__all__ = ["config", "defaults", "get_loop_factory", "initialize_logging"]

config = settings.register().config
defaults = settings.load_defaults()


def get_loop_factory() -> Callable[[], Any]:
    """What makes event loops, by the setting ``distributed.admin.event-loop``; for ``asyncio.Runner``."""
    return new_asyncio_loop
