"""Why can this object not be pickled? Finds the path to the member at fault, e.g. ``args[0].model._lock``.

The search pickles members one by one, the way pickle itself would reach them, and goes down where it fails. It runs on
the error path only and is bounded in time, depth and number of members; when a bound is hit the path so far is the
answer.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import pickle
import time
import types
from collections.abc import Iterator
from typing import Any

MAX_SECONDS = 0.5
MAX_DEPTH = 24
MAX_MEMBERS = 2000
_MAX_TEXT = 300
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


class _OutOfTime(Exception):
    pass


class _Sink:
    """Counts nothing, keeps nothing, and ends a pickling that takes too long."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def write(self, data: Any) -> int:
        if time.monotonic() > self.deadline:
            raise _OutOfTime
        return len(data)


def describe_unpicklable(obj: Any, what: str, error: BaseException) -> tuple[str, str]:
    """``(text, path)`` for an object that failed to pickle with ``error``. Never raises."""
    try:
        path, member, cause = find_unpicklable(obj, what, error)
    except Exception:
        path, member, cause = what or "object", obj, error
    text = f"Could not serialize {what or 'object'} of type {_type_name(obj)}: "
    if member is not obj:
        text += f"its member {path} (of type {_type_name(member)}) cannot be pickled: "
    return text + _error_text(cause), path


def find_unpicklable(obj: Any, what: str = "", error: BaseException | None = None) -> tuple[str, Any, BaseException]:
    """``(path, member, error)`` of the innermost member that fails to pickle by itself, starting from ``obj``."""
    deadline = time.monotonic() + MAX_SECONDS
    budget = itertools.count()
    path, member = what or "object", obj
    cause: BaseException = error if error is not None else TypeError("cannot be pickled")
    seen = {id(obj)}
    roots = None if what else _call_members(obj)
    for _ in range(MAX_DEPTH):
        members, roots = roots if roots is not None else _members(member, path), None
        for child_path, child in members:
            if type(child) in _ATOMS or id(child) in seen:
                continue
            if next(budget) > MAX_MEMBERS or time.monotonic() > deadline:
                return path, member, cause
            failure = _failure(child, deadline)
            if failure is not None:
                seen.add(id(child))
                path, member, cause = child_path, child, failure
                break
        else:
            break
    return path, member, cause


def _failure(obj: Any, deadline: float) -> BaseException | None:
    """What pickling ``obj`` raises; None when it can be pickled, or when time is up."""
    try:
        pickle.Pickler(_Sink(deadline), 5, buffer_callback=_drop).dump(obj)
        return None
    except _OutOfTime:
        return None
    except Exception:
        pass
    try:
        cloudpickle = importlib.import_module("cloudpickle")
        cloudpickle.Pickler(_Sink(deadline), 5, buffer_callback=_drop).dump(obj)
    except _OutOfTime:
        return None
    except Exception as error:
        return error
    return None


def _drop(_buffer: Any) -> None:
    return None


def _call_members(obj: Any) -> Iterator[tuple[str, Any]] | None:
    """The arguments of a packed call ``(args, kwargs)``, under the names that a user gives them."""
    if type(obj) is tuple and len(obj) == 2 and isinstance(obj[0], (tuple, list)) and type(obj[1]) is dict:
        args, kwargs = obj
        return itertools.chain(
            ((f"args[{i}]", value) for i, value in enumerate(args)),
            ((f"kwargs[{name!r}]", value) for name, value in kwargs.items()),
        )
    return None


def _members(obj: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What pickle visits next below ``obj``; nothing when ``obj`` is a leaf or does not say."""
    kind = type(obj)
    if kind is dict:
        yield from _dict_members(obj, path)
    elif kind in (list, tuple):
        yield from ((f"{path}[{i}]", value) for i, value in enumerate(obj))
    elif kind in (set, frozenset):
        yield from ((f"{path}{{{_short(value)}}}", value) for value in obj)
    elif isinstance(obj, types.FunctionType):
        yield from _function_members(obj, path)
    elif isinstance(obj, (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)):
        yield f"{path}.__self__", obj.__self__
        if isinstance(obj, types.MethodType):
            yield f"{path}.__func__", obj.__func__
    elif isinstance(obj, functools.partial):
        yield f"{path}.func", obj.func
        yield from ((f"{path}.args[{i}]", value) for i, value in enumerate(obj.args))
        yield from ((f"{path}.keywords[{name!r}]", value) for name, value in obj.keywords.items())
        yield from ((f"{path}.{name}", value) for name, value in vars(obj).items())
    elif isinstance(obj, type):
        yield from ((f"{path}.{name}", value) for name, value in vars(obj).items() if not _is_slot(value))
    else:
        yield from _reduced_members(obj, path)


def _is_slot(value: Any) -> bool:
    return isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType))


def _dict_members(obj: dict[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in obj.items():
        yield f"{path}[{_short(key)}]", value
        yield f"{path}.keys(): {_short(key)}", key


def _function_members(function: types.FunctionType, path: str) -> Iterator[tuple[str, Any]]:
    """What cloudpickle takes along with a function: closure, defaults, globals that it uses."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"{path}.<closure>.{name}", cell.cell_contents
        except ValueError:
            continue
    for i, value in enumerate(function.__defaults__ or ()):
        yield f"{path}.__defaults__[{i}]", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"{path}.__kwdefaults__[{name!r}]", value
    for name in global_names(function.__code__):
        if name in function.__globals__:
            yield f"{path}.<globals>.{name}", function.__globals__[name]
    yield from ((f"{path}.{name}", value) for name, value in vars(function).items())


def global_names(code: types.CodeType) -> Iterator[str]:
    """Every name that the code, or code inside it, may look up in its module (attribute names are among them)."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from global_names(constant)


def _reduced_members(obj: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The members of any other object: what its ``__reduce_ex__`` (hence ``__getstate__``) hands to pickle."""
    try:
        reduced = obj.__reduce_ex__(5)
    except Exception:
        return
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return
    state = reduced[2] if len(reduced) > 2 else None
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for part in states:
        if isinstance(part, dict):
            yield from ((f"{path}.{name}", value) for name, value in part.items())
        elif part is not None:
            yield f"{path}.__getstate__()", part
    if len(reduced) > 3 and reduced[3] is not None:
        yield from ((f"{path}[{i}]", value) for i, value in enumerate(reduced[3]))
    if len(reduced) > 4 and reduced[4] is not None:
        yield from ((f"{path}[{_short(key)}]", value) for key, value in reduced[4])
    for i, value in enumerate(reduced[1]):
        if not isinstance(value, type):
            yield f"{path}.__reduce__()[1][{i}]", value
    yield from ((f"type({path})", value) for value in reduced[1] if isinstance(value, type))


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{_type_name(value)}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _type_name(obj: Any) -> str:
    kind = type(obj)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _error_text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(an error without a readable text)"
    return f"{type(error).__name__}: {text[:_MAX_TEXT]}"
