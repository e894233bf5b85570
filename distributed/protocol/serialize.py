"""User data as opaque payloads: the one face of everything that pickles. The scheduler uses ``pack_error`` of it
only.

Other packages import the serialisers by header and frames from this address, and call the module itself as the function
of its name: ``from distributed.protocol import serialize; serialize(x)``. Those names are loaded when first used.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from distributed.base.errors import DeserializeError, RemoteError, SerializationError
from distributed.messages.payload import Payload
from distributed.protocol.error_info import DEFAULT_ERROR_LENGTH, pack_error, unpack_error
from distributed.protocol.functions import dumps_function, function_name, loads_function
from distributed.protocol.payloads import TaskInput, TaskInputs, dumps, live, loads, materialised
from distributed.protocol.unpicklable import find_unpicklable

__all__ = [
    "DEFAULT_ERROR_LENGTH",
    "DeserializeError",
    "RemoteError",
    "SerializationError",
    "TaskInput",
    "by_families",
    "TaskInputs",
    "dumps",
    "dumps_function",
    "find_unpicklable",
    "function_name",
    "live",
    "loads",
    "loads_function",
    "materialised",
    "pack_error",
    "unpack_error",
]

_FAMILIES = "distributed.protocol.families"
_FRAMES = "distributed.protocol.header_frames"
_OF_OTHERS = {
    "Serialize": _FRAMES,
    "Serialized": _FRAMES,
    "ToPickle": _FRAMES,
    "check_dask_serializable": _FRAMES,
    "cuda_deserialize": _FAMILIES,
    "cuda_serialize": _FAMILIES,
    "dask_deserialize": _FAMILIES,
    "dask_dumps": _FAMILIES,
    "dask_loads": _FAMILIES,
    "dask_serialize": _FAMILIES,
    "deserialize": _FRAMES,
    "deserialize_bytes": _FRAMES,
    "families": _FRAMES,
    "msgpack_dumps": _FRAMES,
    "msgpack_loads": _FRAMES,
    "nested_deserialize": _FRAMES,
    "pickle_dumps": _FRAMES,
    "pickle_loads": _FRAMES,
    "register_generic": "distributed.protocol.generic",
    "register_serialization": _FAMILIES,
    "register_serialization_family": _FAMILIES,
    "register_serialization_lazy": _FAMILIES,
    "serialize": _FRAMES,
    "serialize_bytelist": _FRAMES,
    "serialize_bytes": _FRAMES,
    "to_serialize": _FRAMES,
}


def by_families(
    serializers: Iterable[str] | None, deserializers: Iterable[str] | None
) -> tuple[Callable[[Any], Payload], Callable[[Payload], Any]]:
    """``(dumps, loads)`` that use these families only; None: the usual ones.

    Raises ``ValueError`` that names a family nobody knows.
    """
    if serializers is None and deserializers is None:
        return dumps, loads
    restricted = importlib.import_module("distributed.protocol.restricted")
    names, others = restricted.known_families(serializers), restricted.known_families(deserializers)
    return (
        dumps if names is None else functools.partial(restricted.dumps_by, serializers=names),
        loads if others is None else functools.partial(restricted.loads_by, deserializers=others),
    )


def __getattr__(name: str) -> Any:
    home = _OF_OTHERS.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return importlib.import_module(_FRAMES).serialize(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
