"""Adaptive scaling: looks at the scheduler's need at an interval and scales a cluster to it. Shell of the policy."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from distributed.base import settings
from distributed.base.status import Status
from distributed.deploy.adaptive_policy import ScalingPolicy

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

__all__ = ["Adaptive", "AdaptiveCore"]

logger = logging.getLogger("distributed.deploy.adaptive")


class Scalable(Protocol):
    """What adaptive scaling needs of a cluster."""

    status: Status
    scheduler_comm: Any

    @property
    def loop(self) -> IOLoop: ...
    @property
    def plan(self) -> set[Any]: ...
    @property
    def requested(self) -> set[Any]: ...
    @property
    def observed(self) -> set[Any]: ...
    def scale(self, n: int) -> Any: ...


class AdaptiveCore:
    """One look, one decision; does not know what a cluster is. Subclasses say what is wanted and do it.

    Parameters
    ----------
    minimum, maximum : int
        Bounds on the number of workers.
    wait_count : int
        How many looks in a row must find a worker dispensable before it is closed.
    """

    plan: set[Any] = set()
    requested: set[Any] = set()
    observed: set[Any] = set()

    def __init__(self, minimum: int = 0, maximum: float = math.inf, wait_count: int = 3) -> None:
        self.policy = ScalingPolicy(minimum, maximum, wait_count)
        self._adapting = False
        self.log: list[tuple[float, dict[str, Any]]] = []

    @property
    def minimum(self) -> int:
        return self.policy.minimum

    @minimum.setter
    def minimum(self, value: int) -> None:
        self.policy.minimum = value

    @property
    def maximum(self) -> float:
        return self.policy.maximum

    @maximum.setter
    def maximum(self, value: float) -> None:
        self.policy.maximum = value

    @property
    def wait_count(self) -> int:
        return self.policy.wait_count

    @property
    def close_counts(self) -> dict[Any, int]:
        return self.policy.close_counts

    async def target(self) -> int:
        """The number of workers that would be right now."""
        raise NotImplementedError

    async def workers_to_close(self, target: int) -> list[Any]:
        """Names of the workers to close so that ``target`` are left."""
        return list(self.observed)[target:]

    async def scale_up(self, n: int) -> None:
        """Have ``n`` workers."""
        raise NotImplementedError

    async def scale_down(self, workers: Iterable[Any]) -> None:
        """Close these."""
        raise NotImplementedError

    def _now(self) -> float:
        return time.monotonic()

    async def safe_target(self) -> int:
        """``target()`` within the bounds."""
        return self.policy.bound(await self.target())

    async def recommendations(self, target: int) -> dict[str, Any]:
        """What to do to have ``target`` workers: ``{"status": "same" | "up" | "down", ...}``."""
        plan, now = self.plan, self._now()
        self.policy.note(self.requested, self.observed, now)
        verdict = self.policy.compare(target, len(plan))
        if verdict == "up":
            return {"status": "up", "n": target}
        if verdict == "same":
            return {"status": "same"}
        surplus = len(plan) - target
        dispensable = self.policy.never_arrived(self.requested, self.observed, surplus)
        if len(dispensable) < surplus:
            dispensable.update(await self.workers_to_close(target))
        firm = self.policy.agree(dispensable, now)
        return {"status": "down", "workers": list(firm)} if firm else {"status": "same"}

    async def adapt(self) -> None:
        """One look and what follows from it. A look that comes while another is under way is skipped."""
        if self._adapting:
            return
        self._adapting = True
        try:
            advice = dict(await self.recommendations(await self.safe_target()))
            status = advice.pop("status")
            if status == "up":
                await self.scale_up(**advice)
            elif status == "down":
                await self.scale_down(**advice)
        finally:
            self._adapting = False


class Adaptive(AdaptiveCore):
    """Keeps a cluster as large as its work needs; made by ``cluster.adapt(minimum=..., maximum=...)``.

    Parameters
    ----------
    cluster : Cluster
    interval : timedelta, number of seconds or text
        Time between looks; default ``distributed.adaptive.interval``, one second.
    minimum, maximum : int
        Bounds; defaults from ``distributed.adaptive``.
    wait_count : int
        Looks in a row before a worker is closed.
    target_duration : timedelta, number of seconds or text
        In what time the work at hand should be done; more workers are asked for when it would take longer.
    worker_key : callable
        ``f(WorkerState) -> group``: workers of one group are closed together.

    A worker that is dispensable stays for as long as it took to come, at most a minute; one whose data no other worker
    can take is not closed.
    """

    def __init__(
        self,
        cluster: Scalable,
        interval: str | float | timedelta | None = None,
        minimum: int | None = None,
        maximum: float | None = None,
        wait_count: int | None = None,
        target_duration: str | float | timedelta | None = None,
        worker_key: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if minimum is None:
            minimum = cast(int, settings.get("distributed.adaptive.minimum", 0))
        if maximum is None:
            maximum = float(settings.get("distributed.adaptive.maximum", math.inf))
            maximum = maximum if maximum == math.inf else int(maximum)
        if wait_count is None:
            wait_count = cast(int, settings.get("distributed.adaptive.wait-count", 3))
        super().__init__(minimum, maximum, wait_count)
        self.cluster = cluster
        self.interval = _seconds(interval, "distributed.adaptive.interval", "1s")
        self.target_duration = _seconds(target_duration, "distributed.adaptive.target-duration", "5s")
        self.worker_key = worker_key
        self.state = "starting"
        self._options = kwargs
        self._task: asyncio.Task[None] | None = None
        self.loop.add_callback(self._start)

    @property
    def loop(self) -> IOLoop:
        return self.cluster.loop

    @property
    def scheduler(self) -> Any:
        return self.cluster.scheduler_comm

    @property
    def plan(self) -> set[Any]:  # type: ignore[override]
        return self.cluster.plan

    @property
    def requested(self) -> set[Any]:  # type: ignore[override]
        return self.cluster.requested

    @property
    def observed(self) -> set[Any]:  # type: ignore[override]
        return self.cluster.observed

    def _start(self) -> None:
        if self.state == "starting" and self.interval > 0:
            self.state = "running"
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self.state == "running" and self.cluster.status in (Status.created, Status.starting, Status.running):
            if self.cluster.status == Status.running:
                try:
                    await self.adapt()
                except (asyncio.CancelledError, GeneratorExit):
                    raise
                except OSError as e:
                    self.stop(f"the scheduler is gone: {e}")
                except Exception:
                    logger.exception("Adaptive scaling failed at one look; goes on")
            await asyncio.sleep(self.interval)

    def stop(self, reason: str = "unknown") -> None:
        """No more looks. The cluster stays as large as it is."""
        if self.state == "stopped":
            return
        self.state = "stopped"
        task, self._task = self._task, None
        if task is not None:
            try:
                self.loop.add_callback(task.cancel)
            except RuntimeError:
                pass  # the loop has ended, and the task with it
        logger.info("Scaling between %s and %s workers ends: %s", self.minimum, self.maximum, reason)

    async def target(self) -> int:
        return int(await self.scheduler.adaptive_target(target_duration=self.target_duration))

    async def workers_to_close(self, target: int) -> list[Any]:
        options = dict(self._options)
        if self.worker_key is not None:
            options["key"] = self.worker_key
        return list(await self.scheduler.workers_to_close(target=target, attribute="name", **options))

    async def scale_up(self, n: int) -> None:
        await _maybe(self.cluster.scale(n))

    async def scale_down(self, workers: Iterable[Any]) -> None:
        await self._close(await self._retire(list(workers)))

    async def _retire(self, names: list[Any]) -> list[Any]:
        """Have them hand over their data. Those that nobody can take it from are not in the result: they stay."""
        if not names:
            return []
        logger.info("Retiring workers %s", names)
        present = self.observed
        retired = await self.scheduler.retire_workers(names=names, remove=True, close_workers=True)
        gone = {worker["name"] for worker in retired.values()}
        stay = [name for name in names if name in present and name not in gone]
        if stay:
            logger.info("Workers %s stay: no other worker can take what they hold", stay)
        return [name for name in names if name not in stay]

    async def _close(self, names: list[Any]) -> None:
        if not names:
            return
        scale_down: Any = getattr(self.cluster, "scale_down", None)
        if scale_down is None:
            raise AttributeError(f"{type(self.cluster).__name__} cannot close chosen workers: it has no scale_down")
        await _maybe(scale_down(names))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state} minimum={self.minimum} maximum={self.maximum}>"


async def _maybe(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


def _seconds(value: str | float | timedelta | None, key: str, default: str) -> float:
    return float(settings.parse_timedelta(value if value is not None else settings.get(key, default)))
