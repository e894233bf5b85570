"""How many bytes a value takes in memory. Never raises."""

from __future__ import annotations

import logging
import sys
from typing import Any

logger = logging.getLogger("distributed.sizeof")

DEFAULT_BYTES = 1_000_000
_SIMPLE = frozenset({int, float, bool, complex, str, bytes, bytearray, type(None)})


def sizeof(obj: Any) -> int:
    """Bytes of ``obj`` and what it holds; an estimate for large containers."""
    kind = type(obj)
    if kind in _SIMPLE:
        return sys.getsizeof(obj)
    if kind in (tuple, list) and len(obj) <= 16 and all(type(part) in _SIMPLE for part in obj):
        return sys.getsizeof(obj) + sum(map(sys.getsizeof, obj))
    return safe_sizeof(obj)


def safe_sizeof(obj: Any, default_size: float = DEFAULT_BYTES) -> int:
    """``dask.sizeof.sizeof``, or ``default_size`` when that raises."""
    from dask.sizeof import sizeof as dask_sizeof

    try:
        return int(dask_sizeof(obj))
    except Exception:
        logger.warning("The size of a %s cannot be told; %d bytes assumed", type(obj).__name__, default_size)
        return int(default_size)
