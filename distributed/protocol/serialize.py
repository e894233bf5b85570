"""Pickles: functions, arguments, results and exceptions to payloads and back.

Plain ``pickle`` (protocol 5, buffers out of band) where it does, ``cloudpickle`` where it does not: functions and
classes of ``__main__`` and whatever cannot be imported elsewhere travel by value. A failure names the object and the
path to the member at fault. Everything here may run users' code, so the scheduler calls none of the ``loads``
functions.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from distributed.base.errors import DeserializeError, RemoteError, SerializationError
from distributed.messages.payload import Attached, ErrorInfo, FunctionBlob, Payload

PROTOCOL = 5
OUT_OF_BAND_BYTES = 1024
"""Smaller buffers stay inside the pickle: a segment of their own costs more than the copy."""

_MAIN = b"__main__"
_ATOMS = frozenset({type(None), bool, int, float, str, bytes, complex})


class TaskInput:
    """Stands in a task's arguments for the value of its dependency number ``index``."""

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


def live(obj: Any) -> Payload:
    """``obj`` itself as a payload that stays in this process."""
    return Payload(b"", Attached(live=obj, is_live=True))


def dumps(obj: Any, name: str = "") -> Payload:
    """Pickle ``obj``.

    Parameters
    ----------
    obj
        Anything. A payload refers to the memory of its large buffers (arrays), it does not copy them.
    name
        What the error calls ``obj``.

    Raises
    ------
    SerializationError
        Naming the object and the path to the member that cannot be pickled.
    """
    kind = type(obj)
    if kind in _ATOMS:
        return Payload(pickle.dumps(obj, PROTOCOL))
    buffers: list[pickle.PickleBuffer] = []
    try:
        data, buffers = _pickle(obj, buffers)
    except Exception as e:
        raise _explained(obj, e, name) from e
    return Payload(data, Attached([b.raw() for b in buffers]) if buffers else None)


