"""Clusters described by a specification: which classes make the scheduler and each worker, with which options.

``worker_spec`` says what there should be, ``workers`` what there is; ``_correct_state`` closes the difference. Scaling
only edits the specification. A member that ends by itself with status ``failed`` is replaced. Base of LocalCluster and
of other people's cluster classes. Shell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import itertools
import logging
import math
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import distributed.scheduler as schedulers
from distributed.base import settings
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.base.status import Status
from distributed.comm.keys import Secret
from distributed.deploy.absence import Absence
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.adaptive_policy import workers_for
from distributed.deploy.cluster import Cluster, gather_quietly
from distributed.deploy.logs import silence
from distributed.deploy.made import begin, class_of, nbytes_of, run_spec, threads_of
from distributed.deploy.members import NoOpAwaitable, ProcessInterface, WorkerMap
from distributed.nanny.restart_policy import RestartPolicy
from distributed.rpc.pool import rpc

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

__all__ = ["NoOpAwaitable", "ProcessInterface", "SpecCluster", "WorkerMap", "run_spec"]

logger = logging.getLogger("distributed.deploy.spec")


_RUNNING = (Status.created, Status.starting, Status.running)


class SpecCluster(Cluster):
    """A cluster made from a specification of its parts.

    Parameters
    ----------
    workers : dict, optional
        ``{name: {"cls": class, "options": {...}}}`` of the workers to begin with. A spec with ``"group": ["-0", "-1"]``
        stands for one job that holds several workers, named ``<name><suffix>``.
    scheduler : dict, optional
        ``{"cls": class, "options": {...}}``; default: a Scheduler in this process.
    worker : dict, optional
        The spec of every worker that scaling adds.
    asynchronous : bool
        For use with ``async with`` or ``await``.
    security : Security, optional
        Certificates of the connection to the scheduler.
    silence_logs : int, str or bool
        Least level of log lines that show while the cluster is up; False: no change.
    name : str, optional
        Default: a random one.
    shutdown_on_close : bool
        Whether closing ends the workers.
    shutdown_scheduler : bool
        Whether closing ends the scheduler.

    Examples
    --------
    >>> cluster = SpecCluster(
    ...     scheduler={"cls": Scheduler, "options": {"dashboard_address": ":8787"}},
    ...     workers={"big": {"cls": Nanny, "options": {"nthreads": 4}}},
    ... )  # doctest: +SKIP
    """

    _instances: ClassVar[weakref.WeakSet[SpecCluster]] = weakref.WeakSet()

    def __init__(
        self,
        workers: Mapping[Any, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        worker: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        security: Any = None,
        silence_logs: Any = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: float = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        self.scheduler_spec: Any = copy.copy(scheduler)
        self.worker_spec: dict[Any, Any] = dict(workers or {})
        self.new_spec: Any = copy.copy(worker)
        self.scheduler: Any = None
        self.workers: WorkerMap = WorkerMap()
        self.security = security
        self.shutdown_on_close = shutdown_on_close
        self.shutdown_scheduler = shutdown_scheduler
        self._i = 0
        self._life = asyncio.Lock()
        self._lock = asyncio.Lock()
        self._correct_state_waiting: asyncio.Task[None] | None = None
        self._last_correction: asyncio.Task[None] | None = None
        self._absence = Absence()
        self._watchers: set[asyncio.Task[None]] = set()
        self._policies: dict[Any, RestartPolicy] = {}
        self._unsilence = silence(silence_logs)
        try:
            super().__init__(
                asynchronous=asynchronous, loop=loop, name=name, scheduler_sync_interval=scheduler_sync_interval
            )
            SpecCluster._instances.add(self)
            if not self._asynchronous:
                self._loop_runner.start()
                try:
                    self.sync(self._start)
                except BaseException:
                    self._loop_runner.stop()
                    raise
        except BaseException:
            self._unsilence()
            raise

    # --- life -----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        async with self._life:
            if self.status == Status.running:
                return
            if self.status != Status.created:
                raise ValueError("the cluster is closed")
            self.status = Status.starting
            await self._start_parts()

    async def _start_parts(self) -> None:
        scheduler_runs = False
        try:
            if self.scheduler is None:
                spec = self.scheduler_spec
                if spec is None:
                    spec = self.scheduler_spec = {"cls": schedulers.Scheduler, "options": {"host": "127.0.0.1"}}
                scheduler = class_of(spec["cls"])(**spec.get("options", {}))
                self.scheduler = scheduler
            await self.scheduler
            scheduler_runs = True
            address = getattr(self.scheduler, "external_address", None) or self.scheduler.address
            self.scheduler_comm = rpc(address)
            await super()._start()
            await self._correct_state()
        except BaseException as e:
            await self._close_parts()
            self.status = Status.failed
            if isinstance(e, Exception) and not scheduler_runs:
                raise RuntimeError(f"the cluster failed to start: {e}") from e
            raise

    async def _ready(self) -> Self:
        if self.status in (Status.created, Status.starting):
            await self._start()
        if self._last_correction is not None and self.status == Status.running:
            await asyncio.shield(self._last_correction)
        return self

    async def _close(self) -> None:
        async with self._life:
            if self.status not in (Status.closed, Status.failed):
                await self._close_parts()

    async def _close_parts(self) -> None:
        self.status = Status.closing
        if self._adaptive is not None:
            self._adaptive.stop("the cluster closes")
        try:
            waiting = self._last_correction
            if waiting is not None and not waiting.done():
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await waiting
            await self._end_watching()
            if self.shutdown_on_close:
                self.worker_spec.clear()
                workers = list(self.workers.values())
                self.workers.clear()
                await gather_quietly([worker.close for worker in workers])
                if self.scheduler is not None and self.shutdown_scheduler:
                    await gather_quietly([self.scheduler.close])
        finally:
            await super()._close()
            self._unsilence()
            SpecCluster._instances.discard(self)

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        self._loop_runner.stop()

    def _page_secret(self) -> Secret | None:
        scheduler = self.scheduler
        return scheduler.secret if isinstance(scheduler, schedulers.Scheduler) else super()._page_secret()

    def _live_scheduler_info(self) -> dict[str, Any] | None:
        scheduler = self.scheduler
        if not isinstance(scheduler, schedulers.Scheduler) or self.status == Status.created:
            return None
        for _ in range(10):
            try:
                info: dict[str, Any] = scheduler.identity(n_workers=-1)
            except RuntimeError:
                continue  # the loop's thread changed a table while this one read it
            return info
        return None

    # --- what there should be, and making it so ---------------------------------------------------------------------

    def _correct_state(self) -> asyncio.Future[None]:
        """Bring ``workers`` in line with ``worker_spec``; calls that come before it has begun share one.

        It goes on when those who wait for it are cancelled: workers half started would be left.
        """
        if self._correct_state_waiting is None:
            task = asyncio.ensure_future(self._correct_state_internal())
            self._correct_state_waiting = self._last_correction = task
        return asyncio.shield(self._correct_state_waiting)

    async def _correct_state_internal(self) -> None:
        async with self._lock:
            self._correct_state_waiting = None
            if self.status not in _RUNNING:
                return
            await self._close_workers([name for name in self.workers if name not in self.worker_spec])
            await self._open_workers([name for name in self.worker_spec if name not in self.workers])

    async def _close_workers(self, names: list[Any]) -> None:
        if not names:
            return
        retiring = [member for name in names for member in self._members(name, self.workers[name])]
        if self.scheduler_comm is not None and self.status == Status.running:
            try:
                await self.scheduler_comm.retire_workers(names=retiring, remove=True, close_workers=False)
            except Exception as e:
                logger.warning("Workers %s close without handing over their data: %s", retiring, e)
        closing = [self.workers.pop(name) for name in names]
        await gather_quietly([worker.close for worker in closing])

    async def _open_workers(self, names: list[Any]) -> None:
        if not names:
            return
        contact = getattr(self.scheduler, "contact_address", None) or self.scheduler.address
        started = []
        for name in names:
            spec = self.worker_spec[name]
            options = dict(spec.get("options", {}))
            options.setdefault("name", name)
            worker = class_of(spec["cls"])(contact, **options)
            worker._cluster = weakref.ref(self)
            self.workers[name] = worker
            self._absence.forget(name)
            started.append(begin(worker))
        outcomes = await asyncio.gather(*started, return_exceptions=True)
        failed = {name: e for name, e in zip(names, outcomes, strict=True) if isinstance(e, BaseException)}
        if failed:
            broken = [self.workers.pop(name) for name in failed if name in self.workers]
            for name in failed:
                self.worker_spec.pop(name, None)
            await gather_quietly([worker.close for worker in broken])
        for name in names:
            if name in self.workers:
                self._watch(name, self.workers[name])
        if failed:
            raise next(iter(failed.values()))

    # --- members that end by themselves ------------------------------------------------------------------------------

    def _watch(self, name: Any, worker: Any) -> None:
        if hasattr(worker, "finished"):
            task = asyncio.ensure_future(self._replace_when_ended(name, worker))
            self._watchers.add(task)
            task.add_done_callback(self._watchers.discard)

    async def _end_watching(self) -> None:
        watchers = list(self._watchers)
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _replace_when_ended(self, name: Any, worker: Any) -> None:
        """A member that has failed is replaced; one that has left in order (it was retired) leaves the specification
        too."""
        clock = asyncio.get_running_loop().time
        begin = clock()
        await worker.finished()
        async with self._lock:
            known = name in self.worker_spec and self.workers.get(name) is worker
            if not known or self.status != Status.running:
                return  # it was closed by this cluster
            del self.workers[name]
            failed = self._has_failed(worker)
            if not failed:
                del self.worker_spec[name]
        await gather_quietly([worker.close])
        if failed:
            decision = self._policies.setdefault(name, RestartPolicy()).on_exit(True, clock() - begin)
            why, delay_s = getattr(worker, "end_reason", "has failed"), decision.delay_s
            logger.warning("Worker %s of %s %s; it is replaced in %.1f s", name, self.name, why, delay_s)
            await asyncio.sleep(decision.delay_s)
            await self._correct_state_or_log()

    def _has_failed(self, worker: Any) -> bool:
        """Whether a member that has ended should not have. A connection that broke is a failure as long as there is a
        scheduler."""
        if worker.status is Status.failed:
            return True
        status = getattr(self.scheduler, "status", None)
        return getattr(worker, "close_reason", "") == "scheduler-connection-lost" and status is Status.running

    def _members(self, name: Any, worker: Any = None) -> list[Any]:
        """Names of the workers that the spec ``name`` stands for."""
        spec = self.worker_spec.get(name)
        group = spec.get("group") if spec is not None else None
        if group:
            return [f"{name}{suffix}" for suffix in group]
        return [getattr(worker, "name", name) if worker is not None else name]

    def _expand(self, names: Iterable[Any]) -> set[Any]:
        return {member for name in names for member in self._members(name)}

    @property
    def plan(self) -> set[Any]:
        return self._expand(list(self.worker_spec))

    @property
    def requested(self) -> set[Any]:
        return self._expand(list(self.workers))

    def _new_worker_name(self, worker_number: int) -> Any:
        """The name of the next worker; a subclass may choose others."""
        return worker_number

    def new_worker_spec(self) -> dict[Any, Any]:
        """``{name: spec}`` of one worker more."""
        while (name := self._new_worker_name(self._i)) in self.worker_spec:
            self._i += 1
        return {name: self.new_spec}

    @property
    def _supports_scaling(self) -> bool:
        return bool(self.new_spec)

    # --- size -----------------------------------------------------------------------------------------------------

    def _threads_per_worker(self) -> int:
        return threads_of(self.new_spec)

    def _memory_per_worker(self) -> int:
        return nbytes_of(self.new_spec)

    def _enough(self, n: float, cores: int | None, memory: str | int | None) -> float:
        """The least number of workers, no fewer than ``n``, that give so many cores and so much memory."""
        if memory is not None:
            n = max(n, math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            n = max(n, math.ceil(cores / self._threads_per_worker()))
        return n

    def scale(self, n: int = 0, memory: str | int | None = None, cores: int | None = None) -> Any:
        """Have ``n`` workers, or as many as give so much memory or so many cores.

        Returns at once, while workers start, or hand over their data and close; can be awaited if asynchronous.

        Parameters
        ----------
        n : int
            Number of workers.
        memory : int or str, optional
            Total memory, such as ``"10 GB"``.
        cores : int, optional
            Total threads.

        Examples
        --------
        >>> cluster.scale(10)  # doctest: +SKIP
        >>> cluster.scale(cores=16)  # doctest: +SKIP
        """
        if isinstance(n, bool) or not isinstance(n, int | float) or n != int(n):
            raise TypeError(f"scale(n) takes a whole number of workers, not {n!r}")
        if n < 0:
            raise ValueError(f"a cluster cannot have {n} workers")
        wanted = self._enough(int(n), cores, memory)
        if self.status in (Status.closing, Status.closed, Status.failed):
            return NoOpAwaitable() if self.asynchronous else None
        if len(self.worker_spec) < wanted and not self.new_spec:
            raise ValueError(f"{type(self).__name__} cannot add workers: it was made without a worker= specification")

        surplus = len(self.worker_spec) - int(wanted)
        if surplus > 0:
            observed = self.observed
            absent = [name for name in self.worker_spec if not observed.intersection(self._members(name))]
            present = [name for name in reversed(self.worker_spec) if name not in absent]
            for name in itertools.islice(itertools.chain(reversed(absent), present), surplus):
                del self.worker_spec[name]
        while len(self.worker_spec) < wanted:
            self.worker_spec.update(self.new_worker_spec())
        return self._begin_correction()

    def _begin_correction(self) -> Any:
        if self.asynchronous:
            if self.status == Status.created:
                return NoOpAwaitable()
            return self._correct_state()
        self.loop.add_callback(self._correct_state_or_log)
        return None

    async def _correct_state_or_log(self) -> None:
        """For corrections that nobody awaits."""
        try:
            await self._correct_state()
        except Exception as e:
            if self.status == Status.running:
                logger.error("The cluster %s could not be brought to its size: %s", self.name, e)

    def scale_up(self, n: int = 0, memory: str | int | None = None, cores: int | None = None) -> Any:
        """The same as ``scale``."""
        return self.scale(n, memory=memory, cores=cores)

    def scale_down(self, workers: Iterable[Any]) -> Any:
        """Close these workers, given by name or address. Of a job with several workers, all go."""
        addresses = {address: info["name"] for address, info in self.scheduler_info["workers"].items()}
        wanted = {addresses.get(worker, worker) for worker in workers}
        for name in list(self.worker_spec):
            if name in wanted or wanted.intersection(self._members(name, self.workers.get(name))):
                del self.worker_spec[name]
        return self._begin_correction()

    def adapt(
        self,
        Adaptive: type[Adaptive] = Adaptive,
        minimum: float = 0,
        maximum: float = math.inf,
        minimum_cores: int | None = None,
        maximum_cores: int | None = None,
        minimum_memory: str | int | None = None,
        maximum_memory: str | int | None = None,
        **kwargs: Any,
    ) -> Adaptive:
        """Let the size follow the work.

        Parameters
        ----------
        minimum, maximum : int
            Bounds on the number of workers.
        minimum_cores, maximum_cores : int, optional
            Bounds on the total of threads.
        minimum_memory, maximum_memory : int or str, optional
            Bounds on the total of memory, such as ``"100 GB"``.

        Examples
        --------
        >>> cluster.adapt(minimum=0, maximum_memory="100 GB", interval="500ms")  # doctest: +SKIP
        """
        minimum = self._enough(minimum, minimum_cores, minimum_memory)
        most = workers_for(
            maximum_cores,
            None if maximum_memory is None else parse_bytes(maximum_memory),
            None if maximum_cores is None else self._threads_per_worker(),
            None if maximum_memory is None else self._memory_per_worker(),
        )
        most = min(maximum, most)
        if maximum_memory is not None or maximum_cores is not None:
            minimum = min(minimum, most)  # the bound on the total is the harder one
        return super().adapt(Adaptive=Adaptive, minimum=minimum, maximum=most, **kwargs)

    # --- lost jobs --------------------------------------------------------------------------------------------------

    def _on_scheduler_info(self, info: dict[str, Any]) -> None:
        """A job whose workers have been here and are gone for ``deploy.lost-worker-timeout`` is closed; it stays in the
        specification, so that the next correction starts it anew."""
        now = asyncio.get_running_loop().time()
        limit = parse_timedelta(settings.get("distributed.deploy.lost-worker-timeout", "15s"))
        observed = {worker["name"] for worker in info["workers"].values()}
        jobs = {name: self._members(name, worker) for name, worker in self.workers.items()}
        for name in self._absence.lost(jobs, observed, now, limit):
            worker = self.workers.pop(name)
            self._log_lost(name)
            task = asyncio.ensure_future(gather_quietly([worker.close]))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    _background: ClassVar[set[asyncio.Future[None]]] = set()

    def _log_lost(self, name: Any) -> None:
        logger.warning("Worker %s of %s has left and does not come back", name, self.name)

    @classmethod
    def from_name(cls, name: str) -> Cluster:
        """The running cluster of that name, where a subclass can find one."""
        raise NotImplementedError(f"{cls.__name__} cannot be found again by name")


@atexit.register
def _close_all() -> None:
    """Clusters that the program did not close end with it."""
    for cluster in list(SpecCluster._instances):
        if cluster._asynchronous or not cluster.shutdown_on_close:
            continue
        with contextlib.suppress(Exception):
            if cluster.status not in (Status.closed, Status.closing):
                cluster.close(timeout=10)
