"""What the pages show, as plain data: one function for schedulers, one for workers. Reads only."""

from __future__ import annotations

from typing import Any

from distributed.scheduler import queries
from distributed.scheduler.state_machine import SchedulerState, WorkerState

MAX_ROWS = 2000
MAX_GROUPS = 50


def snapshot(owner: Any) -> dict[str, Any]:
    """The state of a scheduler or worker, for ``/json/status.json``."""
    return of_scheduler(owner) if is_scheduler(owner) else of_worker(owner)


def is_scheduler(owner: Any) -> bool:
    """Whether the pages of a scheduler (and not of a worker) are to be shown."""
    return isinstance(getattr(owner, "state", None), SchedulerState)


def of_scheduler(scheduler: Any) -> dict[str, Any]:
    """Workers, tasks by state and by prefix, memory."""
    state: SchedulerState = scheduler.state
    now = scheduler.shell.now()
    workers = list(state.workers.values())
    return {
        "kind": "scheduler",
        "address": scheduler.address_safe,
        "status": scheduler.status.name,
        "uptime_s": scheduler.uptime_s,
        "counts": queries.counts(state),
        "tasks": queries.task_counts(state),
        "memory_limit": queries.total_memory(state),
        "memory": sum([ws.process_bytes or ws.nbytes for ws in workers]),
        "managed": sum([ws.nbytes for ws in workers]),
        "groups": _prefixes(state),
        "workers": [
            {
                "name": str(ws.name),
                "address": ws.address,
                "status": ws.status_name,
                "nthreads": ws.nthreads,
                "processing": len(ws.processing),
                "in_memory": len(ws.has_what),
                "memory": ws.process_bytes or ws.nbytes,
                "memory_limit": ws.memory_limit,
                "spilled": _spilled(ws),
                "cpu": _number(ws.metrics.get("cpu")),
                "last_seen_s": max(0.0, now - ws.last_seen),
            }
            for ws in workers[:MAX_ROWS]
        ],
    }


def _spilled(ws: WorkerState) -> dict[str, float]:
    """Bytes on the worker's disk, of ``results`` and of ``shuffles``, as its last heartbeat said."""
    told = ws.metrics.get("spilled_bytes")
    told = told if isinstance(told, dict) else {}
    return {"results": _number(told.get("disk")), "shuffles": _number(told.get("shuffles"))}


def _prefixes(state: SchedulerState) -> list[dict[str, Any]]:
    """The prefixes with most tasks that still exist."""
    rows: dict[str, dict[str, Any]] = {}
    for group in state.task_groups.values():
        row = rows.setdefault(group.prefix.name, {"name": group.prefix.name, "total": 0, "nbytes": 0, "states": {}})
        row["nbytes"] += group.nbytes_total
        for name, count in group.states.items():
            if count and name != "forgotten":
                row["total"] += count
                row["states"][name] = row["states"].get(name, 0) + count
    return sorted(rows.values(), key=lambda row: -row["total"])[:MAX_GROUPS]


def of_worker(worker: Any) -> dict[str, Any]:
    """What a worker knows of itself."""
    state = getattr(worker, "state", None)
    tasks: dict[str, int] = {}
    for ts in list(getattr(state, "tasks", {}).values()):
        name = str(getattr(ts, "state", "unknown"))
        tasks[name] = tasks.get(name, 0) + 1
    metrics = getattr(worker, "last_metrics", None)
    return {
        "kind": "worker",
        "address": getattr(worker, "address_safe", ""),
        "name": str(getattr(worker, "name", "")),
        "status": worker.status.name,
        "scheduler": str(getattr(worker, "scheduler_address", "") or ""),
        "nthreads": getattr(worker, "nthreads", None) or getattr(state, "nthreads", 0),
        "memory_limit": _memory_limit(worker),
        "tasks": tasks,
        "in_memory": len(getattr(worker, "data", ())),
        "metrics": metrics if isinstance(metrics, dict) else {},
    }


def _memory_limit(worker: Any) -> int:
    limit = getattr(worker, "memory_limit", None)
    if limit is None:
        limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    return limit if isinstance(limit, int) else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
