"""Plain data on the wire: arguments and answers of operations, readable by a peer that opens no pickle.

``None bool int float str bytes list tuple set frozenset dict date datetime timedelta`` keep their types and nest
freely; a dict may have any of them as keys. ``Payload``, ``ErrorInfo`` and ``FunctionBlob`` pass as they are.
Everything else becomes a pickle, which a peer that must not unpickle receives closed, as :class:`Pickled`.

On the wire this is msgpack, where a list stands for everything that msgpack lacks: its first item is the tag.
"""

from __future__ import annotations

import datetime
import functools
from typing import Any

import msgspec

from distributed.base.errors import DeserializeError
from distributed.messages.payload import Attached, ErrorInfo, FunctionBlob, Payload
from distributed.protocol.payloads import LARGE_BYTES, LARGE_PICKLE, dumps, loads, materialised

_LIST, _TUPLE, _SET, _FROZENSET, _DICT, _INT, _DATETIME, _DATE, _TIMEDELTA = range(9)
_PAYLOAD, _PICKLED, _ERROR, _FUNCTION, _BYTES = range(9, 14)

_ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, str})
_STR: frozenset[type] = frozenset({str})

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Pickled:
    """A member of plain data that is a pickle, not opened here. ``load()`` opens it, where that is allowed."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    def load(self) -> Any:
        """The object. Raises whatever opening the pickle raises."""
        return loads(self.payload)

    def __reduce__(self) -> tuple[Any, ...]:
        return Pickled, (self.payload,)

    def __repr__(self) -> str:
        return f"<Pickled {self.payload.nbytes} bytes>"


# ---------------------------------------------------------------- out


class _Writer:
    """Turns one object into what msgpack has, and collects the buffers that travel beside it."""

    __slots__ = ("buffers", "careful")

    def __init__(self, careful: bool) -> None:
        self.buffers: list[Any] = []
        self.careful = careful  # look at every int and str, because one of them does not fit into msgpack

    def write(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _ATOMS:
            return self.careful_atom(obj) if self.careful else obj
        write = _WRITERS.get(kind)
        return self.write_pickled(obj) if write is None else write(self, obj)

    def write_all(self, members: Any) -> list[Any]:
        if not self.careful and _ATOMS.issuperset(map(type, members)):
            return list(members)
        return [self.write(member) for member in members]

    def write_dict(self, obj: dict[Any, Any]) -> Any:
        if not self.careful and _STR.issuperset(map(type, obj)):
            write = self.write
            return {name: write(value) for name, value in obj.items()}
        flat: list[Any] = [_DICT]
        for key, value in obj.items():
            flat.append(self.write(key))
            flat.append(self.write(value))
        return flat

    def write_bytes(self, obj: bytes) -> Any:
        if len(obj) < LARGE_BYTES:
            return obj
        self.buffers.append(obj)
        return [_BYTES, len(self.buffers) - 1]

    def write_datetime(self, obj: datetime.datetime) -> Any:
        if obj.tzinfo is not None and type(obj.tzinfo) is not datetime.timezone:
            return self.write_pickled(obj)
        return [_DATETIME, obj.isoformat(), obj.fold]

    def write_payload(self, payload: Payload | None, tag: int = _PAYLOAD) -> Any:
        if payload is None:
            return None
        payload = materialised(payload)
        if payload.attached is None:
            return [tag, payload.data, -1, 0]
        start = len(self.buffers)
        self.buffers += payload.attached.buffers
        return [tag, payload.data, start, len(self.buffers) - start]

    def write_pickled(self, obj: Any) -> Any:
        return self.write_payload(obj.payload if type(obj) is Pickled else dumps(obj), _PICKLED)

    def write_error(self, info: ErrorInfo) -> Any:
        exception, tb = self.write_payload(info.exception), self.write_payload(info.traceback)
        texts = [self.write(text) for text in (info.type_name, info.message, info.traceback_text)]
        return [_ERROR, *texts, exception, tb]

    def write_function(self, blob: FunctionBlob) -> Any:
        return [_FUNCTION, blob.digest, self.write_payload(blob.payload), blob.name]

    def careful_atom(self, obj: Any) -> Any:
        if type(obj) is int and not -(1 << 63) <= obj < 1 << 64:
            return [_INT, hex(obj)]
        if type(obj) is str:
            try:
                obj.encode()
            except UnicodeEncodeError:
                return self.write_pickled(obj)
        return obj


_WRITERS: dict[type, Any] = {
    list: lambda w, obj: [_LIST, *w.write_all(obj)],
    tuple: lambda w, obj: [_TUPLE, *w.write_all(obj)],
    set: lambda w, obj: [_SET, *w.write_all(obj)],
    frozenset: lambda w, obj: [_FROZENSET, *w.write_all(obj)],
    dict: _Writer.write_dict,
    bytes: _Writer.write_bytes,
    datetime.datetime: _Writer.write_datetime,
    datetime.date: lambda w, obj: [_DATE, obj.isoformat()],
    datetime.timedelta: lambda w, obj: [_TIMEDELTA, obj.days, obj.seconds, obj.microseconds],
    Payload: _Writer.write_payload,
    ErrorInfo: _Writer.write_error,
    FunctionBlob: _Writer.write_function,
}


def _is_simple(obj: Any) -> bool:
    """Whether msgpack has it as it is: most answers, and most questions' arguments."""
    if type(obj) is dict:
        return _STR.issuperset(map(type, obj)) and _ATOMS.issuperset(map(type, obj.values()))
    return type(obj) in _ATOMS


