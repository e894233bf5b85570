"""The worker: runs tasks, keeps their values, fetches inputs from peers.

Public names are loaded when first used, so that the pure core (``state_machine``) can be had without the shell.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Worker": "distributed.worker.server",
    "get_worker": "distributed.worker.runtime",
    "print": "distributed.worker.printing",
    "warn": "distributed.worker.printing",
    "secede": "distributed.worker.runtime",
    "rejoin": "distributed.worker.runtime",
    "thread_state": "distributed.worker.runtime",
    "parse_memory_limit": "distributed.worker.memory",
    "dumps_function": "distributed.upstream.callables",
    "get_client": "distributed.client.current",
    "Reschedule": "distributed.base.errors",
    "Status": "distributed.base.status",
    "logger": "distributed.worker.server",
}

__all__ = ["Reschedule", "Status", "Worker", "get_client", "get_worker", "parse_memory_limit", "rejoin", "secede"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    if name != "thread_state":
        globals()[name] = value
    return value
