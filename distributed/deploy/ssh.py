"""``SSHCluster``: a scheduler and workers on other machines, started over SSH with asyncssh. Shell.

On each machine runs ``python -m distributed.cli.dask_spec --attached``. What it should be comes as one line on its
standard input, the cluster's secret in it, so that this is neither in ``argv`` nor in the environment; the end of that
input, which the connection's end brings about too, ends the program. (An SSH server lets programs live on.)
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import shlex
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed.base import settings
from distributed.base.status import Status
from distributed.comm import secrets
from distributed.comm.addressing import is_loopback
from distributed.comm.keys import Secret
from distributed.deploy.spec import ProcessInterface, SpecCluster

__all__ = ["SSHCluster", "SSHScheduler", "SSHWorker"]

logger = logging.getLogger("distributed.deploy.ssh")

PROGRAM = "distributed.cli.dask_spec"
_START_S = 120.0
_END_S = 15.0
_TAIL_LINES = 20
OnLine = Callable[[str, str], None]


def log_line(host: str, line: str) -> None:
    """What becomes of a line that a remote program prints, unless somebody else takes it."""
    logger.info("[%s] %s", host, line)


class SSHProcess(ProcessInterface):
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

    what = "program"

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
        super().__init__()
        self.host, self.name = host, name
        self.connect_options = {"keepalive_interval": 15, **connect_options}
        self.secret = secret
        self.remote_python = remote_python or sys.executable
        self.on_line = on_line
        self.log_directory = log_directory
        self._connection: Any = None
        self._process: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def request(self) -> dict[str, Any]:
        """What the program should be; see ``distributed.cli.dask_spec``."""
        raise NotImplementedError

    async def start(self) -> None:
        """Connect, start the program, and wait until it listens. ``RuntimeError`` names the host and what was wrong."""
        try:
            async with asyncio.timeout(_START_S):
                line = self._as_line()
                await self._connect()
                self._process.stdin.write(line)
                self._tasks = [asyncio.ensure_future(self._read_stderr())]
                answer = await self._answer()
        except TimeoutError:
            await self._end()
            raise RuntimeError(f"{self.host}: the {self.what} has not started in {_START_S:.0f} s") from None
        except BaseException:
            await self._end()
            raise
        self.address = answer["address"]
        self._tasks.append(asyncio.ensure_future(self._watch()))
        await super().start()

    def _as_line(self) -> str:
        logs = None if self.log_directory is None else [self.log_directory, f"dask-{self.what}-{self.host}.log"]
        document = {"secret": self.secret.reveal(), "settings": settings.snapshot(), "logs": logs, **self.request()}
        try:
            return json.dumps(document, default=_plain) + "\n"
        except (TypeError, ValueError) as e:
            raise TypeError(f"options of a {self.what} on another machine must be plain data (JSON): {e}") from None

    async def _connect(self) -> None:
        asyncssh = load_asyncssh()
        try:
            self._connection = await asyncssh.connect(self.host, **self.connect_options)
        except asyncssh.HostKeyNotVerifiable as e:
            raise RuntimeError(
                f"{self.host}: its host key is not known here ({e}); log in once with ssh, or give known_hosts"
            ) from None
        except (asyncssh.Error, OSError) as e:
            raise RuntimeError(f"{self.host}: cannot connect over SSH: {e}") from None
        command = f"{shlex.quote(self.remote_python)} -m {PROGRAM} --attached"
        self._process = await self._connection.create_process(command, encoding="utf-8", errors="replace")

    async def _answer(self) -> dict[str, Any]:
        """The first line in JSON on the program's standard output: all before it is for people."""
        while line := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict) and "address" in answer:
                    return answer
            self._say(line)
        await asyncio.wait(self._tasks, timeout=1)
        said = [line for line in self._tail if line.strip()]
        errors = [line for line in said if line.startswith("Error: ")] or said
        told = errors[-1] if errors else f"exit code {self._process.exit_status}, nothing on stderr"
        raise RuntimeError(f"{self.host}: the {self.what} did not start: {told}")

    def _say(self, line: str) -> None:
        text = line.rstrip()
        if not text:  # what asyncssh reads at the end is an empty line
            return
        self._tail.append(text)
        self.on_line(self.host, text)

    async def _read_stderr(self) -> None:
        async for line in self._process.stderr:
            self._say(line)

    async def _watch(self) -> None:
        """Notice that the program has ended by itself, or that its machine is gone."""
        async for line in self._process.stdout:
            self._say(line)
        await self._process.wait_closed()
        if self.status is Status.running:
            code = self._process.exit_status
            self._say(
                f"the {self.what} has ended" + (" with its connection" if code is None else f", exit code {code}")
            )
            self.ended(failed=code != 0)

    async def close(self) -> None:
        """End the program in order, in haste after 15 s, and the connection."""
        if self.status is not Status.closed:
            self.status = Status.closing
            await self._end()
            await super().close()

    async def _end(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.write_eof()
            try:
                async with asyncio.timeout(_END_S):
                    await process.wait_closed()
            except TimeoutError:
                logger.warning("The %s on %s does not end; it is killed", self.what, self.host)
                with contextlib.suppress(Exception):
                    process.kill()
        if connection is not None:
            connection.close()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await connection.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}: {self.address or 'no address yet'}, {self.status.name}>"


class SSHScheduler(SSHProcess):
    """A scheduler on another machine.

    Parameters
    ----------
    options
        Keywords of ``Scheduler``.
    """

    what = "scheduler"

    def __init__(self, host: str, options: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(host, **kwargs)
        self.options = dict(options)
        self.options.setdefault("host", _listening_host(host) if "interface" not in options else None)

    def request(self) -> dict[str, Any]:
        return {"spec": {"scheduler": {"cls": "distributed.Scheduler", "opts": self.options}}}

    async def start(self) -> None:
        await super().start()
        assert self.address is not None
        secrets.register(self.address, self.secret)
        if secrets.from_environment() is None:
            secrets.save(self.secret, [self.address])  # so that this user's programs here may join

    async def close(self) -> None:
        await super().close()
        if secrets.from_environment() is None:
            secrets.remove(self.secret)


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


def _plain(value: Any) -> Any:
    """Sets of the configuration as lists; nothing else that is no plain data."""
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} {value!r}")
