"""The nanny: starts a worker in a process of its own, watches it, reports its end, and starts it again."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Nanny", "WorkerProcess"]

_HOMES = {"Nanny": "distributed.nanny.server", "WorkerProcess": "distributed.nanny.process"}


def __getattr__(name: str) -> Any:
    # Loaded late: the worker's process comes through this package too, and has no use for the nanny.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value
