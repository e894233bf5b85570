"""Event loops and threads: who runs the loop, and how a thread without one waits for a coroutine.

:class:`LoopRunner` gives an object (client, cluster) its loop: the running one when it is asynchronous, one that the
user hands in, else a new one (uvloop's where it is installed) in a daemon thread. Loops show as tornado ``IOLoop``,
which is what users and the ecosystem hold in their hands; ``IOLoop.asyncio_loop`` is the loop itself. :func:`sync`
runs a coroutine function there and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import inspect
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from distributed.base import settings
from distributed.base.lazy import lazy_module

if TYPE_CHECKING:
    from tornado import ioloop
else:
    ioloop = lazy_module("tornado.ioloop")

logger = logging.getLogger("distributed.rpc")

T = TypeVar("T")

_START_TIMEOUT_S = 30.0
# Two threads may ask for the IOLoop of one loop, and there can be one only.
_making = threading.Lock()
# How often a waiting thread looks whether the loop that should wake it is still alive.
_LOOK_S = 2.0


def new_asyncio_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop where there is one (unless ``distributed.admin.event-loop`` says otherwise)."""
    wanted = settings.get("distributed.admin.event-loop", "uvloop")
    if sys.platform == "win32":  # the proactor loop has no readiness callbacks, on which comm stands
        return asyncio.SelectorEventLoop()
    if wanted in ("uvloop", "auto", "tornado", None):
        try:
            uvloop = importlib.import_module("uvloop")
        except ImportError:
            return asyncio.new_event_loop()
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def as_asyncio_loop(loop: Any) -> asyncio.AbstractEventLoop:
    """The asyncio loop of an IOLoop; an asyncio loop is returned as it is."""
    inner = getattr(loop, "asyncio_loop", loop)
    if not isinstance(inner, asyncio.AbstractEventLoop):
        raise TypeError(f"expected an event loop (tornado IOLoop or asyncio loop), got {type(loop).__name__}")
    return inner


def as_io_loop(loop: Any) -> ioloop.IOLoop:
    """The IOLoop of an asyncio loop, made when there is none yet; an IOLoop is returned as it is."""
    if isinstance(loop, ioloop.IOLoop):
        return loop
    inner = as_asyncio_loop(loop)
    with _making:
        known = ioloop.IOLoop._ioloop_for_asyncio.get(inner)
        return known if known is not None else ioloop.IOLoop(make_current=False, asyncio_loop=inner)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread now, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def in_async_call(loop: Any, default: bool = False) -> bool:
    """Whether the caller runs on ``loop`` right now. ``default`` when no loop runs here and ``loop`` runs nowhere
    (yet)."""
    inner = as_asyncio_loop(loop)
    here = running_loop()
    if here is not None:
        return here is inner
    return default if not inner.is_running() else False


class _Wait:
    """One thread that waits for one coroutine on another thread's loop. A lock costs a fortieth of an Event."""

    __slots__ = ("error", "lock", "result", "task")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.result: Any = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None


async def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None) -> Any:
    result = func(*args, **kwargs)
    if inspect.isawaitable(result):
        if timeout_s is None:
            return await result
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await result
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"no result within {timeout_s:g} s") from None
            raise
    return result


