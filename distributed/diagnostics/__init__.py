"""Looking at a cluster: progress, and later task streams, spans and memory."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_HOMES = {
    "TextProgressBar": "distributed.diagnostics.progressbar",
    "progress": "distributed.diagnostics.progressbar",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
