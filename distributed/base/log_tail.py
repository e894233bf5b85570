"""The last lines of a logger, kept for those who ask a server for its log."""

from __future__ import annotations

import logging
from collections import deque

from distributed.base import settings


class LogTail(logging.Handler):
    """The last lines of a logger, as ``(level, text)``."""

    def __init__(self, name: str, length: int) -> None:
        super().__init__()
        self.lines: deque[tuple[str, str]] = deque(maxlen=length)
        self._logger = logging.getLogger(name)
        text_format = str(
            settings.get("distributed.admin.log-format", "%(asctime)s - %(name)s - %(levelname)s - %(message)s")
        )
        self.setFormatter(logging.Formatter(text_format if "%(" in text_format else None))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.lines.append((record.levelname, self.format(record)))
        except Exception:
            self.handleError(record)

    def attach(self) -> None:
        """Begin to listen, from level INFO on unless that would make silenced handlers speak."""
        logger = self._logger
        if logger.level == logging.NOTSET and logger.getEffectiveLevel() == logging.WARNING:
            silenced = logger.parent is not None and logger.parent.level != logging.NOTSET
            if not (silenced and logger.hasHandlers()):
                logger.setLevel(logging.INFO)
        self._logger.addHandler(self)

    def detach(self) -> None:
        """Stop listening."""
        self._logger.removeHandler(self)

    def last(self, n: int | None = None) -> list[tuple[str, str]]:
        """The last ``n`` lines (None: all that are kept), oldest first."""
        lines = list(self.lines)
        return lines if n is None else lines[-n:] if n > 0 else []
