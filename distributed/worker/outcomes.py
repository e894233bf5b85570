"""How a run ended, as the event that the state machine is told. Shell: pickles results and errors."""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import Any

from distributed.base.errors import Reschedule, TaskExited, error_names
from distributed.messages.payload import ErrorInfo
from distributed.protocol import serialize
from distributed.protocol.sizeof import sizeof
from distributed.worker.job import Unopened
from distributed.worker.runtime import RunningTask
from distributed.worker.shipping import ship
from distributed.worker.state_machine.events import ExecuteFailure, ExecuteRescheduled, ExecuteSuccess
from distributed.worker.state_machine.instructions import Execute


def success(execute: Execute, task: RunningTask, value: Any, started: float, is_inproc: bool) -> ExecuteSuccess:
    """The task has returned ``value``; a small one that a client waits for is pickled there and then."""
    duration = time.monotonic() - task.started
    nbytes = sizeof(value)
    inline, unshippable = None, None
    if execute.actor:
        pass  # it stays here: who asks for it gets a proxy
    elif is_inproc:
        inline = serialize.live(value) if execute.wanted else None
    else:
        inline, unshippable = ship(value, nbytes, execute.wanted, duration)
    return ExecuteSuccess(
        execute.key,
        execute.run_id,
        nbytes,
        type_name(type(value)),  # type: ignore[arg-type]
        duration,
        inline,
        unshippable,
        started,
        task.thread,
        task.metadata,
    )


def failed(
    execute: Execute, task: RunningTask, error: BaseException, started: float, max_length: int
) -> ExecuteFailure | ExecuteRescheduled:
    """The task has raised ``error``, or could not be opened."""
    if isinstance(error, Reschedule):
        return ExecuteRescheduled(execute.key, execute.run_id)
    duration = time.monotonic() - task.started
    if isinstance(error, Unopened):
        return failure(execute, error.error, started, duration, False, max_length)
    return failure(execute, error, started, duration, True, max_length)


def failure(
    execute: Execute, error: BaseException, started: float, duration: float, retriable: bool, max_length: int
) -> ExecuteFailure:
    """The event; ``retriable``: another run may do better, if the user's rules think so, too."""
    rules = execute.rules
    if retriable and rules is not None and rules.retry_on:
        retriable = not set(rules.retry_on).isdisjoint(error_names(type(error)))
    if isinstance(error, SystemExit):
        error = _exited(error, f"the task called sys.exit({error.code!r})", error.code)
    elif not isinstance(error, Exception):
        # KeyboardInterrupt, GeneratorExit, CancelledError... would do to the client what they are not meant for.
        error = _exited(error, f"the task raised {described(error)}", None)
    error.__traceback__ = _without_own_frames(error.__traceback__)
    return ExecuteFailure(
        execute.key,
        execute.run_id,
        _pack(error, max_length),
        duration,
        started,
        threading.get_ident(),
        retriable,
    )


def _pack(error: BaseException, max_length: int) -> ErrorInfo:
    try:
        return serialize.pack_error(error, max_length)
    except BaseException as second:
        try:
            text = str(error)
        except BaseException:
            text = "<an exception without a readable text>"
        return ErrorInfo(type(error).__name__, text[:max_length], traceback_text=repr(second))


@functools.lru_cache(maxsize=256)
def type_name(kind: type) -> str:
    """``int``, ``numpy.ndarray``."""
    module = kind.__module__
    name = kind.__qualname__
    return name if module == "builtins" else f"{module.partition('.')[0]}.{name}" if module else name


def described(error: BaseException) -> str:
    """Class and text of an exception."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _exited(error: BaseException, text: str, code: object) -> TaskExited:
    exited = TaskExited(text, code)
    exited.__cause__ = error
    exited.__traceback__ = error.__traceback__
    return exited


_OWN = os.path.dirname(__file__) + os.sep


def _without_own_frames(traceback: Any) -> Any:
    tb = traceback
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OWN):
        tb = tb.tb_next
    return traceback if tb is None else tb