def sync(
    loop: Any,
    func: Callable[..., Any],
    *args: Any,
    callback_timeout: str | float | timedelta | None = None,
    **kwargs: Any,
) -> Any:
    """Call ``func(*args, **kwargs)`` on the loop, which runs in another thread, and return what its coroutine returns.

    The coroutine sees the caller's context variables. ``KeyboardInterrupt`` ends the wait and cancels the coroutine.

    Parameters
    ----------
    loop: IOLoop or asyncio loop
    callback_timeout: seconds (or ``"5s"``) after which the coroutine is cancelled and TimeoutError raised; None: no
        limit

    Raises
    ------
    RuntimeError: called on the loop's own thread (that would wait for itself), or the loop is closed or has stopped
    """
    timeout_s = None if callback_timeout is None else float(settings.parse_timedelta(callback_timeout, "s"))
    inner = as_asyncio_loop(loop)
    if inner.is_closed():
        raise RuntimeError("the event loop is closed")
    if running_loop() is inner:
        name = getattr(func, "__qualname__", repr(func))
        raise RuntimeError(
            f"cannot wait for {name!r} on the thread of the event loop that has to run it; "
            "in asynchronous code, create the object with asynchronous=True and use 'await'"
        )
    wait = _Wait()

    def begin() -> None:
        try:
            task = inner.create_task(_run(func, args, kwargs, timeout_s))
        except BaseException as e:
            wait.error = e
            wait.lock.release()
            return
        wait.task = task
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[Any]) -> None:
        try:
            wait.result = task.result()
        except BaseException as e:
            wait.error = e
        wait.lock.release()

    inner.call_soon_threadsafe(begin, context=contextvars.copy_context())
    _wait_for(inner, wait)
    error = wait.error
    if error is not None:
        try:
            raise error
        finally:
            del error, wait  # else this frame and the traceback hold each other
    return wait.result


def _wait_for(loop: asyncio.AbstractEventLoop, wait: _Wait) -> None:
    was_running = loop.is_running()
    stopped_at: float | None = None
    try:
        while not wait.lock.acquire(timeout=_LOOK_S):
            if loop.is_closed():
                raise RuntimeError("the event loop was closed while a thread waited for it")
            if loop.is_running():
                was_running, stopped_at = True, None
            elif was_running:
                # run_sync() stops and starts a loop: only one that stays stopped is gone.
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at > 3 * _LOOK_S:
                    raise RuntimeError("the event loop was stopped while a thread waited for it")
    except BaseException:
        if not loop.is_closed():

            def cancel() -> None:
                if wait.task is not None:
                    wait.task.cancel()

            try:
                loop.call_soon_threadsafe(cancel)
            except RuntimeError:
                pass
        raise


class _Running:
    """A loop that LoopRunners have in use: how many, and the thread that one of them has started for it."""

    __slots__ = ("count", "thread")

    def __init__(self, thread: threading.Thread | None) -> None:
        self.thread = thread
        self.count = 0


_in_use: weakref.WeakKeyDictionary[ioloop.IOLoop, _Running] = weakref.WeakKeyDictionary()
_in_use_lock = threading.RLock()


