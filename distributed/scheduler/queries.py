"""What the scheduler tells about itself: plain data made from the core's tables. Reads only; no I/O, no clock.

Keys come in and go out as users write them; workers may be named by address, name, ``host:port`` or host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distributed.base.keys import Key, UserKey, as_key, user_key
from distributed.scheduler.state_machine import SchedulerState, TaskState, WorkerState
from distributed.scheduler.state_machine.scaling import adaptive_target

WorkerNames = Iterable[Any] | str | None


def find_workers(state: SchedulerState, names: WorkerNames, hosts: Iterable[str] | None = None) -> list[WorkerState]:
    """The workers that ``names`` and ``hosts`` mean, each once; None: all. Unknown names mean nobody."""
    if names is None and hosts is None:
        return list(state.workers.values())
    if isinstance(names, str):
        names = [names]
    found: dict[WorkerState, None] = {}
    for name in names or ():
        for ws in _named(state, name):
            found[ws] = None
    for host in hosts or ():
        found.update(state.hosts.get(host, {}))
    return list(found)


def _named(state: SchedulerState, name: Any) -> list[WorkerState]:
    workers = state.workers
    text = str(name)
    for address in (text, state.aliases.get(text, ""), f"tcp://{text}"):
        ws = workers.get(address)
        if ws is not None:
            return [ws]
    return list(state.hosts.get(text, ()))


def worker_identity(ws: WorkerState, now: float, wall: float) -> dict[str, Any]:
    """One worker as ``client.scheduler_info()["workers"]`` shows it."""
    return {
        "type": "Worker",
        "id": ws.name,
        "host": ws.host,
        "resources": dict(ws.resources),
        "local_directory": ws.local_directory,
        "name": ws.name,
        "nthreads": ws.nthreads,
        "memory_limit": ws.memory_limit,
        "last_seen": wall - (now - ws.last_seen),
        "services": dict(ws.services),
        "metrics": {
            **ws.metrics,
            "managed_bytes": ws.managed_bytes or ws.nbytes,
            "memory": ws.process_bytes,
            "spilled_bytes": ws.metrics.get("spilled_bytes") or {"memory": 0, "disk": 0},
            "executing": len(ws.executing),
            "ready": max(0, len(ws.processing) - len(ws.executing)),
            "in_memory": len(ws.has_what),
        },
        "status": ws.status_name,
        "nanny": ws.nanny,
        "pid": ws.pid,
        **ws.extra,
    }


def worker_list(state: SchedulerState, now: float, wall: float, n_workers: int = -1) -> dict[str, dict[str, Any]]:
    """The first ``n_workers`` workers (negative: all) by address."""
    workers = list(state.workers.values())
    if n_workers >= 0:
        workers = workers[:n_workers]
    return {ws.address: worker_identity(ws, now, wall) for ws in workers}


def total_memory(state: SchedulerState) -> int:
    """Memory limits of all workers together, in bytes."""
    return sum([ws.memory_limit for ws in state.workers.values()])


def host_info(state: SchedulerState, now: float, wall: float) -> dict[str, dict[str, Any]]:
    """``{host: {"addresses", "nthreads", "last-seen"}}``."""
    return {
        host: {
            "addresses": {ws.address for ws in there},
            "nthreads": sum([ws.nthreads for ws in there]),
            "last-seen": wall - (now - max([ws.last_seen for ws in there])),
        }
        for host, there in state.hosts.items()
    }


def _tasks(state: SchedulerState, keys: Iterable[Any]) -> list[tuple[UserKey, TaskState | None]]:
    found = []
    for key in keys:
        own = as_key(key)
        found.append((user_key(own), state.tasks.get(own)))
    return found


def who_has(state: SchedulerState, keys: Iterable[Any] | None = None) -> dict[UserKey, list[str]]:
    """Addresses of the workers that hold each key; empty for keys that nobody holds."""
    if keys is None:
        return {user_key(key): [ws.address for ws in ts.who_has] for key, ts in state.tasks.items()}
    return {key: [ws.address for ws in ts.who_has] if ts is not None else [] for key, ts in _tasks(state, keys)}


def _by_worker(
    state: SchedulerState, workers: WorkerNames, of: Callable[[WorkerState], Iterable[TaskState]]
) -> dict[str, list[UserKey]]:
    found = {ws.address: [user_key(ts.key) for ts in of(ws)] for ws in find_workers(state, workers)}
    for name in [workers] if isinstance(workers, str) else workers or ():
        if not _named(state, name):
            found[str(name)] = []
    return found


def has_what(state: SchedulerState, workers: WorkerNames = None) -> dict[str, list[UserKey]]:
    """Keys that each worker holds."""
    return _by_worker(state, workers, lambda ws: ws.has_what)


def processing(state: SchedulerState, workers: WorkerNames = None) -> dict[str, list[UserKey]]:
    """Keys that are assigned to each worker and not finished."""
    return _by_worker(state, workers, lambda ws: ws.processing)


def nthreads(state: SchedulerState, workers: WorkerNames = None) -> dict[str, int]:
    """Threads of each worker."""
    return {ws.address: ws.nthreads for ws in find_workers(state, workers)}


def nbytes(state: SchedulerState, keys: Iterable[Any] | None = None, summary: bool = True) -> dict[UserKey, int]:
    """Bytes of each key in memory, or (``summary``) of all keys of a prefix together."""
    if keys is None:
        tasks = list(state.tasks.values())
    else:
        tasks = [ts for _, ts in _tasks(state, keys) if ts is not None]
    result: dict[UserKey, int] = {}
    for ts in tasks:
        if ts.nbytes >= 0:
            name = ts.prefix.name if summary else user_key(ts.key)
            result[name] = result.get(name, 0) + ts.nbytes
    return result


def counts(state: SchedulerState) -> dict[str, int]:
    """The numbers of ``/json/counts.json``."""
    by_state = task_counts(state)
    return {
        "bytes": sum([ws.nbytes for ws in state.workers.values()]),
        "clients": sum([not cs.mute for cs in state.clients.values()]),
        "cores": state.total_nthreads,
        "erred": by_state["erred"],
        "hosts": len(state.hosts),
        "idle": len(state.idle),
        "memory": by_state["memory"],
        "processing": by_state["processing"],
        "queued": by_state["queued"],
        "released": by_state["released"],
        "saturated": len(state.saturated),
        "tasks": len(state.tasks),
        "unrunnable": len(state.unrunnable),
        "waiting": by_state["waiting"],
        "waiting_data": by_state["waiting"],
        "workers": len(state.workers),
        "desired_workers": adaptive_target(state),
    }


def task_counts(state: SchedulerState) -> dict[str, int]:
    """How many tasks are in each state; costs one step a group, not one a task."""
    total = dict.fromkeys(("released", "waiting", "no-worker", "queued", "processing", "memory", "erred"), 0)
    for group in state.task_groups.values():
        for name, count in group.states.items():
            if name in total:
                total[name] += count
    return total


def story(state: SchedulerState, keys: Iterable[Any]) -> list[tuple[Any, ...]]:
    """``(key, start, finish, recommendations, stimulus, time)`` of each step in the life of the keys, or because of the
    stimuli. Recommendations are always empty: the core has none."""
    return [
        (user_key(e.key), e.start, e.finish, {}, e.stimulus_id, e.time)
        for e in state.story(*[as_key(key) for key in keys])
    ]


def explain(state: SchedulerState, key: Any) -> dict[str, Any]:
    """Why the task is not finished, as plain data; ``text`` says it in words."""
    found = state.explain(as_key(key))
    return {name: getattr(found, name) for name in found.__struct_fields__} | {"key": user_key(found.key)}


# ---------------------------------------------------------------- metadata that clients keep here


def set_nested(table: dict[Any, Any], keys: list[Any], value: Any) -> None:
    """``table[k0][k1]... = value``, making dicts on the way."""
    if not keys:
        raise ValueError("metadata needs at least one key")
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise TypeError(f"metadata at {key!r} is a value, not a table")
    table[keys[-1]] = value


def get_nested(table: Mapping[Any, Any], keys: list[Any]) -> Any:
    """``table[k0][k1]...``; raises KeyError."""
    found: Any = table
    for key in keys:
        if not isinstance(found, Mapping):
            raise KeyError(key)
        found = found[key]
    return found


def as_keys(keys: Iterable[Any]) -> list[Key]:
    """Users' keys as the house's."""
    return [as_key(key) for key in keys]
