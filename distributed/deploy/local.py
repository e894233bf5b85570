"""A cluster on this machine: scheduler here, workers in processes (or threads) of ours. Loopback or in-process only.

Turns the keywords of three generations of LocalCluster into one scheduler spec and one worker spec. Shell.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

import distributed.nanny as nannies
import distributed.scheduler as schedulers
import distributed.worker as workers
from distributed.base import garbage
from distributed.base.lazy import lazy_module
from distributed.deploy.spec import SpecCluster
from distributed.deploy.utils import CPU_COUNT, MEMORY_LIMIT, nprocesses_nthreads

if TYPE_CHECKING:
    import difflib

    from tornado.ioloop import IOLoop
else:
    difflib = lazy_module("difflib")

__all__ = ["LocalCluster", "nprocesses_nthreads"]

_LOOPBACK = "127.0.0.1"


class LocalCluster(SpecCluster):
    """Scheduler and workers on this machine.

    Parameters
    ----------
    n_workers : int, optional
        Number of workers; default: as many as cores (one when ``processes=False``).
    threads_per_worker : int, optional
        Threads of each; default: cores divided by workers, at least one.
    processes : bool
        Workers are processes (True, the default), each watched and restarted by a nanny, or threads of this process.
    loop : IOLoop, optional
        Event loop to run on; default: one of our own in a thread.
    start : bool, optional
        Accepted, without effect: a cluster starts when it is made.
    host : str, optional
        Address on which the scheduler listens; default: the loopback address only.
    ip : str, optional
        Old name of ``host``.
    scheduler_port : int
        0: a free one.
    silence_logs : int
        Least level of log lines shown, ``logging.WARN`` by default; False or None: no change.
    dashboard_address : str, optional
        Where the status page listens, ``":8787"`` by default (a free port if that is taken), ``":0"`` for any port,
        None for no page. Without a host: on the loopback address only.
    worker_dashboard_address : str, optional
        The same for each worker; None: no page.
    diagnostics_port : int, optional
        Old name of ``dashboard_address``.
    services, worker_services : dict, optional
        Further services of scheduler and workers.
    service_kwargs : dict, optional
        Options of services, such as ``{"dashboard": {"prefix": "/foo"}}``.
    asynchronous : bool
        For use in coroutines: ``async with LocalCluster(asynchronous=True) as cluster``.
    security : Security, optional
        Certificates; without them a random secret guards every connection.
    protocol : str, optional
        ``"tcp://"``, ``"tls://"`` or ``"inproc://"``; default: inproc for ``processes=False`` unless an address,
        interface or port was asked for, else tcp.
    blocked_handlers : list of str, optional
        Operations that the scheduler refuses, such as ``["feed", "run_function"]``.
    interface : str, optional
        Network interface, such as ``"lo"``.
    worker_class : type, optional
        What to make workers from.
    scheduler_kwargs : dict, optional
        Further options of the Scheduler.
    name : str, optional
        Name of the cluster; default: a random one.
    **worker_kwargs
        Options of each Worker: ``memory_limit``, ``resources``, ``local_directory``, ...

    Examples
    --------
    >>> cluster = LocalCluster(n_workers=2)  # doctest: +SKIP
    >>> cluster.scale(3)  # doctest: +SKIP
    """

    def __init__(
        self,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: IOLoop | None = None,
        start: Any = None,
        host: str | None = None,
        ip: str | None = None,
        scheduler_port: int = 0,
        silence_logs: Any = logging.WARN,
        dashboard_address: str | None = ":8787",
        worker_dashboard_address: str | None = None,
        diagnostics_port: int | str | None = None,
        services: dict[Any, Any] | None = None,
        worker_services: dict[Any, Any] | None = None,
        service_kwargs: dict[str, dict[str, Any]] | None = None,
        asynchronous: bool = False,
        security: Any = None,
        protocol: str | None = None,
        blocked_handlers: list[str] | None = None,
        interface: str | None = None,
        worker_class: type | None = None,
        scheduler_kwargs: dict[str, Any] | None = None,
        scheduler_sync_interval: float = 1,
        name: str | None = None,
        **worker_kwargs: Any,
    ) -> None:
        _check_count("n_workers", n_workers, 0)
        _check_count("threads_per_worker", threads_per_worker, 1)
        _check_count("scheduler_port", scheduler_port, 0)
        if ip is not None:
            _warn_renamed("ip", "host")
            host = host if host is not None else ip
        if diagnostics_port is not None:
            _warn_renamed("diagnostics_port", "dashboard_address")
            dashboard_address = f":{diagnostics_port}" if isinstance(diagnostics_port, int) else diagnostics_port
        if start is not None:
            warnings.warn("LocalCluster(start=...) has no effect any more", DeprecationWarning, stacklevel=2)
        worker_class, self.processes = _kind_of_worker(worker_class, processes)
        n_workers, threads_per_worker = _sizes(n_workers, threads_per_worker, self.processes)

        has_others = self.processes or bool(scheduler_port) or interface is not None
        protocol = _protocol(protocol, host, security, has_others)
        if protocol == "inproc://" and self.processes and issubclass(worker_class, nannies.Nanny):
            raise ValueError(
                "protocol='inproc://' needs processes=False: other processes cannot reach an in-process address"
            )
        if host is None and interface is None and protocol in ("tcp://", "tls://"):
            host = _LOOPBACK

        worker_options: dict[str, Any] = {
            "nthreads": threads_per_worker,
            "services": worker_services,
            "dashboard_address": worker_dashboard_address,
            "dashboard": worker_dashboard_address is not None,
            "interface": interface,
            "protocol": protocol,
            "security": security,
            "silence_logs": silence_logs,
            "host": None if host is None else _bare_host(host),
        }
        _check_options(type(self), worker_class, worker_kwargs)
        worker_options.update(worker_kwargs)
        if n_workers and "memory_limit" not in worker_kwargs:
            worker_options["memory_limit"] = MEMORY_LIMIT // max(n_workers, 1)

        prefix = ((service_kwargs or {}).get("dashboard") or {}).get("prefix")
        scheduler_options: dict[str, Any] = {
            "host": host,
            "services": services,
            "service_kwargs": service_kwargs,
            "security": security,
            "port": scheduler_port,
            "interface": interface,
            "protocol": protocol,
            "dashboard": dashboard_address is not None,
            "dashboard_address": loopback_page(dashboard_address),
            "blocked_handlers": blocked_handlers,
        }
        if prefix:
            scheduler_options["http_prefix"] = prefix
        scheduler_options.update(scheduler_kwargs or {})
        self._prefix = str(scheduler_options.get("http_prefix") or "").strip("/")

        template = {"cls": worker_class, "options": worker_options}
        # Their interpreters load while the scheduler starts; in coroutines nobody knows when that will be.
        at_once = issubclass(worker_class, nannies.Nanny) and not asynchronous and "env" not in worker_kwargs
        soon = n_workers if at_once else 0
        with nannies.ahead(soon):
            super().__init__(
                workers=dict.fromkeys(range(n_workers), template),
                scheduler={"cls": schedulers.Scheduler, "options": scheduler_options},
                worker=template,
                asynchronous=asynchronous,
                loop=loop,
                security=security,
                silence_logs=silence_logs,
                name=name,
                scheduler_sync_interval=scheduler_sync_interval,
            )

    async def _start_parts(self) -> None:
        garbage.look_seldom(self)
        try:
            await super()._start_parts()
        except BaseException:
            garbage.look_as_before(self)
            raise

    async def _close_parts(self) -> None:
        try:
            await super()._close_parts()
        finally:
            garbage.look_as_before(self)

    def _dashboard_prefix(self) -> str:
        return self._prefix

    def add_worker(self, **options: Any) -> Any:
        """One worker more.

        Parameters
        ----------
        **options
            Options of this worker that differ from the others', such as ``nthreads``.

        Returns
        -------
        Nanny or Worker
            The handle that ``remove_worker`` takes.
        """
        _check_options(type(self), self.new_spec["cls"], options)
        return self.sync(self._add_worker, options)

    async def _add_worker(self, options: dict[str, Any]) -> Any:
        ((name, spec),) = self.new_worker_spec().items()
        if "name" in options:
            name = options["name"]
            if name in self.worker_spec:
                raise ValueError(f"there is a worker named {name!r} already")
        self.worker_spec[name] = {**spec, "options": {**spec["options"], **options}}
        await self._correct_state()
        return self.workers[name]

    def remove_worker(self, worker: Any) -> Any:
        """Close one worker, given by its handle, name or address; its data moves to others first.

        Raises
        ------
        ValueError
            It is no worker of this cluster.
        """
        return self.sync(self._remove_worker, worker)

    async def _remove_worker(self, worker: Any) -> None:
        for name, known in self.workers.items():
            if known is worker or (isinstance(worker, str | int) and worker in _names_of(name, known)):
                self.worker_spec.pop(name, None)
                await self._correct_state()
                return
        raise ValueError(f"{worker!r} is no worker of this cluster")

    start_worker = add_worker
    stop_worker = remove_worker


def _names_of(name: Any, worker: Any) -> tuple[Any, ...]:
    return name, getattr(worker, "worker_address", None), getattr(worker, "address", None)


def _sizes(n_workers: int | None, threads: int | None, processes: bool) -> tuple[int, int]:
    """Number of workers and threads of each: single-threaded workers, one a core, unless told otherwise."""
    if n_workers is None:
        if not processes:
            return 1, threads or CPU_COUNT
        return (max(1, CPU_COUNT // threads), threads) if threads else (CPU_COUNT, 1)
    if threads is None:
        threads = max(1, CPU_COUNT // n_workers) if n_workers else 1
    return n_workers, threads


def _kind_of_worker(worker_class: type | None, processes: bool | None) -> tuple[type, bool]:
    """The class of the workers, and whether each has a process of its own; either says the other."""
    if isinstance(worker_class, str):
        raise TypeError(f"worker_class must be a class, not {worker_class!r}")
    if processes is None:
        processes = worker_class is None or issubclass(worker_class, nannies.Nanny)
    if worker_class is None:
        worker_class = nannies.Nanny if processes else workers.Worker
    return worker_class, bool(processes)


def _protocol(given: str | None, host: str | None, security: Any, has_others: bool) -> str:
    """The one that is given or that ``host`` names, else the simplest by which all can talk.

    ``has_others``: members may be in other processes.
    """
    if given is not None:
        return given if given.endswith("://") else given + "://"
    if host is not None and "://" in host:
        return host.split("://", 1)[0] + "://"
    if getattr(security, "require_encryption", False):
        return "tls://"
    return "tcp://" if has_others or host is not None else "inproc://"


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def _check_options(cluster: type, worker_class: type, options: dict[str, Any]) -> None:
    """Refuse a keyword that no worker takes now, instead of failing in a process that has yet to start."""
    known = _parameters(worker_class)
    if known is not None and issubclass(worker_class, nannies.Nanny) and not known.issuperset(options):
        of_worker = _parameters(workers.Worker)  # what a nanny does not know it hands on
        known = None if of_worker is None else known | of_worker
    if known is None:
        return
    for name in options:
        if name not in known:
            candidates = known | set(inspect.signature(LocalCluster.__init__).parameters)
            close = difflib.get_close_matches(name, candidates - {"self"}, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{cluster.__name__}() got an unexpected keyword argument {name!r}{hint}")


def _parameters(cls: type) -> set[str] | None:
    """Names of the options that ``cls`` takes; None for any. A nanny takes those that it names, and its worker's."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    if cls is not nannies.Nanny and any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _bare_host(host: str) -> str:
    """``host`` of ``tcp://host:port``: workers share the scheduler's host, not its port."""
    rest = host.split("://", 1)[-1]
    if rest.startswith("["):
        return rest[1:].split("]", 1)[0]
    return rest.split(":", 1)[0] if rest.count(":") == 1 else rest


def loopback_page(address: Any) -> Any:
    if isinstance(address, int) and not isinstance(address, bool):
        return f"{_LOOPBACK}:{address}"
    if isinstance(address, str):
        if address == "":
            return f"{_LOOPBACK}:8787"
        if address.startswith(":"):
            return _LOOPBACK + address
        return address
    if address is None:
        return None
    raise TypeError(f"dashboard_address must be like ':8787' or None, not {address!r}")


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(f"LocalCluster({old}=...) is now called {new}", FutureWarning, stacklevel=3)
