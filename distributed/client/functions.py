"""Functions as the blobs that tasks name: pickled once, sent once, and known again when they come back.

A function that can be imported is known by its name. One that is pickled by value (a lambda, a closure, anything of
``__main__``) takes along what it refers to, which may change without the function changing. So it is pickled again at
each submission, unless all it refers to are modules and things that are pickled by name.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import itertools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from distributed.client.session import Session
from distributed.client.tokens import general_token
from distributed.messages.payload import FunctionBlob
from distributed.protocol.serialize import dumps, dumps_function, function_name, live

_live_numbers = itertools.count()
_live_prefix = os.urandom(8)


def is_importable(func: Any) -> bool:
    """Whether workers find the function or class by its name, so that its pickle is the name."""
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    if type(name) is not str or type(module) is not str or module == "__main__" or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is func


def takes_things_along(func: types.FunctionType) -> bool:
    """Whether the pickle of a function that travels by value holds anything that may change."""
    if func.__closure__ or func.__defaults__ or func.__kwdefaults__ or func.__dict__:
        return True
    return _refers(func.__code__, func.__globals__)


def _refers(code: types.CodeType, names: dict[str, Any]) -> bool:
    for name in code.co_names:
        if name in names:
            value = names[name]
            if not isinstance(value, types.ModuleType) and not is_importable(value):
                return True
    return any(_refers(part, names) for part in code.co_consts if isinstance(part, types.CodeType))


class FunctionBook:
    """The functions of one client."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # Names only: a blob holds its function, and would keep it here for ever.
        self._names: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def blob(self, func: Callable[..., Any]) -> FunctionBlob:
        """The blob of ``func``. Raises ``SerializationError`` when it cannot be pickled."""
        if self._session.live:
            return self._live_blob(func)
        if type(func) is types.FunctionType and not is_importable(func) and takes_things_along(func):
            return _fresh_blob(func)
        return dumps_function(func)

    def _live_blob(self, func: Callable[..., Any]) -> FunctionBlob:
        """In one process: the function itself, under a name that tells it from all others."""
        try:
            name = self._names.get(func)
        except TypeError:  # not hashable, or no weak reference to it
            name = None
        if name is None:
            name = self._live_name(func)
        return FunctionBlob(name, live(func), getattr(func, "__name__", ""))

    def _live_name(self, func: Callable[..., Any]) -> bytes:
        if is_importable(func):
            name = f"live:{func.__module__}:{func.__qualname__}".encode()
        elif isinstance(func, (types.MethodType, types.BuiltinMethodType, functools.partial)):
            # Made anew each time it is looked up: told apart by content.
            return b"live:" + general_token(func).encode()
        else:
            name = b"live:" + _live_prefix + next(_live_numbers).to_bytes(8, "big")
        if isinstance(func, (types.FunctionType, type)) or func is getattr(builtins, name_of(func), None):
            with contextlib.suppress(TypeError), self._lock:
                self._names[func] = name
        return name


def name_of(func: Any) -> str:
    """The function's ``__name__``, or an empty text."""
    name = getattr(func, "__name__", "")
    return name if type(name) is str else ""


def _fresh_blob(func: types.FunctionType) -> FunctionBlob:
    name = function_name(func)
    payload = dumps(func, name)
    digest = blake2b(payload.data, digest_size=16)
    if payload.attached is not None:
        for buffer in payload.attached.buffers:
            digest.update(buffer)
    return FunctionBlob(digest.digest(), payload, name)
