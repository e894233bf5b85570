"""Exceptions on the wire: the exception itself where it survives a pickle, its texts always, its traceback as frames.

What is packed is tried out at once (some exceptions pickle well and fail to open); what fails travels as
:class:`RemoteError` with the texts of the original. Causes and contexts come along.
"""

from __future__ import annotations

import contextlib
import traceback
import types
import weakref
from typing import Any, cast

from distributed.base.errors import (
    KilledWorker,
    NoValidWorkerError,
    NoWorkerError,
    RemoteError,
    SerializationError,
    TaskTimeoutError,
    WorkerDeath,
)
from distributed.base.keys import user_key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.payloads import dumps, loads
from distributed.protocol.unpicklable import describe_unpicklable

MAX_FRAMES = 120
MAX_CHAIN = 8
DEFAULT_ERROR_LENGTH = 10_000

# One frame of a traceback: file, function, line, module.
_FrameInfo = tuple[str, str, int, str]


def pack_error(error: BaseException, max_len: int = DEFAULT_ERROR_LENGTH) -> ErrorInfo:
    """``error`` ready to travel. Never raises (but for errors outside ``Exception``).

    Parameters
    ----------
    error
        The exception, with its traceback and causes.
    max_len
        Longest text in characters; a longer message is cut, and so is the traceback (in its middle).
    """
    message = _text(error)
    type_name = _type_name(error)
    full_text = _traceback_text(error)
    travels, note = _travelling(error, message, max_len)
    chain = _chain(error, max_len)
    frames = _frames(error.__traceback__)
    exception: Payload | None
    try:
        links = [(is_cause, _Bare(below), suppress, frames) for is_cause, below, suppress, frames in chain]
        exception = dumps((_Bare(travels), links, error.__suppress_context__), snapshot=True)
    except Exception:
        exception = None
    return ErrorInfo(
        type_name,
        _cut(message, max_len),
        exception,
        dumps(frames) if frames else None,
        _cut(full_text, max_len) + (f"\n({note})" if note else ""),
    )


def unpack_error(info: ErrorInfo) -> tuple[BaseException, types.TracebackType | None]:
    """``(exception, traceback)``; the exception carries the traceback, its causes, and is a RemoteError when the
    original could not be had. Never raises (but for errors outside ``Exception``)."""
    error: BaseException | None = None
    reason = ""
    if info.exception is not None:
        try:
            opened = loads(info.exception)
            if isinstance(opened, BaseException):
                error = opened
            else:
                error, chain, suppress = opened
                if type(error) is RemoteError and not error.traceback_text:
                    error = RemoteError(error.type_name, error.message, info.traceback_text)
                _link(error, chain, suppress)
        except (Exception, SystemExit, GeneratorExit) as failure:  # opening runs code of the exception's own
            error = None
            reason = f"the original could not be opened here: {type(failure).__name__}: {_cut(_text(failure), 500)}"
    if error is None and info.details is not None:
        error = _of_the_engine(info.type_name, info.details)
    if error is None:
        error = RemoteError(info.type_name, info.message, info.traceback_text, reason)
    tb = None
    if info.traceback is not None:
        try:
            tb = _as_traceback(loads(info.traceback))
        except Exception:
            tb = None
    return error.with_traceback(tb), tb


def _of_the_engine(type_name: str, details: dict[str, Any]) -> BaseException | None:
    """An error that a core described by its arguments."""
    arguments = dict(details)
    try:
        arguments["task"] = user_key(_as_tuple(arguments["task"]))
        if type_name == "KilledWorker":
            attempts = [{**attempt, "log_tail": tuple(attempt["log_tail"])} for attempt in arguments.pop("attempts")]
            return KilledWorker(**arguments, attempts=[WorkerDeath(**attempt) for attempt in attempts])
        if type_name == "NoValidWorkerError":
            hosts, workers = set(arguments.pop("host_restrictions")), set(arguments.pop("worker_restrictions"))
            return NoValidWorkerError(host_restrictions=hosts, worker_restrictions=workers, **arguments)
        if type_name == "NoWorkerError":
            return NoWorkerError(**arguments)
        if type_name == "TaskTimeoutError":
            return TaskTimeoutError(**arguments)
    except (KeyError, TypeError):
        return None
    return None


def _as_tuple(key: Any) -> Any:
    return tuple([_as_tuple(part) for part in key]) if isinstance(key, list) else key


# ---------------------------------------------------------------- the exception


class _Bare:
    """Pickles as the exception alone. Some packages (``tblib.pickling_support``) make pickle take along tracebacks,
    causes and contexts too, to any depth; these travel in their own way here."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        if type(self.error) in _in_parts:
            return _from_parts, (type(self.error), self.error.args, self.error.__dict__)
        return self.error.__reduce_ex__(5)


_in_parts: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes whose own pickles fail to open, because ``__init__`` wants other arguments than ``args`` holds."""


