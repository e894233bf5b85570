"""Plain numpy arrays without the pickler: what it writes for one is the same for each of its type and shape. Pure.

The elements travel beside the pickle, so the pickle itself says type, shape and order only. It is made once by the real
pickler, kept, and recognised when it comes back; whoever does not know it opens it as the pickle that it is.
What an array repeats (strides of 0) is pickled once.
numpy is not loaded here: the class comes from the first array that is met.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from typing import Any

_MOST_KEPT = 1000
_KINDS = "biufc"  # bool, integers, floats, complex

Opener = Callable[[Any], Any]
_pickles: dict[Any, bytes] = {}
_openers: dict[bytes, Opener] = {}


def is_array_class(kind: type) -> bool:
    """Whether ``kind`` is numpy's own array, not a class made from it."""
    return kind.__name__ == "ndarray" and kind.__module__ == "numpy"


def dump(array: Any) -> tuple[bytes, memoryview] | None:
    """The pickle of a plain array and its elements beside it; None when it is not as plain as that."""
    dtype = array.dtype
    flags = array.flags
    if dtype.kind not in _KINDS or dtype.isbuiltin == 2 or dtype.metadata is not None or not flags.c_contiguous:
        return None
    key = dtype, array.shape, flags.writeable
    data = _pickles.get(key)
    if data is None:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(array, 5, buffer_callback=buffers.append)
        if len(buffers) != 1:
            return None
        if len(_pickles) >= _MOST_KEPT:
            _pickles.clear()
        _pickles[key] = data
    return data, pickle.PickleBuffer(array).raw()


class _Repeated:
    """A read-only array that repeats ``part``; it is opened as such a one again."""

    __slots__ = ("broadcast_to", "part", "shape")

    def __init__(self, array: Any) -> None:
        self.broadcast_to = importlib.import_module("numpy").broadcast_to
        self.part = array[tuple([slice(None) if stride else slice(1) for stride in array.strides])]
        self.shape = array.shape

    def __reduce__(self) -> tuple[Any, ...]:
        return self.broadcast_to, (self.part, self.shape)


def once(array: Any) -> Any:
    """What to pickle for ``array``: of one that repeats elements (``numpy.broadcast_to``, ``dask.array.ones``) these
    elements and its shape, of any other itself."""
    repeats = 0 in array.strides and array.size and not array.flags.writeable and not array.dtype.hasobject
    return _Repeated(array) if repeats else array


def opener(data: bytes) -> Opener | None:
    """What makes the array of elements that came with this pickle, if such a one has been :func:`met`."""
    return _openers.get(data)


def met(data: bytes, value: Any) -> None:
    """``data`` was opened, with one buffer beside it, and gave ``value``."""
    if not is_array_class(type(value)) or not value.flags.writeable:
        return
    own = dump(value)
    if own is None or own[0] != data:
        return
    if len(_openers) >= _MOST_KEPT:
        _openers.clear()
    _openers[data] = _make_opener(type(value), value.dtype, value.shape)


def _make_opener(kind: Any, dtype: Any, shape: tuple[int, ...]) -> Opener:
    def make(elements: Any) -> Any:
        return kind(shape, dtype, elements)

    return make
