"""A pool of threads that does not keep the program alive. Shell.

The standard library's ``ThreadPoolExecutor`` joins its threads when the interpreter ends: one call that hangs (a method
of an actor, a callback, a write to a dead disk), and the program never ends. These threads are daemons.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Call: TypeAlias = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonThreadPool(Executor):
    """Calls functions in up to ``n_threads`` threads, which are made as they are needed.

    Parameters
    ----------
    n_threads : int
        At most so many calls run at once.
    name : str
        First part of the threads' names.
    """

    def __init__(self, n_threads: int, name: str) -> None:
        self._n_threads = n_threads
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._closed = False
        # Ends the threads of a pool that nobody holds any more.
        weakref.finalize(self, _end_threads, self._calls, n_threads).atexit = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn(*args, **kwargs)`` in a thread.

        Raises
        ------
        RuntimeError
            The pool is shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the thread pool {self._name} is shut down and takes no more calls")
            self._calls.put((future, fn, args, kwargs))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._n_threads:
                self._start_thread()
        return future

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=_drain, args=(self._calls, self._idle), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. ``wait``: until those that were taken have ended; ``cancel_futures``: but for those that
        have not begun."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                _cancel_all(self._calls)
            _end_threads(self._calls, len(self._threads))
        if wait:
            for thread in self._threads:
                thread.join()


def _end_threads(calls: queue.SimpleQueue[_Call | None], n: int) -> None:
    for _ in range(n):
        calls.put(None)


def _cancel_all(calls: queue.SimpleQueue[_Call | None]) -> None:
    while True:
        try:
            call = calls.get_nowait()
        except queue.Empty:
            return
        if call is not None:
            call[0].cancel()


def _drain(calls: queue.SimpleQueue[_Call | None], idle: threading.Semaphore) -> None:
    """What a thread does all its life."""
    while True:
        try:
            call = calls.get_nowait()
        except queue.Empty:
            idle.release()
            call = calls.get()
        if call is None:
            return
        future, fn, args, kwargs = call
        if future.set_running_or_notify_cancel():
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        del call, future, fn, args, kwargs  # nothing is kept alive while the thread waits
