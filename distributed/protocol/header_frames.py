"""Objects as a header (a dict) and frames (buffers), by the families that the caller allows. Thread-safe.

This is the form in which other packages call serialisers; payloads of our own messages are made of it where a client
names its ``serializers=`` (:mod:`distributed.protocol.restricted`). Loaded when first asked for.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar

from dask.utils import typename

from distributed.base.errors import SerializationError
from distributed.messages.payload import Attached, Payload
from distributed.protocol import pickle as house_pickle
from distributed.protocol.families import NamedFamily, families, known_families
from distributed.protocol.frame_lists import decompress, maybe_compress, pack_frames_prelude, unpack_frames
from distributed.protocol.plain import dumps_plain, loads_plain

T = TypeVar("T")
Frames = list[Any]

DEFAULT = ("dask", "pickle")
_COLLECTIONS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", dict: "dict"}
_PLAIN: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})


# ---------------------------------------------------------------- families of this house


def pickle_dumps(x: Any, context: Any = None) -> tuple[dict[str, Any], Frames]:
    """The pickle, then its out-of-band buffers."""
    buffers: Frames = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffers.append(buffer.raw())
        except BufferError:  # not contiguous: stays in the pickle
            return True
        return False

    data = house_pickle.dumps(x, buffer_callback=beside)
    return {"serializer": "pickle"}, [data, *buffers]


def pickle_loads(header: dict[str, Any], frames: Frames) -> Any:
    """The way back from :func:`pickle_dumps`. Executes what the pickle says."""
    return house_pickle.loads(frames[0], buffers=frames[1:])


def msgpack_dumps(x: Any) -> tuple[dict[str, Any], Frames]:
    """Plain data: None, numbers, text, bytes, and lists, tuples, sets, dicts of them.

    Raises ``NotImplementedError`` for anything else.
    """
    if not _is_plain(x):
        raise NotImplementedError(typename(type(x)))
    payload = dumps_plain(x)
    beside = payload.attached.buffers if payload.attached is not None else ()
    return {"serializer": "msgpack"}, [payload.data, *beside]


def msgpack_loads(header: dict[str, Any], frames: Frames) -> Any:
    """The way back from :func:`msgpack_dumps`. Executes nothing."""
    beside = Attached(frames[1:]) if len(frames) > 1 else None
    return loads_plain(Payload(bytes(frames[0]), beside), unpickle=False)


def _is_plain(x: Any, depth: int = 0) -> bool:
    if type(x) in _PLAIN:
        return True
    if depth > 100 or type(x) not in (list, tuple, set, frozenset, dict):
        return False
    members = [*x.keys(), *x.values()] if type(x) is dict else x
    return all(_is_plain(member, depth + 1) for member in members)


def _error_loads(header: dict[str, Any], frames: Frames) -> Any:
    raise TypeError(bytes(frames[0]).decode(errors="replace"))


families["pickle"] = NamedFamily(pickle_dumps, pickle_loads, True)
families["msgpack"] = NamedFamily(msgpack_dumps, msgpack_loads, False)
families["error"] = NamedFamily(None, _error_loads, False)


# ---------------------------------------------------------------- header and frames


def serialize(
    x: Any,
    serializers: Iterable[str] | None = None,
    on_error: Literal["message", "raise"] = "message",
    context: Any = None,
    iterate_collection: bool | None = None,
) -> tuple[dict[str, Any], Frames]:
    """``(header, frames)`` of an object, by the first family that knows it.

    Parameters
    ----------
    x
        Any object; a ``Serialized`` gives what it holds.
    serializers
        Names of families in order of preference; default: dask, pickle.
    on_error
        ``"raise"``: a TypeError when no family knows it; ``"message"``: a header and frames whose opening raises it.
    context
        Handed to families that take it, e.g. ``{"recipient": address}``.
    iterate_collection
        Take lists, tuples, sets and dicts apart and serialise each member on its own; default: where pickle is not
        allowed.

    Examples
    --------
    >>> deserialize(*serialize({"x": 1}))
    {'x': 1}
    """
    names = list(DEFAULT) if serializers is None else known_families(serializers) or []
    if isinstance(x, Serialized):
        return x.header, x.frames
    if isinstance(x, (Serialize, ToPickle)):
        x = x.data
    if iterate_collection is None:
        iterate_collection = "pickle" not in names
    failure: BaseException | None = None
    for name in names:
        family = families[name]
        if family.dumps is None:
            continue
        try:
            header, frames = family.dumps(x, context=context) if family.has_context else family.dumps(x)
        except NotImplementedError:
            continue
        except Exception as error:
            failure = failure or error
            continue
        return {**header, "serializer": name}, list(frames)
    if iterate_collection and type(x) in _COLLECTIONS and len(x):
        return _serialize_members(x, names, on_error, context)
    text = f"Could not serialize object of type {typename(type(x))} by {', '.join(names)}"
    text += f": {type(failure).__name__}: {failure}" if failure is not None else ""
    if on_error == "raise":
        raise TypeError(text) from failure
    return {"serializer": "error"}, [text.encode()]


def _serialize_members(x: Any, names: list[str], on_error: Any, context: Any) -> tuple[dict[str, Any], Frames]:
    members = [*x.keys(), *x.values()] if type(x) is dict else list(x)
    headers, frames = [], []
    for member in members:
        header, more = serialize(member, names, on_error, context, True)
        if header["serializer"] == "error":
            return header, more
        headers.append({**header, "frame-count": len(more)})
        frames += more
    return {"serializer": "members", "collection": _COLLECTIONS[type(x)], "members": headers}, frames


def deserialize(header: dict[str, Any], frames: Iterable[Any], deserializers: Iterable[str] | None = None) -> Any:
    """The object of a header and its frames.

    Parameters
    ----------
    deserializers
        Names of the families that may be used; default: all.

    Raises
    ------
    TypeError
        The header names another family, or says why the object could not be serialised.
    """
    name = header["serializer"]
    if name == "members":
        return _deserialize_members(header, list(frames), deserializers)
    if deserializers is not None and name not in known_families([*deserializers, "error"]):  # type: ignore[operator]
        only = ", ".join(deserializers)
        raise SerializationError(
            f"the data was serialised with {name!r}, and only {only} may open it (deserializers=)", ""
        )
    if name not in families:
        raise TypeError(f"the data was serialised with {name!r}, which is not registered in this process")
    return families[name].loads(header, list(frames))


def _deserialize_members(header: dict[str, Any], frames: Frames, deserializers: Iterable[str] | None) -> Any:
    members, position = [], 0
    for each in header["members"]:
        end = position + each["frame-count"]
        members.append(deserialize(each, frames[position:end], deserializers))
        position = end
    if header["collection"] == "dict":
        half = len(members) // 2
        return dict(zip(members[:half], members[half:], strict=True))
    return {"list": list, "tuple": tuple, "set": set}[header["collection"]](members)


def check_dask_serializable(x: Any) -> bool:
    """Whether a serialiser is registered for ``x``, or for what a collection begins with."""
    if type(x) in _COLLECTIONS and len(x):
        return check_dask_serializable(next(iter(x.values() if type(x) is dict else x)))
    try:
        families["dask"].dumps(x)  # type: ignore[misc]
    except NotImplementedError:
        return False
    return True


def serialize_bytelist(x: Any, compression: str | bool | None = "auto", **kwargs: Any) -> list[Any]:
    """Buffers that :func:`deserialize_bytes` opens when they are joined; large ones are not copied.

    Parameters
    ----------
    compression
        Name of one, ``"auto"``, or None.
    **kwargs
        Of :func:`serialize`.
    """
    header, frames = serialize(x, **kwargs)
    pairs = [maybe_compress(frame, compression=compression) for frame in frames]
    head = house_pickle.dumps({**header, "compression": [name for name, _ in pairs]})
    content = [head, *[frame for _, frame in pairs]]
    return [pack_frames_prelude(content), *content]


def serialize_bytes(x: Any, **kwargs: Any) -> bytes:
    """One ``bytes`` that :func:`deserialize_bytes` opens."""
    return b"".join(serialize_bytelist(x, **kwargs))


def deserialize_bytes(b: Any) -> Any:
    """The object of :func:`serialize_bytes`. Opens pickles: only for bytes that you trust."""
    head, *frames = unpack_frames(b)
    header = pickle.loads(head)
    return deserialize(header, decompress(header, frames))


# ---------------------------------------------------------------- marks in messages


class Serialize(Generic[T]):
    """Marks an object inside a message that is to be serialised by the families, whatever it is."""

    def __init__(self, data: T) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<Serialize: {self.data}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serialize) and bool(other.data == self.data)

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.data,)


to_serialize = Serialize


class ToPickle(Generic[T]):
    """Marks an object inside a message that is to be pickled."""

    def __init__(self, data: T) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<ToPickle: {self.data}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ToPickle) and bool(other.data == self.data)

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.data,)


def _itself(data: Any) -> Any:
    return data


class Serialized:
    """A serialised object on its way, that nobody opens here."""

    def __init__(self, header: dict[str, Any], frames: Iterable[Any]) -> None:
        self.header = header
        self.frames = list(frames)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serialized) and other.header == self.header and other.frames == self.frames

    __hash__ = None  # type: ignore[assignment]

    def deserialize(self, deserializers: Iterable[str] | None = None) -> Any:
        """The object."""
        return deserialize(self.header, self.frames, deserializers)

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.header, *map(pickle.PickleBuffer, self.frames))


def _opened(header: dict[str, Any], *frames: Any) -> Any:
    return deserialize(header, [memoryview(frame) for frame in frames])


def nested_deserialize(x: Any) -> Any:
    """``x`` with every ``Serialize``, ``ToPickle`` and ``Serialized`` in lists, tuples and dicts opened."""
    if type(x) in (list, tuple):
        return type(x)([nested_deserialize(item) for item in x])
    if type(x) is dict:
        return {key: nested_deserialize(value) for key, value in x.items()}
    if isinstance(x, (Serialize, ToPickle)):
        return x.data
    return x.deserialize() if isinstance(x, Serialized) else x
