"""Functions as the blobs that tasks name: pickled once, sent once, and known again when they come back.

A function that can be imported is known by its name. One that is pickled by value (a lambda, a closure, anything of
``__main__``) carries what it refers to, which may have changed since: it is pickled again whenever it refers to anything but
unchanged functions, modules, classes and plain scalars.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from distributed.client.session import Session
from distributed.client.tokens import SCALARS, general_token
from distributed.messages.payload import FunctionBlob
from distributed.protocol.serialize import dumps_function, live

_live_numbers = itertools.count()
_live_prefix = os.urandom(8)


def is_importable(func: Any) -> bool:
    """Whether workers find the function by its name, so that its pickle is the name."""
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    if type(name) is not str or type(module) is not str or module == "__main__" or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is func


class FunctionBook:
    """The functions of one client."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # Names only: a blob holds its function, and would keep it here for ever.
        self._names: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def blob(self, func: Callable[..., Any]) -> FunctionBlob:
        """The blob of ``func``. Raises ``SerializationError`` when it cannot be pickled."""
        return self._live_blob(func) if self._session.live else dumps_function(func)

    def _live_blob(self, func: Callable[..., Any]) -> FunctionBlob:
        """In one process: the function itself, under a name that tells it from all others."""
        try:
            name = self._names.get(func)
        except TypeError:  # not hashable, or no weak reference to it
            name = None
        if name is None:
            if is_importable(func):
                name = f"live:{func.__module__}:{func.__qualname__}".encode()
            elif isinstance(func, (types.MethodType, functools.partial)):
                name = b"live:" + general_token(func).encode()
            else:
                name = b"live:" + _live_prefix + next(_live_numbers).to_bytes(8, "big")
            if isinstance(func, (types.FunctionType, types.BuiltinFunctionType, type)):
                with contextlib.suppress(TypeError), self._lock:
                    self._names[func] = name
        return FunctionBlob(name, live(func), getattr(func, "__name__", ""))


def refers_to_mutable(func: Any) -> bool:
    """Whether a function that is pickled by value refers to things that may change without the function changing."""
    if not isinstance(func, types.FunctionType):
        return True
    cells = [cell.cell_contents for cell in func.__closure__ or () if _filled(cell)]
    names = func.__code__.co_names
    referred = [*cells, *(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values()]
    referred += [func.__globals__[name] for name in names if name in func.__globals__]
    return any(type(value) not in SCALARS and not isinstance(value, types.ModuleType) for value in referred)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
