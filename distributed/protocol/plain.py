"""Arguments and answers of questions between programs: plain data whose types survive, opened without running any code.

None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict (any plain key), datetime, timedelta and
``Payload`` arrive as what they were. Anything else is pickled; a receiver that must not unpickle (the scheduler) gets
it as :class:`Pickled`.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from distributed.base.errors import DeserializeError, SerializationError
from distributed.messages.payload import Attached, Payload
from distributed.protocol import serialize

_ATOMS = frozenset({type(None), bool, float, str, bytes})
_INT64 = 1 << 63
MAX_DEPTH = 200

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Pickled:
    """An object that was not plain data, unopened."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    def load(self) -> Any:
        """Unpickle it: only for what comes from a peer who may run code here."""
        return serialize.loads(self.payload)

    def __repr__(self) -> str:
        return f"<Pickled {self.payload.nbytes} bytes>"


def dumps_plain(obj: Any) -> Payload:
    """``obj`` as bytes; raises ``SerializationError`` when a part is neither plain nor can be pickled."""
    buffers: list[Any] = []
    data = _encode(_lower(obj, buffers, 0))
    return Payload(data, Attached(buffers) if buffers else None)


def loads_plain(payload: Payload, unpickle: bool) -> Any:
    """The object; ``unpickle`` says whether parts that are pickles are opened or stay :class:`Pickled`."""
    attached = payload.attached
    if attached is not None and attached.is_live:
        return attached.live
    try:
        return _raise_up(_decode(payload.data), list(attached.buffers) if attached is not None else [], unpickle, 0)
    except (msgspec.MsgspecError, RecursionError, IndexError, KeyError, TypeError, ValueError) as e:
        raise DeserializeError(f"not plain data: {type(e).__name__}: {e}") from None


# Lowered: atoms as they are; everything else a list that begins with a mark.
def _lower(obj: Any, buffers: list[Any], depth: int) -> Any:
    kind = type(obj)
    if kind in _ATOMS:
        return obj
    if kind is int:
        return obj if -_INT64 <= obj < _INT64 else ["i", str(obj)]
    if depth > MAX_DEPTH:
        raise SerializationError(f"plain data nests more than {MAX_DEPTH} levels deep")
    deeper = depth + 1
    if kind is list:
        return ["l", *[_lower(part, buffers, deeper) for part in obj]]
    if kind is tuple:
        return ["t", *[_lower(part, buffers, deeper) for part in obj]]
    if kind is dict:
        flat = ["d"]
        for key, value in obj.items():
            flat.append(_lower(key, buffers, deeper))
            flat.append(_lower(value, buffers, deeper))
        return flat
    if kind is set:
        return ["s", *[_lower(part, buffers, deeper) for part in obj]]
    if kind is frozenset:
        return ["f", *[_lower(part, buffers, deeper) for part in obj]]
    if kind is datetime.datetime and obj.tzinfo is None:
        return ["D", obj.isoformat()]
    if kind is datetime.timedelta:
        return ["T", obj.days, obj.seconds, obj.microseconds]
    if kind is Payload:
        return _lower_payload("p", obj, buffers)
    if kind is Pickled:
        return _lower_payload("P", obj.payload, buffers)
    return _lower_payload("P", serialize.dumps(obj), buffers)


def _lower_payload(mark: str, payload: Payload, buffers: list[Any]) -> list[Any]:
    attached = payload.attached
    if attached is None:
        return [mark, payload.data]
    if attached.is_live:
        return _lower_payload(mark, serialize.dumps(attached.live), buffers)
    start = len(buffers)
    buffers.extend(attached.buffers)
    return [mark, payload.data, start, len(attached.buffers)]


def _raise_up(obj: Any, buffers: list[Any], unpickle: bool, depth: int) -> Any:
    if type(obj) is not list:
        return obj
    if depth > MAX_DEPTH + 1:
        raise ValueError("too deep")
    mark = obj[0]
    if mark in ("p", "P"):
        payload = Payload(obj[1], Attached(_slice(buffers, obj[2], obj[3])) if len(obj) > 2 else None)
        if mark == "p":
            return payload
        return serialize.loads(payload) if unpickle else Pickled(payload)
    if mark == "i":
        return int(obj[1])
    if mark == "D":
        return datetime.datetime.fromisoformat(obj[1])
    if mark == "T":
        return datetime.timedelta(*obj[1:])
    parts = [_raise_up(part, buffers, unpickle, depth + 1) for part in obj[1:]]
    if mark == "l":
        return parts
    if mark == "t":
        return tuple(parts)
    if mark == "d":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    if mark == "s":
        return set(parts)
    if mark == "f":
        return frozenset(parts)
    raise ValueError(f"unknown mark {mark!r}")


def _slice(buffers: list[Any], start: int, count: int) -> list[Any]:
    if not 0 <= start <= start + count <= len(buffers):
        raise ValueError("refers to buffers that are not there")
    return buffers[start : start + count]