def dumps_plain(obj: Any) -> Payload:
    """``obj`` as a payload that :func:`loads_plain` opens.

    Raises ``SerializationError`` when a member is not plain and cannot be pickled.

    Examples
    --------
    >>> loads_plain(dumps_plain({("x", 0): {1, 2}}))
    {('x', 0): {1, 2}}
    """
    try:
        if _is_simple(obj):
            data = _pack(obj)
            if len(data) < LARGE_PICKLE:
                return Payload(data)
        writer = _Writer(careful=False)
        data = _pack(writer.write(obj))
    except (OverflowError, UnicodeEncodeError):
        writer = _Writer(careful=True)
        data = _pack(writer.write(obj))
    except RecursionError:  # deep or cyclic; pickle knows cycles
        writer = _Writer(careful=False)
        data = _pack(writer.write_pickled(obj))
    if len(data) >= LARGE_PICKLE:
        return Payload(b"", Attached([*writer.buffers, data]))
    return Payload(data, Attached(writer.buffers)) if writer.buffers else Payload(data)


# ---------------------------------------------------------------- in


def loads_plain(payload: Payload, unpickle: bool = True) -> Any:
    """What was given to :func:`dumps_plain`; a live payload gives the very object.

    Parameters
    ----------
    payload
        Of :func:`dumps_plain`.
    unpickle
        False leaves members that are not plain closed, as :class:`Pickled`; nothing of the peer is executed then.

    Raises ``DeserializeError`` for bytes that are not plain data, and whatever opening a pickle in it raises.
    """
    attached = payload.attached
    buffers: Any = ()
    data: Any = payload.data
    if attached is not None:
        if attached.is_live:
            return attached.live
        buffers = attached.buffers
        if not data and buffers:
            data = buffers[-1]
    try:
        return _read(_unpack(data), buffers, unpickle)
    except _OpeningFailed as failure:
        raise failure.error from None
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError, IndexError, KeyError) as error:
        raise DeserializeError(
            f"these {len(data)} bytes are not plain data: {type(error).__name__}: {error}"
        ) from error


class _OpeningFailed(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _read(wire: Any, buffers: Any, unpickle: bool) -> Any:
    kind = type(wire)
    if kind is dict:
        return {
            name: value if type(value) in _ATOMS else _read(value, buffers, unpickle) for name, value in wire.items()
        }
    if kind is not list:
        return wire
    tag = wire[0]
    if tag <= _FROZENSET:
        members = [value if type(value) in _ATOMS else _read(value, buffers, unpickle) for value in wire]
        del members[0]
        return members if tag == _LIST else _COLLECTIONS[tag](members)
    return _READERS[tag](wire, functools.partial(_read, buffers=buffers, unpickle=unpickle), buffers, unpickle)


_COLLECTIONS: dict[int, Any] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}


def _read_dict(wire: Any, read: Any, buffers: Any, unpickle: bool) -> Any:
    members = [read(value) for value in wire[1:]]
    return dict(zip(members[::2], members[1::2], strict=True))


def _read_payload(wire: Any, read: Any, buffers: Any, unpickle: bool) -> Payload:
    _, data, start, count = wire
    if type(data) is not bytes or type(start) is not int or type(count) is not int:
        raise ValueError("a payload that is none")
    if start < 0:
        return Payload(data)
    if count < 0 or start + count > len(buffers):
        raise ValueError(f"buffers {start} to {start + count} of {len(buffers)}")
    return Payload(data, Attached(buffers[start : start + count]))


def _read_pickled(wire: Any, read: Any, buffers: Any, unpickle: bool) -> Any:
    pickled = Pickled(_read_payload(wire, read, buffers, unpickle))
    if not unpickle:
        return pickled
    try:
        return pickled.load()
    except BaseException as error:
        raise _OpeningFailed(error) from None


def _read_error(wire: Any, read: Any, buffers: Any, unpickle: bool) -> ErrorInfo:
    _, type_name, message, text, exception, tb = map(read, wire)
    return ErrorInfo(type_name, message, exception, tb, text)


def _read_datetime(wire: Any, read: Any, buffers: Any, unpickle: bool) -> datetime.datetime:
    return datetime.datetime.fromisoformat(wire[1]).replace(fold=wire[2])


_READERS: dict[int, Any] = {
    _DICT: _read_dict,
    _INT: lambda wire, *_: int(wire[1], 16),
    _DATETIME: _read_datetime,
    _DATE: lambda wire, *_: datetime.date.fromisoformat(wire[1]),
    _TIMEDELTA: lambda wire, *_: datetime.timedelta(wire[1], wire[2], wire[3]),
    _PAYLOAD: _read_payload,
    _PICKLED: _read_pickled,
    _ERROR: _read_error,
    _FUNCTION: lambda wire, read, *_: FunctionBlob(wire[1], read(wire[2]), wire[3]),
    _BYTES: lambda wire, read, buffers, _: bytes(buffers[wire[1]]),
}
