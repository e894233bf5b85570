"""A scheduler plugin that collects what tasks note of themselves, of tasks submitted from now on. Shell."""

from __future__ import annotations

from typing import Any

from distributed.plugins.scheduler import SchedulerPlugin


class CollectTaskMetaDataPlugin(SchedulerPlugin):
    """Metadata and end of each task that is submitted after the plugin was added.

    Attributes
    ----------
    metadata
        key -> dict, of tasks that have ended.
    state
        key -> ``memory`` or ``erred``.
    keys
        All that were submitted.
    """

    def __init__(self, scheduler: Any, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.keys: set[Any] = set()
        self.metadata: dict[Any, dict[str, Any]] = {}
        self.state: dict[Any, str] = {}

    def update_graph(self, scheduler: Any, *, tasks: list[Any], **kwargs: Any) -> None:
        """Note what is new."""
        self.keys.update(tasks)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Note how a task has ended."""
        if finish in ("memory", "erred") and key in self.keys:
            self.metadata[key] = kwargs.get("metadata") or {}
            self.state[key] = finish
            self.keys.discard(key)
