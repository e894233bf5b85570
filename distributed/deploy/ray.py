"""``RayCluster``: workers held by actors of a running Ray cluster. Shell.

An actor starts a worker program (``attached``) beside itself and holds its standard input: when Ray ends the actor, or
its machine dies, the worker ends too. Ray places the actors and counts their cores and memory.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import distributed.scheduler as schedulers
from distributed.base.settings import parse_bytes
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.deploy.attached import PROGRAM, AttachedProcess
from distributed.deploy.spec import SpecCluster

__all__ = ["RayCluster", "RayWorker"]


class ProgramHolder:
    """What the actor is: a program and its pipes. Plain, so that it needs no Ray to be defined."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in secrets.SECRET_VARIABLES}
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", PROGRAM, "--attached"]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def write_eof(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def readline(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def error_line(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def wait(self) -> int:
        return self._process.wait()


_CALLS_AT_A_TIME = 4  # reading two pipes, waiting, and an order


class _ActorsProgram:
    """The program of an actor, as seen from here."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def write(self, text: str) -> None:
        self._actor.write.remote(text)

    def write_eof(self) -> None:
        self._actor.write_eof.remote()

    async def readline(self) -> str:
        try:
            return str(await self._actor.readline.remote())
        except self._ray.exceptions.RayError:
            return ""

    async def errors(self) -> AsyncIterator[str]:
        with contextlib.suppress(self._ray.exceptions.RayError):
            while line := await self._actor.error_line.remote():
                yield line

    async def wait(self) -> int | None:
        try:
            return int(await self._actor.wait.remote())
        except self._ray.exceptions.RayError:
            return None

    def kill(self) -> None:
        self._ray.kill(self._actor)

    async def close(self) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)


def _tell(place: str, line: str) -> None:
    print(f"[{place}] {line}", file=sys.stderr, flush=True)


class RayWorker(AttachedProcess):
    """A worker that an actor holds.

    Parameters
    ----------
    scheduler
        Its address.
    options
        Keywords of the worker class.
    worker_class
        As ``package.module.Class``.
    ray_options
        Of the actor: ``num_cpus``, ``memory``, ``resources``, ...
    start_timeout_s
        Ray may have to get a machine first.
    """

    what = "worker"

    def __init__(
        self,
        scheduler: str,
        options: Mapping[str, Any],
        worker_class: str,
        ray_options: Mapping[str, Any],
        secret: Secret,
        start_timeout_s: float = 600.0,
        name: Any = None,
    ) -> None:
        super().__init__(f"worker {name}", secret, _tell, name=name)
        self.scheduler, self.options, self.worker_class = scheduler, dict(options), worker_class
        self.ray_options, self.start_s = dict(ray_options), start_timeout_s
        self.silence_logs = logging.WARNING

    def request(self) -> dict[str, Any]:
        spec = {"cls": self.worker_class, "opts": {**self.options, "name": self.name}}
        return {"scheduler": self.scheduler, "spec": {str(self.name): spec}}

    async def launch(self) -> _ActorsProgram:
        ray = load_ray()
        try:
            kind = ray.remote(ProgramHolder).options(max_concurrency=_CALLS_AT_A_TIME, **self.ray_options)
            return _ActorsProgram(ray, kind.remote())
        except (ValueError, TypeError, ray.exceptions.RayError) as e:
            raise RuntimeError(f"Ray does not start an actor: {' '.join(str(e).split())}") from None


class RayCluster(SpecCluster):
    """A scheduler in this process, workers held by actors of a running Ray cluster.

    Parameters
    ----------
    n_workers : int
        Workers to begin with.
    nthreads : int
        Threads of each worker, and the CPUs that its actor asks Ray for.
    memory_limit : int or str
        Memory of each worker, which its actor asks Ray for too; 0: no limit, and nothing is asked for.
    address : str, optional
        Of the Ray cluster, unless this program is connected to one (``ray.init``); default: ``"auto"``.
    ray_options : dict, optional
        More options of the actors, such as ``{"resources": {"big": 1}}``.
    worker_class : str
        As ``package.module.Class``; a nanny is not needed, for Ray's actors are replaced.
    worker_options : dict, optional
        More keywords of the workers; plain data.
    host : str, optional
        Where the scheduler listens; default: this machine's address in the Ray cluster.
    scheduler_options : dict, optional
        More keywords of ``Scheduler``.
    start_timeout_s : float
        In what time Ray must have started a worker.
    **kwargs
        See ``SpecCluster``.

    Examples
    --------
    >>> ray.init(address="auto")  # doctest: +SKIP
    >>> cluster = RayCluster(4, nthreads=2, memory_limit="4 GiB")  # doctest: +SKIP
    >>> client = Client(cluster)  # doctest: +SKIP
    """

    def __init__(
        self,
        n_workers: int = 0,
        nthreads: int = 1,
        memory_limit: int | str = 0,
        address: str | None = None,
        ray_options: Mapping[str, Any] | None = None,
        worker_class: str = "distributed.Nanny",
        worker_options: Mapping[str, Any] | None = None,
        host: str | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        start_timeout_s: float = 600.0,
        **kwargs: Any,
    ) -> None:
        ray = load_ray()
        if not ray.is_initialized():
            ray.init(address=address or "auto")
        nbytes = int(parse_bytes(memory_limit))
        asked = {"num_cpus": nthreads, **({"memory": nbytes} if nbytes else {}), **(ray_options or {})}
        secret = secrets.from_environment() or Secret.new()
        of_worker: dict[str, Any] = {"nthreads": nthreads, "memory_limit": nbytes, "silence_logs": logging.WARNING}
        of_worker |= worker_options or {}
        common = {"worker_class": worker_class, "secret": secret, "start_timeout_s": start_timeout_s}
        worker = {"cls": RayWorker, "options": {"options": of_worker, "ray_options": asked, **common}}
        of_scheduler = {"host": host or ray.util.get_node_ip_address(), "secret": secret, **(scheduler_options or {})}
        self._each = nthreads, nbytes
        super().__init__(
            dict.fromkeys(range(n_workers), worker),
            {"cls": schedulers.Scheduler, "options": of_scheduler},
            worker,
            name=kwargs.pop("name", "RayCluster"),
            **kwargs,
        )

    def _threads_per_worker(self) -> int:
        return self._each[0]

    def _memory_per_worker(self) -> int:
        if not self._each[1]:
            raise ValueError("To scale by memory= the cluster needs memory_limit=")
        return self._each[1]


def load_ray() -> Any:
    """The module; ``ImportError`` says how to come by it."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ImportError("RayCluster needs the package ray: pip install ray") from None
