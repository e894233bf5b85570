"""The ``timeout=`` of public calls: seconds from what users write, and how much of it is left. Reads the clock."""

from __future__ import annotations

import time
from typing import Any

from distributed.base import settings


def seconds(value: Any, name: str = "timeout") -> float | None:
    """Seconds of a public ``timeout`` argument; None stays None. Raises TypeError or ValueError that names the
    argument.
    """
    if value is None:
        return None
    if isinstance(value, bool) or (not isinstance(value, (int, float, str)) and not hasattr(value, "total_seconds")):
        raise TypeError(f"{name}= must be a number of seconds or text such as '10s', not {value!r}")
    parsed: float | None = settings.parse_timedelta(value)
    return parsed


def timeout_text(timeout: float | None) -> str:
    """What a TimeoutError says."""
    return f"timed out after {timeout:g} s." if timeout is not None else "timed out"


def deadline_of(timeout: float | None) -> float | None:
    """When ``timeout`` seconds from now are over, on the monotonic clock; None: never."""
    return None if timeout is None else time.monotonic() + timeout


def remaining(deadline: float | None) -> float | None:
    """Seconds until ``deadline``, at least 0; None: as many as it takes."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
