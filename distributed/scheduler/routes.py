"""What others may ask of a scheduler: operation -> function, and who may ask. Each route is a line or a few. Shell.

Questions about the state go to ``queries.py``, orders to the fleet to ``fleet_admin.py``, data to ``data_movement.py``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from distributed.base import defaults, settings, versions
from distributed.base.keys import as_key
from distributed.base.settings import parse_timedelta
from distributed.comm.keys import OBSERVE
from distributed.plugins.names import plugin_name
from distributed.protocol.plain import Pickled
from distributed.rpc.connection import Connection
from distributed.scheduler import queries
from distributed.scheduler.data_movement import DataMovement
from distributed.scheduler.datasets import Datasets
from distributed.scheduler.detached import Detached
from distributed.scheduler.fleet_admin import FleetAdmin, stack_keys
from distributed.scheduler.opening import as_payload, open_code
from distributed.scheduler.shell import Shell

Handler = Callable[..., Any]
NO_DEFAULT: Any = object()
EXPLAIN_S = 2.0
"""How long a worker may take to say what it does with a task."""
MASTERS = frozenset(["client", "scheduler"])
"""Who may have code run in the scheduler."""
CLIENTS = MASTERS | {"task"}
RETIRERS = CLIENTS | {"worker", "nanny"}
AUDITED = frozenset(
    f"{verb}_{kind}_plugin" for verb in ("register", "unregister") for kind in ("scheduler", "worker", "nanny")
) | {"rotate_secret", "run_function", "upload_file"}
"""What is noted when it is done; what is refused always is."""


class Routes:
    """The operations of one scheduler; ``table()`` gives them by name."""

    def __init__(self, scheduler: Any, shell: Shell, fleet: FleetAdmin, data: DataMovement) -> None:
        self._scheduler = scheduler
        self._shell = shell
        self._fleet = fleet
        self._data = data
        self._datasets = Datasets(shell)
        self._detached = Detached(shell)
        self.metadata: dict[Any, Any] = {}

    def table(self) -> dict[str, Handler]:
        """Everything that peers may ask."""
        open_to_all: dict[str, Handler] = {
            "adaptive_target": self._scheduler.adaptive_target,
            "call_stack": self.call_stack,
            "check_idle": self._scheduler.check_idle,
            "events": self.get_events,
            "explain": self.explain,
            "gather": self._data.gather,
            "relay_data": self._data.relay,
            "get_events": self.get_events,
            "get_logs": self._scheduler.get_logs,
            "get_metadata": self.get_metadata,
            "has_what": self.has_what,
            "identity": self._scheduler.identity,
            "log_event": self._scheduler.log_event,
            "logs": self._scheduler.get_logs,
            "nanny_logs": self.nanny_logs,
            "nbytes": self.nbytes,
            "ncores": self.nthreads,
            "nthreads": self.nthreads,
            "processing": self.processing,
            "list_detached": self._detached.list,
            "cancel_detached": self._detached.cancel,
            "publish_delete": self._datasets.delete,
            "publish_get": self._datasets.get,
            "publish_list": self._datasets.names,
            "publish_put": self._datasets.put,
            "scatter": self.scatter,
            "scatter_plan": self._data.targets,
            "set_metadata": self.set_metadata,
            "story": self.story,
            "subscribe_topic": self.subscribe_topic,
            "unsubscribe_topic": self.unsubscribe_topic,
            "versions": self.versions,
            "web_key": lambda: self._scheduler.secret.limited_to(OBSERVE).reveal(),
            "who_has": self.who_has,
            "worker_logs": self.worker_logs,
            "workers_to_close": self._scheduler.workers_to_close,
        }
        for_clients: dict[str, Handler] = {
            "broadcast": self._scheduler.broadcast,
            "proxy": self._fleet.proxy,
            "rebalance": self.rebalance,
            "register_nanny_plugin": self._scheduler.register_nanny_plugin,
            "register_worker_plugin": self._scheduler.register_worker_plugin,
            "replicate": self.replicate,
            "restart": self._scheduler.restart,
            "restart_workers": self._scheduler.restart_workers,
            "terminate": self._scheduler.terminate,
            "unregister_nanny_plugin": self._scheduler.unregister_nanny_plugin,
            "unregister_worker_plugin": self._scheduler.unregister_worker_plugin,
            "upload_file": self._fleet.upload_file,
            **defaults.operations(defaults.SCHEDULER_OPERATIONS, self._scheduler),
        }
        for_masters: dict[str, Handler] = {
            "register_scheduler_plugin": self.register_scheduler_plugin,
            "rotate_secret": self._scheduler.rotate_secret,
            "run_function": self.run_function,
            "unregister_scheduler_plugin": self.unregister_scheduler_plugin,
        }
        masters = CLIENTS if settings.get("distributed.auth.tasks-on-scheduler", False) else MASTERS
        table = dict(open_to_all)
        for_members: dict[str, Handler] = {
            "set_resources": self.set_resources,
            "retire_workers": self._scheduler.retire_workers,
        }
        for roles, handlers in ((masters, for_masters), (CLIENTS, for_clients), (RETIRERS, for_members)):
            table.update({op: guarded(op, handler, roles, self._audit) for op, handler in handlers.items()})
        return table

    def _audit(self, op: str, connection: Connection, outcome: str) -> None:
        """Note who had code run or loaded here or on all workers, and who was refused, under the topic ``audit``."""
        if outcome == "done" and op not in AUDITED:
            return
        who = {"role": connection.peer_role, "peer": connection.peer_address}
        client = self._shell.streams.client_of(connection)
        self._shell.events.log("audit", {"action": op, **who, "client": client or "", "outcome": outcome})

    # ---------------------------------------------------------------- questions

    def who_has(self, keys: list[Any] | None = None) -> dict[Any, list[str]]:
        return queries.who_has(self._shell.state, keys)

    def has_what(self, workers: queries.WorkerNames = None) -> dict[str, list[Any]]:
        return queries.has_what(self._shell.state, workers)

    def processing(self, workers: queries.WorkerNames = None) -> dict[str, list[Any]]:
        return queries.processing(self._shell.state, workers)

    def nthreads(self, workers: queries.WorkerNames = None) -> dict[str, int]:
        return queries.nthreads(self._shell.state, workers)

    def nbytes(self, keys: list[Any] | None = None, summary: bool = True) -> dict[Any, int]:
        return queries.nbytes(self._shell.state, keys, summary)

    def story(self, keys: list[Any] | None = None, keys_or_stimuli: list[Any] | None = None) -> list[tuple[Any, ...]]:
        return queries.story(self._shell.state, keys if keys is not None else keys_or_stimuli or ())

    async def explain(self, key: Any) -> dict[str, Any]:
        """The core's explanation; ``there`` is that of the worker, for a task that is on one that answers."""
        found = queries.explain(self._shell.state, key)
        ts = self._shell.state.tasks.get(as_key(key))
        ws = ts.processing_on if ts is not None else None
        found["there"] = None
        if ws is not None and ws.alive and ws.suspect_since is None and ws not in self._shell.state.away:
            try:
                async with asyncio.timeout(EXPLAIN_S):
                    found["there"] = await self._fleet.ask_worker(ws.address, "explain", {"key": as_key(key)})
                found["text"] += f"; there: {found['there']['text']}"
            except TimeoutError:
                found["text"] += f"; the worker has not answered within {EXPLAIN_S:g} s"
            except Exception as error:
                found["text"] += f"; the worker could not be asked: {error}"
        return found

    def versions(self, packages: list[str] | None = None) -> dict[str, Any]:
        return versions.get_versions(packages)

    async def call_stack(self, keys: list[Any] | None = None, workers: queries.WorkerNames = None) -> dict[str, Any]:
        return stack_keys(await self._fleet.call_stack(keys, workers))

    async def worker_logs(
        self, n: int | None = None, workers: queries.WorkerNames = None, nanny: bool = False
    ) -> dict[str, Any]:
        msg = {"op": "get_logs", "n": n}
        return await self._fleet.broadcast(msg, workers=workers, nanny=nanny, on_error="ignore")

    async def nanny_logs(self, n: int | None = None, workers: queries.WorkerNames = None) -> dict[str, Any]:
        return await self.worker_logs(n, workers, nanny=True)

    # ---------------------------------------------------------------- metadata and events

    def get_metadata(self, keys: Any, default: Any = NO_DEFAULT) -> Any:
        """What was set under ``keys``; raises KeyError when there is nothing, and no default."""
        try:
            return queries.get_nested(self.metadata, _as_list(keys))
        except KeyError:
            if default is NO_DEFAULT:
                raise
            return default

    def set_metadata(self, keys: Any, value: Any) -> None:
        queries.set_nested(self.metadata, _as_list(keys), value)

    def get_events(self, topic: str | None = None) -> Any:
        return self._shell.events.get(topic)

    def subscribe_topic(self, topic: str, connection: Connection | None = None, client: str | None = None) -> None:
        """The client that asks is sent the topic's events from now on."""
        self._shell.events.subscribe(self._asking(connection, client), topic)

    def unsubscribe_topic(self, topic: str, connection: Connection | None = None, client: str | None = None) -> None:
        self._shell.events.unsubscribe(self._asking(connection, client), topic)

    def _asking(self, connection: Connection | None, client: str | None) -> str:
        found = self._shell.streams.client_of(connection) or client
        if found is None:
            raise ValueError("only a registered client can subscribe to a topic")
        return found

    # ---------------------------------------------------------------- data

    async def scatter(
        self,
        data: Mapping[Any, Any],
        workers: queries.WorkerNames = None,
        client: str | None = None,
        broadcast: bool | int = False,
        timeout: Any = 30,
        connection: Connection | None = None,
    ) -> list[Any]:
        name = self._shell.streams.client_of(connection) or client
        return await self._data.scatter(name, data, workers, broadcast, _seconds(timeout))

    async def replicate(
        self,
        keys: list[Any] | None = None,
        n: int | None = None,
        workers: queries.WorkerNames = None,
        branching_factor: int = 2,
        delete: bool = True,
    ) -> None:
        await self._data.replicate(keys, n, workers, delete, branching_factor)

    async def rebalance(self, keys: list[Any] | None = None, workers: queries.WorkerNames = None) -> dict[str, Any]:
        return await self._data.rebalance(keys, workers)

    def set_resources(self, worker: Any, resources: dict[str, float]) -> None:
        self._scheduler.set_resources(worker, resources)

    # ---------------------------------------------------------------- code that clients send to be run here

    async def run_function(self, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True) -> Any:
        """Call ``function(*args, **kwargs)`` here, with ``dask_scheduler=`` if it takes that; await a coroutine."""
        function = open_code(function)
        kwargs = dict(open_code(kwargs) or {})
        if _takes(function, "dask_scheduler"):
            kwargs.setdefault("dask_scheduler", self._scheduler)
        result = function(*open_code(args), **kwargs)
        if inspect.isawaitable(result):
            if not wait:
                self._shell.spawn(_awaited(result))
                return {"status": "OK", "result": None}
            result = await result
        return {"status": "OK", "result": result if wait else None}

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> None:
        await self._scheduler.register_scheduler_plugin(open_code(plugin), name, idempotent)

    async def unregister_scheduler_plugin(self, name: str) -> None:
        plugin = self._scheduler.remove_plugin(name)
        close = getattr(plugin, "close", None)
        if close is not None:
            answer = close()
            if inspect.isawaitable(answer):
                await answer


