"""The scheduler as a program: construction, life, and description. Thin: each thing is done by a module of its own
(``live_state`` what can be read, ``orders`` what can be told, ``shell`` the tick, ``admission`` the door, ``routes``
the questions of peers)."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distributed.base import defaults, settings, settings_check
from distributed.base.log_tail import LogTail
from distributed.base.preloading import Preload, make_preloads
from distributed.base.settings import parse_timedelta
from distributed.base.status import Status
from distributed.comm import registry, secrets
from distributed.comm.addressing import get_address_host
from distributed.comm.keys import Secret
from distributed.messages.control import RegisterClient, RegisterNanny, RegisterWorker, SchedulerEnds
from distributed.messages.scheduler_to_client import SchedulerClosing
from distributed.messages.scheduler_to_worker import CloseWorkerOrder
from distributed.rpc.connection import Connection
from distributed.rpc.server import Server
from distributed.rpc.session import session_buffer
from distributed.scheduler import lifecycle, queries, rotation
from distributed.scheduler.admission import Admission
from distributed.scheduler.data_movement import DataMovement
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.live_state import LiveState
from distributed.scheduler.orders import Orders
from distributed.scheduler.relay import RelayConnection
from distributed.scheduler.routes import Routes
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import SchedulerState
from distributed.scheduler.state_machine.events import ClientLeft
from distributed.scheduler.stream_handlers import StreamHandlers

logger = logging.getLogger("distributed.scheduler")

_TIDY_S = 1.0
_HTTP_SERVER = "distributed.http.server:start_http_server"


class Scheduler(Orders, LiveState, Server):
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
        True: serve them at ``":8787"`` if no address is given. False: only ``/health`` and ``/json``.
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
        Certificates for ``tls://``, and the cluster's secret; default: the environment's, else a random one.

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
        if jupyter:
            raise ValueError("jupyter=True is not available yet")
        if blocked_handlers is None:
            blocked_handlers = settings.get("distributed.scheduler.blocked-handlers", []) or []
        if protocol is None and getattr(security, "require_encryption", False) and "://" not in (host or ""):
            protocol = "tls"
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
        self.security = security
        self.contact_address = contact_address or settings.get("distributed.scheduler.contact-address", None)
        self.scheduler_file = os.fspath(scheduler_file) if scheduler_file is not None else None
        self.started = time.time()  # for people; ``uptime_s`` is measured
        self._began = time.monotonic()
        self.services_given = dict(services or {})
        self.service_kwargs = {key: dict(value) for key, value in (service_kwargs or {}).items()}
        self.dashboard_address = ":8787" if dashboard and dashboard_address is None else dashboard_address
        self.has_dashboard = dashboard is not False
        self.http_prefix = str(self.service_kwargs.get("dashboard", {}).get("prefix") or http_prefix or "/")
        self._log_tail = LogTail("distributed.scheduler")
        self._services = lifecycle.Services()
        self._file_written = False
        self._make_rooms(allowed_failures, worker_ttl, validate)
        limit = lifecycle.idle_limit(idle_timeout)
        self._idle = lifecycle.IdleWatch(self.state, limit, lambda: self.add_task(self.close(reason="idle")))
        for plugin in plugins:
            self.add_plugin(plugin)
        self.extensions: dict[str, Any] = {}
        for key, extension in {**defaults.SCHEDULER_EXTENSIONS, **(extensions or {})}.items():
            self.extensions[key] = (defaults.load(extension) if isinstance(extension, str) else extension)(self)
        if preload is None:
            preload = settings.get("distributed.scheduler.preload", []) or []
            preload_argv = preload_argv or settings.get("distributed.scheduler.preload-argv", []) or []
        self.preloads: list[Preload] = make_preloads(self, preload, preload_argv)

    def _make_rooms(self, allowed_failures: int | None, worker_ttl: Any, validate: bool | None) -> None:
        """The tick, and who answers questions and does what is ordered."""
        if validate is None:
            validate = bool(settings.get("distributed.scheduler.validate", False))
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
        self._fleet = FleetAdmin(self.shell, self.rpc)
        self._data = DataMovement(self.shell, self._fleet)
        self._admission = Admission(self, self.shell, self._fleet, self._tidy_after)
        self.routes = Routes(self, self.shell, self._fleet, self._data)
        self.handlers.update(self.routes.table())
        self.stream_handlers = StreamHandlers(self.handlers)

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
            **({"dashboard_prefix": self.http_prefix} if self.http_prefix.strip("/") else {}),
            **({"dashboard_scheme": "https"} if self.dashboard_link.startswith("https:") else {}),
            "started": self.started,
            "n_workers": len(state.workers),
            "total_threads": state.total_nthreads,
            "total_memory": queries.total_memory(state),
            "workers": queries.worker_list(state, now, time.time(), n_workers),
        }

    def validate_state(self) -> None:
        """Raise ``InvalidState`` when the tables contradict themselves, or did so after some beat before."""
        if self.shell.violations:
            raise AssertionError(self.shell.violations[0])
        self.state.validate()

    def get_logs(self, start: float = 0, n: int | None = None, timestamps: bool = False) -> list[tuple[Any, ...]]:
        """The last ``n`` lines of the scheduler's log, as ``(level, text)``; see ``LogTail.last``."""
        return self._log_tail.last(start, n, timestamps)

    # ---------------------------------------------------------------- life

    async def on_start(self, address: str | int | None = None) -> None:
        """Listen, load what was asked for, and let peers in."""
        self.shell.start()
        self._log_tail.attach()
        self._set_up = asyncio.Event()
        contact = self.contact_address
        await self.listen(
            self._listen_address if address is None else address,
            contact_host=get_address_host(contact) if contact and "://" in contact else contact,
            more_ports=self._more_ports if address is None else (),
        )
        if contact and "://" not in contact:
            self.contact_address = f"{super().address.partition('://')[0]}://{contact}" if ":" in contact else None
        for preload in self.preloads:
            self.log_event("audit", {"action": "preload", "name": preload.name[:100], "outcome": "done"})
            await preload.start()
        self._set_up.set()
        self._start_services()
        self.publish_secret()
        await self.shell.plugins.call_async("start", self)
        self._tell_extensions("on_start")
        self._idle.start()
        logger.info("  Scheduler at: %25s", self.address)

    def _tell_extensions(self, hook: str) -> None:
        for name, extension in self.extensions.items():
            try:
                getattr(extension, hook, bool)()
            except Exception:
                logger.exception("Extension %r has failed in %s", name, hook)

    def publish_secret(self) -> None:
        """Put the secret where this user's programs look for it: the store, and the scheduler file."""
        if secrets.from_environment() is None and not self.listen_address.startswith(("inproc", "tls")):
            self.share_secret(self.address)
            atexit.register(self._at_exit)
        if self.scheduler_file is not None:
            self._write_scheduler_file(self.scheduler_file)

    async def rotate_secret(self, overlap: Any = "60s", connection: Any = None) -> str | None:
        """Change the cluster's secret while it runs.

        Workers and nannies are told, clients find it where they found the old one. Those that came by the old one are
        shown out after ``overlap``.

        Returns
        -------
        To a client that asks from elsewhere, the new secret as text; else None.
        """
        new = await rotation.rotate(self, overlap)
        return None if connection is None else new.reveal()

    def _start_services(self) -> None:
        if self.dashboard_address is not None:
            start_http_server = defaults.load(_HTTP_SERVER)
            self._services.by_name["dashboard"] = start_http_server(self, self.dashboard_address, self.http_prefix)
            logger.info("  dashboard at: %25s", self.dashboard_link)
        if self.services_given:
            self._services.add_all(self, self.services_given, self.service_kwargs)

    def _write_scheduler_file(self, path: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            other, _ = secrets.read_scheduler_file(path)
            if "process" in other:
                logger.warning(
                    "The scheduler file %s was that of a scheduler at %s, which may still run", path, other["address"]
                )
        document = {**self.identity(n_workers=0), "process": secrets.process_mark()}
        secrets.write_scheduler_file(path, document, self.secret)
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
        self._tell_extensions("on_stop")
        for preload in self.preloads:
            try:
                await preload.teardown()
            except Exception:
                logger.exception("Error in dask_teardown of %s", preload.name)
        await self.shell.plugins.call_async("close")
        if self.shell.state.out:
            self.shell.beat()
        self.shell.stop()
        why = reason or "scheduler-close"
        ends = SchedulerEnds(why)
        orders = [ends, CloseWorkerOrder(why)] if close_workers else [ends]
        await self.shell.streams.last_words([SchedulerClosing(why)], orders, [ends])
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
        if not self._set_up.is_set() and not connection.peer_address.startswith("inproc"):
            await self._set_up.wait()  # start-up code runs first; it may be a client itself
        self._admission.admit(connection, first_message)
