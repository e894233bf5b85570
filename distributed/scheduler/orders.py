"""What code in the scheduler's process (plugins, preloads, clusters, ``run_on_scheduler``) may order: plugins, events,
and what concerns the fleet as a whole. Thin. A base of :class:`Scheduler`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from distributed.base import settings
from distributed.base.settings import parse_timedelta
from distributed.messages.scheduler_to_worker import CloseWorkerOrder
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.scheduler import queries
from distributed.scheduler.data_movement import DataMovement
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.routes import plugin_of
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import SchedulerState, WorkerState, scaling
from distributed.scheduler.state_machine.events import SetResources


class Orders:
    """What a scheduler may be told to do."""

    state: SchedulerState
    shell: Shell
    _fleet: FleetAdmin
    _data: DataMovement

    def add_plugin(self, plugin: Any, *, idempotent: bool = False, name: str | None = None, **kwargs: Any) -> None:
        """Take in a plugin that is at hand in this process.

        Parameters
        ----------
        idempotent
            Do nothing when one of this name is here (else it is replaced, with a warning).
        name
            Default: the plugin's own ``name``, else its class name with a random ending.
        """
        self.shell.plugins.add(plugin, idempotent, name)

    def remove_plugin(self, name: str | None = None, plugin: Any = None) -> Any:
        """Let a plugin go, given by name (or itself). Raises ValueError when it is not here."""
        if name is not None and not isinstance(name, str):
            name, plugin = None, name
        if name is None:
            name = next((known for known, p in self.shell.plugins.plugins.items() if p is plugin), None)
        return self.shell.plugins.remove(str(name))

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> None:
        """Take in a plugin and start it."""
        if not self.shell.plugins.add(plugin, bool(idempotent), name):
            return
        start = getattr(plugin, "start", None)
        if start is not None:
            try:
                answer = start(self)
                if inspect.isawaitable(answer):
                    await answer
            except BaseException:
                self.remove_plugin(plugin=plugin)
                raise

    async def register_worker_plugin(
        self, comm: Any = None, plugin: Any = None, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin (itself, or its pickle) to all workers, present and future."""
        name, payload = plugin_of(plugin, name)
        return await self._fleet.add_worker_plugin(name, payload, bool(idempotent))

    async def unregister_worker_plugin(self, comm: Any = None, name: str = "") -> dict[str, Any]:
        """Take it away again."""
        return await self._fleet.remove_worker_plugin(name)

    async def register_nanny_plugin(
        self, comm: Any = None, plugin: Any = None, name: str | None = None, idempotent: bool | None = None
    ) -> dict[str, Any]:
        """Give a plugin (itself, or its pickle) to all nannies, present and future."""
        name, payload = plugin_of(plugin, name)
        return await self._fleet.add_nanny_plugin(name, payload, bool(idempotent))

    async def unregister_nanny_plugin(self, comm: Any = None, name: str = "") -> dict[str, Any]:
        """Take it away again."""
        return await self._fleet.remove_nanny_plugin(name)

    # ---------------------------------------------------------------- events

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Note an event under one or several topics."""
        self.shell.events.log(topic, msg)

    def get_events(self, topic: str | None = None) -> Any:
        """Events of a topic, ``(time, message)`` each; or of all, by topic."""
        return self.shell.events.get(topic)

    # ---------------------------------------------------------------- the fleet

    async def broadcast(
        self,
        *,
        msg: Mapping[str, Any],
        workers: queries.WorkerNames = None,
        hosts: list[str] | None = None,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Ask all (or these) workers, or their nannies, the same; see ``FleetAdmin.broadcast``."""
        return await self._fleet.broadcast(msg, workers, hosts, nanny, on_error)

    async def restart(self, *, timeout: Any = 30, wait_for_workers: bool = True, **kwargs: Any) -> None:
        """Forget all tasks and start all workers anew."""
        await self._fleet.restart(float(parse_timedelta(timeout)), wait_for_workers)

    async def restart_workers(
        self,
        workers: list[str] | None = None,
        *,
        timeout: Any = 30,
        on_error: str = "raise",
        stimulus_id: str = "restart-workers",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Start the processes of these workers anew; their tasks run elsewhere."""
        return await self._fleet.restart_workers(workers, float(parse_timedelta(timeout)), on_error, stimulus_id)

    async def retire_workers(
        self,
        workers: list[str] | None = None,
        *,
        names: list[Any] | None = None,
        close_workers: bool = False,
        remove: bool = True,
        stimulus_id: str = "retire-workers",
        timeout: Any = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, Any]]:
        """Copy what only these workers hold to others, then (``close_workers``) close them.

        Without ``workers`` and ``names``: those that ``workers_to_close(**kwargs)`` finds. A worker whose data cannot
        be placed elsewhere stays. Returns the identities of the retired ones by address.
        """
        if workers is not None and names is not None:
            raise TypeError("give names= or workers=, not both")
        given = names if workers is None else workers
        if given is None:
            given = self.workers_to_close(**kwargs)
        chosen = queries.find_workers(self.state, given)
        limit = None if timeout is None else float(parse_timedelta(timeout))
        return await self._data.retire(chosen, close_workers, stimulus_id, limit)

    async def remove_worker(self, address: str, *, stimulus_id: str = "remove-worker", close: bool = True) -> None:
        """Take a worker out at once; its tasks run elsewhere, and nobody is blamed."""
        if close:
            self.shell.streams.to_worker(address, [CloseWorkerOrder(stimulus_id)])
        self.shell.apply_now(WorkerClosing(stimulus_id), source=address)

    def workers_to_close(
        self,
        memory_ratio: float | None = None,
        n: int | None = None,
        key: Any = None,
        minimum: int | None = None,
        target: int | None = None,
        attribute: str = "address",
        **kwargs: Any,
    ) -> list[Any]:
        """Workers that could be closed with least harm, as their ``attribute`` (``"address"``, ``"name"``, ...)."""
        grouping: Callable[[WorkerState], Any] | None = key if callable(key) else None
        if isinstance(key, str):
            grouping = lambda ws: getattr(ws, key)  # noqa: E731
        ratio = 2.0 if memory_ratio is None else memory_ratio
        chosen = scaling.workers_to_close(self.state, n, minimum, target, ratio, grouping)
        return [getattr(ws, attribute) for ws in self.shell.plugins.may_close(chosen)]

    def adaptive_target(self, target_duration: Any = None) -> int:
        """How many workers the present work asks for."""
        if target_duration is None:
            target_duration = settings.get("distributed.adaptive.target-duration", "5s")
        return scaling.adaptive_target(self.state, float(parse_timedelta(target_duration)))

    def set_resources(self, worker: str, resources: Mapping[str, float]) -> None:
        """Change what a worker says it has. Raises ValueError for what is no amount."""
        for name, amount in resources.items():
            if not isinstance(amount, (int, float)) or not 0 <= amount < math.inf:
                raise ValueError(f"the amount of the resource {name!r} must be a number from 0 on, not {amount!r}")
        for ws in queries.find_workers(self.state, [worker]):
            self.shell.apply(SetResources(ws.address, dict(resources)))
