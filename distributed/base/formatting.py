"""Sizes and times as text, and text as sizes and times. Pure, and free of dask, because workers need it at start-up.

The spellings are those of ``dask.utils``: ``"5 GB"`` is 5e9 bytes, ``"5 GiB"`` is 5 * 2**30, ``"1h"`` is 3600 seconds.
"""

from __future__ import annotations

import datetime
import math
from typing import overload

_BINARY = (("Pi", 2**50), ("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("ki", 2**10))

_BYTE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", 1):
    _BYTE_UNITS[_letter] = _BYTE_UNITS[f"{_letter}b"] = 1000**_power
    _BYTE_UNITS[f"{_letter}i"] = _BYTE_UNITS[f"{_letter}ib"] = 1024**_power

_TIME_UNITS = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "microsecond": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "nanoseconds": 1e-9,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
    "weeks": 604800.0,
}


def format_bytes(n: float) -> str:
    """A size for people.

    >>> format_bytes(1_000), format_bytes(12_345_678)
    ('0.98 kiB', '11.77 MiB')
    """
    for prefix, unit in _BINARY:
        if n >= unit * 0.9:
            return f"{n / unit:.2f} {prefix}B"
    return f"{n} B"


def format_time(seconds: float) -> str:
    """A duration for people.

    >>> format_time(0.0123), format_time(3600 * 5)
    ('12.30 ms', '5hr 0m')
    """
    if seconds > 172_800:
        return f"{int(seconds // 86400)}d {int(seconds % 86400 // 3600)}hr"
    if seconds > 7_200:
        return f"{int(seconds // 3600)}hr {int(seconds % 3600 // 60)}m"
    if seconds > 600:
        return f"{int(seconds // 60)}m {int(seconds % 60)}s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def _split(text: str) -> tuple[float, str]:
    """Number and unit of ``"5 GB"``; a missing number is 1 (``"GB"``)."""
    text = text.replace(" ", "").lower()
    if text[:1].isalpha() and not text.startswith(("inf", "nan")):
        text = "1" + text
    cut = len(text)
    while cut and text[cut - 1].isalpha():
        cut -= 1
    if cut == 0:
        raise ValueError(text)
    return float(text[:cut]), text[cut:]


def parse_bytes(size: float | str) -> int:
    """Bytes of ``"5 GB"``, ``"64MiB"``, ``"100"`` or of a number.

    Raises ``ValueError`` when the text is not a size.
    """
    if isinstance(size, (int, float)):
        return int(size)
    try:
        number, unit = _split(size)
        return int(number * _BYTE_UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"not a size in bytes: {size!r}; write it like '5 GB', '512MiB' or 1000000") from None


@overload
def parse_timedelta(time: None, default: str | bool = "seconds") -> None: ...


@overload
def parse_timedelta(time: float | str | datetime.timedelta, default: str | bool = "seconds") -> float: ...


def parse_timedelta(time: float | str | datetime.timedelta | None, default: str | bool = "seconds") -> float | None:
    """Seconds of ``"300 ms"``, ``"5 minutes"``, a ``timedelta`` or a number; None stays None.

    Parameters
    ----------
    time
        The duration. A number has the unit ``default``.
    default
        Unit of a bare number; False makes the unit obligatory.

    Raises ``ValueError`` when the text is not a duration, ``TypeError`` when it has no unit and must have one.
    """
    if time is None:
        return None
    if isinstance(time, datetime.timedelta):
        return time.total_seconds()
    text = repr(time) if isinstance(time, (int, float)) else str(time)
    try:
        number, unit = (float(text), "") if isinstance(time, (int, float)) or text == "inf" else _split(text)
        if not unit:
            if default is False and text != "inf":
                raise TypeError(f"a duration needs a unit: {time!r}; write it like '5s' or '300 ms'")
            unit = default.lower() if isinstance(default, str) else ""
        seconds = number * _TIME_UNITS[unit]
    except (KeyError, ValueError):
        raise ValueError(f"not a duration: {time!r}; write it like '5s', '300 ms' or '2 hours'") from None
    return int(seconds) if math.isfinite(seconds) and seconds == int(seconds) else seconds
