"""What every kind of cluster shares: a life (start, close), a scheduler to talk to, and the questions users ask of it.

A cluster object runs on an event loop: the caller's (``asynchronous=True``) or one in a background thread. Public
methods work in both: on the thread of the loop they return awaitables, elsewhere they wait. Shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import html
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Self

from distributed.base import defaults
from distributed.base.errors import WorkerStartTimeoutError
from distributed.base.formatting import format_bytes
from distributed.base.settings import parse_timedelta
from distributed.base.status import Status
from distributed.client.dashboard_link import dashboard_link_of, known_secret
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.comm.web_access import shown_link
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.logs import Log, Logs
from distributed.rpc.loop_runner import LoopRunner, SyncMethodMixin

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

    from distributed.client.client import Client

__all__ = ["Cluster"]

logger = logging.getLogger("distributed.deploy.cluster")

_NO_INFO: dict[str, Any] = {"workers": {}}


class Cluster(SyncMethodMixin):
    """Base of all clusters. A subclass starts a scheduler in ``_start`` and ends everything in ``_close``.

    Parameters
    ----------
    asynchronous : bool
        The caller is a coroutine: ``async with`` or ``await`` the object.
    loop : tornado.ioloop.IOLoop, optional
        Where to run; default: the running loop (asynchronous), else a loop of our own in a background thread.
    name : str, optional
    scheduler_sync_interval : float
        Seconds between looks at a scheduler that lives elsewhere, for ``scheduler_info``.
    """

    _supports_scaling: Any = True

    def __init__(
        self,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        quiet: bool = False,
        name: str | None = None,
        scheduler_sync_interval: float = 1,
    ) -> None:
        self._loop_runner = LoopRunner(loop=loop, asynchronous=asynchronous)
        self._io_loop: Any = self._loop_runner.loop
        self._asynchronous = asynchronous
        self._name: str | None = name if name is not None else getattr(self, "_name", None)
        if self._name is None:
            self._name = str(uuid.uuid4())[:8]
        self.quiet = quiet
        self.scheduler_comm: Any = None
        self._observe: Secret | None = None  # keys for looking at pages, where there is no secret to derive them of
        self.shutdown_on_close = getattr(self, "shutdown_on_close", True)
        self.status = Status.created
        self._adaptive: Adaptive | None = None
        self._scheduler_info: dict[str, Any] = dict(_NO_INFO)
        self._cluster_manager_logs: list[tuple[datetime.datetime, str]] = []
        self._sync_interval = float(parse_timedelta(scheduler_sync_interval))
        self._sync_task: asyncio.Task[None] | None = None

    # --- names and views ------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Any:
        """The tornado loop on which the cluster runs; after its end, ran."""
        return self._io_loop

    @loop.setter
    def loop(self, loop: Any) -> None:
        self._io_loop = loop

    @property
    def name(self) -> str:
        return str(self._name)

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def scheduler_address(self) -> str:
        """Where clients connect; ``<Not Connected>`` before the start."""
        return str(self.scheduler_comm.address) if self.scheduler_comm is not None else "<Not Connected>"

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """The scheduler's identity: address, services, and ``workers`` by address."""
        live = self._live_scheduler_info()
        return self._scheduler_info if live is None else live

    @scheduler_info.setter
    def scheduler_info(self, info: dict[str, Any]) -> None:
        self._scheduler_info = info

    def _live_scheduler_info(self) -> dict[str, Any] | None:
        """The identity read from a scheduler object of this very process; None when there is none."""
        return None

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds the status page; it signs the browser in. Empty when there is none."""
        secret = self._page_secret()
        return dashboard_link_of(self.scheduler_info, self.scheduler_address, secret, self._dashboard_prefix())

    def _page_secret(self) -> Secret | None:
        return known_secret(self.scheduler_address) or self._observe

    def _dashboard_prefix(self) -> str:
        return ""

    @property
    def plan(self) -> set[Any]:
        """Names of the workers there should be."""
        raise NotImplementedError

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were asked for."""
        raise NotImplementedError

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that the scheduler has."""
        return {worker["name"] for worker in self.scheduler_info["workers"].values()}

    # --- life -----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Connect to the scheduler. A subclass has made it, and ``scheduler_comm``, before calling this."""
        if self.scheduler_comm is not None and self._live_scheduler_info() is None:
            await self._look()
            self._sync_task = asyncio.ensure_future(self._sync_scheduler_info())
        self.status = Status.running

    async def _sync_scheduler_info(self) -> None:
        while True:
            await asyncio.sleep(self._sync_interval)
            try:
                await self._look()
            except OSError as e:
                logger.debug("The scheduler does not answer: %s", e)

    async def _look(self) -> dict[str, Any]:
        """Ask the scheduler who it is and whom it has."""
        info: dict[str, Any] = await self.scheduler_comm.identity(n_workers=-1)
        self._scheduler_info = info
        if self._observe is None and self.scheduler_address.startswith("tls") and info.get("services"):
            self._observe = Secret.from_text(await self.scheduler_comm.web_key())
        self._on_scheduler_info(info)
        return info

    def _on_scheduler_info(self, info: dict[str, Any]) -> None:
        """Called with each fresh view of a scheduler that lives elsewhere."""

    async def _close(self) -> None:
        if self.status == Status.closed:
            return
        self.status = Status.closing
        if self._adaptive is not None:
            self._adaptive.stop("the cluster closes")
        if self._sync_task is not None:
            self._sync_task.cancel()
            self._sync_task = None
        comm = self.scheduler_comm
        if comm is not None:
            with contextlib.suppress(OSError):
                closing = comm.close_rpc()
                if hasattr(closing, "__await__"):
                    await closing
        self.status = Status.closed

    def close(self, timeout: float | str | None = None) -> Any:
        """End workers and scheduler. Awaitable on an asynchronous cluster; harmless when called again."""
        if self.asynchronous:
            return self._close()
        if self.status == Status.closed and not self._loop_runner.is_started():
            return None
        try:
            if self.status not in (Status.closed, Status.failed):
                limit = None if timeout is None else float(parse_timedelta(timeout))
                self.sync(self._close, callback_timeout=limit)
        finally:
            self._loop_runner.stop()
        return None

    def __enter__(self) -> Self:
        if self._asynchronous:
            raise TypeError(f"{type(self).__name__} is asynchronous here: use 'async with', not 'with'")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def _ready(self) -> Self:
        if self.status == Status.created:
            await self._start()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._ready().__await__()

    async def __aenter__(self) -> Self:
        await self
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    # --- size -----------------------------------------------------------------------------------------------------

    def scale(self, n: int) -> Any:
        """Have ``n`` workers."""
        raise NotImplementedError

    def adapt(self, Adaptive: type[Adaptive] = Adaptive, **kwargs: Any) -> Adaptive:
        """Let the size follow the work, between ``minimum`` and ``maximum`` workers.

        Parameters
        ----------
        Adaptive : type
            The class that decides.
        **kwargs
            Its options: ``minimum``, ``maximum``, ``interval``, ``wait_count``, ``target_duration``, ...

        Examples
        --------
        >>> cluster.adapt(minimum=1, maximum=10)  # doctest: +SKIP
        """
        with contextlib.suppress(AttributeError):
            self._adaptive.stop("replaced by another")  # type: ignore[union-attr]
        self._adaptive = Adaptive(self, **kwargs)
        return self._adaptive

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until the scheduler has at least ``n_workers`` workers.

        Raises
        ------
        WorkerStartTimeoutError
            Not so many after ``timeout`` (seconds or text such as ``"1 minute"``).
        """
        if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers= must be a whole number above zero, not {n_workers!r}")
        return self.sync(self._wait_for_workers, n_workers, timeout=timeout)

    async def _wait_for_workers(self, n_workers: int = 0, timeout: float | str | None = None) -> None:
        limit = math.inf if timeout is None else float(parse_timedelta(timeout))
        clock = asyncio.get_running_loop().time
        deadline = clock() + limit
        while True:
            info = self._live_scheduler_info()
            if info is None:
                info = await self._look()
            ready = sum(worker.get("status", "running") == "running" for worker in info["workers"].values())
            if ready >= n_workers:
                return
            if clock() >= deadline:
                raise WorkerStartTimeoutError(ready, n_workers, limit)
            await asyncio.sleep(0.01)

    # --- talk -----------------------------------------------------------------------------------------------------

    def get_client(self) -> Client:
        """A client of this cluster."""
        client: Client = defaults.load("Client")(self, asynchronous=self.asynchronous)
        return client

    def get_logs(self, cluster: bool = True, scheduler: bool = True, workers: bool | list[str] = True) -> Any:
        """Recent log lines: a mapping of ``Cluster``, ``Scheduler`` and worker addresses to text.

        Parameters
        ----------
        cluster, scheduler : bool
            Whether to include the log of the cluster object and of the scheduler.
        workers : bool or list of str
            All workers, none, or those of these addresses.
        """
        return self.sync(self._get_logs, cluster=cluster, scheduler=scheduler, workers=workers)

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: bool | list[str] = True
    ) -> dict[str, Log]:
        logs = Logs()
        if cluster:
            logs["Cluster"] = Log("\n".join(line for _, line in self._cluster_manager_logs))
        if scheduler:
            lines = await self.scheduler_comm.get_logs()
            logs["Scheduler"] = Log("\n".join(line for _, line in lines))
        if workers:
            chosen = None if workers is True else workers
            by_worker = await self.scheduler_comm.worker_logs(workers=chosen)
            for address, lines in by_worker.items():
                logs[address] = Log("\n".join(line for _, line in lines))
        return logs

    def rotate_secret(self, overlap: Any = "60s") -> Any:
        """Change the cluster's secret while it runs: workers are told, this program knows it, the user's other programs
        find it where they found the old one. Those that came by the old one are shown out after ``overlap``.

        Raises
        ------
        ValueError
            The secret was given by the environment or the settings.
        """
        return self.sync(self._rotate_secret, overlap)

    async def _rotate_secret(self, overlap: Any) -> None:
        text = await self.scheduler_comm.rotate_secret(overlap=overlap)
        if text is not None:
            secrets.register(self.scheduler_address, Secret.from_text(text))

    def _log(self, log: str) -> None:
        """Note a line in the cluster's own log, and print it unless quiet."""
        self._cluster_manager_logs.append((datetime.datetime.now(), log))
        if not self.quiet:
            print(log)

    # --- looks ----------------------------------------------------------------------------------------------------

    @property
    def _cluster_class_name(self) -> str:
        return str(getattr(self, "_name", None) or type(self).__name__)

    def _sizes(self) -> tuple[int, int, int]:
        workers = self.scheduler_info["workers"].values()
        return (
            len(workers),
            sum(int(worker.get("nthreads", 0)) for worker in workers),
            sum(int(worker.get("memory_limit") or 0) for worker in workers),
        )

    def __repr__(self) -> str:
        workers, threads, memory = self._sizes()
        text = f"{type(self).__name__}({self.name}, {self.scheduler_address!r}, workers={workers}, threads={threads}"
        # A limit of 0 is none; without workers nothing is limited.
        return f"{text}, memory={format_bytes(memory)})" if memory or not workers else f"{text})"

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        workers, threads, memory = self._sizes()
        link = html.escape(self.dashboard_link)
        shown = html.escape(shown_link(self.dashboard_link))
        rows = [
            ("Scheduler", html.escape(self.scheduler_address)),
            ("Dashboard", f'<a href="{link}" target="_blank">{shown}</a>' if link else "none"),
            ("Workers", str(workers)),
            ("Total threads", str(threads)),
            ("Total memory", format_bytes(memory)),
            ("Status", html.escape(cluster_status or self.status.name)),
        ]
        body = "".join(f"<tr><td><strong>{name}</strong></td><td>{value}</td></tr>" for name, value in rows)
        title = f"{html.escape(type(self).__name__)} <code>{html.escape(self.name)}</code>"
        return f"<div><h3>{title}</h3><table>{body}</table></div>"

    # --- identity, so that clusters can be keys of dicts and members of weak sets -----------------------------------

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


async def gather_quietly(closers: list[Callable[[], Awaitable[Any]]]) -> None:
    """Run all; log what fails instead of stopping at it."""
    for outcome in await asyncio.gather(*[close() for close in closers], return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.warning("While closing: %s: %s", type(outcome).__name__, outcome)
