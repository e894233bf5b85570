"""What a client does with events of topics: its own for output and warnings from tasks, and those of its user. Shell.

The scheduler sends the topics ``print`` and ``warn`` to every client without being asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

from distributed.plugins.output import as_record

logger = logging.getLogger("distributed.client")

Handler = Callable[[Any], Any]


class EventHandlers:
    """Functions by topic; each is called with ``(time, message)`` for each event, on the client's loop."""

    def __init__(self) -> None:
        self.by_topic: dict[str, list[Handler]] = {"print": [show_output], "warn": [show_warning]}
        self._running: set[asyncio.Future[None]] = set()

    def add(self, topic: str, handler: Handler) -> None:
        """Call ``handler`` too."""
        self.by_topic.setdefault(topic, []).append(handler)

    def remove(self, topic: str) -> None:
        """Call nobody any more. Raises ValueError when nobody was."""
        if self.by_topic.pop(topic, None) is None:
            raise ValueError(f"topic {topic!r} has no event handler of this client")

    def call(self, message: Any) -> None:
        """An event has come. An error of a handler is logged."""
        for handler in tuple(self.by_topic.get(message.topic, ())):
            try:
                result = handler(message.event)
                if asyncio.iscoroutine(result):
                    self._running.add(task := asyncio.ensure_future(_logged(result, message.topic)))
                    task.add_done_callback(self._running.discard)
            except Exception:
                logger.exception("Error in the handler of topic %r", message.topic)


def topic_name(topic: Any) -> str:
    """The name of a topic. Raises TypeError when it can be none."""
    if not isinstance(topic, str):
        raise TypeError(f"the name of a topic must be text, not {topic!r} ({type(topic).__name__})")
    return topic


def topic_names(topic: Any) -> tuple[str, ...]:
    """The names of one topic, or of several in a list."""
    if isinstance(topic, (list, tuple, set, frozenset)):
        return tuple([topic_name(one) for one in topic])
    return (topic_name(topic),)


async def _logged(awaitable: Any, topic: str) -> None:
    try:
        await awaitable
    except Exception:
        logger.exception("Error in the handler of topic %r", topic)


def show_output(event: tuple[float, Any]) -> None:
    """Write what a task has printed."""
    message = event[1]
    if not isinstance(message, dict):
        sys.stdout.write(f"{message}\n")
        return
    stream = sys.stderr if message.get("file") == "stderr" else sys.stdout
    stream.write(str(message.get("text", "")))
    with contextlib.suppress(OSError, ValueError):  # a stream that is closed
        stream.flush()


def show_warning(event: tuple[float, Any]) -> None:
    """Warn as a task did."""
    message = event[1]
    if not isinstance(message, dict):
        warnings.warn(str(message), stacklevel=2)
        return
    warnings.warn(str(message.get("message", "")), _category(str(message.get("category", ""))), stacklevel=2)


def _category(name: str) -> type[Warning]:
    module, _, qualname = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError, ValueError):
        return UserWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning


def log_record(event: tuple[float, Any]) -> None:
    """Hand a log record of a worker to the logger of its name, as far as that takes its level."""
    record = as_record(event[1])
    destination = logging.getLogger(record.name)
    if destination.isEnabledFor(record.levelno):
        destination.handle(record)
