"""The worker as a program: construction and life. Shell.

What to do is decided in ``state_machine/``, done in ``effects.py``, asked for in ``routes.py``; ``tick.py`` is the loop
between these. What it tells of itself is in ``facts.py``, what it can be told to do in ``services.py``. This module
wires them to one connection to the scheduler, and closes everything in order.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, ClassVar

from distributed.base import defaults, preloading, settings, settings_check
from distributed.base.formatting import parse_timedelta
from distributed.base.keys import Key
from distributed.base.log_tail import LogTail
from distributed.base.status import Status
from distributed.comm.addressing import parse_address
from distributed.comm.keys import Secret
from distributed.comm.transport import Comm
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.worker import memory, options, registration, scratch
from distributed.worker.actor_calls import ActorCalls
from distributed.worker.data_service import DataService
from distributed.worker.data_store import DataStore
from distributed.worker.data_transfer import DataTransfer
from distributed.worker.effects import Effects
from distributed.worker.executing_page import ExecutingPage
from distributed.worker.executor import TaskExecutor
from distributed.worker.heartbeat import Heart
from distributed.worker.joining import Joining
from distributed.worker.plugin_host import PluginHost, plugin_name
from distributed.worker.profiling import ProfileHistory, sampler
from distributed.worker.routes import worker_routes
from distributed.worker.runtime import current_task, current_worker
from distributed.worker.scheduler_calls import SchedulerCalls
from distributed.worker.self_watch import SelfWatch
from distributed.worker.spilling import Spiller
from distributed.worker.state_machine.state import WorkerState

logger = logging.getLogger("distributed.worker")

_HTTP_SERVER = "distributed.http.server:start_http_server"
_WAIT_FOR_TASKS_S = 0.5
NONE_GIVEN: Mapping[str, Callable[..., Any]] = MappingProxyType({})


class Worker(Joining):
    """Runs tasks, holds their results and gives them to others.

    Parameters
    ----------
    scheduler_ip : str, optional
        Address of the scheduler, or its host with the port in ``scheduler_port``; default: the configured
        ``scheduler-address``, or what is in ``scheduler_file``.
    nthreads : int, optional
        Tasks that run at once; default: the cores that this process may use.
    name : str or int, optional
        A name that users know it by; default: its address.
    memory_limit : str, int, float, optional
        Bytes, ``"5GB"``, a fraction of the machine, ``"auto"`` (the cores' share), 0 or None for no limit.
    local_directory : str, optional
        Where its directory for files is made; default: the system's place for temporary files.
    resources : dict of str to float, optional
        Named capacities, such as ``{"GPU": 2}``; default: the configured ones.
    executor : Executor or dict of str to Executor, optional
        Runs the tasks instead of the worker's own threads; with a dict, those tasks whose ``executor`` annotation names
        it.
    data : MutableMapping, callable or (callable, dict), optional
        Holds the values instead of a dict, or makes what holds them.
    death_timeout : float or str, optional
        Give up when the scheduler cannot be reached for so long; default: never.
    plugins : iterable of WorkerPlugin
        Set up before the worker registers.
    preload : str or list of str, optional
        Modules or files to load first; see ``distributed.base.preloading``.
    metrics, startup_information : dict of str to callable
        Called with the worker; results are sent with each heartbeat, or once.
    lifetime, lifetime_stagger, lifetime_restart
        Close gracefully after so long, give or take; whether the nanny then starts a new process.
    host, port, interface, protocol, contact_address
        Where it listens, and what it tells others. A port may be a range, ``"first:last"``; a ``contact_address``
        without a port gets the one listened at.
    nanny : str, optional
        Address of the nanny that watches this process.
    loop : IOLoop, optional
        For a worker that is made outside of a coroutine and started with ``worker.start()``.

    Raises
    ------
    ValueError
        No scheduler is named, or an option makes no sense.

    Examples
    --------
    >>> async with Worker("tcp://127.0.0.1:8786") as worker:  # doctest: +SKIP
    ...     await worker.finished()
    """

    _instances: ClassVar[weakref.WeakSet[Worker]] = weakref.WeakSet()

    def __init__(
        self,
        scheduler_ip: Any = None,
        scheduler_port: int | None = None,
        *,
        scheduler_file: str | None = None,
        nthreads: int | None = None,
        ncores: int | None = None,
        local_directory: str | None = None,
        services: Mapping[Any, Any] | None = None,
        service_ports: Any = None,
        service_kwargs: Any = None,
        name: Any = None,
        executor: Any = None,
        resources: Mapping[str, float] | None = None,
        silence_logs: Any = None,
        death_timeout: float | str | None = None,
        reconnect: bool | None = None,
        preload: str | list[str] | None = None,
        preload_argv: Any = None,
        security: Any = None,
        contact_address: str | None = None,
        heartbeat_interval: float | str = "1s",
        extensions: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Callable[[Worker], Any]] = NONE_GIVEN,
        startup_information: Mapping[str, Callable[[Worker], Any]] = NONE_GIVEN,
        interface: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        protocol: str | None = None,
        dashboard_address: str | None = None,
        dashboard: bool | None = None,
        http_prefix: str = "/",
        nanny: Any = None,
        plugins: Iterable[Any] = (),
        low_level_profiler: bool | None = None,
        validate: bool | None = None,
        profile_cycle_interval: Any = None,
        lifetime: Any = None,
        lifetime_stagger: Any = None,
        lifetime_restart: bool | None = None,
        memory_limit: str | float | None = "auto",
        data: Any = None,
        scheduler_sni: str | None = None,
        blocked_handlers: Iterable[str] | None = None,
        loop: Any = None,
        io_loop: Any = None,
        secret: Secret | None = None,
        executing_page: ExecutingPage | None = None,
    ) -> None:
        if nthreads is None:
            nthreads = ncores
        if nthreads is not None and (not isinstance(nthreads, int) or nthreads < 0):
            raise ValueError(f"nthreads must be a positive int, not {nthreads!r}")
        self.nthreads = nthreads or memory.cpu_count()
        self.scheduler_file = scheduler_file
        self.scheduler_address: str | None = registration.scheduler_address(
            scheduler_ip, scheduler_port, scheduler_file
        )
        self.memory_limit = memory.parse_memory_limit(memory_limit, self.nthreads)
        self.nanny = getattr(nanny, "address", nanny)
        self.death_timeout = parse_timedelta(death_timeout)
        self.reconnect = reconnect
        self.contact_address = contact_address
        self.heartbeat_interval = float(parse_timedelta(heartbeat_interval))
        self.user_metrics = dict(metrics or {})
        self.startup_information = dict(startup_information or {})
        settings_check.check()
        self.security = security
        if dashboard and dashboard_address is None:
            dashboard_address = ":0"
        self.dashboard_address = None if dashboard is False else dashboard_address
        self.http_prefix = http_prefix
        self.total_resources = dict(
            resources if resources is not None else settings.get("distributed.worker.resources", None) or {}
        )
        self.validate = bool(settings.get("distributed.worker.validate", False) if validate is None else validate)
        self._plan_life(lifetime, lifetime_stagger, lifetime_restart)
        self._begin_without()
        self._listen_options = (host, port, interface, protocol)
        self._local_directory_given = local_directory
        self._given_plugins = list(plugins)
        self._preload_given = (
            preload if preload is not None else settings.get("distributed.worker.preload", None),
            preload_argv if preload_argv is not None else settings.get("distributed.worker.preload-argv", None),
        )
        self._page = executing_page
        self._executors_given = options.named_executors(executor)
        self._make_rooms(data)
        if blocked_handlers is None:
            blocked_handlers = settings.get("distributed.worker.blocked-handlers", None) or []
        super().__init__(
            worker_routes(self),
            blocked_handlers=blocked_handlers,
            role="worker",
            secret=secret,
            loop=loop,
            io_loop=io_loop,
            unpickle=True,
            name=name,
        )
        self._log_tail = LogTail("distributed.worker")
        self.extensions = {
            key: (defaults.load(make) if isinstance(make, str) else make)(self)
            for key, make in {**defaults.WORKER_EXTENSIONS, **(extensions or {})}.items()
        }
        Worker._instances.add(self)

    def _plan_life(self, lifetime: Any, lifetime_stagger: Any, lifetime_restart: bool | None) -> None:
        self.lifetime = options.seconds(lifetime, "distributed.worker.lifetime.duration")
        stagger = options.seconds(lifetime_stagger, "distributed.worker.lifetime.stagger") or 0.0
        if self.lifetime:
            self.lifetime += (random.random() * 2 - 1) * stagger
        self.lifetime_restart = bool(
            settings.get("distributed.worker.lifetime.restart", False) if lifetime_restart is None else lifetime_restart
        )

    def _begin_without(self) -> None:
        """What only the start, or somebody else, gives."""
        self.local_directory = ""
        self.services: dict[str, Any] = {}
        self.last_metrics: dict[str, Any] = {}
        self._web: Any = None
        self.profile_history: ProfileHistory | None = None
        self.thread_id = 0
        self.actors: dict[Key, Any] = {}
        self.data: DataStore | MutableMapping[Any, Any]
        self._preloads: list[preloading.Preload] = []
        self._self_watch: SelfWatch | None = None
        self._opened: Comm | None = None
        self._client: Any = None
        self.actor_calls = ActorCalls(self)
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self.close_reason = ""
        self.on_directory: Callable[[str], None] | None = None
        """Told the directory as soon as it is made."""
        self.on_listening: Callable[[str], None] | None = None
        """Told the address as soon as this worker listens there."""
        self.on_registered: Callable[[], None] | None = None
        """Told that the scheduler knows this worker, before any task can arrive."""
        self.joined = asyncio.Event()
        """Set when the scheduler knows this worker."""
        self.on_leaving: Callable[[str, bool], None] | None = None
        """Told why the worker ends, and whether it should be started again, before it does."""

    def _make_rooms(self, data: Any) -> None:
        self.state = WorkerState(self._settings(spills=False), "", self.nthreads, dict(self.total_resources))
        self.plugin_host = PluginHost(self)
        self.heart = Heart(self)
        self._make_link()
        self.scheduler = SchedulerCalls(self)
        store = options.make_store(data)
        self._store = store
        self.data = store.values_by_key if store.is_custom else store

    # -- life

    async def on_start(self, address: str | int | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._log_tail.attach()
        self.thread_id = threading.get_ident()
        deadline = None if self.death_timeout is None else loop.time() + self.death_timeout
        self.local_directory = scratch.make_directory(self._local_directory_given)
        if self.on_directory is not None:
            self.on_directory(self.local_directory)
        if abandoned := scratch.find_abandoned(self.local_directory):
            self.add_task(asyncio.to_thread(scratch.remove_abandoned, abandoned))
        self._preloads = preloading.make_preloads(self, self._preload_given[0], self._preload_given[1] or ())
        if self.scheduler_address is None:
            assert self.scheduler_file is not None
            self.scheduler_address, found = await registration.read_file(self.scheduler_file, deadline)
            self.secret = self.secret or found
        if self.secret is None:
            self.secret, self._opened = await registration.find_secret(
                self.scheduler_address, self.security, "worker", deadline
            )
        if self.secret is not None:
            self.secret = self.secret.limited_to("worker")
        await self._listen(address)
        if self.on_listening is not None:
            self.on_listening(self.address)
        if self._name is None:
            self._name = self.address
        is_inproc = self.address.startswith("inproc://")
        self.state = WorkerState(
            self._settings(not self._store.is_custom), self.address, self.nthreads, dict(self.total_resources)
        )
        self.executor = TaskExecutor(
            self.nthreads,
            loop,
            self._on_reports,
            self._store,
            self,
            is_inproc,
            self._executors_given,
            self._page,
            int(settings.get("distributed.admin.max-error-length", 10_000)),
        )
        self.data_service = DataService(self._store, self._nbytes_of, is_inproc)
        self.transfer = DataTransfer(
            self.rpc, self._store, lambda: self.address, self._on_gathered, self.add_task, self._relay,
            self._on_bad_link,
        )  # fmt: skip
        self.executor.on_lost = self._on_lost
        self.spiller = Spiller(self._store, os.path.join(self.local_directory, "storage"), loop, self._on_spilled)
        self._store.on_evict = self._evict
        self.effects = Effects(self.executor, self._store, self.transfer, self.spiller, self.send)
        if self.dashboard_address is not None:
            self._web = defaults.load(_HTTP_SERVER)(self, self.dashboard_address, self.http_prefix)
            self.services["dashboard"] = self._web.port
        for preload in self._preloads:
            await preload.start()
        await self.plugin_host.add_all([(plugin_name(plugin), plugin) for plugin in self._given_plugins], strict=True)
        registered = await self._join(deadline)
        if self._page is not None:
            self._self_watch = SelfWatch(self)
            self._self_watch.start()
        self.profile_history = sampler.watch(self)
        if self.lifetime:
            loop.call_later(self.lifetime, self._lifetime_ends)
        await self._set_up([*registered.plugins])

    async def _listen(self, address: str | int | None) -> None:
        host, port, interface, protocol = self._listen_options
        assert self.scheduler_address is not None
        if isinstance(address, str) and address:
            candidates = [address]
        else:
            if isinstance(address, int):
                port = address
            candidates = [
                registration.listening_address(self.scheduler_address, host, one, interface, protocol)
                for one in options.ports(port)
            ]
        contact = None if self.contact_address is None else parse_address(self.contact_address)[1]
        for candidate in candidates:
            try:
                await self.listen(candidate, contact_host=contact)
                return
            except OSError:
                if candidate is candidates[-1]:
                    raise

    async def close(  # type: ignore[override]
        self,
        timeout: float = 30,
        executor_wait: bool = True,
        nanny: bool = True,
        reason: str = "worker-close",
        restart: bool = False,
    ) -> None:
        """End in order: the scheduler is told, plugins are torn down, files are removed.

        Parameters
        ----------
        timeout : float
            Seconds to wait for running tasks, at most half of one; their threads are left behind then.
        executor_wait : bool
            False: do not wait for them at all.
        nanny : bool
            Whether the nanny is told that this was meant, so that it ends too.
        reason : str
            For logs and the scheduler's events.
        """
        await super().close(timeout=timeout, executor_wait=executor_wait, nanny=nanny, reason=reason, restart=restart)

    async def on_close(
        self,
        timeout: float = 30,
        executor_wait: bool = True,
        nanny: bool = True,
        reason: str = "worker-close",
        restart: bool = False,
        **ignored: Any,
    ) -> None:
        self.close_reason = reason
        logger.info("The worker at %s ends: %s", self.address_safe, reason)
        if self.on_leaving is not None and nanny:
            self.on_leaving(reason, restart)
        self.heart.stop()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        if self._self_watch is not None:
            self._self_watch.stop()
        self.link.stop()
        if self.link.stands:
            self.link.send([WorkerClosing(reason)])
        elif self._opened is not None:
            self._opened.abort()
        for preload in self._preloads:
            try:
                await preload.teardown()
            except Exception:
                logger.exception("Preload teardown failed")
        await self.plugin_host.close()
        if self._web is not None:
            result = self._web.stop()
            if inspect.isawaitable(result):
                await result
        for extension in self.extensions.values():
            closing = getattr(extension, "close", None)
            if closing is not None:
                result = closing()
                if inspect.isawaitable(result):
                    await result
        if hasattr(self, "executor"):
            await self.executor.close(min(_WAIT_FOR_TASKS_S, timeout) if executor_wait else 0.0)
            self.data_service.close()
            self.spiller.close()
        self.actor_calls.close()
        client, self._client = self._client, None
        if client is not None:
            result = client.close() if getattr(client, "asynchronous", True) else None
            if inspect.isawaitable(result):
                try:
                    await asyncio.wait_for(result, 2)
                except (TimeoutError, OSError):
                    pass
        await self.link.close(1.0)
        self._store.close()
        self.actors.clear()
        if self.local_directory:
            scratch.remove_directory(self.local_directory)
        self._log_tail.detach()
        Worker._instances.discard(self)

    async def close_gracefully(self, restart: bool | None = None, reason: str = "worker-close-gracefully") -> None:
        """Let the scheduler move this worker's data to others, then close."""
        if self.status in (Status.closing, Status.closing_gracefully, Status.closed):
            await self.finished()
            return
        self.status = Status.closing_gracefully
        try:
            await self.link.ask(
                "retire_workers", {"workers": [self.address], "close_workers": False, "remove": False}, 30
            )
        except (ValueError, TypeError, OSError, TimeoutError) as error:
            logger.warning("The data of %s could not be moved away: %s", self.address_safe, error)
        await self.close(reason=reason, restart=self.lifetime_restart if restart is None else restart)

    def _lifetime_ends(self) -> None:
        self.add_close_task(self.close_gracefully(reason="worker-lifetime-reached"))


def _worker_or_none() -> Any:
    task = current_task.get()
    return task.worker if task is not None else current_worker.get()


def _running_task_key() -> Any:
    task = current_task.get()
    return None if task is None else task.key


defaults.current_worker.set(_worker_or_none)
defaults.current_task_key.set(_running_task_key)
