"""Questions and orders that peers put to the scheduler: one method an operation, named as on the wire.

Each reads the tables or hands an event to the core. Arguments are plain data; a function that is to run here
(``run_function``) is the one thing that is unpickled, and only for a client.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distributed.base import versions
from distributed.base.errors import CommClosedError, RemoteError
from distributed.base.keys import Key, as_key, key_prefix, user_key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps, live, loads, pack_error
from distributed.rpc.connection import Connection
from distributed.scheduler.state_machine import TaskState, WorkerState, events
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate

logger = logging.getLogger("distributed.scheduler")


class Operations:
    """The operations of one scheduler."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.state = scheduler.state
        self.metadata: dict[Any, Any] = {}

    def table(self) -> dict[str, Callable[..., Any]]:
        """Operation -> function, for the server."""
        names = [name for name, _ in inspect.getmembers(type(self), inspect.isfunction)]
        found = {name: getattr(self, name) for name in names if not name.startswith("_") and name != "table"}
        return found | {"ncores": self.nthreads, "register_nanny_plugin": self.register_nanny_plugin}

    # ------------------------------------------------------------------ facts

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """What this scheduler is, and its first ``n_workers`` workers (-1: all)."""
        s, state = self.scheduler, self.state
        workers = list(state.workers.values())
        shown = workers if n_workers < 0 else workers[:n_workers]
        return {
            "type": type(s).__name__,
            "id": str(s.id),
            "address": s.address,
            "services": {name: service.port for name, service in s.services.items()},
            "started": s.time_started,
            "n_workers": len(workers),
            "total_threads": state.total_nthreads,
            "total_memory": sum(ws.memory_limit for ws in workers),
            "workers": {ws.address: worker_identity(ws) for ws in shown},
        }

    def who_has(self, keys: Iterable[Any] | None = None) -> dict[Key, list[str]]:
        """Addresses of the workers that hold each key."""
        tasks = self.state.tasks
        if keys is None:
            return {key: [ws.address for ws in ts.who_has] for key, ts in tasks.items() if ts.state == "memory"}
        wanted = [as_key(key) for key in keys]
        return {k: [ws.address for ws in tasks[k].who_has] if k in tasks else [] for k in wanted}

    def has_what(self, workers: Iterable[str] | None = None) -> dict[str, list[Key]]:
        """The keys that each worker holds."""
        if workers is None:
            return {a: [ts.key for ts in ws.has_what] for a, ws in self.state.workers.items()}
        found = {name: self._find(name) for name in workers}
        return {
            n if w is None else w.address: [] if w is None else [t.key for t in w.has_what] for n, w in found.items()
        }

    def nthreads(self, workers: Iterable[str] | None = None) -> dict[str, int]:
        """Threads of each worker."""
        return {ws.address: ws.nthreads for ws in self._chosen(workers)}

    def nbytes(self, keys: Iterable[Any] | None = None, summary: bool = True) -> dict[Any, int]:
        """Bytes of each key that is in memory, or of all keys with one prefix (``summary``)."""
        tasks = self.state.tasks
        chosen = list(tasks) if keys is None else [as_key(key) for key in keys]
        sizes = {k: tasks[k].nbytes for k in chosen if k in tasks and tasks[k].nbytes >= 0}
        if not summary:
            return sizes
        total: dict[Any, int] = {}
        for key, size in sizes.items():
            prefix = key_prefix(key)
            total[prefix] = total.get(prefix, 0) + size
        return total

    def processing(self, workers: Iterable[str] | None = None) -> dict[str, list[Key]]:
        """The keys assigned to each worker."""
        return {ws.address: [ts.key for ts in ws.processing] for ws in self._chosen(workers)}

    def story(self, keys: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """What happened to the keys."""
        return [tuple(entry) for entry in self.state.story(*[as_key(key) for key in keys])]

    def explain(self, key: Any) -> dict[str, Any]:
        """Why the task is not finished."""
        e = self.state.explain(as_key(key))
        return {name: getattr(e, name) for name in e.__struct_fields__} | {"key": user_key(e.key)}

    def versions(self, packages: Iterable[str] | None = None) -> dict[str, Any]:
        """What runs here."""
        return versions.get_versions(packages)

    def counts(self) -> dict[str, Any]:
        """Numbers for the status page."""
        state = self.state
        by_state: dict[str, int] = {}
        for group in state.task_groups.values():
            for name, n in group.states.items():
                by_state[name] = by_state.get(name, 0) + n
        workers = state.workers.values()
        return {
            "bytes": sum(ws.nbytes for ws in workers),
            "clients": len(self.scheduler.client_links),
            "cores": state.total_nthreads,
            "erred": by_state.get("erred", 0),
            "hosts": len({ws.host for ws in workers}),
            "idle": len(state.idle),
            "memory": by_state.get("memory", 0),
            "processing": by_state.get("processing", 0),
            "queued": by_state.get("queued", 0),
            "released": by_state.get("released", 0),
            "saturated": len(state.saturated),
            "tasks": len(state.tasks),
            "unrunnable": by_state.get("no-worker", 0),
            "waiting": by_state.get("waiting", 0),
            "waiting_data": sum(1 for ts in state.tasks.values() if ts.state == "memory" and ts.waiters),
            "workers": len(workers),
            "desired_workers": self.adaptive_target(),
        }

    def adaptive_target(self, target_duration: float | str = 5.0) -> int:
        """How many workers would do the known work within ``target_duration`` seconds."""
        from dask.utils import parse_timedelta

        seconds = parse_timedelta(target_duration) if isinstance(target_duration, str) else float(target_duration)
        state = self.state
        n_tasks = len(state.queued) + len(state.unrunnable) + sum(len(ws.processing) for ws in state.workers.values())
        if not n_tasks:
            return 0
        unknown = state.settings.unknown_duration_s
        work = state.total_occupancy + unknown * (len(state.queued) + len(state.unrunnable))
        threads = max(1, -(-int(work * 1000) // max(1, int(seconds * 1000))))
        per_worker = max(1, state.total_nthreads // max(1, len(state.workers)))
        return max(1, min(-(-threads // per_worker), -(-n_tasks // per_worker)))

    def check_idle(self) -> float | None:
        """Wall-clock seconds since when nothing is to be done; None when something is."""
        since: float | None = self.scheduler.idle_since
        return since

    # ------------------------------------------------------------------ data through the scheduler

    async def gather(self, keys: Iterable[Any]) -> dict[str, Any]:
        """``{"status": "OK", "data": {key: Payload}}``, fetched from the workers: for clients that cannot reach them."""
        wanted = [as_key(key) for key in keys]
        data: dict[Key, Any] = {}
        missing: dict[Key, list[str]] = {}
        for key in wanted:
            ts = self.state.tasks.get(key)
            holders = [ws.address for ws in ts.who_has] if ts is not None else []
            for address in holders:
                try:
                    answer = await self._ask_worker(address, "get_data", {"keys": [key], "who": "scheduler"})
                except (OSError, RemoteError):
                    continue
                if isinstance(answer, Mapping) and key in (found := answer.get("data", answer)):
                    data[key] = found[key]
                    break
            else:
                missing[key] = holders
        if missing:
            return {"status": "error", "keys": missing, "data": data}
        return {"status": "OK", "data": data}

    async def proxy(self, worker: str, msg: dict[str, Any]) -> Any:
        """Put a question to a worker on the caller's behalf."""
        arguments = dict(msg)
        return await self._ask_worker(worker, arguments.pop("op"), arguments)

    async def broadcast(
        self,
        msg: dict[str, Any],
        workers: Iterable[str] | None = None,
        hosts: Iterable[str] | None = None,
        nanny: bool = False,
        on_error: str = "raise",
    ) -> dict[str, Any]:
        """Put a question to all workers (or nannies); ``{address: answer}``."""
        chosen = self._chosen(workers)
        if hosts is not None:
            chosen = [ws for ws in chosen if ws.host in set(hosts)]
        arguments = dict(msg)
        op = arguments.pop("op")

        async def ask(ws: WorkerState) -> Any:
            try:
                return await self._ask(self._link_of(ws, nanny), op, arguments)
            except Exception as e:
                if on_error == "raise":
                    raise
                return _Failure(e)

        answers = await asyncio.gather(*(ask(ws) for ws in chosen))
        result: dict[str, Any] = {}
        for ws, answer in zip(chosen, answers, strict=True):
            address = (ws.nanny or ws.address) if nanny else ws.address
            if not isinstance(answer, _Failure):
                result[address] = answer
            elif on_error == "return_pickle":
                result[address] = {"status": "error", "exception": dumps_error(answer.error)}
            elif on_error == "return":
                result[address] = answer.error
        return result

    def _link_of(self, ws: WorkerState, nanny: bool) -> Connection:
        links = self.scheduler.nanny_links if nanny else self.scheduler.worker_links
        link: Connection | None = links.get(ws.nanny if nanny else ws.address)
        if link is None:
            raise CommClosedError(f"the {'nanny of ' if nanny else ''}worker {ws.address} is not connected")
        return link

    async def _ask_worker(self, address: str, op: str, arguments: dict[str, Any]) -> Any:
        ws = self._find(address)
        if ws is None:
            raise ValueError(f"there is no worker {address!r}")
        return await self._ask(self._link_of(ws, False), op, arguments)

    async def _ask(self, link: Connection, op: str, arguments: dict[str, Any]) -> Any:
        return await link.request(op, arguments)

    # ------------------------------------------------------------------ code

    async def run_function(
        self, connection: Connection, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True
    ) -> Any:
        """Run a client's function here; it may take ``dask_scheduler``."""
        if connection.peer_role != "client":
            raise PermissionError(f"a {connection.peer_role} may not run functions on the scheduler")
        call, positional, named = _opened(function), _opened(args) or (), dict(_opened(kwargs) or {})
        if _takes(call, "dask_scheduler"):
            named["dask_scheduler"] = self.scheduler
        answer = call(*positional, **named)
        if inspect.isawaitable(answer):
            if not wait:
                self.scheduler.add_task(_finish(answer))
                return None
            answer = await answer
        return live(answer) if connection.same_process else dumps(answer)

    async def upload_file(self, filename: str, data: bytes, load: bool = True) -> dict[str, Any]:
        """Give a file of code to every worker, and to those that come later."""
        self.scheduler.uploads[filename] = (data, load)
        return await self.broadcast({"op": "upload_file", "filename": filename, "data": data, "load": load})

    async def register_worker_plugin(
        self, connection: Any = None, plugin: Any = b"", name: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Give a plugin to every worker, and to those that come later."""
        payload = _as_payload(plugin)
        self.scheduler.worker_plugins[name or f"plugin-{len(self.scheduler.worker_plugins)}"] = payload
        return await self.broadcast({"op": "plugin_add", "plugin": payload, "name": name})

    async def unregister_worker_plugin(self, name: str) -> dict[str, Any]:
        """Take a plugin away from every worker."""
        if self.scheduler.worker_plugins.pop(name, None) is None:
            raise ValueError(f"no worker plugin is called {name!r}")
        return await self.broadcast({"op": "plugin_remove", "name": name})

    async def register_nanny_plugin(self, plugin: Any = b"", name: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Give a plugin to every nanny, and to those that come later."""
        payload = _as_payload(plugin)
        self.scheduler.nanny_plugins[name or f"plugin-{len(self.scheduler.nanny_plugins)}"] = payload
        return await self.broadcast({"op": "plugin_add", "plugin": payload, "name": name}, nanny=True)

    async def unregister_nanny_plugin(self, name: str) -> dict[str, Any]:
        """Take a plugin away from every nanny."""
        if self.scheduler.nanny_plugins.pop(name, None) is None:
            raise ValueError(f"no nanny plugin is called {name!r}")
        return await self.broadcast({"op": "plugin_remove", "name": name}, nanny=True)

    async def register_scheduler_plugin(
        self, connection: Connection, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> None:
        """Add a client's plugin to this scheduler."""
        if connection.peer_role != "client":
            raise PermissionError(f"a {connection.peer_role} may not add plugins to the scheduler")
        await self.scheduler.start_plugin(_opened(plugin), bool(idempotent), name)

    async def unregister_scheduler_plugin(self, name: str) -> None:
        """Take a plugin out of this scheduler."""
        await self.scheduler.stop_plugin(name)

    async def call_stack(self, keys: Iterable[Any] | None = None) -> dict[str, Any]:
        """What the workers' threads are doing, for tasks that run."""
        return await self.broadcast(
            {"op": "call_stack", "keys": None if keys is None else [as_key(key) for key in keys]}, on_error="ignore"
        )

    # ------------------------------------------------------------------ workers

    async def restart(self, timeout: float = 30, wait_for_workers: bool = True) -> str:
        """Cancel all tasks and start every worker's process anew."""
        await self.scheduler.restart(timeout, wait_for_workers)
        return "OK"

    async def restart_workers(
        self, workers: Iterable[str], timeout: float = 30, on_error: str = "raise"
    ) -> dict[str, str]:
        """Start the processes of these workers anew; ``{address: "OK" or "timed out" or "no nanny"}``."""
        chosen = self._chosen(workers)

        async def one(ws: WorkerState) -> str:
            if ws.nanny is None or ws.nanny not in self.scheduler.nanny_links:
                return "no nanny"
            link = self.scheduler.nanny_links[ws.nanny]
            try:
                await link.request("restart", {"timeout": timeout}, timeout)
            except TimeoutError:
                return "timed out"
            return "OK"

        return dict(zip([ws.address for ws in chosen], await asyncio.gather(*map(one, chosen)), strict=True))

    async def retire_workers(
        self,
        workers: Iterable[str] | None = None,
        names: Iterable[Any] | None = None,
        close_workers: bool = True,
        remove: bool = True,
        timeout: float | None = None,
        n: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Copy what only these workers hold to others and close them; ``{address: identity}`` of those that went."""
        if workers is not None or names is not None:
            chosen = self._chosen([*(workers or ()), *map(str, names or ())])
        else:
            chosen = self._chosen(self.workers_to_close(n=n, **kwargs))
        told = {ws.address: worker_identity(ws) for ws in chosen}
        ended = await self.scheduler.retire(list(told), close_workers and remove, timeout)
        return {address: told[address] for address, end in ended.items() if end.retired}

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
        """Workers that could go: idle ones first, then those with the least data."""
        ranked = sorted(self.state.workers.values(), key=lambda ws: (len(ws.processing), ws.nbytes))
        ranked = [ws for ws in ranked if not ws.actors]
        if target is not None:
            n = max(0, len(self.state.workers) - target)
        if n is None:
            ranked = [ws for ws in ranked if not ws.processing and not ws.has_what]
            n = len(ranked)
        if minimum is not None:
            n = min(n, max(0, len(self.state.workers) - minimum))
        chosen = ranked[:n]
        for plugin in self.scheduler.plugins.values():
            keep = getattr(plugin, "valid_workers_downscaling", None)
            chosen = chosen if keep is None else list(keep(self.scheduler, chosen))
        return [getattr(ws, attribute) for ws in chosen]

    async def replicate(
        self, keys: Iterable[Any], n: int | None = None, workers: Iterable[str] | None = None, **kwargs: Any
    ) -> None:
        """Copy keys to more workers."""
        chosen = None if workers is None else [ws.address for ws in self._chosen(workers)]
        self.scheduler.dispatch(plan_replicate(self.state, [as_key(key) for key in keys], n, chosen))

    async def rebalance(
        self, keys: Iterable[Any] | None = None, workers: Iterable[str] | None = None
    ) -> dict[str, str]:
        """Even out the memory of workers."""
        chosen = None if workers is None else [ws.address for ws in self._chosen(workers)]
        wanted = None if keys is None else [as_key(key) for key in keys]
        self.scheduler.dispatch(plan_rebalance(self.state, wanted, chosen))
        return {"status": "OK"}

    def set_resources(self, worker: str, resources: dict[str, float]) -> None:
        """A worker has other resources from now on."""
        self.scheduler.dispatch([events.SetResources(worker, resources)])

    # ------------------------------------------------------------------ notes

    def set_metadata(self, keys: list[Any], value: Any) -> None:
        """Keep a value under a path of names."""
        place = self.metadata
        for name in keys[:-1]:
            place = place.setdefault(name, {})
        place[keys[-1]] = value

    def get_metadata(self, keys: list[Any], **kwargs: Any) -> Any:
        """The value under a path. Raises ``KeyError`` unless ``default`` is given."""
        place: Any = self.metadata
        for name in keys:
            try:
                place = place[name]
            except (KeyError, TypeError):
                if "default" in kwargs:
                    return kwargs["default"]
                raise KeyError(keys) from None
        return place

    def log_event(self, topic: Any, msg: Any) -> None:
        """Keep an event."""
        self.scheduler.log_event(topic, msg)

    def events(self, topic: str | None = None) -> Any:
        """The events of a topic, or of all."""
        return self.scheduler.event_log.get(topic)

    def subscribe_topic(self, connection: Connection, topic: str) -> None:
        """Tell this client of new events."""
        self.scheduler.event_log.subscribers[topic].add(connection.name)

    def unsubscribe_topic(self, connection: Connection, topic: str) -> None:
        """Tell it no more."""
        self.scheduler.event_log.subscribers[topic].discard(connection.name)

    def get_logs(self, n: int | None = None) -> list[tuple[str, str]]:
        """The last lines of this scheduler's log: (level, line)."""
        lines = list(self.scheduler.log_lines)
        return lines if n is None else lines[-n:]

    async def worker_logs(self, n: int | None = None, workers: Any = None, nanny: bool = False) -> dict[str, Any]:
        """The last lines of workers' logs."""
        return await self.broadcast({"op": "get_logs", "n": n}, workers, nanny=nanny, on_error="ignore")

    # ------------------------------------------------------------------ finding workers

    def _find(self, name: Any) -> WorkerState | None:
        state = self.state
        found: WorkerState | None = state.workers.get(state.aliases.get(str(name), name))
        return found

    def _chosen(self, names: Iterable[Any] | None) -> list[WorkerState]:
        """Workers by address, name, nanny's address or host; all for None."""
        workers = list(self.state.workers.values())
        if names is None:
            return workers
        chosen: dict[str, WorkerState] = {}
        for name in names:
            ws = self._find(name)
            if ws is not None:
                chosen[ws.address] = ws
            else:
                chosen.update({w.address: w for w in workers if name in (w.host, w.nanny)})
        return list(chosen.values())


def worker_identity(ws: WorkerState) -> dict[str, Any]:
    """What others see of a worker."""
    return {
        "type": "Worker",
        "id": ws.name,
        "host": ws.host,
        "resources": ws.resources,
        "local_directory": ws.local_directory,
        "name": ws.name,
        "nthreads": ws.nthreads,
        "memory_limit": ws.memory_limit,
        "last_seen": time.time(),
        "services": ws.services,
        "metrics": ws.metrics,
        "status": ws.status,
        "nanny": ws.nanny,
        "pid": ws.pid,
        "n_processing": len(ws.processing),
        "n_in_memory": len(ws.has_what),
        "nbytes": ws.nbytes,
        "managed_bytes": ws.managed_bytes,
        "process_bytes": ws.process_bytes,
    }


def task_summary(ts: TaskState) -> dict[str, Any]:
    """What others see of a task."""
    return {"key": str(user_key(ts.key)), "state": ts.state, "nbytes": ts.nbytes}


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def dumps_error(error: Exception) -> ErrorInfo:
    """The peer's own description of an error that it raised, or ours."""
    info = getattr(error, "info", None)
    return info if isinstance(info, ErrorInfo) else pack_error(error)


def _opened(value: Any) -> Any:
    if type(value) is Payload:
        return loads(value)
    return value.load() if type(value) is Pickled else value


def _as_payload(value: Any) -> Payload:
    if type(value) is Payload:
        return value
    return value.payload if type(value) is Pickled else Payload(bytes(value))


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters


async def _finish(awaitable: Any) -> None:
    await awaitable
