"""Payloads made and opened by named families only: a client's ``serializers=`` and ``deserializers=``.

A payload of :func:`dumps_by` opens everywhere by the usual ``loads``. :func:`loads_by` without ``pickle`` among the
names opens plain data, and registered types where ``dask`` is among them; any other name in the data is an error.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

from distributed.base.errors import SerializationError
from distributed.messages.payload import Payload
from distributed.protocol import payloads
from distributed.protocol.families import dask_deserialize, known_families, rebuild
from distributed.protocol.header_frames import Serialized, _opened, deserialize, serialize

__all__ = ["dumps_by", "known_families", "loads_by"]

_REBUILD = (rebuild.__module__, rebuild.__qualname__)
_OPENED = (_opened.__module__, _opened.__qualname__)
_OF_ARRAYS = ("_frombuffer", "_reconstruct", "broadcast_to", "dtype", "ndarray", "scalar")
"""What pickles of numpy arrays name: they make arrays of bytes, and nothing else."""
_CONTENT = {(kind.__module__, kind.__qualname__): kind for kind in (bytes, bytearray, set, frozenset, complex)}


def dumps_by(obj: Any, serializers: Sequence[str]) -> Payload:
    """``obj`` by the first of these families that knows it. Raises ``TypeError`` when none does."""
    header, frames = serialize(obj, serializers, on_error="raise")
    return payloads.dumps(Serialized(header, frames))


class _Opener(pickle.Unpickler):
    """Opens plain data, registered types, and what :func:`dumps_by` made by a family that is allowed."""

    def __init__(self, data: Any, buffers: Any, names: Sequence[str]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        place, by_type = (module, name), "dask" in self._names
        if place == _OPENED:
            return lambda header, *frames: deserialize(header, [memoryview(f) for f in frames], self._names)
        if place in _CONTENT:
            return _CONTENT[place]
        if place == _REBUILD and by_type:
            return rebuild
        kind = super().find_class(module, name) if by_type else None
        if kind is not None and module.partition(".")[0] == "numpy" and name in _OF_ARRAYS:
            return kind
        if isinstance(kind, type) and dask_deserialize.dispatch(kind, default=None) is not None:
            return kind
        raise SerializationError(
            f"the data holds {module}.{name}, which takes pickle to open, and deserializers= allows only "
            f"{', '.join(self._names)}",
            "",
        )


def loads_by(payload: Payload, deserializers: Sequence[str]) -> Any:
    """The object of ``payload``, opened by these families only.

    Raises ``SerializationError`` (a TypeError) that names what would take another family.
    """
    attached = payload.attached
    if "pickle" in deserializers or (attached is not None and attached.is_live):
        return payloads.loads(payload)
    buffers = attached.buffers if attached is not None else ()
    data = payload.data
    if not data and buffers:
        data, buffers = buffers[0], buffers[1:]
    return _Opener(data, buffers, deserializers).load()