class LoopRunner:
    """Has the event loop of one object run, in the right thread, as long as the object needs it.

    Parameters
    ----------
    loop: an IOLoop (or asyncio loop) to use. One that runs already is left to whoever runs it; one that does not is
        run in a
        daemon thread. None: the running loop when ``asynchronous``, else a new one.
    asynchronous: the object is used by coroutines on the loop; nothing is started

    >>> runner = LoopRunner()
    >>> runner.start()
    >>> async def f():
    ...     return 1
    >>> runner.run_sync(f)
    1
    >>> runner.stop()
    """

    def __init__(self, loop: Any = None, asynchronous: bool = False) -> None:
        self._asynchronous = asynchronous
        self._own = False
        self._started = False
        self._loop: ioloop.IOLoop | None
        if loop is not None:
            self._loop = as_io_loop(loop)
        elif asynchronous:
            here = running_loop()
            if here is None:
                raise RuntimeError("asynchronous=True needs a running event loop: create the object inside a coroutine")
            self._loop = as_io_loop(here)
        else:
            self._loop = None

    @property
    def loop(self) -> ioloop.IOLoop:
        """The loop; made now when there is none yet."""
        if self._loop is None:
            self._own = True
            self._loop = ioloop.IOLoop(make_current=False, asyncio_loop=new_asyncio_loop())
        return self._loop

    @property
    def asynchronous(self) -> bool:
        return self._asynchronous

    def is_started(self) -> bool:
        """Whether the loop runs, as far as this runner is concerned."""
        return self._started

    def start(self) -> None:
        """Have the loop run. Idempotent. Returns when it does."""
        if self._started:
            return
        loop = self.loop
        if self._asynchronous:
            self._started = True
            return
        with _in_use_lock:
            running = _in_use.get(loop)
            if running is None:
                inner = as_asyncio_loop(loop)
                if inner.is_closed():
                    raise RuntimeError("the event loop is closed")
                if inner.is_running():
                    running = _Running(None)
                else:
                    running = _Running(_start_thread(loop, self._own))
                _in_use[loop] = running
            running.count += 1
            self._started = True

    def stop(self, timeout: float = 10.0) -> None:
        """Let
        go of the loop; the last one to do so stops (and, if we made it, closes) a loop that a runner had started."""
        if not self._started:
            return
        self._started = False
        if self._asynchronous:
            return
        thread = _let_go(self.loop)
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            logger.warning("The event loop's thread is busy and has not ended within %g s", timeout)
            return

    def __del__(self) -> None:
        # Whoever had it is garbage and has not closed it. The collector, which runs in any thread, must wait neither
        # for a lock nor for a thread: the loop lets go of itself.
        if self._started and not self._asynchronous and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed
                as_asyncio_loop(self._loop).call_soon_threadsafe(_let_go, self._loop)

    def run_sync(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` on the loop and wait for its result; the loop is started for it, and only for it, when it
        does not run.

        Must not be called on the loop's own thread.
        """
        if self._started:
            return sync(self.loop, func, *args, **kwargs)
        self.start()
        try:
            return sync(self.loop, func, *args, **kwargs)
        finally:
            self.stop()

    def __repr__(self) -> str:
        return f"<LoopRunner {'started' if self._started else 'not started'}>"


def _let_go(loop: ioloop.IOLoop) -> threading.Thread | None:
    """One user less; the loop's thread, if it was told to end now."""
    with _in_use_lock:
        running = _in_use.get(loop)
        if running is None:
            return None
        running.count -= 1
        if running.count > 0:
            return None
        del _in_use[loop]
    if running.thread is None:
        return None
    inner = as_asyncio_loop(loop)
    try:
        inner.call_soon_threadsafe(inner.stop)
    except RuntimeError:
        return None
    return running.thread


def _start_thread(loop: ioloop.IOLoop, close_after: bool) -> threading.Thread:
    inner = as_asyncio_loop(loop)
    ready = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(inner)
        inner.call_soon(ready.set)
        try:
            inner.run_forever()
        finally:
            try:
                _finish_tasks(inner)
            finally:
                asyncio.set_event_loop(None)
                if close_after:
                    loop.close()

    thread = threading.Thread(target=run, name="IO loop", daemon=True)
    thread.start()
    if not ready.wait(_START_TIMEOUT_S):
        raise RuntimeError(f"the event loop has not started within {_START_TIMEOUT_S:g} s")
    return thread


def _finish_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on a loop that has stopped, so that no coroutine is torn down half-way by the collector."""
    if loop.is_closed():
        return
    left = [t for t in asyncio.all_tasks(loop) if not t.done()]
    if not left:
        return
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.wait(left, timeout=2))


class SyncMethodMixin:
    """For objects with a ``loop`` whose methods serve coroutines and plain code alike, by
    ``self.sync(self._method)``."""

    loop: Any

    @property
    def asynchronous(self) -> bool:
        """Whether the caller runs on our event loop (or, before it runs, whether we were made for that)."""
        loop = getattr(self, "loop", None)
        default = bool(getattr(self, "_asynchronous", False))
        return default if loop is None else in_async_call(loop, default=default)

    def sync(
        self,
        func: Callable[..., Any],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: str | float | timedelta | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call
        ``func``: an awaitable on the loop's own thread (or with ``asynchronous=True``), else wait for its result."""
        if asynchronous or (asynchronous is None and self.asynchronous):
            timeout_s = None if callback_timeout is None else float(settings.parse_timedelta(callback_timeout, "s"))
            result = func(*args, **kwargs)
            if timeout_s is not None and inspect.isawaitable(result):
                return asyncio.wait_for(result, timeout_s)
            return result
        return sync(self.loop, func, *args, callback_timeout=callback_timeout, **kwargs)


def run_soon(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]
) -> asyncio.Task[T]:
    """A task that ``tasks`` keeps alive until it is done."""
    task = loop.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
