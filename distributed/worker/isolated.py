"""A task in a process of its own, which can be killed. Shell, on both sides.

The process is a command (``docs/decisions/0002-worker-processes-are-commands.md``). It gets ``sys.path`` and the call
over its standard input, which stays open: when that ends, so does the process, and no worker leaves one behind. It
answers over a pipe; what it prints goes where the worker's own output goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from distributed.base.errors import TaskCancelled, TaskProcessDied
from distributed.base.keys import user_key
from distributed.messages.payload import Attached, ErrorInfo, Payload
from distributed.protocol import serialize
from distributed.worker.job import Job

_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from distributed.worker.isolated import main; main(int(sys.argv[1]))"
)


class _Process:
    """The process of one task, and whatever it has started."""

    def __init__(self, answers: int) -> None:
        self.killed = False
        self._over = False
        self._lock = threading.Lock()
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(answers)],
            stdin=subprocess.PIPE,
            pass_fds=(answers,),
            start_new_session=True,
        )

    def send(self, *objects: Any) -> None:
        """Over its standard input."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            for one in objects:
                pickle.dump(one, self._popen.stdin, 5)
            self._popen.stdin.flush()

    def kill(self) -> None:
        """End it; nothing once its end has been taken note of. Any thread."""
        with self._lock:
            if not self._over:
                self.killed = True
                self._signal()

    def end(self) -> int:
        """The exit code; whatever it has started and left behind is ended."""
        with self._lock:  # from here on its number may belong to another process
            self._over = True
            self._signal()
        code = self._popen.wait()
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.close()
        return code

    def _signal(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)


def run_isolated(job: Job, hold: Callable[[Job], None], function: Any, args: Any, kwargs: Any) -> Any:
    """``function(*args, **kwargs)`` in a process of its own.

    Raises
    ------
    TaskProcessDied
        The process has ended without an answer.
    TaskCancelled
        It was killed, because the task was to end.
    """
    call = _flat(serialize.dumps((function, args, kwargs)))
    reading, writing = os.pipe()
    answer: Any = None
    with os.fdopen(reading, "rb") as answers:
        try:
            process = _Process(writing)
        finally:
            os.close(writing)
        try:
            job.process = process
            hold(job)
            process.send(sys.path, call)
            with contextlib.suppress(EOFError, pickle.UnpicklingError):
                answer = pickle.load(answers)
        finally:
            code = process.end()
    if process.killed:
        raise TaskCancelled
    if answer is None:
        raise TaskProcessDied(user_key(job.execute.key), code)
    error, data, buffers = answer
    if error is not None:
        raise serialize.unpack_error(error)[0]
    return serialize.loads(Payload(data, Attached(buffers)))


def _flat(payload: Payload) -> tuple[bytes, list[bytearray]]:
    buffers = payload.attached.buffers if payload.attached is not None else ()
    return payload.data, [bytearray(buffer) for buffer in buffers]


# -- in the process of the task


def main(answers: int) -> None:
    """What the process does."""
    os.set_inheritable(answers, False)
    lifeline = os.dup(0)
    data, buffers = pickle.load(sys.stdin.buffer)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    error: ErrorInfo | None = None
    answer: tuple[bytes, list[bytearray]] = (b"", [])
    try:
        function, args, kwargs = serialize.loads(Payload(data, Attached(buffers)))
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(_awaited(value))
        answer = _flat(serialize.dumps(value))
    except BaseException as failure:
        error = serialize.pack_error(failure)
    with os.fdopen(answers, "wb") as pipe:
        pickle.dump((error, *answer), pipe, 5)
    sys.stdout.flush()
    os._exit(0)


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _end_with(lifeline: int) -> None:
    """The worker has gone: nobody wants the answer."""
    while os.read(lifeline, 4096):
        pass
    os.killpg(0, signal.SIGKILL)
