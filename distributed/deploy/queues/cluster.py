"""``JobQueueCluster``: a scheduler in this process, workers as jobs of a batch system. Shell.

Jobs find the scheduler, and the cluster's secret, by a scheduler file (mode 0600) in a directory that all machines see.
A job that ends though the cluster wants it is submitted anew, unless jobs keep ending before a worker has come.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import distributed.scheduler as schedulers
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.comm import secrets
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.logs import Log
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.keywords import Keywords
from distributed.deploy.queues.queue import JobQueue, missing
from distributed.deploy.spec import SpecCluster
from distributed.plugins import SchedulerPlugin

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

__all__ = ["JobQueueCluster"]

logger = logging.getLogger("distributed.deploy.queues")

_MOST_VAIN_JOBS = 3


class _WholeJobs(Adaptive):
    """Closes jobs as a whole: no worker of a job that others need, and no job because one of its workers is too many
    (it would be submitted anew at the next look)."""

    def _members(self) -> dict[Any, list[Any]]:
        cluster: Any = self.cluster
        return {name: cluster._members(name, job) for name, job in cluster.workers.items()}

    async def workers_to_close(self, target: int) -> list[Any]:
        job_of = {member: name for name, members in self._members().items() for member in members}
        scheduler: Any = self.cluster.scheduler  # type: ignore[attr-defined]
        chosen = scheduler.workers_to_close(
            target=target, attribute="name", key=lambda ws: job_of.get(ws.name, ws.name)
        )
        return list(chosen)

    async def scale_down(self, workers: Iterable[Any]) -> None:
        named, jobs = set(workers), list(self._members().values())
        gone = set(await self._retire([m for job in jobs if named.issuperset(job) for m in job]))
        await self._close([m for job in jobs if gone.issuperset(job) for m in job])


class _Arrivals(SchedulerPlugin):
    """Tells the queue of workers that come and go."""

    name = "job-queue-arrivals"

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def add_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        self._queue.worker_came(str(scheduler.state.workers[worker].name))

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        self._queue.worker_left()


class JobQueueCluster(SpecCluster):
    """Base of clusters whose workers are jobs; use one for your batch system, such as ``SlurmCluster``.

    A keyword that is not given has the value of the setting ``jobqueue.<system>.<keyword>``, if there is one.

    Parameters
    ----------
    n_workers : int
        Workers to begin with.
    job_cls : type, optional
        A subclass of the class of jobs, for what your site does otherwise.
    cores, memory, processes : int, str or int, int
        What one job gets: threads in total, memory in total, and how many workers share them (default: one).
    queue, account, walltime : str, optional
        Queue or partition, account (also ``project=``), and the longest time a job runs: ``"02:30:00"`` as the batch
        system takes it, or ``"90 minutes"``. Workers hand over their data and end before (``lifetime_margin``).
    job_name, job_extra_directives, job_directives_skip
        Name of the jobs; directives to add; texts: directives that contain one are left out.
    job_script_prologue : list of str
        Lines of shell before the worker, such as ``"module load python"`` or ``"export A=1"``.
    python, worker_command, worker_extra_args
        Python on the nodes (default: the path of this one), the program, and more arguments of ``dask-worker``.
    nanny, death_timeout, local_directory, interface, protocol, security
        Of the workers; a worker without a scheduler for ``death_timeout`` ends. ``interface``, ``protocol`` and
        ``security`` are the scheduler's too; certificates must be in files.
    log_directory : str, optional
        Where jobs leave what they print; default: a directory that goes when the cluster closes.
    shared_temp_directory : str, optional
        A directory that all machines see; default: beside the store of the user's clusters, in the home directory.
    array : bool
        Whether jobs that are wanted at once are one array job.
    lifetime_margin : str or float, optional
        How long before ``walltime`` workers end; default: a tenth of it, at most 5 minutes.
    poll_interval : str or float
        How often the batch system is asked for jobs, besides when a worker leaves.
    host, dashboard_address, scheduler_options, scheduler_cls
        Of the scheduler; without ``host`` or ``interface`` it listens on all interfaces, guarded by the secret.
    shebang, config_name
        First line of the script (a bash), and the settings' name instead of the system's.
    name, asynchronous, loop, silence_logs
        See ``SpecCluster``.
    **kwargs
        What only one batch system knows.

    Raises
    ------
    ValueError, TypeError
        A keyword has no meaning.
    RuntimeError
        The batch system is not there, or refuses a job; its own words are quoted. ``scale`` raises it too.

    Examples
    --------
    >>> cluster = SlurmCluster(cores=8, memory="16 GB", walltime="02:00:00")  # doctest: +SKIP
    >>> print(cluster.job_script())  # doctest: +SKIP
    >>> cluster.scale(jobs=10)  # doctest: +SKIP
    """

    job_cls: ClassVar[type[Job]]

    def __init__(
        self,
        n_workers: int = 0,
        job_cls: type[Job] | None = None,
        *,
        loop: IOLoop | None = None,
        asynchronous: bool = False,
        name: str | None = None,
        silence_logs: Any = "error",
        security: Any = None,
        shared_temp_directory: str | None = None,
        host: str | None = None,
        dashboard_address: str | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        scheduler_cls: Any = None,
        interface: str | None = None,
        protocol: str | None = None,
        config_name: str | None = None,
        array: bool = True,
        poll_interval: str | float = "30s",
        **kwargs: Any,
    ) -> None:
        cls = job_cls or getattr(type(self), "job_cls", None)
        if cls is None:
            raise TypeError("JobQueueCluster needs job_cls=, or use a class for your batch system such as SlurmCluster")
        if name is None:
            name = f"{cls.config_name or 'jobs'}-{uuid4().hex[:6]}"
        keywords = Keywords(cls, config_name or cls.config_name, kwargs)
        shared_temp_directory = keywords.of("shared_temp_directory", shared_temp_directory)
        interface, protocol = keywords.of("interface", interface), keywords.of("protocol", protocol)
        parent = shared_temp_directory or secrets.store_directory().parent / "jobs"
        self._folder = Path(parent).expanduser().absolute() / f"{name}-{uuid4().hex[:8]}"
        network = {"interface": interface, "protocol": protocol}
        self.request = keywords.request(name, self._folder, network, security)
        cls.script(self.request, [0])  # what makes no sense is told before anything is begun
        self._queue = JobQueue(cls, self.request, array, float(parse_timedelta(poll_interval)))
        self._vain = 0
        options = {"host": host, "dashboard_address": dashboard_address, "security": security, **network}
        options = {key: value for key, value in options.items() if value is not None} | dict(scheduler_options or {})
        if not options.get("interface"):
            options.setdefault("host", "")
        options["plugins"] = [*options.get("plugins", ()), _Arrivals(self._queue)]
        options["scheduler_file"] = str(self._folder / "scheduler.json")
        self.new_spec = self._spec_of_one(cls)
        first = dict(self._named_spec(i) for i in range(self._jobs_for(n_workers)))
        secrets.private_directory(self._folder, "the directory of the cluster's jobs")
        try:
            Path(self.request.log_directory).mkdir(parents=True, exist_ok=True)
            super().__init__(
                first,
                {"cls": scheduler_cls or schedulers.Scheduler, "options": options},
                self.new_spec,
                asynchronous=asynchronous,
                loop=loop,
                security=security,
                silence_logs=silence_logs,
                name=name,
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _spec_of_one(self, cls: type[Job]) -> dict[str, Any]:
        spec: dict[str, Any] = {"cls": cls, "options": {"queue": self._queue}}
        if self.request.processes > 1:
            spec["group"] = [f"-{i}" for i in range(self.request.processes)]
        return spec

    def _named_spec(self, number: int) -> tuple[str, dict[str, Any]]:
        options = {**self.new_spec["options"], "number": number}
        return f"{self.request.cluster}-{number}", {**self.new_spec, "options": options}

    def _new_worker_name(self, worker_number: int) -> str:
        return f"{self.request.cluster}-{worker_number}"

    def new_worker_spec(self) -> dict[Any, Any]:
        while self._new_worker_name(self._i) in self.worker_spec:
            self._i += 1
        return dict([self._named_spec(self._i)])

    def job_script(self, jobs: int = 1) -> str:
        """What is submitted: the script of one job, or of an array of so many."""
        first = self._i
        return self._queue.dialect.script(self.request, range(first, first + jobs))

    def _has_failed(self, worker: Any) -> bool:
        """A job that has ended is wanted again, unless jobs end one after the other before a worker has come."""
        self._vain = 0 if worker.seen else self._vain + 1
        if self._vain < _MOST_VAIN_JOBS:
            return True
        told = f"{self._vain} jobs have ended before a worker came, the last one: {worker.name} {worker.end_reason}"
        logger.error("%s: %s. No more are submitted until you scale again; see get_logs()", self.name, told)
        if self._adaptive is not None:
            self._adaptive.stop(told)
        return False

    # --- size -------------------------------------------------------------------------------------------------------

    def _threads_per_worker(self) -> int:
        return self.request.cores // self.request.processes

    def _memory_per_worker(self) -> int:
        return self.request.memory // self.request.processes

    def _jobs_for(self, n: int = 0, jobs: int = 0, memory: str | int | None = None, cores: int | None = None) -> int:
        request = self.request
        by_memory = 0 if memory is None else math.ceil(parse_bytes(memory) / request.memory)
        by_cores = 0 if cores is None else math.ceil(cores / request.cores)
        return max(math.ceil(n / request.processes), jobs, by_memory, by_cores)

    def scale(self, n: int = 0, memory: str | int | None = None, cores: int | None = None, *, jobs: int = 0) -> Any:
        """Have ``n`` workers, or ``jobs`` jobs, or as many as give so much memory or so many cores.

        Waits until jobs that are added are submitted, not until they run. Can be awaited if asynchronous.

        Raises
        ------
        RuntimeError
            The batch system is not there, or refuses.
        """
        for given in (n, jobs):
            if isinstance(given, bool) or not isinstance(given, int | float) or given != int(given) or given < 0:
                raise ValueError(f"scale takes a whole number of workers or jobs, not {given!r}")
        wanted = self._jobs_for(int(n), int(jobs), memory, cores)
        self._vain = 0
        self._adds = wanted > len(self.worker_spec)
        command = shlex.split(self._queue.dialect.submit_command)[0]
        if self._adds and shutil.which(command) is None:
            raise RuntimeError(missing(command, self._queue.dialect.system))
        return super().scale(wanted)

    _adds = False

    def _begin_correction(self) -> Any:
        if self._adds and not self.asynchronous:
            self._adds = False
            return self.sync(self._correct_state)
        return super()._begin_correction()

    def adapt(self, Adaptive: type[Adaptive] = _WholeJobs, **kwargs: Any) -> Adaptive:  # type: ignore[override]
        """As of every cluster, in workers; or by ``minimum_jobs`` and ``maximum_jobs``. Jobs end as a whole."""
        for bound in ("minimum", "maximum"):
            jobs = kwargs.pop(f"{bound}_jobs", None)
            if jobs is not None:
                kwargs[bound] = jobs * self.request.processes
        return super().adapt(Adaptive, **kwargs)

    # --- logs and the end -------------------------------------------------------------------------------------------

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: bool | list[str] = True
    ) -> dict[str, Log]:
        """Also what the jobs have printed, by their names."""
        logs = await super()._get_logs(cluster, scheduler, workers)
        if workers is True:
            for name in list(self._queue.log_files):
                logs[name] = Log(await asyncio.to_thread(self._queue.log_of, name))
        return logs

    async def _close_parts(self) -> None:
        try:
            await super()._close_parts()
        finally:
            await self._queue.close()
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
