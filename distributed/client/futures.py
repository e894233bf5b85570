"""The Future: a user's handle on one task, and its only count that matters.

A Future is small: key, client, and the :class:`FutureState` that all Futures of a key share. It waits without an
event of its
own, and its death is one append to a list.

dask asks ``isinstance(x, TaskRef)`` to know futures in graphs, but importing dask costs five times as much as importing
this room. So a Future starts with a stand-in base of the very layout of TaskRef, which :func:`adopt_task_ref` swaps
for the
real one: when the first client is made, or when the first loose Future is (dask is in memory then anyway), before any
instance exists.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from html import escape
from types import TracebackType
from typing import Any, cast

from distributed.base.errors import DataLostError, FutureCancelledError, FuturesCancelledError
from distributed.base.handover import noting
from distributed.base.keys import as_key, user_key
from distributed.client import current
from distributed.client.future_table import FutureState


class _TaskRefLayout:
    """Memory layout of ``dask._task_spec.TaskRef``, until that class is here."""

    __slots__ = ("key",)

    key: Any


_adopted = False


class Future(_TaskRefLayout):
    """A task that runs, or has run, somewhere on the cluster, and the value it will have.

    Made by ``client.submit``, ``client.map``, ``client.scatter``, ... While a Future of a key exists the cluster
    keeps the
    task and its value; when the last one is gone, so are they. Futures can be arguments of other tasks, nested at will.

    Parameters
    ----------
    key : str, bytes, int, float or tuple of these
        The task that this stands for; it may have been submitted elsewhere.
    client : Client, optional
        Default: the client that is current where the Future is made or first used.

    Examples
    --------
    >>> future = client.submit(pow, 2, 10)  # doctest: +SKIP
    >>> future.result()  # doctest: +SKIP
    1024
    """

    __dask_future__ = True

    def __init__(self, key: Any, client: Any = None, state: FutureState | None = None) -> None:
        self.key = key
        self._client = client
        self._state = state
        self._counted = state is not None
        if state is None:
            if not _adopted:
                adopt_task_ref()
            if client is None:
                with contextlib.suppress(Exception):
                    client = current.find_client()
            if client is not None:
                self.bind_client(client)
            if noting.into is not None:
                noting.into.append(self)

    # -- belonging to a client -----------------------------------------------------------------------------------------

    def bind_client(self, client: Any) -> None:
        """Make ``client`` the one through which this future speaks. Does nothing when it has one already."""
        if self._state is None:
            self._client = client
            self._state = client.session.want(as_key(self.key))
            self._counted = True

    @property
    def client(self) -> Any:
        """The client that this future belongs to; None as long as there is none."""
        if self._state is None:
            client = current.find_client()
            if client is not None:
                self.bind_client(client)
        return self._client

    @property
    def executor(self) -> Any:
        """Old name of ``client``."""
        return self.client

    def _bound(self) -> FutureState:
        state = self._state
        if state is None:
            client = current.find_client()
            if client is None:
                raise RuntimeError(
                    f"the future of {self.key!r} belongs to no client: it was made or unpickled where there is none. "
                    "Make a Client first, or call future.bind_client(client)"
                )
            self.bind_client(client)
            state = cast(FutureState, self._state)
        return state

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str | None:
        """``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``; None for a future without a client."""
        state = self._state
        if state is None:
            try:
                state = self._bound()
            except RuntimeError:
                return None
        return state.status

    @property
    def type(self) -> Any:
        """The type of the value: the class where it can be had here, else its name; None before the task is done."""
        state = self._state
        return None if state is None or not state.type_name else _find_type(state.type_name)

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._bound().done

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._bound().status == "cancelled"

    # -- the value -----------------------------------------------------------------------------------------------------

    def result(self, timeout: float | str | None = None) -> Any:
        """Wait for the task and return its value.

        Parameters
        ----------
        timeout
            Seconds, or text such as ``"10s"``; default: without end.

        Raises
        ------
        TimeoutError
            It took longer than ``timeout``. The task goes on.
        FutureCancelledError
            The task was cancelled.
        Exception
            What the task raised, with the traceback of the worker.

        In an asynchronous client this returns an awaitable.
        """
        self._bound()
        return self._client.gatherer.result(self, timeout)

    def exception(self, timeout: float | str | None = None, **kwargs: Any) -> Any:
        """Wait for the task and return the exception that it raised, or None. Awaitable in an asynchronous client."""
        self._bound()
        return self._client.gatherer.exception(self, timeout)

    def traceback(self, timeout: float | str | None = None, **kwargs: Any) -> Any:
        """Wait for the task and return the traceback of its exception, or None. Awaitable in an asynchronous client.

        Look at it with the standard library's ``traceback`` module.
        """
        self._bound()
        return self._client.gatherer.traceback(self, timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        self._bound()
        return cast("Generator[Any, None, Any]", self._client.gatherer.result_async(self).__await__())

    def add_done_callback(self, fn: Callable[[Future], Any]) -> None:
        """Have ``fn(future)`` called when the task has ended; at once when it has already.

        Callbacks run one after the other in a thread of the client, and may block.
        """
        if not callable(fn):
            raise TypeError(f"a callback must be callable, not {fn!r}")
        state = self._bound()
        session = self._client.session

        def call(_state: FutureState) -> None:
            session.run_callback(fn, self)

        if not session.table.on_done(state, call):
            call(state)

    # -- acting on the task --------------------------------------------------------------------------------------------

    def cancel(self, reason: str | None = None, msg: str | None = None, **kwargs: Any) -> Any:
        """Stop the task unless another client wants it too. See ``Client.cancel``."""
        self._bound()
        return self._client.cancel([self], reason=reason, msg=msg, **kwargs)

    def retry(self, **kwargs: Any) -> Any:
        """Run the task again if it failed. See ``Client.retry``."""
        self._bound()
        return self._client.retry([self], **kwargs)

    def release(self) -> None:
        """Give up this future, as its death would. The key stays readable; with the last one the value goes."""
        if self._counted:
            self._counted = False
            if self._state is not None:
                self._state.let_go = True
            self._client.session.drop(self._state)

    def __del__(self) -> None:
        # May run in any thread, in the middle of anything: no lock, no I/O.
        try:
            if self._counted:
                self._counted = False
                self._client.session.drop(self._state)
        except Exception:  # the interpreter ends, or __init__ failed
            pass

    # -- identity ------------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # not a method of ours: futures are kept in dicts and sets all along the way

    def __reduce__(self) -> tuple[Any, ...]:
        if noting.into is not None:
            noting.into.append(self)
        return (Future, (self.key,))

    def __copy__(self) -> Future:
        return Future(self.key, self._client)

    def __deepcopy__(self, memo: dict[int, Any]) -> Future:
        return Future(self.key, self._client)

    def __dask_tokenize__(self) -> tuple[str, Any]:
        return ("distributed.Future", self.key)

    def __repr__(self) -> str:
        state = self._state
        status = None if state is None else state.status
        kind = f" type: {_short_type(state.type_name)}," if state is not None and state.type_name else ""
        down = ""
        if state is not None and not state.done:
            down = self._client.session.link.down_text()
        return f"<Future: {status},{kind} key: {self.key}{down and ', ' + down}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return f"<code>{escape(repr(self))}</code>"


def adopt_task_ref() -> None:
    """Make Future a subclass of dask's TaskRef; loads dask. Harmless when called again."""
    global _adopted
    if _adopted:
        return
    task_ref = importlib.import_module("dask._task_spec").TaskRef
    if _TaskRefLayout in Future.__bases__:
        # Where that is refused, because TaskRef has another layout, dask knows futures by __dask_future__.
        with contextlib.suppress(TypeError):
            Future.__bases__ = (task_ref,)
    _adopted = True


