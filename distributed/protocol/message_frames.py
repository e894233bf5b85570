"""A message of plain data and marked objects as a list of frames, for transports of other packages.

Also served as ``distributed.protocol.core``. Our own connections use :mod:`distributed.protocol.codec`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from distributed.messages.payload import Attached, Payload
from distributed.protocol import frame_lists
from distributed.protocol.header_frames import Serialize, Serialized, ToPickle, serialize
from distributed.protocol.plain import dumps_plain, loads_plain

_MARK = "\0serialized"


def dumps(
    msg: Any,
    serializers: Iterable[str] | None = None,
    on_error: Any = "message",
    context: Any = None,
    frame_split_size: int | None = None,
) -> list[Any]:
    """Frames of a message: the first says into how many pieces each of the others was cut.

    Parameters
    ----------
    msg
        Plain data, with anything in it; members marked by ``to_serialize`` go by the ``serializers``.
    frame_split_size
        Cut frames larger than so many bytes.
    """
    names = None if serializers is None else list(serializers)
    payload = dumps_plain(_marked(msg, names, on_error, context))
    beside = list(payload.attached.buffers) if payload.attached is not None else []
    cut = [
        [frame] if frame_split_size is None else frame_lists.frame_split_size(frame, frame_split_size)
        for frame in [payload.data, *beside]
    ]
    counts = struct.pack(f"<{len(cut)}I", *map(len, cut))
    return [counts, *[piece for pieces in cut for piece in pieces]]


def loads(frames: Sequence[Any], deserialize: bool = True, deserializers: Iterable[str] | None = None) -> Any:
    """The message of :func:`dumps`.

    Parameters
    ----------
    deserialize
        False: marked members stay ``Serialized``, and what is neither plain nor marked stays a closed ``Pickled``;
        nothing is unpickled then.
    deserializers
        Names of the families that may open marked members; default: all. Without pickle among them nothing else is
        unpickled either.
    """
    counts = struct.unpack(f"<{len(frames[0]) // 4}I", frames[0])
    whole, position = [], 1
    for count in counts:
        pieces = [memoryview(piece) for piece in frames[position : position + count]]
        whole.append(frame_lists.merge_memoryviews(pieces))
        position += count
    names = None if deserializers is None else list(deserializers)
    unpickle = deserialize and (names is None or "pickle" in names)
    payload = Payload(bytes(whole[0]), Attached(whole[1:]) if len(whole) > 1 else None)
    return _opened(loads_plain(payload, unpickle=unpickle), deserialize, names)


def _marked(msg: Any, names: list[str] | None, on_error: Any, context: Any) -> Any:
    kind = type(msg)
    if kind in (list, tuple):
        return kind([_marked(item, names, on_error, context) for item in msg])
    if kind is dict:
        return {key: _marked(value, names, on_error, context) for key, value in msg.items()}
    if isinstance(msg, (Serialize, ToPickle, Serialized)):
        header, frames = serialize(msg, ["pickle"] if isinstance(msg, ToPickle) else names, on_error, context)
        return {_MARK: header, "frames": [bytes(frame) for frame in frames]}
    return msg


def _opened(msg: Any, deserialize: bool, names: list[str] | None) -> Any:
    kind = type(msg)
    if kind in (list, tuple):
        return kind([_opened(item, deserialize, names) for item in msg])
    if kind is not dict:
        return msg
    if _MARK in msg:
        closed = Serialized(msg[_MARK], [memoryview(frame) for frame in msg["frames"]])
        return closed.deserialize(names) if deserialize else closed
    return {key: _opened(value, deserialize, names) for key, value in msg.items()}
