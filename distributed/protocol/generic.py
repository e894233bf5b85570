"""A serialiser for a class by its attributes, each by the family that knows it (``register_generic``)."""

from __future__ import annotations

from typing import Any

from distributed.protocol import pickle
from distributed.protocol.families import dask_deserialize, dask_serialize
from distributed.protocol.header_frames import deserialize, serialize


class AttributeSerializer:
    """Both ways for objects that are their ``__dict__``; small plain values stay in the header."""

    def __init__(self, serializer_name: str) -> None:
        self.names = (serializer_name, "pickle") if serializer_name != "pickle" else ("pickle",)

    def serialize(self, obj: Any) -> tuple[dict[str, Any], list[Any]]:
        """Header and frames of all attributes."""
        headers: dict[str, Any] = {}
        frames: list[Any] = []
        for name, value in vars(obj).items():
            header, more = serialize(value, self.names, on_error="raise")
            headers[name] = [header, len(more)]
            frames += more
        return {"attributes": headers, "class": pickle.dumps(type(obj))}, frames

    def deserialize(self, header: dict[str, Any], frames: list[Any]) -> Any:
        """The object, made without its ``__init__``."""
        obj = object.__new__(pickle.loads(header["class"]))
        position = 0
        for name, (each, count) in header["attributes"].items():
            vars(obj)[name] = deserialize(each, frames[position : position + count])
            position += count
        return obj


def register_generic(
    cls: type, serializer_name: str = "dask", serialize_func: Any = dask_serialize, deserialize_func: Any = None
) -> None:
    """Serialise instances of ``cls`` attribute by attribute.

    Parameters
    ----------
    cls
        A class whose instances are their ``__dict__``, such as a model of scikit-learn.
    serializer_name
        Family that its attributes are serialised by first.
    serialize_func, deserialize_func
        Tables to register it in; default: ``dask_serialize``, ``dask_deserialize``.
    """
    serializer = AttributeSerializer(serializer_name)
    serialize_func.register(cls, serializer.serialize)
    (dask_deserialize if deserialize_func is None else deserialize_func).register(cls, serializer.deserialize)