if "dask._task_spec" in sys.modules:
    adopt_task_ref()


# -- types -------------------------------------------------------------------------------------------------------------


def _find_type(name: str) -> Any:
    module_name, _, attribute = name.rpartition(".")
    module = sys.modules.get(module_name or "builtins")
    found = None if module is None else getattr(module, attribute, None)
    return found if isinstance(found, type) else name


def _short_type(name: str) -> str:
    package, dot, _ = name.partition(".")
    return (
        f"{package}.{name.rpartition('.')[2]}"
        if dot and package not in ("builtins", "__main__")
        else name.rpartition(".")[2]
    )


# -- errors ------------------------------------------------------------------------------------------------------------


def cancelled_error(state: FutureState) -> FutureCancelledError:
    """What asking for the value of a cancelled future raises."""
    kind = DataLostError if state.lost else FutureCancelledError
    return kind(user_key(state.key), state.reason or "unknown", state.msg or None)


def raise_again(error: BaseException, traceback: TracebackType | None) -> Any:
    """Raise with the worker's frames in the traceback; never returns."""
    try:
        raise error.with_traceback(traceback)
    finally:
        del error, traceback


# -- finding futures ---------------------------------------------------------------------------------------------------


def walk_futures(obj: Any, seen: set[int] | None = None) -> Iterator[Future]:
    """The futures in nested lists, tuples, sets, dicts and dask collections, in order, each once."""
    seen = set() if seen is None else seen
    stack: list[Any] = [obj]
    while stack:
        item = stack.pop()
        if isinstance(item, Future):
            if id(item) not in seen:
                seen.add(id(item))
                yield item
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack.extend(reversed(list(item)))
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
        elif hasattr(type(item), "__dask_graph__") and id(item) not in seen:
            seen.add(id(item))
            graph = item.__dask_graph__()
            if graph is not None:
                stack.extend(reversed(list(graph.values())))


def futures_of(o: Any, client: Any = None) -> list[Future]:
    """The futures inside of ``o``: a future, a nested collection of them, or a persisted dask collection.

    Parameters
    ----------
    o
        Where to look.
    client
        If given, a cancelled future among them raises ``CancelledError``.

    Examples
    --------
    >>> futures_of([1, "a"])
    []
    """
    found = list(walk_futures(o))
    if client is not None:
        bad = [future for future in found if future.cancelled()]
        if bad:
            raise FuturesCancelledError([cancelled_error(cast(FutureState, future._state)) for future in bad])
    return found


def one_client(futures: Iterable[Future], default: Any = None) -> Any:
    """The client of the first bound future, else ``default``, else the one that is meant here."""
    for future in futures:
        if future._client is not None:
            return future._client
    return default if default is not None else current.default_client()


def fire_and_forget(obj: Any) -> None:
    """Let the tasks of these futures run to their end even when the futures are gone.

    Parameters
    ----------
    obj
        A future, or a nested collection of futures.

    Examples
    --------
    >>> fire_and_forget(client.submit(print, "hello"))  # doctest: +SKIP
    """
    by_client: dict[int, tuple[Any, list[Any]]] = {}
    for future in walk_futures(obj):
        state = future._bound()
        by_client.setdefault(id(future._client), (future._client, []))[1].append(state.key)
    for client, keys in by_client.values():
        client.session.fire_and_forget(keys)
