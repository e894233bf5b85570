"""The nanny: starts a worker in a process of its own, watches it, reports its end, and starts it again."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

__all__ = ["Nanny", "WorkerProcess", "ahead"]

_HOMES = {
    "Nanny": "distributed.nanny.server",
    "WorkerProcess": "distributed.nanny.process",
    "ahead": "distributed.nanny.spawning",
}

# Loaded late: the worker's process comes through this package too, and has no use for the nanny.
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
