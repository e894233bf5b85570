"""A view of the client with the interface of ``concurrent.futures.Executor``. Shell."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed.base.errors import CancelledError
from distributed.client.futures import Future
from distributed.client.scheduler_link import ClosedClientError

_ALLOWED = frozenset(
    {"pure", "workers", "resources", "allow_other_workers", "retries", "priority", "fifo_timeout", "actor"}
)
_TAKEN = _ALLOWED | {"key", "self", "func", "actors", "timeout"}
"""Keywords that mean something to ``client.submit``, and belong to the function here."""


def CompatibleExecutor(*args: Any, **kwargs: Any) -> Any:
    """What programs of old times made. Raises TypeError that says what takes its place."""
    raise TypeError("CompatibleExecutor is no more: client.get_executor() makes an executor of the cluster")


class ClientExecutor(concurrent.futures.Executor):
    """Runs functions on the cluster; made by ``client.get_executor(**options of submit)``."""

    def __init__(self, client: Any, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - _ALLOWED)
        if unknown:
            raise TypeError(f"ClientExecutor does not know the arguments {unknown}")
        self._client = client
        self._kwargs = kwargs
        # A call runs although nobody keeps what submit has returned.
        self._submitted: set[concurrent.futures.Future[Any]] = set()
        self._mapped: set[Future] = set()
        self._lock = threading.Lock()
        self._shutdown = False

    def _wrap(self, future: Future) -> concurrent.futures.Future[Any]:
        mine: concurrent.futures.Future[Any] = _LinkedFuture(future)

        def copy_state(done: Future) -> None:
            if mine.cancelled() or mine.done():
                return
            try:
                status = done.status
                if status == "finished":
                    value = done.client.gatherer.result_here(done)
                    if mine.set_running_or_notify_cancel():
                        mine.set_result(value)
                elif status == "error":
                    error, traceback = done.client.gatherer.error_of(done._bound())
                    if mine.set_running_or_notify_cancel():
                        mine.set_exception(error.with_traceback(traceback))
                elif status == "cancelled":
                    mine.cancel()
            except CancelledError:
                mine.cancel()
            except Exception as e:
                if not mine.done():
                    mine.set_exception(e)

        future.add_done_callback(copy_state)
        return mine

    def _check(self) -> None:
        if self._shutdown:
            raise RuntimeError("this executor is shut down and takes no further calls")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Run ``fn(*args, **kwargs)`` on a worker."""
        self._check()
        call: Callable[..., Any] = fn
        if kwargs.keys() & _TAKEN:
            call, kwargs = _Bound(fn, kwargs), {}
        options = {"pure": False, **self._kwargs}
        future = self._client.submit(call, *args, **{**kwargs, **options})
        mine = self._wrap(future)
        self._submitted.add(mine)
        mine.add_done_callback(self._submitted.discard)
        return mine

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **kwargs: Any) -> Iterator[Any]:
        """The results of ``fn`` over the iterables, in order.

        Parameters
        ----------
        timeout : float, optional
            Seconds from this call after which the iterator raises ``TimeoutError``.
        chunksize : int, optional
            Accepted, without effect.
        """
        self._check()
        timeout = kwargs.pop("timeout", None)
        kwargs.pop("chunksize", None)
        if kwargs:
            raise TypeError(f"map does not know the arguments {sorted(kwargs)}")
        deadline = None if timeout is None else time.monotonic() + timeout
        options = {"pure": False, **self._kwargs}
        futures = self._client.map(fn, *[list(part) for part in iterables], **options) if iterables else []
        self._mapped.update(futures)
        for future in futures:
            future.add_done_callback(self._mapped.discard)

        def results() -> Iterator[Any]:
            try:
                for future in futures:
                    left = None if deadline is None else deadline - time.monotonic()
                    try:
                        yield self._client.gatherer.result_here(future, left)
                    except TimeoutError:
                        if deadline is None or time.monotonic() < deadline:
                            raise
                        raise concurrent.futures.TimeoutError(
                            f"the results did not come within {timeout:g} s"
                        ) from None
            finally:
                unfinished = [future for future in futures if not future.done()]
                if unfinished and not self._shutdown:
                    self._client.cancel(unfinished)

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. ``wait``: until what runs has ended; else the futures are cancelled. The client stays
        open.
        """
        with self._lock:
            if self._shutdown:
                return
            self._shutdown = True
        submitted, mapped = list(self._submitted), list(self._mapped)
        try:
            if cancel_futures or not wait:
                for mine in submitted:
                    mine.cancel()
                self._client.cancel([future for future in mapped if not future.done()])
            if wait:
                concurrent.futures.wait(submitted)
                for future in mapped:
                    self._client.gatherer.exception(future)
        except ClosedClientError:
            pass


class _LinkedFuture(concurrent.futures.Future[Any]):
    """Cancelling it cancels the task; it keeps the task alive."""

    def __init__(self, future: Future) -> None:
        super().__init__()
        self._task = future

    def cancel(self) -> bool:
        if self.cancelled():
            return True
        cancelled = super().cancel()
        if cancelled:
            self.set_running_or_notify_cancel()  # who waits for it hears only of this state
        task = self._task
        if cancelled and not task.done():
            task._client.session.cancel([task._bound().key], False, "cancelled", "")
        return cancelled


class _Bound:
    """A call with keyword arguments that have the names of options of ``submit``."""

    def __init__(self, func: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.kwargs = kwargs
        self.__name__ = getattr(func, "__name__", type(func).__name__)

    def __call__(self, *args: Any) -> Any:
        return self.func(*args, **self.kwargs)
