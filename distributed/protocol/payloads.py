"""One object as one :class:`Payload`, and back.

A small object is one pickle in ``Payload.data``. Large buffers (of numpy, pandas, arrow and everything else that speaks
pickle protocol 5) travel beside it, uncopied, in ``Payload.attached``; so does a large pickle itself: ``data`` is
empty then and the first buffer is the pickle.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from typing import Any

from distributed.base.errors import SerializationError
from distributed.messages.payload import Arguments, Attached, Payload
from distributed.protocol import arrays
from distributed.protocol import pickle as house_pickle
from distributed.protocol.pickle import MAIN_MARK, dumps_by_value, names_by_value
from distributed.protocol.unpicklable import describe_unpicklable

SMALL_BUFFER = 8 * 1024
"""Buffers below this many bytes are copied into the pickle: a segment of its own costs more."""
LARGE_PICKLE = 32 * 1024
"""Pickles from this many bytes on travel beside the message."""
LARGE_BYTES = 64 * 1024

_array_class: type | None = None
"""numpy's, once an array has been met."""

_loads = pickle.loads


class TaskInput:
    """Stands for the value of the task's dependency number ``index`` inside pickled arguments."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskInput, (self.index,)

    def __eq__(self, other: object) -> bool:
        return type(other) is TaskInput and other.index == self.index

    def __hash__(self) -> int:
        return hash((TaskInput, self.index))

    def __repr__(self) -> str:
        return f"TaskInput({self.index})"


class TaskInputs:
    """Stands for the list of the values of the dependencies from number ``start`` up to ``stop``, exclusive."""

    __slots__ = ("start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskInputs, (self.start, self.stop)

    def __repr__(self) -> str:
        return f"TaskInputs({self.start}, {self.stop})"


class _BytesBeside:
    """A large ``bytes`` or ``bytearray`` whose content stays out of the pickle, which saves one copy."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def dumps(obj: Any, name: str = "", snapshot: bool = False) -> Payload:
    """Pickle ``obj``.

    Parameters
    ----------
    obj
        Any object.
    name
        What the error text calls it, e.g. ``result``; the path to the bad member begins with it.
    snapshot
        Copy large buffers now, so that a later change of ``obj`` does not show in the payload. Without it the payload
        shares memory with ``obj`` until it has left the process.

    Raises
    ------
    SerializationError
        It cannot be pickled; the text and ``path`` name the member at fault.

    Examples
    --------
    >>> loads(dumps({"x": 1}))
    {'x': 1}
    """
    kind = type(obj)
    if _array_class is None and arrays.is_array_class(kind):
        _remember_array_class(kind)
    if kind is _array_class and obj.nbytes >= SMALL_BUFFER and not house_pickle.is_registered(kind):
        plain = None if snapshot else arrays.dump(obj)
        if plain is not None:
            return Payload(plain[0], Attached([plain[1]]))
        obj = arrays.once(obj)
    buffers: list[Any] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < SMALL_BUFFER:
            return True
        buffers.append(bytes(view) if snapshot else view)
        return False

    is_bytes = kind is bytes or kind is bytearray
    if is_bytes and len(obj) >= LARGE_BYTES:
        data = pickle.dumps(_BytesBeside(obj), 5, buffer_callback=beside)
    else:
        try:
            data = house_pickle.plain_dumps(obj, 5, buffer_callback=beside)
            # A pickle of less than 20 bytes names nothing, and neither do plain strings.
            by_value = (
                len(data) > 20
                and not is_bytes
                and kind is not str
                and (MAIN_MARK in data or ("cloudpickle" in sys.modules and names_by_value(data)))
            )
        except Exception:
            by_value = True
        if by_value:
            buffers.clear()
            try:
                data = dumps_by_value(obj, beside)
            except Exception as error:
                raise unpicklable(obj, name, error) from error
    if len(data) >= LARGE_PICKLE:
        return Payload(b"", Attached([data, *buffers]))
    if not buffers:
        return Payload(data)
    return Payload(data, Attached(buffers))


def _remember_array_class(kind: type) -> None:
    global _array_class
    _array_class = kind


def unpicklable(obj: Any, name: str, error: BaseException) -> SerializationError:
    """The error that tells why ``obj`` cannot be pickled, after a search (of bounded time) for the member at fault."""
    text, path = describe_unpicklable(obj, name, error)
    return SerializationError(text, path)


def loads(payload: Arguments) -> Any:
    """The object of ``payload`` (or of its pickle): a new one, except that a live payload gives the very object.

    Raises whatever opening the pickle raises (``ModuleNotFoundError``, errors of the object's own ``__setstate__``...).
    """
    if isinstance(payload, bytes):
        return _loads(payload)
    attached = payload.attached
    if attached is None:
        return _loads(payload.data)
    if attached.is_live:
        return attached.live
    buffers = attached.buffers
    data = payload.data
    if data:
        if len(buffers) != 1:
            return _loads(data, buffers=buffers)
        make = arrays.opener(data)
        if make is not None:
            return make(buffers[0])
        value = _loads(data, buffers=buffers)
        arrays.met(data, value)
        return value
    if not buffers:
        return _loads(b"")
    return _loads(buffers[0], buffers=buffers[1:])


def live(obj: Any) -> Payload:
    """A payload that holds ``obj`` itself, for a peer in this process. Meeting a real wire it is pickled there."""
    return Payload(b"", Attached((), obj, True))


class _Unsendable:
    """Takes the place of a live object that could not be pickled when it met a wire: opening it raises the reason."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_unsendable, (self.text, self.path)


def _raise_unsendable(text: str, path: str) -> Any:
    raise SerializationError(text, path)


def buffers_of_live(attached: Attached) -> list[Any]:
    """What a wire carries for a live ``attached``: the pickle, then its buffers. Never fails: an object that cannot be
    pickled becomes a pickle whose opening raises the SerializationError."""
    try:
        payload = dumps(attached.live)
    except SerializationError as error:
        payload = dumps(_Unsendable(str(error), error.path))
    if payload.attached is None:
        return [payload.data]
    return [payload.data, *payload.attached.buffers] if payload.data else list(payload.attached.buffers)


def materialised(payload: Payload) -> Payload:
    """``payload`` with real bytes: itself unless it is live."""
    attached = payload.attached
    if attached is None or not attached.is_live:
        return payload
    return Payload(b"", Attached(buffers_of_live(attached)))


def _rebuild_attached(*buffers: Any) -> Attached:
    return Attached(buffers)


def _reduce_attached(attached: Attached) -> tuple[Any, ...]:
    buffers = buffers_of_live(attached) if attached.is_live else attached.buffers
    return _rebuild_attached, tuple([pickle.PickleBuffer(b) for b in buffers])


# Payloads may themselves be inside an object that is pickled.
copyreg.pickle(Attached, _reduce_attached)
