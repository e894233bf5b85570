"""Gives memory that has been freed back to the system: allocators keep it otherwise, and the worker counts as full.
Shell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_module, loaded

if TYPE_CHECKING:
    import ctypes
else:
    ctypes = lazy_module("ctypes")

MIN_NBYTES = 64 << 20
"""After less data than this it does not pay: what is given back has to be asked for, and zeroed, again."""
_worked_nbytes = 0


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # not glibc
        return None
    return trim


def give_back() -> None:
    """Takes about a millisecond, or more where free memory lies in very many places."""
    pool = loaded("pyarrow", "default_memory_pool")
    if pool is not None:
        pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def give_back_after(nbytes: int) -> None:
    """To be called after work on so many bytes of data, when they are no longer needed: enough of it is given back."""
    global _worked_nbytes
    _worked_nbytes += nbytes
    if _worked_nbytes >= MIN_NBYTES:
        _worked_nbytes = 0
        give_back()
