"""The pickle of an object as bytes: plain pickle where that says everything, cloudpickle (by value) where it does not.

Plain pickle is about ten times faster, but writes functions and classes as names, and a name in ``__main__`` (or in a
module registered with ``cloudpickle.register_pickle_by_value``) means another thing, or nothing, in the process that
opens it.
"""

from __future__ import annotations

import collections
import copyreg
import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from distributed.base.lazy import loaded

HIGHEST_PROTOCOL = 5
MAIN_MARK = b"_main__"
"""Occurs in every plain pickle that names something of ``__main__`` or ``__mp_main__``."""

plain_dumps: Callable[..., bytes] = pickle.dumps
"""Plain pickle; with the types that others have registered, once somebody has (:func:`use_dispatch_table`)."""
_dispatch_table: MutableMapping[type, Any] | None = None


def use_dispatch_table(table: MutableMapping[type, Any]) -> None:
    """From now on the types in ``table`` are pickled by the functions it has for them."""
    global plain_dumps, _dispatch_table
    _dispatch_table = table
    plain_dumps = _dumps_with_table


def is_registered(kind: type) -> bool:
    """Whether somebody has registered a function that pickles objects of this very class."""
    return kind in copyreg.dispatch_table or (_dispatch_table is not None and kind in _dispatch_table)


def _dumps_with_table(x: Any, protocol: int, *, buffer_callback: Callable[[Any], Any] | None = None) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = _dispatch_table  # type: ignore[assignment]
    pickler.dump(x)
    return file.getvalue()


def names_by_value(data: bytes) -> bool:
    """Whether the plain pickle ``data`` may name something that the other side cannot look up."""
    if MAIN_MARK in data:
        return True
    registered: set[str] = loaded("cloudpickle.cloudpickle", "_PICKLE_BY_VALUE_MODULES") or set()
    return any(name.encode() in data for name in registered)


def dumps(x: Any, *, buffer_callback: Callable[[Any], Any] | None = None, protocol: int = HIGHEST_PROTOCOL) -> bytes:
    """The pickle of ``x``.

    Parameters
    ----------
    x
        Any object.
    buffer_callback
        Called with each out-of-band buffer, as of ``pickle.dumps``; None keeps all bytes in the pickle.
    protocol
        Pickle protocol.

    Raises whatever pickling raises when both ways fail.
    """
    buffers: list[Any] = []
    collect = None if buffer_callback is None else _collector(buffers, buffer_callback)
    try:
        data = plain_dumps(x, protocol, buffer_callback=collect)
        by_value = names_by_value(data)
    except Exception:
        by_value = True
    if by_value:
        buffers.clear()
        data = dumps_by_value(x, collect, protocol)
    return data


def _collector(buffers: list[Any], buffer_callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def collect(buffer: Any) -> Any:
        buffers.append(buffer)
        return buffer_callback(buffer)

    return collect


def dumps_by_value(x: Any, buffer_callback: Callable[[Any], Any] | None, protocol: int = HIGHEST_PROTOCOL) -> bytes:
    """The pickle by cloudpickle, and with the ways that this house has for what has none of its own."""
    _teach_arrow()
    cloudpickle = importlib.import_module("cloudpickle")
    spawned_main = sys.modules.get("__mp_main__")
    if spawned_main is not None and "__mp_main__" not in cloudpickle.list_registry_pickle_by_value():
        # In a child of multiprocessing the user's script has this name, which only that child can look up.
        cloudpickle.register_pickle_by_value(spawned_main)
    if _dispatch_table is not None:
        return _dumps_by_value_with_table(cloudpickle, x, buffer_callback, protocol)
    data: bytes = cloudpickle.dumps(x, protocol=protocol, buffer_callback=buffer_callback)
    return data


def _dumps_by_value_with_table(cloudpickle: Any, x: Any, buffer_callback: Any, protocol: int) -> bytes:
    table = collections.ChainMap(_dispatch_table or {}, cloudpickle.Pickler.dispatch_table)
    # The pickler of C reads the table from its class, when it is made.
    pickler_class = type("Pickler", (cloudpickle.Pickler,), {"dispatch_table": table})
    file = io.BytesIO()
    pickler_class(file, protocol=protocol, buffer_callback=buffer_callback).dump(x)
    return file.getvalue()


def _teach_arrow() -> None:
    """Let pyarrow's notes about files be pickled, which refuse it: expressions that read Parquet hold them."""
    file_info = loaded("pyarrow._fs", "FileInfo")
    if file_info is not None and file_info not in copyreg.dispatch_table:
        copyreg.pickle(file_info, _reduce_file_info)


def _reduce_file_info(info: Any) -> tuple[Any, ...]:
    return _file_info, (info.path, int(info.type), info.size, info.mtime_ns)


def _file_info(path: str, kind: int, size: int | None, mtime_ns: int | None) -> Any:
    arrow = importlib.import_module("pyarrow.fs")
    return arrow.FileInfo(path, arrow.FileType(kind), size=size, mtime_ns=mtime_ns)


def loads(x: Any, *, buffers: Iterable[Any] = ()) -> Any:
    """The object of which ``x`` (bytes-like) is the pickle. Raises whatever opening it raises."""
    return pickle.loads(x, buffers=buffers)
