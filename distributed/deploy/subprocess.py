"""``SubprocessCluster``: scheduler and workers on this machine, each a process of its own. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from distributed.base.settings import parse_bytes
from distributed.client.dashboard_link import known_secret
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.deploy.attached import PROGRAM, AttachedProcess, AttachedScheduler
from distributed.deploy.local import loopback_page
from distributed.deploy.spec import SpecCluster
from distributed.deploy.utils import MEMORY_LIMIT, nprocesses_nthreads

__all__ = ["Subprocess", "SubprocessCluster", "SubprocessScheduler", "SubprocessWorker"]

_LONGEST_LINE = 1 << 20


class _LocalProgram:
    """A process of asyncio's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.kill = process.kill

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def write_eof(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def readline(self) -> str:
        return await _line(self._process.stdout)

    async def errors(self) -> AsyncIterator[str]:
        while line := await _line(self._process.stderr):
            yield line

    async def wait(self) -> int | None:
        return await self._process.wait()

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
        await self._process.wait()


async def _line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    try:
        return (await stream.readline()).decode(errors="replace")
    except ValueError:
        return "(a line of more than a megabyte)\n"


def _print(place: str, line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Subprocess(AttachedProcess):
    """One program on this machine; what it prints goes to the standard error of this one.

    Parameters
    ----------
    place
        What errors call it.
    secret
        The cluster's; default: that of the environment, else a new one.
    silence_logs
        Least level of its log lines; None: as the settings say.
    """

    def __init__(
        self, place: str, secret: Secret | None = None, silence_logs: int | None = None, name: Any = None
    ) -> None:
        if sys.platform == "win32":
            raise RuntimeError("SubprocessCluster is not for Windows: use LocalCluster")
        super().__init__(place, secret or secrets.from_environment() or Secret.new(), _print, name=name)
        self.silence_logs = silence_logs

    async def launch(self) -> _LocalProgram:
        environment = {name: value for name, value in os.environ.items() if name not in secrets.SECRET_VARIABLES}
        pipe = asyncio.subprocess.PIPE
        # A session of its own: the terminal's Ctrl-C is for this process, which ends the others in order.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM, "--attached"),
            stdin=pipe, stdout=pipe, stderr=pipe, limit=_LONGEST_LINE, start_new_session=True, env=environment,
        )  # fmt: skip
        return _LocalProgram(process)


class SubprocessScheduler(Subprocess, AttachedScheduler):
    """A scheduler in a process of its own.

    Parameters
    ----------
    scheduler_kwargs : dict, optional
        Keywords of ``Scheduler``.
    timeout : float
        Seconds in which it must have started.
    """

    def __init__(self, scheduler_kwargs: Mapping[str, Any] | None = None, timeout: float = 30, **kwargs: Any) -> None:
        super().__init__("scheduler", **kwargs)
        self.options = {"host": "127.0.0.1", **(scheduler_kwargs or {})}
        self.start_s = float(timeout)


class SubprocessWorker(Subprocess):
    """A worker in a process of its own.

    Parameters
    ----------
    scheduler : str
        Address of the scheduler.
    worker_class : str
        As ``package.module.Class``.
    name : str, optional
    worker_kwargs : dict, optional
        Keywords of the class.
    """

    what = "worker"

    def __init__(
        self,
        scheduler: str,
        worker_class: str = "distributed.Nanny",
        name: Any = None,
        worker_kwargs: Mapping[str, Any] | None = None,
        secret: Secret | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(f"worker {name}", secret or known_secret(scheduler), name=name, **kwargs)
        self.scheduler, self.worker_class = scheduler, worker_class
        self.options = dict(worker_kwargs or {})

    def request(self) -> dict[str, Any]:
        spec = {"cls": self.worker_class, "opts": {**self.options, "name": self.name}}
        return {"scheduler": self.scheduler, "spec": {str(self.name): spec}}


class SubprocessCluster(SpecCluster):
    """Like :class:`LocalCluster`, with the scheduler in a process of its own too: nothing in this one, neither a long
    computation that holds the interpreter nor much memory, is in its way.

    Parameters
    ----------
    host : str, optional
        Where the scheduler listens; default: the loopback address only.
    scheduler_port : int
        0: a free one.
    scheduler_kwargs : dict, optional
        Further keywords of ``Scheduler``; plain data.
    dashboard_address : str, optional
        Where the status page listens; None for none.
    worker_class : str
        As ``package.module.Class``.
    n_workers, threads_per_worker : int, optional
        Default: a few workers that share the cores.
    worker_kwargs : dict, optional
        Further keywords of the workers; plain data.
    silence_logs : int
        Least level of log lines that show; False or None: the programs tell what they do.
    **kwargs
        See ``SpecCluster``.

    Examples
    --------
    >>> cluster = SubprocessCluster(n_workers=2)  # doctest: +SKIP
    >>> cluster.scale(3)  # doctest: +SKIP
    """

    def __init__(
        self,
        host: str | None = None,
        scheduler_port: int = 0,
        scheduler_kwargs: Mapping[str, Any] | None = None,
        dashboard_address: str | None = ":8787",
        worker_class: str = "distributed.Nanny",
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        worker_kwargs: Mapping[str, Any] | None = None,
        silence_logs: Any = logging.WARN,
        **kwargs: Any,
    ) -> None:
        if isinstance(worker_class, type):
            worker_class = f"{worker_class.__module__}.{worker_class.__qualname__}"
        if n_workers is None:
            n_workers, threads = nprocesses_nthreads()
            threads_per_worker = threads_per_worker or threads
        options: dict[str, Any] = {"host": host or "127.0.0.1", "nthreads": threads_per_worker or 1}
        options |= {"memory_limit": MEMORY_LIMIT // max(n_workers, 1)}
        options |= {"silence_logs": silence_logs} if silence_logs else {}
        options |= worker_kwargs or {}
        of_scheduler = {
            "host": host or "127.0.0.1",
            "port": scheduler_port,
            "dashboard": dashboard_address is not None,
            "dashboard_address": loopback_page(dashboard_address),
            **(scheduler_kwargs or {}),
        }
        common = {"secret": secrets.from_environment() or Secret.new(), "silence_logs": silence_logs}
        worker = {
            "cls": SubprocessWorker,
            "options": {"worker_class": worker_class, "worker_kwargs": options, **common},
        }
        scheduler = {"cls": SubprocessScheduler, "options": {"scheduler_kwargs": of_scheduler, **common}}
        name = kwargs.pop("name", "SubprocessCluster")
        workers = dict.fromkeys(range(n_workers), worker)
        super().__init__(workers, scheduler, worker, silence_logs=silence_logs, name=name, **kwargs)

    def _threads_per_worker(self) -> int:
        return int(self.new_spec["options"]["worker_kwargs"]["nthreads"])

    def _memory_per_worker(self) -> int:
        return int(parse_bytes(self.new_spec["options"]["worker_kwargs"]["memory_limit"]))
