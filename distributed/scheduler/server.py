"""The scheduler as a program: construction, life, and the public face that plugins and users know. Thin: each thing is
done by a module of its own (``shell`` the tick, ``admission`` the door, ``routes`` the questions, ``fleet_admin`` and
``data_movement`` the orders)."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from distributed.base import defaults, settings, settings_check
from distributed.base.keys import UserKey
from distributed.base.log_tail import LogTail
from distributed.base.preloading import Preload, make_preloads
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.base.status import Status
from distributed.comm import registry, secrets
from distributed.comm.addressing import get_address_host, normalize_address
from distributed.comm.secrets import Secret
from distributed.comm.security import refuse
from distributed.messages.control import RegisterClient, RegisterNanny, RegisterWorker
from distributed.messages.scheduler_to_client import SchedulerClosing
from distributed.messages.scheduler_to_worker import CloseWorkerOrder
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.rpc.connection import Connection
from distributed.rpc.server import Server
from distributed.rpc.session import session_buffer
from distributed.scheduler import lifecycle, queries
from distributed.scheduler.admission import Admission
from distributed.scheduler.data_movement import DataMovement
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.relay import RelayConnection
from distributed.scheduler.routes import Routes, plugin_of
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import SchedulerState, WorkerState, scaling
from distributed.scheduler.state_machine.events import ClientLeft, SetResources
from distributed.scheduler.state_machine.memory_state import MemoryState

logger = logging.getLogger("distributed.scheduler")

_TIDY_S = 1.0
_HTTP_SERVER = "distributed.http.server:start_http_server"


class _OfCore:
    """A table of the core, as an attribute of the scheduler."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, scheduler: Any, owner: type | None = None) -> Any:
        return self if scheduler is None else getattr(scheduler.state, self._name)