def guarded(op: str, handler: Handler, roles: frozenset[str], audit: Callable[[str, Connection, str], None]) -> Handler:
    """``handler`` for peers of these roles only; calls within the scheduler's own code are not asked, nor noted."""
    wants_connection = _takes(handler, "connection")

    def check(connection: Connection | None = None, **kwargs: Any) -> Any:
        if connection is not None:
            permitted = connection.peer_role in roles
            audit(op, connection, "done" if permitted else "refused")
            if not permitted:
                raise PermissionError(f"a {connection.peer_role or 'stranger'} may not ask a scheduler for {op!r}")
        if wants_connection:
            kwargs["connection"] = connection
        return handler(**kwargs)

    check.__name__ = check.__qualname__ = op
    return check


def plugin_of(plugin: Any, name: str | None) -> tuple[str, Any]:
    """Name and payload of a plugin for workers or nannies; a pickled one needs its name beside it."""
    if name is None:
        if isinstance(plugin, (bytes, bytearray, Pickled)) or hasattr(plugin, "attached"):
            raise ValueError("a pickled plugin needs name=, because the scheduler does not open it")
        name = plugin_name(plugin)
    return name, as_payload(plugin)


def _as_list(keys: Any) -> list[Any]:
    return list(keys) if isinstance(keys, (list, tuple)) else [keys]


def _seconds(timeout: Any) -> float | None:
    return None if timeout is None else float(parse_timedelta(timeout))


def _takes(function: Any, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


async def _awaited(awaitable: Any) -> None:
    await awaitable
