"""Looking at a cluster: progress, and later task streams, spans and memory."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "TextProgressBar": "distributed.diagnostics.progressbar",
    "progress": "distributed.diagnostics.progressbar",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