class _StreamHandlers(dict[str, Callable[..., Any]]):
    """Custom stream operations; peers ask for them like for any other one."""

    def __init__(self, handlers: dict[str, Callable[..., Any]]) -> None:
        super().__init__()
        self._handlers = handlers

    def __setitem__(self, op: str, handler: Callable[..., Any]) -> None:
        super().__setitem__(op, handler)
        self._handlers.setdefault(op, handler)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Like that of a dict."""
        for op, handler in dict(*args, **kwargs).items():
            self[op] = handler


class Scheduler(Server):
    """Decides which worker runs what, and knows where every value lies. Never opens users' data.

    Use it with ``async with`` or ``await``; or make it with ``loop=`` and call ``start()`` from any thread.

    Parameters
    ----------
    loop : IOLoop, optional
        Where to run; default: the running event loop.
    host : str, optional
        Name, address or URI to listen on; default: the loopback address only. Empty: all interfaces.
    port : int, optional
        0 (default): a free one. None: 8786, or the next free one when that is taken; so does the command line.
        ``start("tcp://")`` takes 8786.
    interface, protocol, contact_address : str, optional
        Network interface to listen on, ``"tcp://"`` or ``"inproc://"``, and the address to tell others if it differs.
    scheduler_file : str, optional
        Where to write address and secret (JSON, mode 0600); removed at the end.
    dashboard_address : str, optional
        Where web pages are served, such as ``":8787"`` (loopback), ``"0.0.0.0:8787"`` or ``":0"``; None: nowhere.
    dashboard : bool, optional
        True: serve them at ``":8787"`` if no address is given.
    http_prefix : str
        Put before the paths of web pages.
    services, service_kwargs : dict, optional
        Further services ``{name or (name, port): class}``, and options of services such as
        ``{"dashboard": {"prefix": "/foo"}}``.
    allowed_failures, worker_ttl, idle_timeout, validate, blocked_handlers, preload, preload_argv : optional
        Each as in the configuration (``distributed.scheduler``), which gives the default.
    extensions : dict, optional
        ``{name: class}``, made with the scheduler as their argument; more than those that every scheduler has.
    plugins : sequence of SchedulerPlugin
    security, secret : optional
        Certificates (not available yet), and the cluster's secret; default: the environment's, else a random one.

    Examples
    --------
    >>> async def main():
    ...     async with Scheduler(port=0) as scheduler:
    ...         print(scheduler.address)
    """

    default_port = 8786
    connection_class = RelayConnection

    def __init__(
        self,
        loop: Any = None,
        *,
        services: Mapping[Any, Any] | None = None,
        service_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        allowed_failures: int | None = None,
        extensions: Mapping[str, Any] | None = None,
        validate: bool | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        security: Any = None,
        worker_ttl: Any = None,
        idle_timeout: Any = None,
        interface: str | None = None,
        host: str | None = None,
        port: int | str | None = 0,
        protocol: str | None = None,
        dashboard_address: str | int | None = None,
        dashboard: bool | None = None,
        http_prefix: str | None = "/",
        preload: str | Sequence[str] | None = None,
        preload_argv: Sequence[str] | Sequence[Sequence[str]] = (),
        plugins: Iterable[Any] = (),
        contact_address: str | None = None,
        transition_counter_max: Any = False,
        jupyter: bool = False,
        blocked_handlers: Iterable[str] | None = None,
        io_loop: Any = None,
        secret: Secret | None = None,
        name: Any = None,
    ) -> None:
        settings_check.check()
        refuse(security)
        if jupyter:
            raise ValueError("jupyter=True is not available yet")
        if blocked_handlers is None:
            blocked_handlers = settings.get("distributed.scheduler.blocked-handlers", []) or []
        # Where it listens is checked now, so that a wrong argument is an error of this call.
        self._listen_address, self._more_ports = lifecycle.listen_address(
            host, port, interface, protocol, self.default_port
        )
        super().__init__(
            blocked_handlers=blocked_handlers,
            role="scheduler",
            secret=secret,
            loop=loop,
            io_loop=io_loop,
            unpickle=False,
            name=name,
        )
        if validate is None:
            validate = bool(settings.get("distributed.scheduler.validate", False))
        self.security = security
        self.contact_address = contact_address or settings.get("distributed.scheduler.contact-address", None)
        self.scheduler_file = os.fspath(scheduler_file) if scheduler_file is not None else None
        self.started = time.time()  # for people; ``uptime_s`` is measured
        self._began = time.monotonic()
        self.services_given = dict(services or {})
        self.service_kwargs = {key: dict(value) for key, value in (service_kwargs or {}).items()}
        self.dashboard_address = ":8787" if dashboard and dashboard_address is None else dashboard_address
        self.http_prefix = str(self.service_kwargs.get("dashboard", {}).get("prefix") or http_prefix or "/")
        self.extensions: dict[str, Any] = {}

        self.shell = Shell(
            self,
            lifecycle.core_settings(allowed_failures, worker_ttl),
            validate,
            lifecycle.event_log_length(),
            float(parse_timedelta(settings.get("distributed.scheduler.events-cleanup-delay", "1h"))),
            self.add_task,
            self._forget_worker,
            session_buffer=session_buffer(),
        )
        self.state: SchedulerState = self.shell.state
        self._services = lifecycle.Services()
        self._fleet = FleetAdmin(self.shell, self.rpc)
        self._data = DataMovement(self.shell, self._fleet)
        self._admission = Admission(self, self.shell, self._fleet, self._tidy_after)
        self._log_tail = LogTail("distributed.scheduler")
        limit = lifecycle.idle_limit(idle_timeout)
        self._idle = lifecycle.IdleWatch(self.state, limit, lambda: self.add_task(self.close(reason="idle")))
        self.routes = Routes(self, self.shell, self._fleet, self._data)
        self.handlers.update(self.routes.table())
        self.stream_handlers = _StreamHandlers(self.handlers)
        self._file_written = False
        for plugin in plugins:
            self.add_plugin(plugin)
        for key, extension in {**defaults.SCHEDULER_EXTENSIONS, **(extensions or {})}.items():
            self.extensions[key] = (defaults.load(extension) if isinstance(extension, str) else extension)(self)
        if preload is None:
            preload = settings.get("distributed.scheduler.preload", []) or []
            preload_argv = preload_argv or settings.get("distributed.scheduler.preload-argv", []) or []
        self.preloads: list[Preload] = make_preloads(self, preload, preload_argv)

    def _forget_worker(self, address: str, expected: bool) -> None:
        """A worker is gone, and with it the client that its tasks shared: nobody will come back for that session."""
        self.rpc.remove(address)
        self._tidy_after(address)
        prefix = f"Client-worker-{address}-"
        for client in [client for client in self.shell.streams.clients if client.startswith(prefix)]:
            self.shell.apply(ClientLeft(client, f"its worker {address} is gone", expected))

    def _tidy_after(self, address: str) -> None:
        """Remove the socket file that a worker or nanny of this machine has left if it was killed. A nanny does so for
        its worker, but may have been killed with it."""
        if not registry.remove_traces(address):
            # It lives, or is just dying: sockets are closed one by one.
            asyncio.get_running_loop().call_later(_TIDY_S, registry.remove_traces, address)

    # ---------------------------------------------------------------- the state, as plugins know it

    tasks = _OfCore()
    workers = _OfCore()
    clients = _OfCore()
    aliases = _OfCore()
    task_groups = _OfCore()
    task_prefixes = _OfCore()
    queued = _OfCore()
    unrunnable = _OfCore()
    idle = _OfCore()
    saturated = _OfCore()
    running = _OfCore()
    resources = _OfCore()
    total_nthreads = _OfCore()
    total_occupancy = _OfCore()
    transition_counter = _OfCore()

    @property
    def validate(self) -> bool:
        """Whether all tables are checked after every beat."""
        return self.shell.validate

    @validate.setter
    def validate(self, value: bool) -> None:
        self.shell.validate = bool(value)

    @property
    def allowed_failures(self) -> int:
        """Worker deaths that one task may be blamed for."""
        return self.state.settings.allowed_failures

    @allowed_failures.setter
    def allowed_failures(self, value: int) -> None:
        self.state.settings.allowed_failures = value

    @property
    def plugins(self) -> dict[str, Any]:
        """Plugins by name."""
        return self.shell.plugins.plugins

    @property
    def worker_plugins(self) -> dict[str, Any]:
        """Pickled plugins that every worker is given."""
        return self._fleet.worker_plugins

    @property
    def nanny_plugins(self) -> dict[str, Any]:
        """Pickled plugins that every nanny is given."""
        return self._fleet.nanny_plugins

    @property
    def events(self) -> dict[str, Any]:
        """Events by topic."""
        return self.shell.events.topics

    @property
    def task_metadata(self) -> dict[Any, Any]:
        """What clients keep here (``client.set_metadata``)."""
        return self.routes.metadata

    @property
    def transition_log(self) -> list[Any]:
        """The last transitions of all tasks: ``(key, start, finish, stimulus id, time)``."""
        return self.state.story()

    @property
    def worker_ttl(self) -> float | None:
        """Seconds after which a silent worker is taken for lost; None: never."""
        return self.state.settings.worker_ttl_s

    @property
    def idle_timeout(self) -> float | None:
        """Seconds of idleness after which this scheduler ends; None: never."""
        return self._idle.limit_s

    @property
    def WORKER_SATURATION(self) -> float:
        """Root tasks that a worker is sent for each thread."""
        return self.state.settings.saturation

    @property
    def UNKNOWN_TASK_DURATION(self) -> float:
        """Seconds reckoned for a task whose like has never run."""
        return self.state.settings.unknown_duration_s

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.state.tasks)

    @property
    def bandwidth(self) -> float:
        """Assumed bytes a second from worker to worker."""
        return float(parse_bytes(settings.get("distributed.scheduler.bandwidth", 100_000_000)))

    @property
    def memory(self) -> MemoryState:
        """Memory of all workers together."""
        return MemoryState.sum(*[ws.memory for ws in self.state.workers.values()])

    def workers_list(self, workers: queries.WorkerNames) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; None: of all."""
        return [ws.address for ws in queries.find_workers(self.state, workers)]

    def coerce_hostname(self, host: Any) -> str:
        """The host of a worker given by name; anything else as it is."""
        address = self.state.aliases.get(str(host))
        return str(host) if address is None else self.state.workers[address].host

    def get_worker_service_addr(self, worker: str, service_name: str, protocol: bool = False) -> Any:
        """``(host, port)`` of what runs beside a worker, or (``protocol``) its address; None when it does not."""
        ws = self.state.workers[worker]
        port = ws.services.get(service_name)
        if port is None:
            return None
        return f"{ws.address.partition('://')[0]}://{ws.host}:{port}" if protocol else (ws.host, port)

    @property
    def host_info(self) -> dict[str, dict[str, Any]]:
        """Threads and addresses by host."""
        return queries.host_info(self.state, self.shell.now(), time.time())

    @property
    def services(self) -> dict[str, Any]:
        """What runs beside the scheduler; each has a ``port``."""
        return self._services.by_name

    @property
    def http_server(self) -> Any:
        """The server of web pages; None when there is none."""
        return self._services.by_name.get("dashboard")

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds the status page; empty when there is none."""
        server = self.http_server
        return "" if server is None else str(server.link)

    @property
    def address(self) -> str:
        """Where others find this scheduler. Raises ValueError when it does not listen."""
        address = super().address
        return self.contact_address or address

    @property
    def address_safe(self) -> str:
        """``address``, or a word when there is none."""
        return self.address if self.listeners else "not-running"

    def __repr__(self) -> str:
        n_clients = sum([not cs.mute for cs in self.state.clients.values()])
        return (
            f"<Scheduler {self.address_safe!r}, status: {self.status.name}, workers: {len(self.state.workers)}, "
            f"cores: {self.state.total_nthreads}, tasks: {len(self.state.tasks)}, clients: {n_clients}>"
        )

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """What this is, and its workers (the first ``n_workers``; negative: all)."""
        state = self.state
        n_workers = -1 if n_workers is None else n_workers
        # May be called from another thread, in which there is no clock to ask for.
        now = self.shell.now() if self._loop is not None else 0.0
        return {
            "type": type(self).__name__,
            "id": self.id,
            "address": self.address_safe,
            "services": self._services.ports(),
            "started": self.started,
            "n_workers": len(state.workers),
            "total_threads": state.total_nthreads,
            "total_memory": queries.total_memory(state),
            "workers": queries.worker_list(state, now, time.time(), n_workers),
        }

    def story(self, *keys_or_stimuli: Any) -> list[tuple[Any, ...]]:
        """What happened to the keys, or because of the stimuli."""
        return queries.story(self.state, keys_or_stimuli)

    def explain(self, key: Any) -> dict[str, Any]:
        """Why the task is not finished."""
        return queries.explain(self.state, key)

    def validate_state(self) -> None:
        """Raise ``InvalidState`` when the tables contradict themselves, or did so after some beat before."""
        if self.shell.violations:
            raise AssertionError(self.shell.violations[0])
        self.state.validate()

    def get_logs(self, n: int | None = None, start: float | None = None) -> list[tuple[str, str]]:
        """The last ``n`` lines of the scheduler's log, as ``(level, text)``."""
        return self._log_tail.last(n)

    # ---------------------------------------------------------------- life

    async def on_start(self, address: str | int | None = None) -> None:
        """Listen, load what was asked for, and let peers in."""
        self.shell.start()
        self._log_tail.attach()
        for preload in self.preloads:
            await preload.start()
        contact = self.contact_address
        await self.listen(
            self._listen_address if address is None else address,
            contact_host=get_address_host(contact) if contact and "://" in contact else contact,
            more_ports=self._more_ports if address is None else (),
        )
        if contact and "://" not in contact:
            self.contact_address = f"{super().address.partition('://')[0]}://{contact}" if ":" in contact else None
        if secrets.from_environment() is None and not self.listen_address.startswith("inproc"):
            self.share_secret(self.address)
            atexit.register(self._at_exit)
        self._start_services()
        if self.scheduler_file is not None:
            self._write_scheduler_file(self.scheduler_file)
        await self.shell.plugins.call_async("start", self)
        self._idle.start()
        logger.info("  Scheduler at: %25s", self.address)

    def _start_services(self) -> None:
        if self.dashboard_address is not None:
            start_http_server = defaults.load(_HTTP_SERVER)
            self._services.by_name["dashboard"] = start_http_server(self, self.dashboard_address, self.http_prefix)
            logger.info("  dashboard at: %25s", self.dashboard_link)
        if self.services_given:
            self._services.add_all(self, self.services_given, self.service_kwargs)

    def _write_scheduler_file(self, path: str) -> None:
        secrets.write_scheduler_file(path, self.identity(n_workers=0), self.secret)
        self._file_written = True
        atexit.register(self._at_exit)

    def _remove_scheduler_file(self) -> None:
        """Unless another scheduler has written its own in the meantime."""
        if self.scheduler_file is None or not self._file_written:
            return
        self._file_written = False
        with contextlib.suppress(OSError, ValueError):
            with open(self.scheduler_file, encoding="utf-8") as file:
                if json.load(file).get("id") != self.id:
                    return
            os.unlink(self.scheduler_file)

    def _at_exit(self) -> None:
        """The program ends without having closed us: leave no secret and no file behind."""
        self._remove_scheduler_file()
        self.unshare_secret()

    async def close(self, fast: bool | None = None, close_workers: bool | None = None, **options: Any) -> None:
        """End in order: clients are told, connections close, files go.

        Parameters
        ----------
        fast
            Accepted, without effect.
        close_workers
            Tell the workers to end; without it they end as they see that the scheduler is gone.
        reason
            For the log, and for clients.
        """
        await super().close(close_workers=bool(close_workers), **options)

    async def on_close(self, close_workers: bool = False, reason: str = "", **options: Any) -> None:
        """Say good-bye while everybody is connected."""
        logger.info("Scheduler closing%s", f" because {reason}" if reason else "")
        await self.shell.plugins.call_async("before_close")
        self._idle.stop()
        for preload in self.preloads:
            try:
                await preload.teardown()
            except Exception:
                logger.exception("Error in dask_teardown of %s", preload.name)
        await self.shell.plugins.call_async("close")
        if self.shell.state.out:
            self.shell.beat()
        self.shell.stop()
        orders = [CloseWorkerOrder(reason or "scheduler-close")] if close_workers else []
        await self.shell.streams.last_words([SchedulerClosing(reason or "scheduler-close")], orders)
        await self._services.stop()
        self._remove_scheduler_file()
        if secrets.from_environment() is None:
            self.unshare_secret()
        atexit.unregister(self._at_exit)
        logger.info("Scheduler closing all comms")

    async def _close_once(self, **options: Any) -> None:
        try:
            await super()._close_once(**options)
        finally:
            self.shell.stop()
            self._log_tail.detach()

    def terminate(self, reason: str = "terminate", close_workers: bool = True, **kwargs: Any) -> str:
        """Close after the answer to this question has left, and the workers too."""
        asyncio.get_running_loop().call_later(
            0.01, lambda: self.add_task(self.close(close_workers=close_workers, reason=reason))
        )
        return "OK"

    def check_idle(self) -> float | None:
        """Wall-clock time since when there has been nothing to do; None: there is something."""
        since = self._idle.check()
        return None if since is None else time.time() - (self.shell.now() - since)

    @property
    def uptime_s(self) -> float:
        """Seconds since this scheduler was made."""
        return time.monotonic() - self._began

    @property
    def idle_since(self) -> float | None:
        """The same, without a fresh look."""
        since = self._idle.idle_since
        return None if since is None else time.time() - (self.shell.now() - since)

    # ---------------------------------------------------------------- peers

    async def on_register(
        self, connection: Connection, first_message: RegisterClient | RegisterWorker | RegisterNanny
    ) -> None:
        """A peer has introduced itself."""
        if self.status not in (Status.starting, Status.running):
            raise ValueError(f"the scheduler is {self.status.name}")
        self._admission.admit(connection, first_message)

    # ---------------------------------------------------------------- plugins

    def add_plugin(self, plugin: Any, *, idempotent: bool = False, name: str | None = None, **kwargs: Any) -> None:
        """Take in a plugin that is at hand in this process.

        Parameters
        ----------
        idempotent
            Do nothing when one of this name is here (else it is replaced, with a warning).
        name
            Default: the plugin's own ``name``, else its class name with a random ending.
        """
        self.shell.plugins.add(plugin, idempotent, name)

    def remove_plugin(self, name: str | None = None, plugin: Any = None) -> Any:
        """Let a plugin go, given by name (or itself). Raises ValueError when it is not here."""
        if name is not None and not isinstance(name, str):
            name, plugin = None, name
        if name is None:
            name = next((known for known, p in self.plugins.items() if p is plugin), None)
        return self.shell.plugins.remove(str(name))

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> None:
        """Take in a plugin and start it."""
        if not self.shell.plugins.add(plugin, bool(idempotent), name):
            return
        start = getattr(plugin, "start", None)
        if start is not None:
            try:
                answer = start(self)
                if inspect.isawaitable(answer):
                    await answer
            except BaseException:
                self.remove_plugin(plugin=plugin)
                raise

    async def register_worker_plugin(
        self, comm: Any = None, plugin: Any = None, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin (itself, or its pickle) to all workers, present and future."""
        name, payload = plugin_of(plugin, name)
        return await self._fleet.add_worker_plugin(name, payload, bool(idempotent))

    async def unregister_worker_plugin(self, comm: Any = None, name: str = "") -> dict[str, Any]:
        """Take it away again."""
        return await self._fleet.remove_worker_plugin(name)

    async def register_nanny_plugin(
        self, comm: Any = None, plugin: Any = None, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin (itself, or its pickle) to all nannies, present and future."""
        name, payload = plugin_of(plugin, name)
        return await self._fleet.add_nanny_plugin(name, payload, bool(idempotent))

    async def unregister_nanny_plugin(self, comm: Any = None, name: str = "") -> dict[str, Any]:
        """Take it away again."""
        return await self._fleet.remove_nanny_plugin(name)

    # ---------------------------------------------------------------- events

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Note an event under one or several topics."""
        self.shell.events.log(topic, msg)

    def get_events(self, topic: str | None = None) -> Any:
        """Events of a topic, ``(time, message)`` each; or of all, by topic."""
        return self.shell.events.get(topic)

    # ---------------------------------------------------------------- the fleet

    async def broadcast(
        self,
        *,
        msg: Mapping[str, Any],
        workers: queries.WorkerNames = None,
        hosts: list[str] | None = None,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Ask all (or these) workers, or their nannies, the same; see ``FleetAdmin.broadcast``."""
        return await self._fleet.broadcast(msg, workers, hosts, nanny, on_error)

    async def restart(self, *, timeout: Any = 30, wait_for_workers: bool = True, **kwargs: Any) -> None:
        """Forget all tasks and start all workers anew."""
        await self._fleet.restart(float(parse_timedelta(timeout)), wait_for_workers)

    async def restart_workers(
        self,
        workers: list[str] | None = None,
        *,
        timeout: Any = 30,
        on_error: str = "raise",
        stimulus_id: str = "restart-workers",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Start the processes of these workers anew; their tasks run elsewhere."""
        return await self._fleet.restart_workers(workers, float(parse_timedelta(timeout)), on_error, stimulus_id)

    async def retire_workers(
        self,
        workers: list[str] | None = None,
        *,
        names: list[Any] | None = None,
        close_workers: bool = False,
        remove: bool = True,
        stimulus_id: str = "retire-workers",
        timeout: Any = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, Any]]:
        """Copy what only these workers hold to others, then (``close_workers``) close them.

        Without ``workers`` and ``names``: those that ``workers_to_close(**kwargs)`` finds. A worker whose data cannot
        be placed elsewhere stays. Returns the identities of the retired ones by address.
        """
        if workers is not None and names is not None:
            raise TypeError("give names= or workers=, not both")
        given = names if workers is None else workers
        if given is None:
            given = self.workers_to_close(**kwargs)
        chosen = queries.find_workers(self.state, given)
        limit = None if timeout is None else float(parse_timedelta(timeout))
        return await self._data.retire(chosen, close_workers, stimulus_id, limit)

    async def remove_worker(self, address: str, *, stimulus_id: str = "remove-worker", close: bool = True) -> None:
        """Take a worker out at once; its tasks run elsewhere, and nobody is blamed."""
        if close:
            self.shell.streams.to_worker(address, [CloseWorkerOrder(stimulus_id)])
        self.shell.apply_now(WorkerClosing(stimulus_id), source=address)

    def workers_to_close(
        self,
        memory_ratio: float | None = None,
        n: int | None = None,
        key: Any = None,
        minimum: int | None = None,
        target: int | None = None,
        attribute: str = "address",
        **kwargs: Any,
    ) -> list[Any]:
        """Workers that could be closed with least harm, as their ``attribute`` (``"address"``, ``"name"``, ...)."""
        grouping: Callable[[WorkerState], Any] | None = key if callable(key) else None
        if isinstance(key, str):
            grouping = lambda ws: getattr(ws, key)  # noqa: E731
        ratio = 2.0 if memory_ratio is None else memory_ratio
        chosen = scaling.workers_to_close(self.state, n, minimum, target, ratio, grouping)
        return [getattr(ws, attribute) for ws in self.shell.plugins.may_close(chosen)]

    def adaptive_target(self, target_duration: Any = None) -> int:
        """How many workers the present work asks for."""
        if target_duration is None:
            target_duration = settings.get("distributed.adaptive.target-duration", "5s")
        return scaling.adaptive_target(self.state, float(parse_timedelta(target_duration)))

    def set_resources(self, worker: str, resources: Mapping[str, float]) -> None:
        """Change what a worker says it has."""
        for ws in queries.find_workers(self.state, [worker]):
            self.shell.apply(SetResources(ws.address, dict(resources)))

    def coerce_address(self, addr: Any, resolve: bool = True) -> str:
        """The address of a worker given by address or name; anything else as it is."""
        found = queries.find_workers(self.state, [addr])
        if found:
            return found[0].address
        return normalize_address(addr) if isinstance(addr, str) and (":" in addr) else str(addr)

    def who_has(self, keys: Iterable[Any] | None = None) -> dict[UserKey, list[str]]:
        """Addresses of the workers that hold each key."""
        return queries.who_has(self.state, keys)
