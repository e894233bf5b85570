"""Which client is meant when none is named: that of the running task's worker, that of ``as_current``, the newest
default.

Also the tools for tasks that submit tasks. Shell; knows clients only as objects that offer ``as_current``,
``status`` and so
on, because the Client class stands above this module.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from distributed.base import defaults
from distributed.base.formatting import parse_timedelta
from distributed.rpc.loop_runner import in_async_call, sync

logger = logging.getLogger("distributed.client")

_current: contextvars.ContextVar[Any] = contextvars.ContextVar("distributed_current_client", default=None)
_defaults: list[weakref.ref[Any]] = []
_lock = threading.Lock()


# -- the registry of default clients -----------------------------------------------------------------------------------


def add_default(client: Any) -> None:
    """From now on the client is the one that functions without a ``client=`` use, until it closes."""
    with _lock:
        _defaults.append(weakref.ref(client))


def remove_default(client: Any) -> None:
    """The client closes."""
    with _lock:
        _defaults[:] = [known for known in _defaults if known() is not None and known() is not client]


def newest_default() -> Any:
    """The default client that was made last and is still open, or None."""
    for known in reversed(_defaults):
        client = known()
        if client is not None and client.status not in ("closed", "closing"):
            return client
    return None


def contextual() -> Any:
    """The client of the innermost ``as_current`` around the caller, or None."""
    return _current.get()


enter, leave = _current.set, _current.reset
"""``as_current`` in two calls, for hot paths: ``leave`` takes what ``enter`` has returned."""


@contextlib.contextmanager
def as_current(client: Any) -> Iterator[None]:
    """Inside the block, in this thread or coroutine, ``client`` is the one that is meant."""
    token = _current.set(client)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left in another context than entered: nothing to undo there
            _current.reset(token)


@contextlib.contextmanager
def temp_default_client(client: Any) -> Iterator[None]:
    """Old name of ``client.as_current()``."""
    with as_current(client):
        yield


# Names by which other packages know these.
_get_global_client = newest_default
_set_global_client = add_default
_del_global_client = remove_default


# -- the worker around us ----------------------------------------------------------------------------------------------


def current_worker() -> Any:
    """The worker whose task the calling thread or coroutine runs, or None."""
    ask = defaults.current_worker.get()
    return None if ask is None else ask()


def current_task_key() -> Any:
    """The key of the task that the calling thread or coroutine runs, or None."""
    ask = defaults.current_task_key.get()
    return None if ask is None else ask()


def client_of_worker(worker: Any, timeout: float | str | None = None) -> Any:
    """The one client that all tasks of ``worker`` share; made when first asked for, on the worker's own loop.

    Safe from task threads (waits until it is connected) and from the worker's loop (does not wait: what is submitted
    before the connection stands leaves then, and questions wait for it).
    """
    ask = defaults.current_client_of_worker.get()
    client = ask() if ask is not None else None
    if client is not None:
        return client
    client = getattr(worker, "_client", None)
    if client is None or client.status in ("closed", "closing"):
        # On the loop, one after the other: with a lock around it, a thread that holds it while it waits for the loop
        # and a coroutine that waits for it there would stop each other.
        if in_async_call(worker.loop):
            client = _client_on_loop(worker, timeout)
        else:
            client = sync(worker.loop, _client_on_loop, worker, timeout, callback_timeout=timeout)
    client.ensure_started(timeout)
    return client


def _client_on_loop(worker: Any, timeout: float | str | None) -> Any:
    client = getattr(worker, "_client", None)
    if client is None or client.status in ("closed", "closing"):
        client = worker._client = defaults.load("Client")(
            worker.scheduler_address,
            loop=worker.loop,
            timeout=timeout if timeout is not None else 30,
            set_as_default=False,
            asynchronous=True,
            direct_to_workers=True,
            # The scheduler knows by this name that the client goes with its worker.
            name=f"worker-{worker.address}",
            security=getattr(worker, "security", None),
        )
    return client


# -- finding a client --------------------------------------------------------------------------------------------------


def find_client() -> Any:
    """The client that is meant here, or None; never connects to a scheduler on its own account."""
    client = _current.get()
    if client is not None and client.status not in ("closed", "closing"):
        return client
    worker = current_worker()
    if worker is not None:
        return client_of_worker(worker)
    return newest_default()


def default_client(c: Any = None) -> Any:
    """``c`` if given, else the client that is meant here.

    Raises ``ValueError`` when there is none.
    """
    if c is not None:
        return c
    client = _current.get() or newest_default()
    if client is None:
        raise ValueError(
            "there is no client yet: make one, such as Client('host:8786') or Client() for a cluster on this machine"
        )
    return client


def ensure_default_client(client: Any) -> None:
    """Make ``client`` the default one."""
    add_default(client)


def get_client(address: Any = None, timeout: float | str | None = None, resolve_address: bool = True) -> Any:
    """The client of the place where this is called.

    In a task: the client of the task's worker (shared by all its tasks). Elsewhere: the client of ``as_current``,
    else the
    newest default client, else, when ``address`` is given, a new client.

    Parameters
    ----------
    address
        Scheduler address; default: any.
    timeout
        Seconds (or text such as ``"10s"``) to wait for a new connection; default: the configured connect timeout.
    resolve_address
        Accepted for compatibility; addresses are compared as they are and with ``tcp://`` put before them.

    Raises
    ------
    ValueError
        There is none, and no address.

    Examples
    --------
    >>> def total(numbers):
    ...     client = get_client()
    ...     return sum(client.gather(client.map(abs, numbers)))
    """
    if timeout is not None:
        timeout = parse_timedelta(timeout)
    wanted = None if address is None else getattr(address, "scheduler_address", address)
    worker = current_worker()
    if worker is not None and (wanted is None or _same(wanted, worker.scheduler_address)):
        explicit = _current.get()
        if explicit is not None and explicit.status not in ("closed", "closing"):
            return explicit
        return client_of_worker(worker, timeout)
    client = _current.get() or newest_default()
    if client is not None and (wanted is None or _same(wanted, client.scheduler_address)):
        return client
    if address is not None:
        keywords = {} if timeout is None else {"timeout": timeout}
        return defaults.load("Client")(address, **keywords)
    raise ValueError("there is no client here, and no address to make one for")


def _same(one: str, other: str | None) -> bool:
    if other is None:
        return False
    return one == other or (f"tcp://{one}" if "://" not in one else one) == other


# -- tasks that submit tasks -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker_client(timeout: float | str | None = None, separate_thread: bool = True) -> Iterator[Any]:
    """The client of the worker that runs this task, for use inside of the task.

    Parameters
    ----------
    timeout
        Seconds to wait for the client to connect.
    separate_thread
        Whether to leave the worker's slot meanwhile (:func:`secede`), so that the tasks submitted here can run even
        on a
        worker with a single thread.

    Raises
    ------
    ValueError
        Outside of a task.

    Examples
    --------
    >>> def total(n):
    ...     with worker_client() as client:
    ...         return sum(client.gather(client.map(abs, range(n))))
    """
    worker = current_worker()
    if worker is None:
        raise ValueError("No worker found: worker_client() works inside of tasks only")
    client = get_client(timeout=timeout)
    if separate_thread:
        defaults.load("secede")()
    with as_current(client):
        yield client


local_client = worker_client


def get_worker() -> Any:
    """The worker of the running task. Raises ``ValueError`` outside of one."""
    return defaults.load("get_worker")()
