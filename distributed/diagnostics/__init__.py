"""Looking at a cluster: progress, task streams, profiles, memory, dumps, reports."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_HOMES = {
    "Span": "distributed.diagnostics.spans",
    "span": "distributed.diagnostics.spans",
    "MemorySampler": "distributed.diagnostics.memory_sampler",
    "TextProgressBar": "distributed.diagnostics.progressbar",
    "get_task_metadata": "distributed.diagnostics.task_stream",
    "get_task_stream": "distributed.diagnostics.task_stream",
    "performance_report": "distributed.diagnostics.report",
    "progress": "distributed.diagnostics.progressbar",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