def _keep_small(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: in band
            return True
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(buffer)
        return False

    return callback


def _pickle(obj: Any, buffers: list[pickle.PickleBuffer]) -> tuple[bytes, list[pickle.PickleBuffer]]:
    try:
        data = pickle.dumps(obj, PROTOCOL, buffer_callback=_keep_small(buffers))
        if _MAIN not in data:
            return data, buffers
    except Exception:
        pass
    import cloudpickle

    buffers = []
    out = io.BytesIO()
    cloudpickle.CloudPickler(out, protocol=PROTOCOL, buffer_callback=_keep_small(buffers)).dump(obj)
    return out.getvalue(), buffers


def loads(payload: Payload) -> Any:
    """The object of a payload; the object itself for one that never left the process. Raises what unpickling raises."""
    attached = payload.attached
    if attached is None:
        return pickle.loads(payload.data)
    if attached.is_live:
        return attached.live
    if not payload.data:  # a live object met a wire after all: its pickle is the first buffer
        return pickle.loads(attached.buffers[0], buffers=attached.buffers[1:])
    return pickle.loads(payload.data, buffers=attached.buffers)


# ---------------------------------------------------------------- functions

_blobs: weakref.WeakKeyDictionary[Any, FunctionBlob] = weakref.WeakKeyDictionary()
_blobs_lock = threading.Lock()


def function_name(function: Any) -> str:
    """What a task of this function is called: the function's name, ``lambda``, or the type of a callable object."""
    while hasattr(function, "func") and callable(function.func) and not isinstance(function, types.FunctionType):
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    return str(name).strip("<>")


def dumps_function(function: Callable[..., Any]) -> FunctionBlob:
    """The function's pickle with its digest; made once for each function object."""
    cacheable = type(function) in (types.FunctionType, types.BuiltinFunctionType, type)
    if cacheable and not getattr(function, "__closure__", None):
        try:
            return _blobs[function]
        except (KeyError, TypeError):
            pass
    payload = dumps(function, function_name(function))
    digest = hashlib.blake2b(payload.data, digest_size=16)
    if payload.attached is not None:
        for buffer in payload.attached.buffers:
            digest.update(buffer)
    blob = FunctionBlob(digest.digest(), payload, function_name(function))
    if cacheable:
        try:
            with _blobs_lock:
                _blobs[function] = blob
        except TypeError:
            pass
    return blob


def loads_function(blob: FunctionBlob) -> Callable[..., Any]:
    """The function. Raises ``DeserializeError`` that names it and why it cannot be opened here."""
    try:
        function: Callable[..., Any] = loads(blob.payload)
    except Exception as e:
        raise DeserializeError(f"the function {blob.name!r} cannot be opened here: {type(e).__name__}: {e}") from e
    return function


# ---------------------------------------------------------------- errors

DEFAULT_ERROR_LENGTH = 10_000


def pack_error(error: BaseException, max_length: int = DEFAULT_ERROR_LENGTH) -> ErrorInfo:
    """An exception for the road: it, its traceback, and both as text of at most ``max_length`` characters.

    What cannot be pickled, or cannot be opened again, travels as text only.
    """
    message = _safe_text(error, max_length)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if len(text) > max_length:
        text = text[: max_length // 2] + "\n...\n" + text[-max_length // 2 :]
    return ErrorInfo(
        type(error).__name__, message, _pack_exception(error), _pack_traceback(error.__traceback__), traceback_text=text
    )


def _safe_text(error: BaseException, max_length: int) -> str:
    try:
        return str(error)[:max_length]
    except Exception as e:
        return f"<its text cannot be had: {type(e).__name__}>"


def _pack_exception(error: BaseException) -> Payload | None:
    try:
        payload = dumps(error)
        if payload.nbytes > 100_000_000:
            return None
        again = loads(payload)
    except Exception:
        return None
    return payload if type(again).__name__ == type(error).__name__ else None


def _pack_traceback(tb: types.TracebackType | None) -> Payload | None:
    if tb is None:
        return None
    try:
        from tblib import Traceback

        return dumps(Traceback(tb).to_dict())
    except Exception:
        return None


def unpack_error(info: ErrorInfo) -> tuple[BaseException, types.TracebackType | None]:
    """The exception (a :class:`RemoteError` when it cannot be had) and its traceback."""
    error: BaseException | None = None
    note = "the exception itself could not be pickled where it was raised"
    if info.exception is not None:
        try:
            error = loads(info.exception)
            if not isinstance(error, BaseException):
                error, note = None, "what came in place of the exception is none"
        except Exception as e:
            note = f"the exception itself cannot be opened here: {type(e).__name__}: {e}"
    if error is None:
        error = RemoteError(info.type_name, info.message, info.traceback_text, note)
    return error, _unpack_traceback(info.traceback)


def _unpack_traceback(payload: Payload | None) -> types.TracebackType | None:
    if payload is None:
        return None
    try:
        from tblib import Traceback

        tb: types.TracebackType | None = Traceback.from_dict(loads(payload)).as_traceback()
        return tb
    except Exception:
        return None


# ---------------------------------------------------------------- the path to what cannot be pickled

_SEARCH_S = 0.3
_SEARCH_DEPTH = 12
_SEARCH_MEMBERS = 1000


def _explained(obj: Any, error: Exception, name: str) -> SerializationError:
    try:
        path, culprit, reason = find_unpicklable(obj, name or type(obj).__name__, error)
    except Exception:
        path, culprit, reason = name or type(obj).__name__, obj, error
    what = f"{name or 'an object'} of type {type(obj).__name__} cannot be pickled"
    where = "" if culprit is obj else f" because of {path}, a {type(culprit).__name__}"
    text = f"{what}{where}: {type(reason).__name__}: {reason}"
    return SerializationError(text, path)


def find_unpicklable(obj: Any, name: str, error: Exception) -> tuple[str, Any, Exception]:
    """``(path, member, why)`` of the innermost member that cannot be pickled, as far as a short search finds it."""
    deadline = time.monotonic() + _SEARCH_S
    path, seen = name, {id(obj)}
    for _ in range(_SEARCH_DEPTH):
        for step, member in _members(obj):
            if time.monotonic() > deadline:
                return path, obj, error
            if id(member) in seen or type(member) in _ATOMS:
                continue
            seen.add(id(member))
            try:
                _pickle(member, [])
            except Exception as e:
                obj, path, error = member, path + step, e
                break
        else:
            break
    return path, obj, error


def _members(obj: Any) -> Iterator[tuple[str, Any]]:
    """``(how to write it, the member)`` for what an object's pickle would hold."""
    if isinstance(obj, dict):
        for key, value in list(obj.items())[:_SEARCH_MEMBERS]:
            yield f"[{key!r:.60}]", value
            yield f" key {key!r:.60}", key
    elif isinstance(obj, list | tuple):
        for i, value in enumerate(obj[:_SEARCH_MEMBERS]):
            yield f"[{i}]", value
    elif isinstance(obj, set | frozenset):
        for value in list(obj)[:_SEARCH_MEMBERS]:
            yield f"{{{value!r:.60}}}", value
    if isinstance(obj, types.FunctionType):
        names = obj.__code__.co_freevars
        for variable, cell in zip(names, obj.__closure__ or (), strict=False):
            try:
                yield f".<closure {variable}>", cell.cell_contents
            except ValueError:
                continue
        for variable in obj.__code__.co_names:
            if variable in obj.__globals__:
                yield f".<global {variable}>", obj.__globals__[variable]
        return
    if isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
    if isinstance(obj, type):
        return
    for attribute, value in list(getattr(obj, "__dict__", {}).items())[:_SEARCH_MEMBERS]:
        yield f".{attribute}", value
    for cls in type(obj).__mro__:
        for slot in _slots(cls):
            if hasattr(obj, slot):
                yield f".{slot}", getattr(obj, slot)


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(s for s in slots if s not in ("__dict__", "__weakref__"))
