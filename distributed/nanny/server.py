"""The nanny as a program: one worker process, kept alive, and the scheduler told at once when it ends. Shell.

When to start again is decided in ``restart_policy.py``; a worker's way from the start of its process to the end is in
``worker_life.py``.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

from distributed.base import defaults, ending, preloading, settings, settings_check
from distributed.base.formatting import parse_timedelta
from distributed.base.log_tail import LogTail
from distributed.base.status import Status
from distributed.comm.addressing import get_address_host
from distributed.comm.keys import Secret
from distributed.comm.transport import Comm
from distributed.messages.control import Applied, RegisterNanny, SchedulerEnds
from distributed.messages.nanny import WorkerProcessExited, WorkerProcessStarted, WorkerVouched
from distributed.nanny import environment
from distributed.nanny.process import WorkerProcess
from distributed.nanny.restart_policy import RestartPolicy
from distributed.nanny.worker_life import DiedAtStart, WorkerEnd, WorkerLife
from distributed.rpc.server import Server
from distributed.worker import memory, registration, remote_calls
from distributed.worker.member_link import MemberLink
from distributed.worker.plugin_host import PluginHost
from distributed.worker.scheduler_door import SchedulerDoor

logger = logging.getLogger("distributed.nanny")

_NOT_CLOSING = (Status.starting, Status.running, Status.closing_gracefully)
_closing_tasks: set[asyncio.Task[Any]] = set()


class Nanny(Server):
    """Starts a :class:`~distributed.worker.server.Worker` in a process of its own and keeps it alive.

    Parameters
    ----------
    scheduler_ip, scheduler_port, scheduler_file
        As for ``Worker``.
    worker_port : int or str
        Port of the worker (or a range ``"first:last"``); ``port`` is the nanny's own.
    nthreads, name, memory_limit, local_directory, resources, death_timeout, preload, preload_argv
        Handed on to the worker.
    preload_nanny, preload_nanny_argv
        Start-up code of the nanny itself.
    worker_class : type, optional
        A subclass of ``Worker``.
    env : dict, optional
        Environment variables of the worker process.
    config : dict, optional
        Settings of the worker process; default: those of this process.
    silence_logs : int, optional
        The least level of logs that the worker process writes.
    **worker_kwargs
        Further options of the worker.

    Attributes
    ----------
    worker_address : str or None
        Where the worker is, None while there is none.
    process : WorkerProcess or None

    Raises
    ------
    TypeError
        An option that no worker takes shows when the worker is made: ``await Nanny(...)`` raises it.
    """

    _instances: ClassVar[weakref.WeakSet[Nanny]] = weakref.WeakSet()

    def __init__(
        self,
        scheduler_ip: Any = None,
        scheduler_port: int | None = None,
        scheduler_file: str | None = None,
        worker_port: int | str | None = 0,
        nthreads: int | None = None,
        local_directory: str | None = None,
        services: Mapping[Any, Any] | None = None,
        name: Any = None,
        memory_limit: str | float | None = "auto",
        reconnect: bool = True,
        validate: bool | None = None,
        quiet: bool = False,
        resources: Mapping[str, float] | None = None,
        silence_logs: int | None = None,
        death_timeout: float | str | None = None,
        preload: str | list[str] | None = None,
        preload_argv: Any = None,
        preload_nanny: str | list[str] | None = None,
        preload_nanny_argv: Any = None,
        security: Any = None,
        contact_address: str | None = None,
        listen_address: str | None = None,
        worker_class: type | None = None,
        env: Mapping[str, Any] | None = None,
        interface: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        protocol: str | None = None,
        config: Mapping[str, Any] | None = None,
        loop: Any = None,
        io_loop: Any = None,
        secret: Secret | None = None,
        ncores: int | None = None,
        **worker_kwargs: Any,
    ) -> None:
        if nthreads is None:
            nthreads = ncores
        self.nthreads = nthreads or memory.cpu_count()
        self.scheduler_file = scheduler_file
        self.scheduler_address: str | None = registration.scheduler_address(
            scheduler_ip, scheduler_port, scheduler_file
        )
        self.memory_limit = memory.parse_memory_limit(memory_limit, self.nthreads)
        self.death_timeout = parse_timedelta(death_timeout)
        self.worker_class = worker_class
        self.env: dict[str, str] = {str(k): v for k, v in (env or {}).items()}
        self.config = None if config is None else dict(config)
        settings_check.check()
        self.security = security
        self.quiet = quiet
        self.local_directory = local_directory
        self.resources = resources
        self.services: dict[str, Any] = {}
        self.auto_restart = True
        suspect_s = float(parse_timedelta(settings.get("distributed.scheduler.suspect-after", None) or 5.0))
        self._life = WorkerLife(self._tell, self._on_worker_end, suspect_s, self.memory_limit)
        self.plugin_host = PluginHost(self)
        self._listen_options = (host, port, interface, protocol)
        self._contact_address = contact_address
        self._silence_logs = silence_logs
        self._door = SchedulerDoor(self, "nanny")
        self.link = MemberLink(
            "this nanny", self._door.open, self._from_scheduler, self._on_scheduler_lost, begins_anew=True
        )
        self._opened: Comm | None = None
        self._policy = RestartPolicy()
        self._restarting = False
        self.close_reason = ""
        self._change = asyncio.Lock()
        self._preload_given = (
            _or_setting(preload_nanny, "distributed.nanny.preload"),
            _or_setting(preload_nanny_argv, "distributed.nanny.preload-argv"),
        )
        self._preloads: list[preloading.Preload] = []
        options: dict[str, Any] = {
            "nthreads": self.nthreads,
            "local_directory": local_directory,
            "name": name,
            "memory_limit": self.memory_limit or 0,
            "resources": resources,
            "validate": validate,
            "death_timeout": death_timeout,
            "preload": preload,
            "preload_argv": preload_argv,
            "contact_address": contact_address,
            "interface": interface,
            "host": host,
            "port": worker_port,
            "protocol": protocol,
            "services": services,
            **worker_kwargs,
        }
        if listen_address:
            options |= _split_address(listen_address)
        self.worker_kwargs = {k: v for k, v in options.items() if v is not None or k == "memory_limit"}
        super().__init__(
            {
                "instantiate": self.instantiate,
                "kill": self.kill,
                "restart": self.restart,
                "run": self.run,
                "close_gracefully": self.close_gracefully,
                "get_logs": self.get_logs,
                "plugin_add": self.plugin_add,
                "plugin_remove": self.plugin_remove,
            },
            role="nanny",
            secret=secret,
            loop=loop,
            io_loop=io_loop,
            unpickle=True,
            name=name,
        )
        self._log_tail = LogTail("distributed.nanny")
        Nanny._instances.add(self)

    # -- facts

    def get_logs(
        self, start: float = 0, n: int | None = None, timestamps: bool = False, **ignored: Any
    ) -> list[tuple[Any, ...]]:
        """The last ``n`` lines of the nannies' log in this process, as ``(level, text)``; see ``LogTail.last``."""
        return self._log_tail.last(start, n, timestamps)

    @property
    def process(self) -> WorkerProcess | None:
        """The worker's process; the last one while there is none."""
        return self._life.process

    @property
    def worker_address(self) -> str | None:
        """Where the worker is, None while there is none."""
        return self._life.address

    @property
    def worker_dir(self) -> str | None:
        """The directory of the last worker."""
        return self._life.directory

    @property
    def memory_manager(self) -> memory.MemoryLimit:
        """Tells the memory limit."""
        return memory.MemoryLimit(self.memory_limit or None)

    @property
    def Worker(self) -> Any:
        """The class of the worker that it starts."""
        return self.worker_class or defaults.load("Worker")

    @property
    def scheduler_addr(self) -> str | None:
        """Address of the scheduler."""
        return self.scheduler_address

    @property
    def name(self) -> Any:
        """What users call the worker; its address when they gave no name."""
        return self._name if self._name is not None else self.worker_address

    @name.setter
    def name(self, value: Any) -> None:
        self._name = value

    @property
    def plugins(self) -> dict[str, Any]:
        """Plugins by name."""
        return self.plugin_host.plugins

    @property
    def pid(self) -> int | None:
        """The process id of the worker."""
        return self.process.pid if self.process is not None and self.process.is_alive() else None

    def is_alive(self) -> bool:
        """Whether there is a worker process."""
        return self._life.is_alive()

    def __repr__(self) -> str:
        return f"<Nanny: {self.worker_address}, threads: {self.nthreads}>"

    def identity(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "id": self.id, "worker": self.worker_address, "pid": self.pid}

    # -- life

    async def on_start(self, address: str | int | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._log_tail.attach()
        deadline = None if self.death_timeout is None else loop.time() + self.death_timeout
        self._preloads = preloading.make_preloads(self, self._preload_given[0], self._preload_given[1] or ())
        if self.scheduler_address is None:
            assert self.scheduler_file is not None
            self.scheduler_address, found = await registration.read_file(self.scheduler_file, deadline)
            self.secret = self.secret or found
        if self.secret is None:
            self.secret, self._opened = await registration.find_secret(
                self.scheduler_address, self.security, "nanny", deadline
            )
        host, port, interface, protocol = self._listen_options
        if isinstance(address, str) and address:
            where = address
        else:
            one = address if isinstance(address, int) else port
            if isinstance(one, str):
                one = int(one.partition(":")[0]) if one else None
            where = registration.listening_address(self.scheduler_address, host, one, interface, protocol)
        contact = None if self._contact_address is None else get_address_host(self._contact_address)
        await self.listen(where, contact_host=contact)
        for preload in self._preloads:
            await preload.start()
        first = RegisterNanny(self.address, str(self._name if self._name is not None else self.address))
        connection, registered = await self._door.register(first, deadline, self._opened)
        self.link.begin(connection, first, registered)
        await self.plugin_host.add_all([*registered.plugins])
        logger.info("        Start Nanny at: %r", self.address)
        await self.instantiate()

    def _from_scheduler(self, messages: list[Any]) -> None:
        for message in messages:
            if type(message) in (Applied, SchedulerEnds):
                self.link.on_control(message)

    async def instantiate(self) -> str:
        """Start a worker process, unless there is one; returns when its worker has registered (or raises why not)."""
        async with self._change:
            if await self._life.goes_on():
                return Status.running.name
            self._policy.on_ordered_start()
            while True:
                try:
                    await self._start_process()
                    return Status.running.name
                except DiedAtStart as death:
                    decision = self._policy.on_exit(False, death.end.lived_s)
                    if self.status is Status.closing:
                        raise RuntimeError("the nanny ends") from None
                    if not decision.restart:
                        raise RuntimeError(f"{decision.reason}; {death.told()}") from None
                    await asyncio.sleep(decision.delay_s)

    async def _start_process(self) -> None:
        assert self.scheduler_address is not None
        variables = environment.worker_variables(self.env)
        security = {} if self.security is None else {"security": self.security}
        config = {
            "worker_class": self.worker_class,
            "worker_options": {**security, **self.worker_kwargs, "nanny": self.address},
            "scheduler_address": self.scheduler_address,
            "secret": None if self.secret is None else self.secret.limited_to("worker").reveal(),
            "settings": environment.worker_settings(self.config),
            "sys_path": environment.module_path(),
            "variables": {"PYTHONPATH": variables.get("PYTHONPATH")},
            "log_level": self._silence_logs,
        }
        await self._life.start(config, variables, self.death_timeout)

    def _on_worker_end(self, end: WorkerEnd) -> None:
        had_started = end.address is not None
        unexpected = had_started and not end.expected
        stays = self.status in (Status.starting, Status.running) and self.auto_restart and not end.ordered
        if end.leaving is not None and not end.leaving["restart"] and not self._scheduler_cut(end.leaving):
            stays = False
        decision = self._policy.on_exit(True, end.process.lived_s) if stays and unexpected else None
        will_restart = stays and had_started and (decision is None or decision.restart)
        if had_started:
            self._tell(end.report(will_restart or self._restarting))
        if unexpected:
            again = "; restarting" if will_restart else ""
            logger.warning("Worker process %d ended: %s%s", end.process.pid, end.process, again)
        if will_restart:
            self.add_task(self._restart_after(0.0 if decision is None else decision.delay_s))
        elif had_started and not end.ordered and self.status in _NOT_CLOSING:
            reason = end.leaving["reason"] if end.leaving is not None else "worker-process-ended"
            self._close_soon(f"worker left: {reason}")

    def end_now(self) -> None:
        """The program ends in haste: the worker process has a moment to end too."""
        self._life.end_now()

    def _scheduler_cut(self, leaving: Mapping[str, Any]) -> bool:
        """The worker has lost the scheduler, and we have not: a new one may fare better."""
        return leaving["reason"] == "scheduler-connection-lost" and self.link.stands

    async def _restart_after(self, delay: float) -> None:
        if delay:
            logger.warning("Starting the worker process again in %.1f s", delay)
        await asyncio.sleep(delay)
        if self.status not in (Status.starting, Status.running):
            return
        try:
            policy = self._policy
            lives = policy.short_lives
            await self.instantiate()
            policy.short_lives = lives
        except Exception as error:
            if self.status not in _NOT_CLOSING:
                return
            logger.error("The worker process could not be started again: %s", error)
            self.status = Status.failed
            self._close_soon("worker-start-failed")

    async def kill(self, timeout: float = 2.0, reason: str = "nanny-kill") -> None:
        """End the worker process: in order if that takes at most ``timeout`` seconds. It is not started again."""
        await self._life.end(reason, float(parse_timedelta(timeout)))

    async def restart(self, timeout: float = 30.0, reason: str = "nanny-restart", **ignored: Any) -> str:
        """End the worker process and start a new one; ``"OK"``, or ``"timed out"`` when there is none in time.

        Raises RuntimeError when none can be started; the nanny ends then.
        """
        # Whoever asked may lose patience; the restart goes on all the same, to its end.
        restarting = self.add_task(self._restart(reason))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(restarting)
        except TimeoutError:
            logger.warning("The restart of a worker process takes longer than %.1f s", timeout)
            return "timed out"
        if not self.is_alive():
            raise RuntimeError("the worker process could not be started again; the log of its nanny says why")
        return "OK"

    async def _restart(self, reason: str) -> None:
        self._restarting = True
        try:
            await self.kill(2.0, reason)
            await self._restart_after(0.0)
        finally:
            self._restarting = False

    async def close(self, timeout: float = 5.0, reason: str = "nanny-close", **ignored: Any) -> None:
        """End the worker process, in order if that takes no longer than ``timeout`` seconds, and the nanny."""
        await super().close(timeout=timeout, reason=reason)

    def close_gracefully(self, reason: str = "nanny-close-gracefully", **ignored: Any) -> None:
        """The worker is about to end as it should: do not start it again, and end with it."""
        self.auto_restart = False
        self.status = Status.closing_gracefully
        logger.info("The nanny at %r ends when its worker has handed over its data: %s", self.address_safe, reason)

    async def on_close(self, timeout: float = 5.0, reason: str = "nanny-close", **ignored: Any) -> None:
        self.close_reason = reason
        logger.info("The nanny at %r ends: %s", self.address_safe, reason)
        for preload in self._preloads:
            try:
                await preload.teardown()
            except Exception:
                logger.exception("Preload teardown failed")
        await self.plugin_host.close()
        try:
            await self.kill(timeout, reason)
        finally:
            self._life.forget()
        self.link.stop()
        if self.link.connection is not None:
            await self.link.close(1.0)
        elif self._opened is not None:
            self._opened.abort()
        self._log_tail.detach()
        Nanny._instances.discard(self)

    def terminate(self, **kwargs: Any) -> str:
        asyncio.get_running_loop().call_later(0.01, self._close_soon, kwargs.get("reason", "terminate"))
        return "OK"

    def _close_soon(self, reason: str) -> None:
        task = asyncio.get_running_loop().create_task(self.close(reason=reason))
        _closing_tasks.add(task)
        task.add_done_callback(_closing_tasks.discard)

    def _on_scheduler_lost(self, why: str, fenced: bool) -> None:
        if self.status in _NOT_CLOSING:
            logger.info("Connection to scheduler broken. Closing. (%s)", why)
            self._close_soon("scheduler-connection-lost")

    def _tell(self, message: WorkerProcessStarted | WorkerProcessExited | WorkerVouched) -> None:
        self.link.send([message])

    # -- operations

    async def run(self, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True, **ignored: Any) -> Any:
        """Call a function in the nanny's process, with the nanny as ``dask_worker``."""
        running = remote_calls.run(self, "dask_worker", function, args, kwargs)
        if wait:
            return await running
        self.add_task(running)
        return None

    async def plugin_add(self, plugin: Any = None, name: str | None = None, **ignored: Any) -> dict[str, Any]:
        """Add a plugin; one that says ``restart`` has the worker started anew."""
        plugin = remote_calls.opened(plugin)
        await self.plugin_host.add(plugin, name)
        if getattr(plugin, "restart", False):
            await self.restart(reason="nanny-plugin-restart")
        return {"status": "OK"}

    async def plugin_remove(self, name: str, **ignored: Any) -> dict[str, Any]:
        """Remove a plugin."""
        await self.plugin_host.remove(name)
        return {"status": "OK"}


@ending.in_haste
def _end_all() -> None:
    for nanny in list(Nanny._instances):
        nanny.end_now()


def _or_setting(given: Any, name: str) -> Any:
    return given if given is not None else settings.get(name, None)


def _split_address(address: str) -> dict[str, Any]:
    scheme, separator, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    options: dict[str, Any] = {"host": host if colon else rest}
    if colon and port.isdigit():
        options["port"] = int(port)
    if separator:
        options["protocol"] = scheme
    return options
