"""The last lines of a logger, kept for those who ask a server for its log."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from distributed.base import settings

# A level just below INFO: known again, and so told from one that the program has set.
_OURS = logging.INFO - 1


class _Gate(logging.Filter):
    """Gives every record to the tails, and only what would have been shown without them to the handlers."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.logger = logger
        self.tails: list[LogTail] = []

    def filter(self, record: logging.LogRecord) -> bool:
        for tail in self.tails:
            tail.emit(record)
        parent = self.logger.parent
        return self.logger.level != _OURS or parent is None or record.levelno >= parent.getEffectiveLevel()


_gates: dict[str, _Gate] = {}


class LogTail(logging.Handler):
    """The last lines of a logger, as ``(when, level, text)``; ``length`` None: as ``distributed.admin.log-length``
    says."""

    def __init__(self, name: str, length: int | None = None) -> None:
        super().__init__()
        if length is None:
            length = int(settings.get("distributed.admin.log-length", 10_000) or 0)
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=length)
        self._logger = logging.getLogger(name)
        text_format = str(
            settings.get("distributed.admin.log-format", "%(asctime)s - %(name)s - %(levelname)s - %(message)s")
        )
        self.setFormatter(logging.Formatter(text_format if "%(" in text_format else None))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines.append((record.created, record.levelname, self.format(record)))
        except Exception:
            self.handleError(record)

    def attach(self) -> None:
        """Begin to listen, from level INFO on; what other handlers see stays as it was."""
        gate = _gates.setdefault(self._logger.name, _Gate(self._logger))
        gate.tails.append(self)
        self._logger.addFilter(gate)
        if self._logger.level == logging.NOTSET:
            self._logger.setLevel(_OURS)

    def detach(self) -> None:
        """Stop listening."""
        gate = _gates.get(self._logger.name)
        if gate is None or self not in gate.tails:
            return
        gate.tails.remove(self)
        if not gate.tails:
            self._logger.removeFilter(gate)
            if self._logger.level == _OURS:
                self._logger.setLevel(logging.NOTSET)

    def last(self, start: float = 0, n: int | None = None, timestamps: bool = False) -> list[tuple[Any, ...]]:
        """The last ``n`` lines (None: all that are kept), oldest first.

        Parameters
        ----------
        start
            Wall-clock seconds; none that is older.
        timestamps
            Whether each line is ``(wall-clock seconds, level, text)`` instead of ``(level, text)``.
        """
        lines: list[tuple[Any, ...]] = [line if timestamps else line[1:] for line in self.lines if line[0] >= start]
        return lines if n is None else lines[-n:] if n > 0 else []