def _from_parts(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _travelling(error: BaseException, message: str, max_len: int) -> tuple[BaseException, str]:
    """``error`` or what stands for it, and why it had to be replaced."""
    if len(message) > max_len:
        short = _cut(message, max_len)
        try:
            shortened = type(error)(short)
            if _survives(_Bare(shortened), type(error)) and len(_text(shortened)) <= 2 * max_len + 100:
                return shortened, f"the message of {len(message)} characters was cut"
        except Exception:
            pass
        return RemoteError(_type_name(error), short), f"the message of {len(message)} characters was cut"
    try:
        if _survives(_Bare(error), type(error)):
            return error, ""
        reason = "its pickle opens as something else"
    except Exception as failure:
        text = _text(failure)
        if isinstance(failure, SerializationError):
            text, _ = describe_unpicklable(error, "exception", failure.__cause__ or failure)
        reason = f"{type(failure).__name__}: {_cut(text, 500)}"
        if isinstance(failure, TypeError) and type(error) not in _in_parts and _survives_in_parts(error):
            return error, ""
    note = f"the exception itself could not be pickled: {reason}"
    return RemoteError(_type_name(error), message, note=note), note


def _survives(packed: Any, kind: type) -> bool:
    back = loads(dumps(packed, "exception"))
    return type(back).__qualname__ == kind.__qualname__ and isinstance(back, BaseException)


def _survives_in_parts(error: BaseException) -> bool:
    _in_parts.add(type(error))
    with contextlib.suppress(Exception):
        if _survives(_Bare(error), type(error)):
            return True
    _in_parts.discard(type(error))
    return False


def _chain(error: BaseException, max_len: int) -> list[tuple[bool, BaseException, bool, list[_FrameInfo]]]:
    """Causes (True) or contexts (False) of ``error``, next first, each with its own ``__suppress_context__``, and
    frames."""
    chain: list[tuple[bool, BaseException, bool, list[_FrameInfo]]] = []
    seen = {id(error)}
    current = error
    while len(chain) < MAX_CHAIN:
        is_cause = current.__cause__ is not None
        below = current.__cause__ if is_cause else None if current.__suppress_context__ else current.__context__
        if below is None or id(below) in seen:
            break
        seen.add(id(below))
        travels, _ = _travelling(below, _text(below), max_len)
        chain.append((is_cause, travels, below.__suppress_context__, _frames(below.__traceback__)))
        current = below
    return chain


def _link(error: BaseException, chain: list[Any], suppress: bool) -> None:
    current = error
    for is_cause, below, below_suppress, frames in chain:
        if is_cause:
            current.__cause__ = below
        else:
            current.__context__ = below
        below.__traceback__ = _as_traceback(frames)
        current.__suppress_context__ = suppress
        current, suppress = below, below_suppress
    current.__suppress_context__ = suppress


# ---------------------------------------------------------------- the traceback


def _frames(tb: types.TracebackType | None) -> list[_FrameInfo]:
    frames: list[_FrameInfo] = []
    while tb is not None:
        code = tb.tb_frame.f_code
        module = tb.tb_frame.f_globals.get("__name__", "")
        frames.append((code.co_filename, code.co_name, tb.tb_lineno, module if isinstance(module, str) else ""))
        tb = tb.tb_next
    if len(frames) > MAX_FRAMES:
        half = MAX_FRAMES // 2
        frames = frames[:half] + frames[-half:]
    return frames


_STUB = (lambda: (yield)).__code__  # a generator on one line: wherever it stands, it stands in that line


def _frame(filename: str, function: str, line: int, module: str) -> types.FrameType:
    """A dead frame of this name. It is that of a generator which never ran: only those have no frames of callers
    behind them (``f_back``) on every Python; callers hold futures, and so would keep tasks alive for as long as the
    exception is."""
    line = max(0, line)
    code = _STUB.replace(co_filename=filename, co_name=function, co_qualname=function, co_firstlineno=line)
    stand_in = types.FunctionType(code, {"__name__": module, "__file__": filename})
    return cast("types.FrameType", stand_in().gi_frame)


def _as_traceback(frames: list[_FrameInfo]) -> types.TracebackType | None:
    tb: types.TracebackType | None = None
    for filename, function, line, module in reversed(frames):
        tb = types.TracebackType(tb, _frame(filename, function, line, module), -1, line)
    return tb


# ---------------------------------------------------------------- texts


def _type_name(error: BaseException) -> str:
    return type(error).__name__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} without a readable text>"


def _traceback_text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-MAX_FRAMES))
    except Exception:
        return f"{_type_name(error)}: {_text(error)}"


def _cut(text: str, max_len: int) -> str:
    """At most ``max_len`` characters: beginning and end."""
    if len(text) <= max_len:
        return text
    mark = f" ... [{len(text) - max_len} characters left out] ... "
    keep = max(max_len - len(mark), 0)
    head = keep * 2 // 3
    return text[:head] + mark[: max_len - keep] + text[len(text) - (keep - head) :]
