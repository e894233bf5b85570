"""``distributed.mpi``: a cluster out of the processes of one MPI job. Shell.

MPI only starts it: the scheduler's address and the cluster's secret are broadcast once, then all traffic is ours. Needs
the package mpi4py in the Python that ``mpirun`` runs.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import logging
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from distributed.base import defaults, settings
from distributed.base.ending import until_signal
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.deploy.utils import CPU_COUNT
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.rpc.pool import rpc
from distributed.scheduler import Scheduler

__all__ = ["Job", "execute", "initialize"]

logger = logging.getLogger("distributed.deploy.mpi")

_END_S = 5.0
_LOOPBACK = "127.0.0.1"


@dataclass
class Job:
    """What the ranks of one MPI job become.

    Parameters
    ----------
    comm
        An mpi4py communicator.
    scheduler_rank
        Which rank runs the scheduler; None: none does, there is one already.
    scheduler, worker
        Keywords of ``Scheduler``, and of the workers' class.
    worker_class
        As ``package.module.Class``.
    name
        Workers are called ``name-rank``.
    """

    comm: Any
    scheduler_rank: int | None = 0
    scheduler: dict[str, Any] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)
    worker_class: str = "distributed.Nanny"
    name: str = "dask_mpi"
    _secret: Secret = field(default_factory=Secret.new)

    def __post_init__(self) -> None:
        self.rank = int(self.comm.Get_rank())
        hosts = self.comm.allgather(socket.gethostname())
        self.one_host = len(set(hosts)) == 1
        self.ranks_here = hosts.count(socket.gethostname())

    def serve(self, also_worker: bool = False) -> None:
        """Be the scheduler, if this rank is it (and a worker too), else a worker, until the end."""

        async def life() -> None:
            if self.rank == self.scheduler_rank:
                async with await self._start_scheduler() as scheduler:
                    if also_worker:
                        async with self._make_worker(scheduler.address, self._secret):
                            await scheduler.finished()
                    await scheduler.finished()
                return
            address, secret = self.find_scheduler()
            async with self._make_worker(address, secret) as worker:
                await worker.finished()

        _run(life, "scheduler" if self.rank == self.scheduler_rank else "worker")

    async def _start_scheduler(self) -> Any:
        secret = self._secret = secrets.from_environment() or self._secret
        options = dict(self.scheduler)
        if not options.get("interface") and not options.get("host"):
            options["host"] = _LOOPBACK if self.one_host else ""
        try:
            scheduler = await Scheduler(secret=secret, **options)
        except Exception as e:
            self.comm.bcast(("", "", f"{type(e).__name__}: {e}"), root=self.scheduler_rank)
            raise
        self.comm.bcast((scheduler.address, secret.reveal(), ""), root=self.scheduler_rank)
        return scheduler

    def find_scheduler(self) -> tuple[str, Secret]:
        """Address and secret, once the scheduler listens. For all ranks but its own; ``RuntimeError`` if it fails."""
        address, text, problem = self.comm.bcast(None, root=self.scheduler_rank)
        if problem:
            raise RuntimeError(f"the scheduler (rank {self.scheduler_rank}) did not start: {problem}")
        secret = Secret.from_text(text)
        secrets.register(address, secret)
        return address, secret

    def work_for(self, address: str | None, scheduler_file: str | None = None) -> None:
        """Be a worker of a scheduler that is no part of this job, until the end."""

        async def life() -> None:
            async with self._make_worker(address, None, scheduler_file=scheduler_file) as worker:
                await worker.finished()

        _run(life, "worker")

    def _make_worker(self, address: str | None, secret: Secret | None, **more: Any) -> Any:
        options = {"name": f"{self.name}-{self.rank}", **self.worker, **more}
        if options.get("nthreads") is None:
            options["nthreads"] = max(1, CPU_COUNT // self.ranks_here)
        options = {key: value for key, value in options.items() if value is not None}
        if secret is not None:
            options["secret"] = secret
        return defaults.load(self.worker_class)(address, **options)


def load_mpi() -> Any:
    """The module ``mpi4py.MPI``; ``ImportError`` says how to come by it."""
    try:
        return importlib.import_module("mpi4py.MPI")
    except ImportError as e:
        raise ImportError(f"starting a cluster by MPI needs the package mpi4py and an MPI library: {e}") from None


def initialize(
    interface: str | None = None,
    nthreads: int | None = 1,
    local_directory: str | None = None,
    memory_limit: Any = "auto",
    nanny: bool | None = None,
    dashboard: bool = True,
    dashboard_address: str | None = ":8787",
    protocol: str | None = None,
    worker_class: str = "distributed.Nanny",
    worker_options: dict[str, Any] | None = None,
    worker_name: str | None = None,
    comm: Any = None,
    exit: bool = True,
) -> bool:
    """Make a cluster of this MPI job: rank 0 is the scheduler, the script goes on in rank 1, all others are workers.

    Run the script by ``mpirun -n 4 python script.py``; ``Client()`` in it finds the cluster, which ends with it.

    Parameters
    ----------
    interface, protocol
        Network of scheduler and workers; default: loopback when the job has one host, else all interfaces.
    nthreads, local_directory, memory_limit, worker_class, worker_options, worker_name
        Of the workers; ``nanny=False`` is short for the class ``distributed.Worker``.
    dashboard, dashboard_address
        Of the scheduler.
    comm
        An mpi4py communicator; default: ``COMM_WORLD``.
    exit
        Whether the other ranks end here. Otherwise they return when the cluster has ended.

    Returns
    -------
    bool
        True in rank 1.

    Raises
    ------
    ValueError
        Fewer than three ranks.
    """
    job = _job(comm, interface, protocol, nthreads, local_directory, memory_limit, dashboard, dashboard_address)
    if nanny is False:
        worker_class = "distributed.Worker"
    job.worker_class, job.name = worker_class, worker_name or job.name
    job.worker |= worker_options or {}
    if job.rank == 1:
        address, _ = job.find_scheduler()
        settings.register().set(scheduler_address=address)
        atexit.register(end_scheduler, address)
        return True
    job.serve()
    if exit:
        sys.exit(0)
    return False


def execute(
    function: Callable[..., Any],
    *args: Any,
    interface: str | None = None,
    nthreads: int | None = 1,
    local_directory: str | None = None,
    memory_limit: Any = "auto",
    dashboard: bool = True,
    dashboard_address: str | None = ":8787",
    protocol: str | None = None,
    worker_class: str = "distributed.Nanny",
    worker_options: dict[str, Any] | None = None,
    worker_name: str | None = None,
    comm: Any = None,
    **kwargs: Any,
) -> Any:
    """Call ``function(*args, **kwargs)`` in rank 1 of this MPI job, with the other ranks as its cluster.

    Parameters are those of :func:`initialize`. Returns what the function returns in rank 1, None elsewhere, when the
    cluster has ended.
    """
    job = _job(comm, interface, protocol, nthreads, local_directory, memory_limit, dashboard, dashboard_address)
    job.worker_class, job.name = worker_class, worker_name or job.name
    job.worker |= worker_options or {}
    if job.rank != 1:
        job.serve()
        return None
    address, _ = job.find_scheduler()
    with settings.register().set(scheduler_address=address):
        try:
            return function(*args, **kwargs)
        finally:
            end_scheduler(address)


def _job(
    comm: Any,
    interface: str | None,
    protocol: str | None,
    nthreads: int | None,
    local_directory: str | None,
    memory_limit: Any,
    dashboard: bool,
    dashboard_address: str | None,
) -> Job:
    comm = comm if comm is not None else load_mpi().COMM_WORLD
    if comm.Get_size() < 3:
        raise ValueError(
            f"the MPI job has {comm.Get_size()} processes; it takes a scheduler, the script and a worker: mpirun -n 3"
        )
    network = {"interface": interface, "protocol": protocol}
    pages = {"dashboard": dashboard, "dashboard_address": dashboard_address}
    worker = {"nthreads": nthreads, "local_directory": local_directory, "memory_limit": memory_limit}
    return Job(comm, 0, network | pages, network | worker)


def end_scheduler(address: str) -> None:
    """Tell the scheduler to end, which ends its workers; nothing happens when it is gone."""

    async def tell() -> None:
        async with asyncio.timeout(_END_S):
            async with rpc(address) as scheduler:
                await scheduler.terminate()

    with contextlib.suppress(Exception):
        asyncio.run(tell())


def _run(life: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
    async def main() -> Any:
        return await until_signal(life, name)

    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        signals = runner.run(main())
    signals.finish()
