"""From objects to bytes and back: pickles, plain data, messages, frames. Knows no socket, no event loop and no server.

``serialize`` makes and opens payloads (user data), ``plain`` carries arguments of operations, ``codec`` turns messages
into segments, ``frames`` turns segments into bytes on a wire.
"""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_FAMILIES = "distributed.protocol.families"
_FRAMES = "distributed.protocol.header_frames"
_HOMES = {
    "Serialize": _FRAMES,
    "Serialized": _FRAMES,
    "ToPickle": _FRAMES,
    "cuda_deserialize": _FAMILIES,
    "cuda_serialize": _FAMILIES,
    "dask_deserialize": _FAMILIES,
    "dask_serialize": _FAMILIES,
    "decompress": "distributed.protocol.frame_lists",
    "deserialize": _FRAMES,
    "deserialize_bytes": _FRAMES,
    "dumps": "distributed.protocol.message_frames",
    "loads": "distributed.protocol.message_frames",
    "maybe_compress": "distributed.protocol.frame_lists",
    "nested_deserialize": _FRAMES,
    "register_generic": "distributed.protocol.generic",
    "register_serialization": _FAMILIES,
    "register_serialization_family": _FAMILIES,
    "register_serialization_lazy": _FAMILIES,
    "serialize_bytelist": _FRAMES,
    "serialize_bytes": _FRAMES,
    "to_serialize": _FRAMES,
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
