"""``SSHCluster``: a scheduler and workers on other machines, started over SSH with asyncssh. Shell.

On each machine runs a program that ends with its standard input (``attached``). The end of the connection brings that
about: an SSH server would let the program live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from distributed.comm import secrets
from distributed.comm.addressing import is_loopback
from distributed.comm.keys import Secret
from distributed.deploy.attached import PROGRAM, AttachedProcess, AttachedScheduler, OnLine
from distributed.deploy.spec import SpecCluster

__all__ = ["SSHCluster", "SSHScheduler", "SSHWorker"]

logger = logging.getLogger("distributed.deploy.ssh")

_END_S = 5.0


def log_line(host: str, line: str) -> None:
    """What becomes of a line that a remote program prints, unless somebody else takes it."""
    logger.info("[%s] %s", host, line)


class _RemoteProgram:
    """A process of asyncssh, and the connection that is there for it alone."""

    def __init__(self, connection: Any, process: Any) -> None:
        self._connection, self._process = connection, process
        self.write = process.stdin.write
        self.write_eof = process.stdin.write_eof
        self.kill = process.kill

    async def readline(self) -> str:
        return str(await self._process.stdout.readline())

    async def errors(self) -> AsyncIterator[str]:
        async for line in self._process.stderr:
            yield line

    async def wait(self) -> int | None:
        await self._process.wait_closed()
        code: int | None = self._process.exit_status
        return code

    async def close(self) -> None:
        self._connection.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_END_S):
                await self._connection.wait_closed()


class SSHProcess(AttachedProcess):
    """One program on another machine, for as long as this object is open.

    Parameters
    ----------
    host
        The machine.
    connect_options
        Keywords of ``asyncssh.connect``.
    secret
        The cluster's.
    remote_python
        Python there; default: the path of this one.
    on_line
        Gets host and text of each line that the program prints.
    log_directory
        Directory there in which a copy of it is kept.
    """

    def __init__(
        self,
        host: str,
        connect_options: Mapping[str, Any],
        secret: Secret,
        remote_python: str | None = None,
        on_line: OnLine = log_line,
        log_directory: str | None = None,
        name: Any = None,
    ) -> None:
        super().__init__(host, secret, on_line, log_directory, name)
        self.connect_options = {"keepalive_interval": 15, **connect_options}
        self.remote_python = remote_python or sys.executable

    async def launch(self) -> _RemoteProgram:
        asyncssh = load_asyncssh()
        try:
            connection = await asyncssh.connect(self.place, **self.connect_options)
        except asyncssh.HostKeyNotVerifiable as e:
            raise RuntimeError(
                f"{self.place}: its host key is not known here ({e}); log in once with ssh, or give known_hosts"
            ) from None
        except (asyncssh.Error, OSError) as e:
            raise RuntimeError(f"{self.place}: cannot connect over SSH: {e}") from None
        command = f"{shlex.quote(self.remote_python)} -m {PROGRAM} --attached"
        try:
            process = await connection.create_process(command, encoding="utf-8", errors="replace")
        except BaseException:
            connection.close()
            raise
        return _RemoteProgram(connection, process)


class SSHScheduler(SSHProcess, AttachedScheduler):
    """A scheduler on another machine.

    Parameters
    ----------
    options
        Keywords of ``Scheduler``.
    """

    def __init__(self, host: str, options: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(host, **kwargs)
        here = {} if "interface" in options or "host" in options else {"host": _listening_host(host)}
        self.options = {**options, **here}


class SSHWorker(SSHProcess):
    """Workers on another machine: one program, ``n_workers`` workers.

    Parameters
    ----------
    scheduler
        Address of the scheduler.
    options
        Keywords of the worker class; ``n_workers``: how many of them.
    worker_class
        As ``package.module.Class``.
    module, arguments
        A program to run instead, ``python -m module --scheduler-file ... *arguments``.
    """

    what = "worker"

    def __init__(
        self,
        scheduler: str,
        host: str,
        options: Mapping[str, Any],
        worker_class: str = "distributed.Nanny",
        module: str | None = None,
        arguments: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(host, **kwargs)
        self.scheduler = scheduler
        self.options = dict(options)
        self.worker_class, self.module, self.arguments = worker_class, module, list(arguments)

    def request(self) -> dict[str, Any]:
        if self.module is not None:
            return {"scheduler": self.scheduler, "module": self.module, "arguments": self.arguments}
        options = dict(self.options)
        count = int(options.pop("n_workers", 1))
        names = [self.name] if count == 1 else [f"{self.name}-{i}" for i in range(count)]
        spec = {str(name): {"cls": self.worker_class, "opts": {**options, "name": name}} for name in names}
        return {"scheduler": self.scheduler, "spec": spec}


class SSHCluster(SpecCluster):
    """A scheduler on the first machine, workers on the others.

    Parameters
    ----------
    hosts : list of str
        Names or addresses; the first one runs the scheduler and may be named again to run workers too.
    connect_options : dict or list of dict
        Keywords of ``asyncssh.connect`` (``username``, ``port``, ``client_keys``, ``known_hosts``, ...), for all
        machines or one for each.
    worker_options : dict or list of dict
        Keywords of the worker class; ``n_workers``: workers on each machine. A list: one for each machine of workers.
    scheduler_options : dict
        Keywords of ``Scheduler``. Without ``host`` or ``interface`` it listens on all interfaces (loopback, if that is
        what the first machine is called), guarded by the cluster's secret.
    worker_class : str or class
        Default: a worker that a nanny watches.
    remote_python : str or list of str, optional
        Python there; default: the path of this one.
    on_line, log_directory, worker_module, worker_arguments
        For ``dask-ssh``: who takes the lines that the programs print, where a copy is kept, and a program for the
        workers with its arguments, a list for each machine.
    **kwargs
        See ``SpecCluster``.

    Raises
    ------
    ValueError
        Fewer than two hosts, or a list that is not as long as that of the hosts.
    RuntimeError
        Names the host on which something did not start, and why.

    Examples
    --------
    >>> cluster = SSHCluster(["node1", "node1", "node2"], worker_options={"nthreads": 4})  # doctest: +SKIP
    """

    def __init__(
        self,
        hosts: Sequence[str] | None = None,
        connect_options: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        worker_options: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        worker_class: Any = "distributed.Nanny",
        remote_python: str | Sequence[str] | None = None,
        *,
        on_line: OnLine = log_line,
        log_directory: str | None = None,
        worker_module: str | None = None,
        worker_arguments: Sequence[Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        hosts = ["127.0.0.1", "127.0.0.1"] if hosts is None else list(hosts)
        if len(hosts) < 2:
            raise ValueError(f"hosts= needs one machine for the scheduler and at least one for workers, not {hosts!r}")
        load_asyncssh()
        connects = _one_each("connect_options", connect_options or {}, len(hosts))
        pythons = _one_each("remote_python", remote_python, len(hosts))
        options = _one_each("worker_options", worker_options or {}, len(hosts) - 1)
        if isinstance(worker_class, type):
            worker_class = f"{worker_class.__module__}.{worker_class.__qualname__}"
        arguments = list(worker_arguments or [[]] * (len(hosts) - 1))
        secret = secrets.from_environment() or Secret.new()
        common = {"secret": secret, "on_line": on_line, "log_directory": log_directory}
        how = {"worker_class": worker_class, "module": worker_module}
        machines = list(zip(hosts, connects, pythons, strict=True))
        first, *others = [{"host": h, "connect_options": c, "remote_python": p, **common} for h, c, p in machines]
        workers = {}
        for number, (machine, one, words) in enumerate(zip(others, options, arguments, strict=True)):
            count = int(one.get("n_workers", 1))
            spec: dict[str, Any] = {"cls": SSHWorker, "options": {**machine, **how, "options": one, "arguments": words}}
            workers[number] = spec if count == 1 else {**spec, "group": [f"-{i}" for i in range(count)]}
        scheduler = {"cls": SSHScheduler, "options": {**first, "options": dict(scheduler_options or {})}}
        super().__init__(workers, scheduler, name=kwargs.pop("name", "SSHCluster"), **kwargs)


def load_asyncssh() -> Any:
    """The module; ``ImportError`` says how to come by it."""
    try:
        return importlib.import_module("asyncssh")
    except ImportError:
        raise ImportError("SSHCluster and dask-ssh need the package asyncssh: pip install asyncssh") from None


def _one_each(name: str, value: Any, n: int) -> list[Any]:
    if value is None or isinstance(value, str | Mapping):
        return [value] * n
    found = list(value)
    if len(found) != n:
        raise ValueError(f"{name}= has {len(found)} items for {n} machines")
    return found


def _listening_host(host: str) -> str:
    """Loopback for a machine that is called so, else all interfaces."""
    return host if is_loopback(host) else ""
