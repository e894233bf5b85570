"""How many bytes an object takes in memory, about. Never raises, and is quick for what is common.

Builtin containers are counted here, long ones by a sample; arrays by ``nbytes``; everything else by ``dask.sizeof``,
where other packages register their types.
"""

from __future__ import annotations

import importlib
import logging
import math
import random
import sys
from typing import Any

logger = logging.getLogger("distributed.sizeof")

UNKNOWN_BYTES = 1_000_000
"""For objects whose own code for this fails."""
_SAMPLE = 100
_MAX_DEPTH = 6

_getsizeof = sys.getsizeof
_ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, range})
_SEQUENCES: frozenset[type] = frozenset({list, tuple, set, frozenset})
_random = random.Random(0)
_dask_sizeof: Any = None


def sizeof(obj: Any) -> int:
    """Bytes of ``obj`` with all it holds (an estimate).

    >>> sizeof(b"x" * 1000) > 1000
    True
    """
    return _getsizeof(obj) if type(obj) in _ATOMS else safe_sizeof(obj)


def safe_sizeof(obj: Any, default_size: float = UNKNOWN_BYTES) -> int:
    """Bytes of ``obj``, or ``default_size`` when its own code for this raises."""
    try:
        return _sizeof(obj, 0)
    except Exception:
        logger.warning("The size of a %s cannot be told; %d bytes assumed", type(obj).__name__, default_size)
        return int(default_size)


def _sizeof(obj: Any, depth: int) -> int:
    kind = type(obj)
    if kind in _ATOMS or depth > _MAX_DEPTH:
        return _getsizeof(obj)
    if kind in _SEQUENCES:
        return _getsizeof(obj) + _sizeof_members(obj, depth)
    if kind is dict:
        return _getsizeof(obj) + _sizeof_members(obj, depth) + _sizeof_members(obj.values(), depth)
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not obj.dtype.hasobject:
        if 0 not in obj.strides:
            return int(obj.nbytes)
        # A broadcast view repeats what it has once.
        return int(obj.itemsize * math.prod([n for n, stride in zip(obj.shape, obj.strides, strict=True) if stride]))
    size = _by_dask(obj)
    return size if size > 0 else 0


def _sizeof_members(members: Any, depth: int) -> int:
    count = len(members)
    if count <= _SAMPLE:
        return sum([_getsizeof(m) if type(m) in _ATOMS else _sizeof(m, depth + 1) for m in members])
    if type(members) is list or type(members) is tuple:
        sample = [members[_random.randrange(count)] for _ in range(_SAMPLE)]
    else:
        step = count // _SAMPLE
        sample = [m for i, m in enumerate(members) if not i % step]
    return int(sum([_sizeof(m, depth + 1) for m in sample]) / len(sample) * count)


def _by_dask(obj: Any) -> int:
    global _dask_sizeof
    if _dask_sizeof is None:
        _dask_sizeof = importlib.import_module("dask.sizeof").sizeof
    return int(_dask_sizeof(obj))
