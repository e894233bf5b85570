"""The Client: the face of the cluster to its users. Thin: each method checks its arguments and hands over to its room.

A client has an event loop (a thread of its own, the cluster's, or the caller's), a :class:`Session` with the
scheduler, and the workers of this room: submitter, graph submitter, gatherer, scatterer, admin. Shell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import time
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

from distributed.base import settings, settings_check
from distributed.base.errors import CommClosedError
from distributed.client import current
from distributed.client.admin import NO_DEFAULT, Admin
from distributed.client.amm import AMMClientProxy
from distributed.client.cluster_calls import ClusterCalls, nothing, seen
from distributed.client.datasets import Publisher
from distributed.client.diagnosing import Diagnosing
from distributed.client.event_handlers import EventHandlers
from distributed.client.futures import adopt_task_ref
from distributed.client.gathering import Gatherer
from distributed.client.graph import GraphSubmitter
from distributed.client.looks import Looks
from distributed.client.scatter import Scatterer
from distributed.client.scheduler_file import address_from_file
from distributed.client.scheduler_link import ClosedClientError
from distributed.client.scheduler_proxy import SchedulerProxy
from distributed.client.session import Session
from distributed.client.submission import Submitter
from distributed.client.target import Target
from distributed.client.task_calls import TaskCalls
from distributed.client.timeouts import seconds
from distributed.comm.registry import connect_timeout
from distributed.comm.security import load_security
from distributed.protocol.serialize import by_families
from distributed.rpc.loop_runner import LoopRunner, as_asyncio_loop, in_async_call

logger = logging.getLogger("distributed.client")

_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()
NO_EXTENSIONS: Mapping[str, Any] = MappingProxyType({})


class Client(TaskCalls, ClusterCalls, Diagnosing, Looks):
    """Connect to a cluster and have it compute.

    Parameters
    ----------
    address : str or Cluster, optional
        ``"tcp://127.0.0.1:8786"``, or an object with a ``scheduler_address``. Default: the setting
        ``scheduler-address`` (or the environment variable ``DASK_SCHEDULER_ADDRESS``), else a new
        :class:`LocalCluster`, made with the unknown keywords and closed with the client.
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
    extensions : dict of str to callable
        Each is called with the client; ``client.extensions[name]`` is what it returns.
    connection_limit
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
        extensions: Mapping[str, Callable[[Any], Any]] = NO_EXTENSIONS,
        direct_to_workers: bool | None = None,
        connection_limit: int = 512,
        **kwargs: Any,
    ) -> None:
        self.status_before_session = "newly-created"
        if not isinstance(asynchronous, bool):
            raise TypeError(f"asynchronous= takes True or False, not {asynchronous!r}")
        self._asynchronous = asynchronous
        self._set_as_default = set_as_default
        self._take_settings(timeout, heartbeat_interval, name, direct_to_workers)
        self.id = f"{type(self).__name__}-{self.name + '-' if self.name else ''}{uuid.uuid4()}"
        self.scheduler_file = scheduler_file
        settings_check.check()
        if security is None:
            security = load_security(address)
        self.security = security
        self.dumps_value, self.loads_value = by_families(serializers, deserializers)
        self.extensions: dict[str, Any] = {}
        self._target = Target.of(address, scheduler_file, kwargs)
        self.cluster = self._target.cluster
        if self.security is None:
            self.security = getattr(self.cluster, "security", None)
        self._owns_cluster = False
        self._config_scope: Any = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._identity_at = 0.0
        self._pid = os.getpid()
        self.event_handlers = EventHandlers()

        adopt_task_ref()
        loop = self._find_loop(loop)
        try:
            self._loop_runner = LoopRunner(loop=loop, asynchronous=asynchronous)
            self._make_rooms()
            self.extensions.update({name: make(self) for name, make in extensions.items()})
            self._loop_runner.start()
            self.start()
        except BaseException:
            self._give_up()
            raise

    def _take_settings(self, timeout: Any, heartbeat_interval: Any, name: str | None, direct: bool | None) -> None:
        if timeout is NO_DEFAULT or timeout is None:
            self._timeout = connect_timeout()
        else:
            self._timeout = float(seconds(timeout) or 0.0)
        if heartbeat_interval is None:
            heartbeat_interval = settings.get("distributed.client.heartbeat", "5s")
        self._heartbeat_s = float(seconds(heartbeat_interval, "heartbeat_interval") or 5.0)
        self.name: str | None = settings.get("client-name", None) if name is None else name
        if direct is None:
            direct = settings.get("distributed.client.direct-to-workers", None)
        self.direct_to_workers = direct

    def _make_rooms(self) -> None:
        self.session = Session(self.id, self.name or "")
        self.submitter = Submitter(self, self.session)
        self.graphs = GraphSubmitter(self, self.session, self.submitter)
        self.gatherer = Gatherer(self, self.session)
        self.scatterer = Scatterer(self, self.session)
        self.admin = Admin(self, self.session)
        self.publisher = Publisher(self, self.session)
        self.scheduler = SchedulerProxy(self.session)
        self.amm = AMMClientProxy(self)
        self.session.on_lost = self._on_lost
        self.session.on_new_session = self._subscribe_again
        self.session.on_event = self.event_handlers.call

    def _find_loop(self, loop: Any) -> Any:
        """The loop that is given, else that of the cluster (which is made here when it is ours), else none."""
        if self._asynchronous:
            return loop
        if loop is None and self.cluster is not None:
            cluster_loop = getattr(self.cluster, "loop", None)
            if cluster_loop is not None and as_asyncio_loop(cluster_loop).is_running():
                loop = cluster_loop
        if self._target.keywords is not None:
            try:
                self.cluster = self._target.make_cluster(self.security, **({} if loop is None else {"loop": loop}))
            except BaseException:
                self.status_before_session = "closed"
                raise
            self._owns_cluster = True
            loop = self.cluster.loop
        return loop

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, **kwargs: Any) -> Any:
        """Connect; called by the constructor."""
        if self.session.status != "newly-created":
            return None
        if self._asynchronous:
            loop = as_asyncio_loop(self.loop)
            if in_async_call(self.loop):
                self.session.begin(self._target.address)
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
        target = self._target
        try:
            await self.session.open(
                await self._scheduler_address(deadline),
                max(0.0, deadline - time.monotonic()) if target.address is None else self._timeout,
                getattr(self.security, "secret", None),
                self._heartbeat_s,
                retry_refused_s=0.0 if target.scheduler_file is None else self._timeout,
                security=self.security,
            )
            await self._refresh()
        except BaseException as e:
            self.session.fail(e)
            if self._owns_cluster and self._asynchronous and self.cluster is not None:
                with contextlib.suppress(Exception):
                    await self.cluster.close()
            raise
        _open_clients.add(self)
        if self._set_as_default:
            self._become_default()

    async def _scheduler_address(self, deadline: float) -> str:
        target = self._target
        if target.keywords is not None and self.cluster is None:
            self.cluster = await target.make_cluster(self.security, asynchronous=True)
            self._owns_cluster = True
        address: str | None = target.address
        if target.scheduler_file is not None:
            address = await address_from_file(target.scheduler_file, deadline)
        elif self.cluster is not None:
            if getattr(getattr(self.cluster, "status", None), "name", "") == "created":
                await self.cluster
            address = self.cluster.scheduler_address
            self.security = self.security if self.security is not None else getattr(self.cluster, "security", None)
        if address is None:
            raise ValueError("no scheduler address")
        return address

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


Executor = Client
"""Old name of :class:`Client`."""


def sync_on(runner: LoopRunner, func: Callable[..., Any], *args: Any) -> None:
    """Run a coroutine function that returns nothing on the runner's loop, and wait for it."""
    runner.run_sync(func, *args)


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
