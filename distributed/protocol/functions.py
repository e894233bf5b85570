"""Functions as blobs: pickled once, known by a digest of the pickle, opened once per process.

The blob of a function is remembered as long as pickling it again would give the same: always for one that is pickled as
a name; for one that is pickled by value (lambdas, closures, everything of ``__main__``) as long as all it refers to is
still the same and cannot change in place. What refers to anything mutable is pickled again each time, as people who
edit a global in a notebook expect. Thread-safe.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from distributed.base.errors import SerializationError
from distributed.base.lazy import loaded
from distributed.messages.payload import FunctionBlob, Payload
from distributed.protocol.opening import forget_names, open_in_turn
from distributed.protocol.payloads import dumps, unpicklable
from distributed.protocol.unpicklable import global_names

MAX_OPENED = 1000
_MAX_WATCHES = 64

_SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes, range})
_UNSET: Any = object()

# id of function -> (weak reference, blob, what must still be so for the blob to be right,
# modules registered for pickling by value at that time)
_Known: TypeAlias = tuple[weakref.ref[Any], FunctionBlob, tuple[Callable[[], bool], ...], frozenset[str]]
_known: dict[int, _Known] = {}
_NO_MODULES: set[str] = set()
_opened: OrderedDict[bytes, Any] = OrderedDict()
_lock = threading.Lock()


def dumps_function(function: Any) -> FunctionBlob:
    """The blob of a callable.

    Raises ``SerializationError`` that names it and the member that cannot be pickled.
    """
    known = _known.get(id(function))
    if known is not None:
        reference, blob, watches, registered = known
        if (
            reference() is function
            and registered == _registered_by_value()
            and (not watches or all(watch() for watch in watches))
        ):
            return blob
    name = function_name(function)
    try:
        payload = dumps(function, f"function {name}" if name else "")
    except SerializationError:
        raise
    except Exception as error:
        raise unpicklable(function, f"function {name}", error) from error
    blob = FunctionBlob(digest(payload), payload, name)
    watches_now = _watches(function)
    if watches_now is not None:
        _remember(function, blob, watches_now)
    return blob


def loads_function(blob: FunctionBlob) -> Any:
    """The callable of ``blob``; the same object for every blob of the same digest.

    Raises whatever opening the pickle raises.
    """
    attached = blob.payload.attached
    if attached is not None and attached.is_live:
        return attached.live
    with _lock:
        function = _opened.get(blob.digest, _UNSET)
        if function is not _UNSET:
            _opened.move_to_end(blob.digest)
            return function
    function = open_in_turn(blob.payload)
    with _lock:
        function = _opened.setdefault(blob.digest, function)
        while len(_opened) > MAX_OPENED:
            _opened.popitem(last=False)
    return function


def forget_opened() -> None:
    """Modules have been replaced: open every function, and look every name up, anew."""
    with _lock:
        _opened.clear()
    forget_names()


def digest(payload: Payload) -> bytes:
    """16 bytes that name the content of ``payload``."""
    hasher = hashlib.blake2b(payload.data, digest_size=16)
    if payload.attached is not None:
        for buffer in payload.attached.buffers:
            hasher.update(buffer)
    return hasher.digest()


def function_name(function: Any) -> str:
    """What a task of this function is called: ``inc``, ``lambda``, the function inside a partial, or the class of a
    callable object."""
    for _ in range(10):
        inner = getattr(function, "func", None)
        if isinstance(function, types.FunctionType) or inner is function or not callable(inner):
            break
        function = inner
    name = getattr(function, "__name__", None)
    return (name if isinstance(name, str) else type(function).__name__).strip("<>")


def _remember(function: Any, blob: FunctionBlob, watches: tuple[Callable[[], bool], ...]) -> None:
    number = id(function)

    def forget(reference: weakref.ref[Any], known: dict[int, _Known] = _known) -> None:
        entry = known.get(number)
        if entry is not None and entry[0] is reference:
            known.pop(number, None)

    try:
        reference = weakref.ref(function, forget)
    except TypeError:
        return
    _known[number] = (reference, blob, watches, frozenset(_registered_by_value()))


def _registered_by_value() -> set[str]:
    """Modules of which the user wants everything pickled by value."""
    return loaded("cloudpickle.cloudpickle", "_PICKLE_BY_VALUE_MODULES") or _NO_MODULES


def is_by_name(obj: Any) -> bool:
    """Whether pickle writes ``obj`` (a function or class) as a name that other processes can look up."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None)
    if type(module) is not str or type(name) is not str or module in ("__main__", "__mp_main__"):
        return False
    if any(module == other or module.startswith(f"{other}.") for other in _registered_by_value()):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


def _watches(function: Any) -> tuple[Callable[[], bool], ...] | None:
    """Conditions under which the pickle of ``function`` stays the same; None when that cannot be told."""
    if isinstance(function, (types.FunctionType, types.BuiltinFunctionType, type)) and is_by_name(function):
        return ()
    if type(function) is not types.FunctionType:
        return None
    watches: list[Callable[[], bool]] = []
    return tuple(watches) if _watch_function(function, watches, set()) else None


def _watch_function(function: types.FunctionType, watches: list[Callable[[], bool]], seen: set[int]) -> bool:
    """Add the watches of one function by value and of those that it uses; False when it uses something mutable.

    A watch holds no function and no namespace, but weak references: it must not keep alive what it watches.
    """
    if id(function) in seen:
        return True
    seen.add(id(function))
    names = set(global_names(function.__code__))
    cells = function.__closure__ or ()
    defaults = function.__defaults__
    if vars(function) or function.__kwdefaults__ or len(seen) + len(names) + len(cells) > _MAX_WATCHES:
        return False
    if not all(_is_constant(value) for value in defaults or ()):
        return False
    holders: list[tuple[str | int, Callable[[], Any]]] = []
    places: list[tuple[str | int, Any]] = [(name, function.__globals__.get(name, _UNSET)) for name in names]
    for place, value in [*places, *enumerate(map(_content, cells))]:
        holder = _holder(value, watches, seen)
        if holder is None:
            return False
        holders.append((place, holder))
    watches.append(_watch(weakref.ref(function), function.__code__, defaults, holders))
    return True


def _watch(
    reference: weakref.ref[types.FunctionType],
    code: types.CodeType,
    defaults: tuple[Any, ...] | None,
    holders: list[tuple[str | int, Callable[[], Any]]],
) -> Callable[[], bool]:
    def unchanged() -> bool:
        function = reference()
        if function is None or function.__code__ is not code or function.__defaults__ is not defaults:
            return False
        if function.__kwdefaults__ or vars(function):
            return False
        namespace, cells = function.__globals__, function.__closure__ or ()
        for place, holder in holders:
            now = namespace.get(place, _UNSET) if isinstance(place, str) else _content(cells[place])
            if now is not holder():
                return False
        return True

    return unchanged


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _UNSET


def _holder(value: Any, watches: list[Callable[[], bool]], seen: set[int]) -> Callable[[], Any] | None:
    """Gives back ``value`` as long as it exists; None when ``value`` may change in place."""
    if value is _UNSET or _is_constant(value):
        return lambda: value
    if type(value) is types.FunctionType and _watch_function(value, watches, seen):
        return weakref.ref(value)
    return None


def _is_constant(value: Any) -> bool:
    """Whether ``value`` cannot change in place, or is pickled as a name whatever it holds."""
    kind = type(value)
    if kind in _SCALARS or kind is types.ModuleType:
        return True
    if kind is tuple or kind is frozenset:
        return len(value) <= _MAX_WATCHES and all(map(_is_constant, value))
    return isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)) and is_by_name(value)
