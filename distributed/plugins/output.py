"""Plugins that bring what workers write to the clients: :class:`ForwardOutput` for stdout and stderr,
:class:`ForwardLoggingPlugin` for log records. Both send events, which the scheduler keeps for a while."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO

from distributed.plugins.worker import WorkerPlugin

_PASSED_ON = ("args", "exc_info", "exc_text", "msg", "message", "stack_info")


class ForwardOutput(WorkerPlugin):
    """What workers write to stdout and stderr is written by every client too, line by line.

    Workers in the client's own process are left alone: they write there already.

    Examples
    --------
    >>> client.register_plugin(ForwardOutput())  # doctest: +SKIP
    """

    name = "forward-output"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Put a stream that also forwards in the place of the two."""
        self._streams: list[_Forwarding] = []
        if worker.address.startswith("inproc://"):
            return
        for name in ("stdout", "stderr"):
            stream = _Forwarding(getattr(sys, name), name, worker)
            setattr(sys, name, stream)
            self._streams.append(stream)

    def teardown(self, worker: Any) -> None:
        """Put the old ones back."""
        for stream in self._streams:
            stream.send_rest()
            if getattr(sys, stream.file) is stream:
                setattr(sys, stream.file, stream.original)


class _Forwarding:
    """A text stream that writes on to ``original`` and forwards whole lines."""

    def __init__(self, original: TextIO, file: str, worker: Any) -> None:
        self.original = original
        self.file = file
        self._worker = worker
        self._rest = ""

    def write(self, text: str) -> int:
        n = self.original.write(text)
        self._rest += text
        end = self._rest.rfind("\n") + 1
        if end:
            lines, self._rest = self._rest[:end], self._rest[end:]
            self._worker.tell_output(lines, self.file)
        return n

    def send_rest(self) -> None:
        """Forward what has no end of line yet."""
        rest, self._rest = self._rest, ""
        if rest:
            self._worker.tell_output(rest, self.file)

    def flush(self) -> None:
        self.original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class ForwardLoggingPlugin(WorkerPlugin):
    """Sends the records of a logger in every worker as events of a topic; ``client.forward_logging`` uses it.

    Parameters
    ----------
    logger_name
        The logger; None: the root.
    level
        Records below are not sent.
    topic
        The events' topic.

    Raises
    ------
    TypeError, ValueError
        No logger has such a name, or there is no such level.
    """

    def __init__(self, logger_name: str | None, level: int | str, topic: str) -> None:
        if logger_name is not None and not isinstance(logger_name, str):
            raise TypeError(f"the name of a logger must be text or None, not {logger_name!r}")
        logging.Handler(level)  # which knows what a level is
        self.logger_name = logger_name
        self.level = level
        self.topic = topic
        self.name = forwarding_name(logger_name)

    def setup(self, worker: Any) -> None:
        """Add a handler to the logger."""
        self._handler = _Sender(worker, self.topic, self.level)
        logging.getLogger(self.logger_name).addHandler(self._handler)

    def teardown(self, worker: Any) -> None:
        """Take it away again."""
        logging.getLogger(self.logger_name).removeHandler(self._handler)


def forwarding_name(logger_name: str | None) -> str:
    """The name of the plugin that forwards this logger."""
    return f"forward-logging-{logger_name or '<root>'}"


class _Sender(logging.Handler):
    def __init__(self, worker: Any, topic: str, level: int | str) -> None:
        super().__init__(level)
        self._worker = worker
        self._topic = topic

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a record whose text cannot be made must not break who logs it
            self._worker.log_event(self._topic, as_plain(record))


def as_plain(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as plain data, its text and traceback made here, where its arguments live."""
    facts = {
        name: value
        for name, value in vars(record).items()
        if name not in _PASSED_ON and isinstance(value, (str, int, float, bool, type(None)))
    }
    facts["msg"] = record.getMessage()
    if record.exc_info:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return facts


def as_record(facts: dict[str, Any]) -> logging.LogRecord:
    """The log record that :func:`as_plain` has taken apart."""
    return logging.makeLogRecord(facts)
