"""The Client: the face of the cluster to its users. Thin: each method checks its arguments and hands over to its room.

A client has an event loop (a thread of its own, the cluster's, or the caller's), a :class:`Session` with the
scheduler, and
the workers of this room: submitter, graph submitter, gatherer, scatterer, admin. Shell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import time
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Self

from distributed.base import defaults, settings, settings_check
from distributed.base.errors import CommClosedError
from distributed.base.formatting import format_bytes
from distributed.client import current
from distributed.client.admin import NO_DEFAULT, Admin
from distributed.client.cluster_calls import ClusterCalls, nothing, seen
from distributed.client.datasets import Publisher
from distributed.client.diagnosing import Diagnosing
from distributed.client.event_handlers import EventHandlers
from distributed.client.executor import ClientExecutor
from distributed.client.futures import Future, adopt_task_ref, futures_of
from distributed.client.gathering import Gatherer
from distributed.client.graph import GraphSubmitter, nested
from distributed.client.graph_annotations import flatten
from distributed.client.options import fifo_seconds, make_options
from distributed.client.scatter import Scatterer
from distributed.client.scheduler_link import ClosedClientError
from distributed.client.session import RUNNING, Session
from distributed.client.submission import Submitter
from distributed.client.timeouts import seconds
from distributed.comm.registry import connect_timeout
from distributed.comm.secrets import read_scheduler_file
from distributed.comm.security import load_security, refuse
from distributed.protocol.serialize import by_families
from distributed.rpc.loop_runner import LoopRunner, as_asyncio_loop, in_async_call

logger = logging.getLogger("distributed.client")

_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()
FILE_POLL_S = 0.05


class SchedulerProxy:
    """``client.scheduler``: each attribute is an operation of the scheduler, called with keywords, always awaitable."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def address(self) -> str | None:
        """The scheduler's address."""
        return self._session.address

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("_"):
            raise AttributeError(op)

        async def ask(**kwargs: Any) -> Any:
            return await self._session.call(op, **kwargs)

        ask.__name__ = op
        return ask

    def __repr__(self) -> str:
        return f"<pooled rpc to {self.address!r}>"


