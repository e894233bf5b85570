"""Can this result leave its worker, and is it small enough to travel with the report? Runs in the thread of the task.

A result that cannot be pickled is found out when it is made, not when somebody asks for it: then it stays where it is
and the tasks that need it go there. Trying costs a bounded time: values of known types pass unseen, others are pickled
into a sink that gives up, satisfied, after so many bytes that it takes a few percent of the time of the task itself.
Pure but for running the value's own pickling code.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import pickle
import uuid
from typing import Any

from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol import serialize

INLINE_BYTES = 8192
PROBE_BYTES = 1 << 16
PROBE_BYTES_PER_S = 4 << 20
"""Beyond :data:`PROBE_BYTES`, for each second that the task took; objects are pickled at some 100 MB a second."""
MAX_PROBE_BYTES = 64 << 20

_ATOMS: frozenset[type] = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        range,
        slice,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        uuid.UUID,
    }
)
_CONTAINERS = (list, tuple, set, frozenset)
_SMALL_COUNT = 64
_SHIPPABLE_PACKAGES = frozenset({"pandas", "pyarrow", "scipy"})


def ship(value: Any, nbytes: int, wanted: bool, duration_s: float = 0.0) -> tuple[Payload | None, ErrorInfo | None]:
    """``(inline, unshippable)`` of a result of about ``nbytes`` bytes that was made in ``duration_s``; ``inline`` only
    when ``wanted`` and small."""
    try:
        if wanted and nbytes <= INLINE_BYTES:
            payload = serialize.dumps(value, "result")
            return (payload if payload.nbytes <= 4 * INLINE_BYTES else None), None
        if not is_surely_shippable(value):
            probe(value, min(MAX_PROBE_BYTES, PROBE_BYTES + int(PROBE_BYTES_PER_S * duration_s)))
    except BaseException as error:  # whatever the value's own code raises
        return None, serialize.pack_error(error)
    return None, None


def is_surely_shippable(value: Any) -> bool:
    """Whether the type alone says that ``value`` can be pickled."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind in _CONTAINERS:
        return len(value) <= _SMALL_COUNT and all(type(member) in _ATOMS for member in value)
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        dtype = getattr(value, "dtype", None)
        return dtype is not None and not dtype.hasobject
    return package in _SHIPPABLE_PACKAGES


class _Enough(Exception):
    pass


class _Sink:
    __slots__ = ("nbytes", "limit")

    def __init__(self, limit: int) -> None:
        self.nbytes = 0
        self.limit = limit

    def write(self, data: Any) -> int:
        size = len(data)
        self.nbytes += size
        if self.nbytes > self.limit:
            raise _Enough
        return size


def _drop(_buffer: Any) -> None:
    return None


def probe(value: Any, limit: int = PROBE_BYTES) -> None:
    """Raise what pickling ``value`` raises, as far as that shows in its first ``limit`` bytes."""
    try:
        pickle.Pickler(_Sink(limit), 5, buffer_callback=_drop).dump(value)
    except _Enough:
        return
    except Exception:
        serialize.dumps(value, "result")  # pickles more, and its error names the object and the bad member
