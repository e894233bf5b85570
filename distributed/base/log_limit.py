"""Log lines that a peer can cause at will: one for each subject a minute."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import Any

_INTERVAL_S = 60.0
_MOST_SUBJECTS = 256


class LogLimit:
    """One warning for each subject a minute; the number of lines held back is told with the next."""

    def __init__(self, logger: logging.Logger, interval_s: float = _INTERVAL_S) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._last: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def warn(self, subject: str, text: str, *args: Any) -> None:
        now = time.monotonic()
        at, held_back = self._last.get(subject, (-1e9, 0))
        if now - at < self._interval_s:
            self._last[subject] = (at, held_back + 1)
            return
        self._last[subject] = (now, 0)
        self._last.move_to_end(subject)
        while len(self._last) > _MOST_SUBJECTS:
            self._last.popitem(last=False)
        if held_back:
            text += f" ({held_back} more like this since the last such line)"
        self._logger.warning(text, *args)