class Client(ClusterCalls, Diagnosing):
    """Connect to a cluster and have it compute.

    Parameters
    ----------
    address : str or Cluster, optional
        ``"tcp://127.0.0.1:8786"``, or an object with a ``scheduler_address``. Default: the setting ``scheduler-
        address``
        (or the environment variable ``DASK_SCHEDULER_ADDRESS``), else a new :class:`LocalCluster`, made with the
        unknown
        keywords and closed with the client.
    loop : IOLoop, optional
        Event loop to run on. Default: that of the cluster, else one in a thread of our own.
    timeout : float or str, optional
        Seconds for connecting. Default: the setting ``distributed.comm.timeouts.connect``.
    set_as_default : bool
        Whether functions without a ``client=``, and dask's ``compute``, use this client.
    scheduler_file : str, optional
        Path of a file with the scheduler's address; waited for until the timeout.
    security : optional
        Credentials.
    asynchronous : bool
        For use in coroutines: ``async with Client(..., asynchronous=True) as client``.
    name : str, optional
        Part of the client's id. Default: the setting ``client-name``.
    heartbeat_interval : float or str, optional
        Seconds between signs of life.
    direct_to_workers : bool, optional
        Whether data goes straight between client and workers. Default: yes, and by the scheduler where that fails.
    serializers, deserializers : list of str, optional
        Families that data scattered by this client, and values gathered by it, may use (``"dask"``, ``"msgpack"``,
        ``"pickle"``, or one registered by its name); anything else is a ``TypeError``. Default: all, dask first.
    extensions, connection_limit
        Accepted for compatibility.

    Examples
    --------
    >>> with Client(n_workers=2) as client:  # doctest: +SKIP
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """

    def __init__(
        self,
        address: Any = None,
        loop: Any = None,
        timeout: Any = NO_DEFAULT,
        set_as_default: bool = True,
        scheduler_file: Any = None,
        security: Any = None,
        asynchronous: bool = False,
        name: str | None = None,
        heartbeat_interval: Any = None,
        serializers: Any = None,
        deserializers: Any = None,
        extensions: Any = None,
        direct_to_workers: bool | None = None,
        connection_limit: int = 512,
        **kwargs: Any,
    ) -> None:
        self.status_before_session = "newly-created"
        if timeout is NO_DEFAULT or timeout is None:
            self._timeout = connect_timeout()
        else:
            self._timeout = float(seconds(timeout) or 0.0)
        heartbeat = (
            heartbeat_interval if heartbeat_interval is not None else settings.get("distributed.client.heartbeat", "5s")
        )
        self._heartbeat_s = float(seconds(heartbeat, "heartbeat_interval") or 5.0)
        if name is None:
            name = settings.get("client-name", None)
        if not isinstance(asynchronous, bool):
            raise TypeError(f"asynchronous= takes True or False, not {asynchronous!r}")
        self._asynchronous = asynchronous
        self._set_as_default = set_as_default
        self._config_scope: Any = None
        self.name = name
        self.id = f"{type(self).__name__}-{name + '-' if name else ''}{uuid.uuid4()}"
        self.scheduler_file = scheduler_file
        settings_check.check()
        if security is None:
            security = load_security(address)
        refuse(security)
        self.security = security
        self.dumps_value, self.loads_value = by_families(serializers, deserializers)
        if direct_to_workers is None:
            direct_to_workers = settings.get("distributed.client.direct-to-workers", None)
        self.direct_to_workers = direct_to_workers
        self.extensions: dict[str, Any] = {}
        self.cluster: Any = None
        self._owns_cluster = False
        self._cluster_keywords: dict[str, Any] | None = None
        self._address: str | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._close_lock = contextlib.nullcontext()
        self._identity_at = 0.0
        self._pid = os.getpid()
        self.event_handlers = EventHandlers()

        self._find_address(address, scheduler_file, kwargs)
        if loop is None and self.cluster is not None and not asynchronous:
            cluster_loop = getattr(self.cluster, "loop", None)
            if cluster_loop is not None and as_asyncio_loop(cluster_loop).is_running():
                loop = cluster_loop
        adopt_task_ref()
        if self._cluster_keywords is not None and not asynchronous:
            self._own_cluster(loop)
            loop = self.cluster.loop
        try:
            self._loop_runner = LoopRunner(loop=loop, asynchronous=asynchronous)
            self.session = Session(self.id, name or "")
            self.submitter = Submitter(self, self.session)
            self.graphs = GraphSubmitter(self, self.session, self.submitter)
            self.gatherer = Gatherer(self, self.session)
            self.scatterer = Scatterer(self, self.session)
            self.admin = Admin(self, self.session)
            self.publisher = Publisher(self, self.session)
            self.scheduler = SchedulerProxy(self.session)
            self.session.on_lost = self._on_lost
            self.session.on_new_session = self._subscribe_again
            self.session.on_event = self.event_handlers.call
            self._loop_runner.start()
            self.start()
        except BaseException:
            self._give_up()
            raise

    # -- finding the scheduler -----------------------------------------------------------------------------------------

    def _find_address(self, address: Any, scheduler_file: Any, kwargs: dict[str, Any]) -> None:
        if address is None and scheduler_file is None:
            address = settings.get("scheduler-address", None) or None
        if address is None and scheduler_file is None:
            self._cluster_keywords = dict(kwargs)
            return
        if kwargs:
            raise TypeError(
                f"Client() got unexpected keyword arguments: {sorted(kwargs)} "
                "(with an address no LocalCluster is started, which would take them)"
            )
        if address is None:
            return
        if isinstance(address, str):
            self._address = (
                address if "://" in address else f"{settings.get('distributed.comm.default-scheme', 'tcp')}://{address}"
            )
        elif hasattr(address, "scheduler_address"):
            self.cluster = address
            if self.security is None:
                self.security = getattr(address, "security", None)
        else:
            raise TypeError(f"a scheduler is found by the text of its address or a cluster object, not by {address!r}")

    def _own_cluster(self, loop: Any) -> None:
        make = defaults.load("LocalCluster")
        keywords = dict(self._cluster_keywords or {})
        if loop is not None:
            keywords["loop"] = loop
        if self.security is not None:
            keywords["security"] = self.security
        try:
            self.cluster = make(**keywords)
        except BaseException:
            self.status_before_session = "closed"
            raise
        self._owns_cluster = True

    async def _address_from_file(self, deadline: float) -> str:
        path = self.scheduler_file
        problem = f"there is no scheduler file {os.fspath(path)!r}"
        while True:
            try:
                document, _ = read_scheduler_file(path)
                return str(document["address"])
            except FileNotFoundError:
                pass
            except (ValueError, json.JSONDecodeError) as e:
                problem = str(e)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{problem} after {self._timeout:g} s")
            await asyncio.sleep(FILE_POLL_S)

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, **kwargs: Any) -> Any:
        """Connect; called by the constructor."""
        if self.session.status != "newly-created":
            return None
        if self._asynchronous:
            loop = as_asyncio_loop(self.loop)
            if in_async_call(self.loop):
                self._starting = loop.create_task(self._start())
                self._starting.add_done_callback(seen)
            else:
                started: Any = asyncio.run_coroutine_threadsafe(self._start_as_task(), loop)
                started.result(self._timeout + 5)
            return self._starting
        sync_on(self._loop_runner, self._start)
        return None

    async def _start_as_task(self) -> None:
        self._starting = asyncio.current_task()
        await self._start()

    async def _start(self) -> None:
        deadline = time.monotonic() + self._timeout
        retry_refused_s = 0.0
        try:
            if self._cluster_keywords is not None and self.cluster is None:
                keywords = dict(self._cluster_keywords)
                if self.security is not None:
                    keywords["security"] = self.security
                self.cluster = await defaults.load("LocalCluster")(asynchronous=True, **keywords)
                self._owns_cluster = True
            address = self._address
            if address is None and self.cluster is not None:
                if hasattr(self.cluster, "status") and getattr(self.cluster.status, "name", "") in ("created",):
                    await self.cluster
                address = self.cluster.scheduler_address
                self.security = self.security if self.security is not None else getattr(self.cluster, "security", None)
            elif address is None:
                address = await self._address_from_file(deadline)
                retry_refused_s = self._timeout
            if address is None:
                raise ValueError("no scheduler address")
            await self.session.open(
                address,
                max(0.0, deadline - time.monotonic()) if self._address is None else self._timeout,
                getattr(self.security, "secret", None),
                self._heartbeat_s,
                retry_refused_s=min(retry_refused_s, self._timeout),
                security=self.security,
            )
            await self._refresh()
        except BaseException:
            if self._owns_cluster and self._asynchronous and self.cluster is not None:
                with contextlib.suppress(Exception):
                    await self.cluster.close()
            self.session.status = "closed"
            raise
        _open_clients.add(self)
        if self._set_as_default:
            self._become_default()

    def ensure_started(self, timeout: Any = None) -> None:
        """Wait until the client is connected, if the calling thread may wait. For clients made asynchronously."""
        starting = self._starting
        if starting is None or starting.done() or in_async_call(self.loop):
            if starting is not None and starting.done() and not starting.cancelled():
                error = starting.exception()
                if error is not None:
                    raise error
            return

        async def started() -> None:
            await asyncio.shield(starting)

        self.sync(started, asynchronous=False, callback_timeout=timeout)

    def _become_default(self) -> None:
        current.add_default(self)
        config = settings.register()
        self._config_scope = config.set(scheduler="dask.distributed")

    def _resign_as_default(self) -> None:
        current.remove_default(self)
        scope, self._config_scope = self._config_scope, None
        if scope is not None:
            scope.__exit__(None, None, None)

    def _give_up(self) -> None:
        """The start has failed: leave nothing behind."""
        if hasattr(self, "session"):
            self.session.status = "closed"
        if self._owns_cluster and not self._asynchronous and self.cluster is not None:
            with contextlib.suppress(Exception):
                self.cluster.close()
        runner = getattr(self, "_loop_runner", None)
        if runner is not None:
            runner.stop()

    @property
    def status(self) -> str:
        """``newly-created``, ``connecting``, ``running``, ``closing`` or ``closed``."""
        session = getattr(self, "session", None)
        return self.status_before_session if session is None else session.status

    @property
    def loop(self) -> Any:
        """The tornado loop on which the client runs."""
        return self._loop_runner.loop

    @property
    def asynchronous(self) -> bool:
        """Whether the caller runs on the client's event loop, where methods return awaitables instead of waiting."""
        session = self.session
        if session._loop is not None:
            running = asyncio._get_running_loop()
            if running is None:
                return self._asynchronous and not session._loop.is_running()
            return running is session._loop
        return in_async_call(self.loop, default=self._asynchronous)

    def sync(
        self,
        func: Callable[..., Any],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Call ``func``: in coroutines on the client's loop its awaitable, elsewhere its result.

        Raises :class:`ClosedClientError` on a closed client.
        """
        if self.session.status == "closed":
            raise ClosedClientError("Client is closed.")
        return super().sync(func, *args, asynchronous=asynchronous, callback_timeout=callback_timeout, **kwargs)

    def __await__(self) -> Generator[Any, None, Self]:
        async def ready() -> Self:
            if self._starting is not None:
                await self._starting
            return self

        return ready().__await__()

    async def __aenter__(self) -> Self:
        await self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    def __enter__(self) -> Self:
        if self._asynchronous:
            raise TypeError("Used 'with' with asynchronous client; please use 'async with'")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: Any = NO_DEFAULT) -> Any:
        """Disconnect. Futures of this client are cancelled; a cluster that the client has made is closed with it.

        Awaitable on the client's event loop. Harmless when called again.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds to wait for what was sent last to leave.
        """
        limit = 5.0 if timeout is NO_DEFAULT or timeout is None else float(seconds(timeout) or 0.0)
        if self._pid != os.getpid():
            return None
        if self.status == "closed" and not self._owns_cluster:
            if self.asynchronous_default:
                return nothing()
            self._loop_runner.stop()
            return None
        if in_async_call(self.loop, default=self._asynchronous):
            return asyncio.ensure_future(self._close(limit))
        try:
            with contextlib.suppress(RuntimeError):  # the loop has gone before us
                sync_on(self._loop_runner, self._close_session, limit)
        finally:
            self.session.status = "closed"
            self._resign_as_default()
            if self._owns_cluster and self.cluster is not None:
                self._owns_cluster = False
                self.cluster.close()
            if not self._asynchronous:
                self._loop_runner.stop()
        return None

    @property
    def asynchronous_default(self) -> bool:
        """Whether the client was made for coroutines, whoever asks."""
        return self._asynchronous

    async def _close_session(self, timeout: float = 5.0) -> None:
        self._resign_as_default()
        if self._starting is not None and not self._starting.done() and self._starting is not asyncio.current_task():
            self._starting.cancel()
        await self.session.close(timeout)
        _open_clients.discard(self)

    async def _close(self, timeout: float = 5.0) -> None:
        await self._close_session(timeout)
        if self._owns_cluster and self.cluster is not None:
            self._owns_cluster = False
            closing = self.cluster.close()
            if hasattr(closing, "__await__"):
                await closing

    def _on_lost(self) -> None:
        """The scheduler is gone for good."""
        self._closing = asyncio.ensure_future(self._close_session(1.0))

    def shutdown(self) -> Any:
        """Close the cluster, workers and scheduler, and then this client."""
        return self.sync(self._shutdown) if self._asynchronous and self.asynchronous else self._shutdown_here()

    async def _shutdown(self) -> None:
        if self.cluster is not None:
            self._owns_cluster = False
            closing = self.cluster.close()
            if hasattr(closing, "__await__"):
                await closing
        else:
            await self.admin.shutdown()
        await self._close_session()

    def _shutdown_here(self) -> None:
        if in_async_call(self.loop):
            raise RuntimeError("shutdown() would wait for the event loop on the loop's own thread")
        if self.cluster is not None:
            cluster = self.cluster
            self._owns_cluster = False
            sync_on(self._loop_runner, self._close_session)
            cluster.close()
        else:
            with contextlib.suppress(CommClosedError, ClosedClientError):
                self.sync(self.admin.shutdown, asynchronous=False)
        self.close()

    # -- current client ------------------------------------------------------------------------------------------------

    @classmethod
    def current(cls, allow_global: bool = True) -> Client:
        """The client of the innermost ``as_current()`` around the caller, else the newest default client.

        Parameters
        ----------
        allow_global : bool
            Whether the default client counts.

        Raises
        ------
        ValueError
            There is none.
        """
        client = current.contextual()
        if client is None and allow_global:
            client = current.newest_default()
        if client is None:
            raise ValueError("no client is current: there is neither an `as_current` block here nor a default client")
        found: Client = client
        return found

    @contextlib.contextmanager
    def as_current(self) -> Iterator[Client]:
        """Inside the block this client is the one that is meant, in this thread or coroutine. Also for dask's
        ``compute``.
        """
        config = settings.register()
        with current.as_current(self), config.set(scheduler="dask.distributed"):
            yield self

    # -- looks ---------------------------------------------------------------------------------------------------------

    async def _refresh(self) -> dict[str, Any]:
        info = await self.admin.update_identity()
        self._identity_at = time.monotonic()
        return info

    def _fresh_identity(self) -> dict[str, Any]:
        """The scheduler's identity, asked for if it is old and the caller may wait."""
        if self.session.status == RUNNING and time.monotonic() - self._identity_at > 0.5:
            if self.asynchronous:
                task = asyncio.ensure_future(self._refresh())
                task.add_done_callback(seen)
            else:
                with contextlib.suppress(Exception):
                    self.sync(self._refresh, asynchronous=False, callback_timeout=0.5)
        return self.admin.identity

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.status not in (RUNNING, "connecting") or not hasattr(self, "admin"):
            return f"<{name}: No scheduler connected>"
        down = self.session.link.down_text()
        if down:
            return f"<{name}: {self.session.address!r} {down}>"
        info = self._fresh_identity()
        workers = list((info.get("workers") or {}).values())
        address = self.session.address
        if not info:
            return f"<{name}: scheduler={address!r}>"
        text = (
            f"<{name}: {address!r} processes={len(workers)} threads={sum(int(w.get('nthreads', 0)) for w in workers)}"
        )
        memory = [int(worker.get("memory_limit") or 0) for worker in workers]
        return f"{text}, memory={format_bytes(sum(memory))}>" if all(memory) else f"{text}>"

    def _repr_html_(self) -> str:
        from html import escape

        link = self.dashboard_link
        anchor = f'<a href="{escape(link)}" target="_blank">{escape(link)}</a>' if link else "none"
        cluster = "" if self.cluster is None else f"<p>Cluster: {escape(repr(self.cluster))}</p>"
        return f"<div><h3>Client</h3><p>{escape(repr(self))}</p><p>Dashboard: {anchor}</p>{cluster}</div>"

    @property
    def dashboard_link(self) -> str | None:
        """Where a browser finds the status page; None when there is none."""
        link = getattr(self.cluster, "dashboard_link", None)
        if link:
            return str(link)
        port = (self.admin.identity.get("services") or {}).get("dashboard")
        if port is None or self.session.address is None:
            return None
        scheme, _, location = self.session.address.partition("://")
        host = "localhost" if scheme in ("inproc", "unix") else location.rpartition(":")[0]
        template = settings.get("distributed.dashboard.link", "{scheme}://{host}:{port}/status")
        values = {**os.environ, "scheme": "http", "host": host, "port": port}
        try:
            return str(template).format(**values)
        except (KeyError, IndexError):
            return f"http://{host}:{port}/status"

    def scheduler_info(self, n_workers: int = -1, **kwargs: Any) -> dict[str, Any]:
        """What the scheduler tells of itself: ``address``, ``services``, and ``workers`` by address.

        Parameters
        ----------
        n_workers : int
            At most so many workers; -1: all.

        In coroutines this is the view of a moment ago.
        """
        self.session.check_open("identity")
        if not self.asynchronous:
            self.sync(self._refresh, asynchronous=False)
        else:
            self._fresh_identity()
        info = dict(self.admin.identity)
        if n_workers >= 0:
            info["workers"] = dict(list((info.get("workers") or {}).items())[:n_workers])
        return info

    @property
    def scheduler_address(self) -> str | None:
        """The scheduler's address."""
        return self.session.address

    @property
    def futures(self) -> dict[Any, Any]:
        """Key -> state of what this client holds."""
        self.session.release_dropped()
        return self.session.table.states

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: Any = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "100 ms",
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: Any,
    ) -> Future:
        """Run ``func(*args, **kwargs)`` on the cluster.

        Parameters
        ----------
        func : callable
        *args, **kwargs
            Its arguments. Futures among them, also inside of lists, tuples, sets and dicts, stand for their values.
        key : str, bytes, int, float or tuple, optional
            Name of the task. Default: made from the function's name and a hash of the call.
        workers : str or list of str, optional
            Addresses, names or hosts of the workers that may run it.
        resources : dict, optional
            What it needs of each resource, such as ``{"GPU": 1}``.
        retries : int, optional
            How often to run it again when it raises.
        priority : float
            Tasks of higher priority run first.
        fifo_timeout : float or str
            Submissions that follow each other faster than this are one generation.
        allow_other_workers : bool
            Whether ``workers`` is a wish only.
        actor, actors : bool
            Whether the value is a stateful object that stays on its worker.
        pure : bool
            Whether equal calls are one task. False: this is a task of its own.

        Returns
        -------
        Future

        Examples
        --------
        >>> client.submit(max, 1, 2).result()  # doctest: +SKIP
        2
        """
        if not callable(func):
            raise TypeError(f"submit runs a function: its first argument must be callable, not {func!r}")
        around = _annotations()
        options = None
        if (
            around
            or workers is not None
            or resources is not None
            or retries is not None
            or priority != 0
            or allow_other_workers is not False
            or actor
            or actors
        ):
            if allow_other_workers not in (True, False, None):
                raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
            if allow_other_workers and workers is None:
                raise ValueError("allow_other_workers= has a meaning only together with workers=")
            is_actor = bool(actor or actors)
            if is_actor:
                pure = False
            options = make_options(priority, retries, workers, allow_other_workers, resources, is_actor, around)
        fifo = 0.1 if fifo_timeout == "100 ms" else fifo_seconds(fifo_timeout)
        return self.submitter.submit(func, args, kwargs, key, options, fifo, pure)

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        workers: Any = None,
        retries: int | None = None,
        resources: Any = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = "100 ms",
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future]:
        """Run ``func`` on each element of the iterables (zipped; the shortest ends it), as tasks of their own.

        Tasks leave in parts while the iterables, which may be generators, are still read.

        Parameters
        ----------
        key : str or list, optional
            Prefix of the names, or a name for each call.
        batch_size : int, optional
            Send so many at a time, each batch a generation of its own, so that what follows a batch runs before the
            next.
        **kwargs
            Arguments of every call; a large one is sent once.

        The other parameters are those of :meth:`submit`.

        Returns
        -------
        list of Future

        Examples
        --------
        >>> client.gather(client.map(abs, [-1, 2]))  # doctest: +SKIP
        [1, 2]
        """
        if not callable(func):
            raise TypeError(f"map runs a function: its first argument must be callable, not {func!r}")
        if allow_other_workers not in (True, False, None):
            raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
        if allow_other_workers and workers is None:
            raise ValueError("allow_other_workers= has a meaning only together with workers=")
        if batch_size is not None and (
            isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 0
        ):
            raise ValueError(f"batch_size= must be a positive whole number, not {batch_size!r}")
        is_actor = bool(actor or actors)
        if is_actor:
            pure = False
        options = make_options(priority, retries, workers, allow_other_workers, resources, is_actor, _annotations())
        return self.submitter.map(
            func, iterables, kwargs, key, options, fifo_seconds(fifo_timeout), pure, batch_size or None
        )

    def gather(
        self, futures: Any, errors: str = "raise", direct: bool | None = None, asynchronous: bool | None = None
    ) -> Any:
        """The values of futures, in the nesting in which the futures come.

        Parameters
        ----------
        futures : Future, or nested list, tuple, set or dict of futures
        errors : str
            ``"raise"``: a failed task's exception is raised; ``"skip"``: failed ones are left out.
        direct : bool, optional
            Whether to ask the workers (default) or the scheduler.

        Examples
        --------
        >>> client.gather({"a": client.submit(abs, -1)})  # doctest: +SKIP
        {'a': 1}
        """
        if self.status == "closed" and not asynchronous:
            self.gatherer.collect(futures)
        return self.gatherer.gather(futures, errors, direct, asynchronous)

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool | int = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: Any = NO_DEFAULT,
        asynchronous: bool | None = None,
    ) -> Any:
        """Put data on workers.

        Parameters
        ----------
        data : list, tuple, set, dict, or anything else
            The elements of collections, or the values of a dict under their keys; other objects as one.
        workers : str or list of str, optional
            Where to; default: spread over all.
        broadcast : bool or int
            Whether each worker (or that many of them) gets a copy.
        direct : bool, optional
            Whether to send to the workers straight (default), or by the scheduler.
        hash : bool
            Whether equal data has the same key.
        timeout : float or str, optional
            Seconds to wait for the first worker.

        Returns
        -------
        Futures in the shape of ``data``.
        """
        limit = None if timeout is NO_DEFAULT else timeout
        return self.scatterer.scatter(data, workers, broadcast, direct, hash, limit, asynchronous)

    def cancel(
        self,
        futures: Any,
        asynchronous: bool | None = None,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
    ) -> Any:
        """Stop tasks that have not begun, and forget the values of others, unless another client wants them too.

        Parameters
        ----------
        futures : Future or nested collection of futures
        force : bool
            Even if another client wants them.
        reason, msg : str, optional
            Told by the error that the futures' results raise.
        """
        found = futures_of(futures)
        self.session.check_open("cancel-keys")
        keys = [future._bound().key for future in found if future._bound().status != "cancelled"]
        if keys:
            self.session.cancel(keys, bool(force), reason or "unknown", msg or "")
        return nothing() if asynchronous or (asynchronous is None and self.asynchronous) else None

    def retry(self, futures: Any, asynchronous: bool | None = None) -> Any:
        """Run failed tasks again.

        Parameters
        ----------
        futures : Future or nested collection of futures
        """
        self.session.retry([future._bound().key for future in futures_of(futures)])
        return nothing() if asynchronous or (asynchronous is None and self.asynchronous) else None

    # -- graphs --------------------------------------------------------------------------------------------------------

    def get(
        self,
        dsk: Any,
        keys: Any,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Any = None,
        sync: bool = True,
        asynchronous: bool | None = None,
        direct: bool | None = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The values of some keys of a graph.

        Parameters
        ----------
        dsk : dict, HighLevelGraph or expression
        keys : key, or nested list of keys
        sync : bool
            False: futures instead of values.

        Returns
        -------
        Values (or futures) in the nesting of ``keys``.

        Examples
        --------
        >>> client.get({"x": (abs, -1), "y": (abs, "x")}, "y")  # doctest: +SKIP
        1
        """
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        futures = self.graphs.submit(dsk, flatten(keys), options, fifo_seconds(fifo_timeout), actors)
        packed = nested(keys, futures)
        if not sync:
            return packed
        return self.gather(packed, direct=direct, asynchronous=asynchronous)

    def compute(
        self,
        collections: Any,
        sync: bool = False,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool = False,
        resources: Any = None,
        retries: int = 0,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        traverse: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute dask collections; one future for each (or its value, with ``sync``). Other objects come back as they
        are.
        """
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        found, single = self.graphs.compute(
            collections, optimize_graph, traverse, options, fifo_seconds(fifo_timeout), actors
        )
        if sync:
            return self.gather(found[0] if single else found)
        return found[0] if single else found

    def persist(
        self,
        collections: Any,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Any = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Start computing dask collections; the same collections come back, made of futures."""
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        return self.graphs.persist(collections, optimize_graph, options, fifo_seconds(fifo_timeout), actors)

    def normalize_collection(self, collection: Any) -> Any:
        """The collection on top of futures that this client holds already. Nothing to do here: the scheduler sees to
        it.
        """
        return collection

    def futures_of(self, futures: Any) -> list[Future]:
        """The futures inside of something; see :func:`distributed.futures_of`."""
        return futures_of(futures, client=self)

    def get_executor(self, **kwargs: Any) -> ClientExecutor:
        """A ``concurrent.futures`` view of the cluster.

        Parameters
        ----------
        **kwargs
            Options for every task: ``pure``, ``workers``, ``resources``, ``allow_other_workers``, ``retries``,
            ``priority``.
        """
        return ClientExecutor(self, **kwargs)

    # -- the scheduler's file -----------------------------------------------------------------------------------------

    def write_scheduler_file(self, scheduler_file: str) -> None:
        """Write the scheduler's identity as JSON, for ``Client(scheduler_file=...)``."""
        if self.scheduler_file and os.fspath(self.scheduler_file) == os.fspath(scheduler_file):
            raise ValueError("Scheduler file already set")
        info = dict(self.scheduler_info())
        with open(scheduler_file, "w") as file:
            json.dump(info, file, indent=2, default=str)
        self.scheduler_file = scheduler_file


Executor = Client
"""Old name of :class:`Client`."""


def sync_on(runner: LoopRunner, func: Callable[..., Any], *args: Any) -> None:
    """Run a coroutine function that returns nothing on the runner's loop, and wait for it."""
    runner.run_sync(func, *args)


def _annotations() -> dict[str, Any] | None:
    """What ``dask.annotate`` says around the caller; None when nothing."""
    global _get_annotations
    if _get_annotations is None:
        settings.register()
        _get_annotations = defaults.load("dask:get_annotations")
    return _get_annotations() or None


_get_annotations: Any = None


def _graph_options(
    workers: Any, allow_other_workers: Any, resources: Any, retries: Any, priority: Any
) -> dict[str, Any]:
    if allow_other_workers not in (True, False, None):
        raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
    return {
        "workers": workers,
        "allow_other_workers": allow_other_workers,
        "resources": resources,
        "retries": retries,
        "priority": priority,
    }


def is_only_client() -> bool:
    """Whether this process has no two clients that are open."""
    return len(_open_clients) <= 1


def close_open_clients() -> None:
    """Close every client that is still open; runs when the interpreter ends."""
    for client in list(_open_clients):
        if client._pid != os.getpid() or client.status in ("closed", "closing"):
            continue
        with contextlib.suppress(Exception):
            if client._asynchronous and not as_asyncio_loop(client.loop).is_running():
                client._resign_as_default()
                client.session.say_goodbye()
            else:
                client.close(timeout=2)


atexit.register(close_open_clients)
