"""Throws an exception into the thread of a running task, and never into that of the next one. Shell.

An asynchronous exception is noted for a thread and raised there some instructions later, when the task may have ended
and another may have begun. So a task is ``open`` to it only while its thread is at work for it. The thread first says
that this is over and then looks whether somebody is about to throw; who throws first says so and then looks whether the
task is open: one of the two sees the other. A thread that sees it waits for the throw, and takes back what has not
struck yet. An ordinary task pays for two attributes. See ``docs/decisions/0009-stopping-tasks.md``.

A thread ends its work like this, in line, since an exception may strike at the entry of any function::

    finally:
        task.open = False
        if task.stopping:
            try:
                take_back(task)
            except TaskCancelled:  # thrown before
                try:
                    take_back(task)
                except TaskCancelled:  # under way when the task was shut: there is no third one
                    pass
"""

from __future__ import annotations

import ctypes
import threading

from distributed.base.errors import TaskCancelled
from distributed.worker.runtime import RunningTask

_lock = threading.Lock()
_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


def interrupt(task: RunningTask) -> None:
    """Raise ``TaskCancelled`` in the task, unless it is over; when it is, this does nothing.

    A thread inside of a call into C is struck when that returns.
    """
    task.stopping = True
    with _lock:
        if task.open:
            _set_async_exc(ctypes.c_ulong(task.thread), ctypes.py_object(TaskCancelled))


def take_back(task: RunningTask) -> None:
    """The calling thread has shut ``task``: no exception that was meant for it will strike behind this.

    One is made to strike here, in place of what may be on its way. If that were only withdrawn, the interpreter would
    look for it for ever, at each call and jump of every thread, and Python 3.11 would do nothing else once a profiler
    or a debugger is set.
    """
    try:
        with _lock:
            _set_async_exc(ctypes.c_ulong(task.thread), ctypes.py_object(TaskCancelled))
        while True:
            pass
    except TaskCancelled:
        pass
